// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/**
 * @title Clones whose immutable arguments are a record
 * @notice The bytes are those of OpenZeppelin's `Clones.cloneDeterministicWithImmutableArgs` (an ERC-1167 proxy with
 * the arguments behind its 45 bytes); only the copy is leaner, straight from calldata into scratch memory that the next
 * record uses again. The init code is
 *
 * ```
 * 61 ‖ uint16(45 + record length) ‖ 3d81600a3d39f3
 *    ‖ 363d3d373d3d3d363d73 ‖ definition ‖ 5af43d82803e903d91602b57fd5bf3 ‖ record
 * ```
 *
 * and the address is the last 20 bytes of keccak256(0xff ‖ deployer ‖ salt ‖ keccak256(init code)).
 */
library RecordClone {
    /// @notice The clone could not be created. Only a lack of gas can be the reason.
    error RecordCloneNotCreated(bytes32 salt);

    /// @dev Creates the clone of `definition` for `record` and returns its address.
    function create(address definition, bytes calldata record, bytes32 salt) internal returns (address asset) {
        (uint256 start, uint256 length) = _initCode(definition, record);
        assembly ("memory-safe") {
            asset := create2(0, start, length, salt)
        }
        require(asset != address(0), RecordCloneNotCreated(salt));
    }

    /// @dev The address at which {create} puts, or has put, the clone.
    function predict(address definition, bytes calldata record, bytes32 salt) internal view returns (address asset) {
        (uint256 start, uint256 length) = _initCode(definition, record);
        bytes32 initCodeHash;
        assembly ("memory-safe") {
            initCodeHash := keccak256(start, length)
        }
        return address(uint160(uint256(keccak256(abi.encodePacked(hex"ff", address(this), salt, initCodeHash)))));
    }

    /// @dev Writes the init code at the free memory pointer, which it leaves where it is.
    function _initCode(address definition, bytes calldata record) private pure returns (uint256 start, uint256 length) {
        assembly ("memory-safe") {
            start := mload(0x40)
            length := add(record.length, 55)
            mstore(
                start,
                or(0x6100003d81600a3d39f3363d3d373d3d3d363d73000000000000000000000000, shl(232, add(record.length, 45)))
            )
            mstore(add(start, 20), shl(96, definition))
            mstore(add(start, 40), shl(136, 0x5af43d82803e903d91602b57fd5bf3))
            calldatacopy(add(start, 55), record.offset, record.length)
        }
    }
}
