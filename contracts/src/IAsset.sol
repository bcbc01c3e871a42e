// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/**
 * @title What the registry asks of a definition, and writes to an asset
 */
interface IAsset {
    /// @notice The registry whose assets these are, the only one that may write to them.
    function registry() external view returns (address);

    /// @notice The number of the kind.
    function kind() external view returns (uint8);

    /// @notice Bytes of the kind's own fields at the end of a record.
    function ownLength() external view returns (uint16);

    /// @notice How many parents a record of this kind has at least.
    function minParents() external view returns (uint8);

    /// @notice Whether an asset of this kind can be given a result.
    function takesResult() external view returns (bool);

    /**
     * @notice Writes the result, if there is none.
     * @return held The result held before this call; zero if `digest` was written.
     */
    function putResult(bytes32 digest) external returns (bytes32 held);

    /**
     * @notice Writes the revocation, if there is none.
     * @return held The revocation held before this call; zero if `digest` was written.
     */
    function putRevocation(bytes32 digest) external returns (bytes32 held);
}
