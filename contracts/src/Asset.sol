// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Clones} from "@openzeppelin/contracts/proxy/Clones.sol";
import {MerkleProof} from "@openzeppelin/contracts/utils/cryptography/MerkleProof.sol";
import {IAsset} from "./IAsset.sol";
import {RecordLayout} from "./RecordLayout.sol";

/**
 * @title What all kinds of asset have in common
 * @notice Each asset is a clone of its kind's definition with its record as immutable arguments: nothing of it can be
 * changed by anyone. Beside the record an asset has two slots that only the registry writes, each once: slot 0 the
 * result, slot 1 the revocation.
 *
 * Anyone can deploy a clone of a definition. An asset is genuine only if the registry's `contractOf(id())` is its
 * address, or if its address is the CREATE2 of the registry and its record.
 */
abstract contract Asset is IAsset {
    /// @notice The outcome of the job, see {resultDigest}; zero while there is none.
    bytes32 public result;

    /// @notice sha256 of the reason and time of revocation; zero while the asset is not revoked.
    bytes32 public revocation;

    /// @inheritdoc IAsset
    address public immutable registry;

    address private immutable _definition = address(this);

    /// @notice Only the registry writes.
    error AssetUnauthorized(address caller);

    /// @notice This is the definition of a kind. It has no record: ask one of its clones.
    error AssetIsDefinition();

    constructor(address registry_) {
        registry = registry_;
    }

    modifier onlyRegistry() {
        require(msg.sender == registry, AssetUnauthorized(msg.sender));
        _;
    }

    /// @inheritdoc IAsset
    function putResult(bytes32 digest) external onlyRegistry returns (bytes32 held) {
        held = result;
        if (held == 0) result = digest;
    }

    /// @inheritdoc IAsset
    function putRevocation(bytes32 digest) external onlyRegistry returns (bytes32 held) {
        held = revocation;
        if (held == 0) revocation = digest;
    }

    /// @notice The whole record, as registered.
    function record() public view returns (bytes memory) {
        require(address(this) != _definition, AssetIsDefinition());
        return Clones.fetchCloneArgs(address(this));
    }

    /// @notice The version of the record's format.
    function schema() external view returns (uint8) {
        return uint8(record()[0]);
    }

    /// @notice The bytes of the asset's UUID.
    function id() external view returns (bytes16) {
        return bytes16(_word(record(), RecordLayout.ID));
    }

    /// @notice sha256("polyshare/content/1" ‖ salt ‖ root), see {verifyContent}.
    function commitment() public view returns (bytes32) {
        return _word(record(), RecordLayout.COMMITMENT);
    }

    /// @notice The root of the Merkle tree of salted metadata fields, see {verifyField}.
    function metadataRoot() public view returns (bytes32) {
        return _word(record(), RecordLayout.METADATA_ROOT);
    }

    /// @notice The asset whose next version this is; zero if it is the first.
    function supersedes() external view returns (address) {
        bytes memory bytes_ = record();
        if (!_hasSupersedes(bytes_)) return address(0);
        return address(bytes20(_word(bytes_, RecordLayout.FIRST_LINK)));
    }

    /// @notice The assets that this one was made from, in order.
    function parents() public view returns (address[] memory found) {
        bytes memory bytes_ = record();
        uint256 offset = RecordLayout.FIRST_LINK + (_hasSupersedes(bytes_) ? 20 : 0);
        found = new address[](uint8(bytes_[RecordLayout.LINKS]) & RecordLayout.PARENTS_MASK);
        for (uint256 i; i < found.length; ++i) {
            found[i] = address(bytes20(_word(bytes_, offset + 20 * i)));
        }
    }

    /**
     * @notice Whether `root` is what was committed to.
     * @param salt The asset's content salt.
     * @param root The content root: sha256 of the manifest in canonical JSON. For an asset that a job makes (Model,
     * Translation) the root of the job request; what came out of the job is in the result.
     */
    function verifyContent(bytes32 salt, bytes32 root) external view returns (bool) {
        return sha256(abi.encodePacked("polyshare/content/1", salt, root)) == commitment();
    }

    /**
     * @notice Whether the field `name` was registered with `value`.
     * @param name The field's name.
     * @param value Its value in canonical JSON (RFC 8785): a string has its quotation marks.
     * @param salt The field's own salt.
     * @param proof Siblings from the leaf up, for OpenZeppelin's MerkleProof with keccak256.
     */
    function verifyField(string calldata name, string calldata value, bytes32 salt, bytes32[] calldata proof)
        external
        view
        returns (bool)
    {
        bytes32 leaf = keccak256(bytes.concat(keccak256(abi.encode(salt, name, value))));
        return MerkleProof.verifyCalldata(proof, metadataRoot(), leaf);
    }

    /**
     * @notice Whether these are the values of the recorded result. False while there is none.
     * @param outcome 1 completed, 2 failed.
     * @param commitment_ Commitment to the content that the job made.
     * @param metadataRoot_ Root of the metadata of what the job made.
     * @param provenance sha256 of the run's provenance statement.
     */
    function verifyResult(uint8 outcome, bytes32 commitment_, bytes32 metadataRoot_, bytes32 provenance)
        external
        view
        returns (bool)
    {
        return resultDigest(outcome, commitment_, metadataRoot_, provenance) == result;
    }

    /// @notice What {result} is for these: keccak256(abi.encode(schema 1, outcome, commitment, root, provenance)).
    function resultDigest(uint8 outcome, bytes32 commitment_, bytes32 metadataRoot_, bytes32 provenance)
        public
        pure
        returns (bytes32)
    {
        return keccak256(abi.encode(RecordLayout.SCHEMA, outcome, commitment_, metadataRoot_, provenance));
    }

    /// @dev The word that starts `back` bytes before the record's end, among the kind's own fields.
    function _ownWord(uint256 back) internal view returns (bytes32) {
        bytes memory bytes_ = record();
        return _word(bytes_, bytes_.length - back);
    }

    function _hasSupersedes(bytes memory bytes_) private pure returns (bool) {
        return uint8(bytes_[RecordLayout.LINKS]) & RecordLayout.SUPERSEDES_BIT != 0;
    }

    /// @dev The 32 bytes at `offset`. Past the end they are undefined: the caller cuts them to its field.
    function _word(bytes memory bytes_, uint256 offset) private pure returns (bytes32 word) {
        assembly ("memory-safe") {
            word := mload(add(add(bytes_, 32), offset))
        }
    }
}
