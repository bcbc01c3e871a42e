// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";
import {Ownable2Step} from "@openzeppelin/contracts/access/Ownable2Step.sol";
import {IAsset} from "./IAsset.sol";
import {RecordClone} from "./RecordClone.sol";
import {RecordLayout} from "./RecordLayout.sol";

/**
 * @title AssetRegistry: one contract for each asset, an id once, in an order that nobody can change
 * @notice Allow-listed writers register records, results and revocations in batches. A batch never fails for one of
 * its entries: what is there already is passed over in silence, what is wrong or contradicts what is there is answered
 * with {Rejected}. It reverts only for a caller that is no writer, and where the gas does not suffice.
 *
 * Storage, for proofs (`eth_getProof`): slot 2 is the head, slot 3 the count, and the slot of an id,
 * keccak256(id ‖ 16 zero bytes ‖ uint256(4)), holds its contract in the low 20 bytes and, in the byte above, 1 if the
 * kind takes a result.
 */
contract AssetRegistry is Ownable2Step {
    /// @notice A record to register; for its format see {RecordLayout}.
    struct Registration {
        uint8 kind;
        bytes record;
    }

    /// @notice The outcome of an asset's job; for its fields see {Asset-verifyResult}.
    struct Result {
        bytes16 id;
        uint8 outcome;
        bytes32 commitment;
        bytes32 metadataRoot;
        bytes32 provenance;
    }

    /// @notice A revocation: the digest of its reason and time.
    struct Revocation {
        bytes16 id;
        bytes32 digest;
    }

    /// @notice Why an entry was rejected.
    enum Reason {
        None, // 0: never emitted
        UnknownKind, // 1: no definition for the kind
        BadSchema, // 2: the record's first byte is not 1
        BadLength, // 3: the record's length is not what its links and its kind say
        BadLinks, // 4: more than 64 parents, or fewer than its kind must have
        ZeroId, // 5: the id is all zero
        IdTaken, // 6: another record is registered under the id
        UnknownId, // 7: nothing is registered under the id
        NoResultForKind, // 8: an asset of this kind has no result
        BadOutcome, // 9: the outcome is neither 1 (completed) nor 2 (failed)
        ResultDiffers, // 10: another result is recorded
        ZeroDigest, // 11: the revocation's digest is zero
        RevocationDiffers // 12: another revocation is recorded
    }

    struct Kind {
        address definition;
        uint16 ownLength;
        uint8 minParents;
        bool takesResult;
    }

    uint8 private constant COMPLETED = 1;
    uint8 private constant FAILED = 2;

    uint256 private constant TAKES_RESULT = 1 << 160;

    /// @notice The chain over all assets in order of registration, from zero: keccak256(abi.encode(head, asset)).
    bytes32 public head;

    /// @notice How many assets are registered.
    uint256 public count;

    /// @dev The asset's address and, above it, TAKES_RESULT. One word, so that it is written without being read again.
    mapping(bytes16 id => uint256 entry) private _entries;
    mapping(uint8 kind => Kind) private _kinds;

    /// @notice Who may write.
    mapping(address writer => bool) public isWriter;

    /// @notice `asset` was created for the record `id`.
    event Registered(bytes16 indexed id, address indexed asset, uint8 kind);

    /// @notice The job of `id` ended.
    event Recorded(bytes16 indexed id, uint8 outcome, bytes32 commitment, bytes32 metadataRoot, bytes32 provenance);

    /// @notice `id` was revoked.
    event Revoked(bytes16 indexed id, bytes32 digest);

    /// @notice An entry for `id` was left out. For a record too short to have an id, `id` is zero.
    event Rejected(bytes16 indexed id, Reason reason);

    /// @notice `writer` may write from now on, or not any more.
    event WriterAllowed(address indexed writer, bool allowed);

    /// @notice `kind` was given its definition.
    event KindDefined(uint8 indexed kind, address definition);

    /// @notice The caller is no writer.
    error AssetRegistryUnauthorizedWriter(address caller);

    /// @notice The kind has a definition, which cannot be replaced.
    error AssetRegistryKindDefined(uint8 kind);

    /// @notice The definition is of another registry or kind, or its own fields are too long.
    error AssetRegistryBadDefinition(uint8 kind, address definition);

    constructor(address owner_) Ownable(owner_) {}

    modifier onlyWriter() {
        require(isWriter[msg.sender], AssetRegistryUnauthorizedWriter(msg.sender));
        _;
    }

    /// @notice Allows or forbids `writer` to write.
    function allow(address writer, bool allowed) external onlyOwner {
        isWriter[writer] = allowed;
        emit WriterAllowed(writer, allowed);
    }

    /// @notice Gives a new kind its definition, for good.
    function defineKind(uint8 kind, address definition) external onlyOwner {
        require(_kinds[kind].definition == address(0), AssetRegistryKindDefined(kind));
        IAsset asset = IAsset(definition);
        uint16 ownLength = asset.ownLength();
        require(
            asset.registry() == address(this) && asset.kind() == kind && ownLength <= RecordLayout.MAX_OWN_LENGTH,
            AssetRegistryBadDefinition(kind, definition)
        );
        _kinds[kind] = Kind(definition, ownLength, asset.minParents(), asset.takesResult());
        emit KindDefined(kind, definition);
    }

    /**
     * @notice Creates a contract for each record. The same record again is passed over.
     *
     * Emits {Registered} for each that is new and {Rejected} for each that is wrong.
     */
    function registerMany(Registration[] calldata registrations) external onlyWriter {
        bytes32 chain = head;
        uint256 added;
        uint8 kind;
        Kind memory rule;
        for (uint256 i; i < registrations.length; ++i) {
            Registration calldata registration = registrations[i];
            uint8 next = registration.kind;
            // Neighbours are mostly of one kind.
            if (next != kind) {
                kind = next;
                rule = _kinds[kind];
            }
            address asset = _register(kind, rule, registration.record);
            if (asset != address(0)) {
                chain = _chained(chain, asset);
                unchecked {
                    ++added;
                }
            }
        }
        if (added != 0) {
            head = chain;
            count += added;
        }
    }

    /**
     * @notice Records results, each once. The same result again is passed over.
     *
     * Emits {Recorded} for each that is new and {Rejected} for each that is wrong.
     */
    function recordMany(Result[] calldata results) external onlyWriter {
        for (uint256 i; i < results.length; ++i) {
            Result calldata entry = results[i];
            Reason flaw = _record(entry);
            if (flaw != Reason.None) emit Rejected(entry.id, flaw);
        }
    }

    /**
     * @notice Revokes assets, each once. The same revocation again is passed over.
     *
     * Emits {Revoked} for each that is new and {Rejected} for each that is wrong.
     */
    function revokeMany(Revocation[] calldata revocations) external onlyWriter {
        for (uint256 i; i < revocations.length; ++i) {
            Revocation calldata entry = revocations[i];
            Reason flaw = _revoke(entry);
            if (flaw != Reason.None) emit Rejected(entry.id, flaw);
        }
    }

    /// @notice The contract of the asset `id`; zero if it is not registered.
    function contractOf(bytes16 id) external view returns (address) {
        return address(uint160(_entries[id]));
    }

    /// @notice The definition of `kind`; zero if it has none.
    function definitionOf(uint8 kind) external view returns (address) {
        return _kinds[kind].definition;
    }

    /**
     * @notice The address that `record` has, or will have, as an asset of `kind`; zero if it would be rejected as such.
     */
    function addressOf(uint8 kind, bytes calldata record) external view returns (address) {
        Kind memory rule = _kinds[kind];
        bytes16 id = _idOf(record);
        if (_flawOf(rule, record, id) != Reason.None) return address(0);
        return RecordClone.predict(rule.definition, record, id);
    }

    /// @dev Returns the new asset, or zero if none was created.
    function _register(uint8 kind, Kind memory rule, bytes calldata record) private returns (address asset) {
        bytes16 id = _idOf(record);
        Reason flaw = _flawOf(rule, record, id);
        if (flaw == Reason.None) {
            address known = address(uint160(_entries[id]));
            if (known == address(0)) {
                asset = RecordClone.create(rule.definition, record, id);
                _entries[id] = uint160(asset) | (rule.takesResult ? TAKES_RESULT : 0);
                emit Registered(id, asset, kind);
                return asset;
            }
            if (known != RecordClone.predict(rule.definition, record, id)) flaw = Reason.IdTaken;
        }
        if (flaw != Reason.None) emit Rejected(id, flaw);
    }

    function _record(Result calldata entry) private returns (Reason) {
        uint256 known = _entries[entry.id];
        if (known == 0) return Reason.UnknownId;
        if (known & TAKES_RESULT == 0) return Reason.NoResultForKind;
        if (entry.outcome != COMPLETED && entry.outcome != FAILED) return Reason.BadOutcome;

        bytes32 digest = keccak256(
            abi.encode(RecordLayout.SCHEMA, entry.outcome, entry.commitment, entry.metadataRoot, entry.provenance)
        );
        bytes32 held = IAsset(address(uint160(known))).putResult(digest);
        if (held == 0) {
            emit Recorded(entry.id, entry.outcome, entry.commitment, entry.metadataRoot, entry.provenance);
        } else if (held != digest) {
            return Reason.ResultDiffers;
        }
        return Reason.None;
    }

    function _revoke(Revocation calldata entry) private returns (Reason) {
        address asset = address(uint160(_entries[entry.id]));
        if (asset == address(0)) return Reason.UnknownId;
        if (entry.digest == 0) return Reason.ZeroDigest;

        bytes32 held = IAsset(asset).putRevocation(entry.digest);
        if (held == 0) {
            emit Revoked(entry.id, entry.digest);
        } else if (held != entry.digest) {
            return Reason.RevocationDiffers;
        }
        return Reason.None;
    }

    function _flawOf(Kind memory rule, bytes calldata record, bytes16 id) private pure returns (Reason) {
        if (rule.definition == address(0)) return Reason.UnknownKind;
        if (record.length < RecordLayout.FIRST_LINK) return Reason.BadLength;
        unchecked {
            if (uint8(record[0]) != RecordLayout.SCHEMA) return Reason.BadSchema;
            if (id == 0) return Reason.ZeroId;
            uint256 links = uint8(record[RecordLayout.LINKS]);
            uint256 parents = links & RecordLayout.PARENTS_MASK;
            if (parents > RecordLayout.MAX_PARENTS || parents < rule.minParents) return Reason.BadLinks;
            // Bit 7 is one more link.
            uint256 length = RecordLayout.FIRST_LINK + 20 * (parents + links / RecordLayout.SUPERSEDES_BIT);
            if (record.length != length + rule.ownLength) return Reason.BadLength;
        }
        return Reason.None;
    }

    function _idOf(bytes calldata record) private pure returns (bytes16 id) {
        if (record.length < RecordLayout.COMMITMENT) return 0;
        return bytes16(record[RecordLayout.ID:RecordLayout.COMMITMENT]);
    }

    /// @dev keccak256(abi.encode(chain, asset))
    function _chained(bytes32 chain, address asset) private pure returns (bytes32 next) {
        assembly ("memory-safe") {
            mstore(0x00, chain)
            mstore(0x20, asset)
            next := keccak256(0x00, 0x40)
        }
    }
}
