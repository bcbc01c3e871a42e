// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";
import {AssetRegistry} from "../src/AssetRegistry.sol";
import "./Records.sol";
import {Vm, vm} from "./Test.sol";

/// @dev A definition of a shape to be chosen, to see what the registry accepts.
contract Shape {
    address public registry;
    uint8 public kind;
    uint16 public ownLength;
    uint8 public constant minParents = 0;
    bool public constant takesResult = false;

    constructor(address registry_, uint8 kind_, uint16 ownLength_) {
        (registry, kind, ownLength) = (registry_, kind_, ownLength_);
    }
}

contract AssetRegistryTest {
    address private constant STRANGER = address(0xbad);

    AssetRegistry private registry;

    function setUp() public {
        registry = deploy(address(this), address(this));
    }

    function test_aNewRecordGetsAContractAndIsCounted() public {
        AssetRegistry.Registration memory entry = registration(DATASET, sample(DATASET, 1, 0, false));
        bytes16 id = sample(DATASET, 1, 0, false).id;
        address expected = registry.addressOf(DATASET, entry.record);

        vm.expectEmit(address(registry));
        emit AssetRegistry.Registered(id, expected, DATASET);
        registry.registerMany(one(entry));

        vm.assertEq(registry.contractOf(id), expected, "contract");
        vm.assertEq(registry.count(), 1, "count");
        vm.assertEq(registry.head(), keccak256(abi.encode(bytes32(0), expected)), "head");
    }

    function test_theSameRecordAgainChangesNothingAndSaysNothing() public {
        AssetRegistry.Registration memory entry = registration(MODEL, sample(MODEL, 1, 1, false));
        registry.registerMany(one(entry));
        bytes32 head = registry.head();

        vm.recordLogs();
        registry.registerMany(one(entry));

        vm.assertEq(vm.getRecordedLogs().length, 0, "events");
        vm.assertEq(registry.head(), head, "head");
        vm.assertEq(registry.count(), 1, "count");
    }

    function test_anotherRecordUnderATakenIdIsRejected() public {
        Fields memory fields = sample(DATASET, 1, 0, false);
        registry.registerMany(one(registration(DATASET, fields)));
        address first = registry.contractOf(fields.id);

        fields.metadataRoot = bytes32(uint256(1));
        _expectRejected(fields.id, AssetRegistry.Reason.IdTaken);
        registry.registerMany(one(registration(DATASET, fields)));

        vm.assertEq(registry.contractOf(fields.id), first, "contract");
        vm.assertEq(registry.count(), 1, "count");
    }

    function test_theSameBytesAsAnotherKindAreRejected() public {
        Fields memory fields = sample(DATASET, 1, 0, false);
        registry.registerMany(one(registration(DATASET, fields)));

        _expectRejected(fields.id, AssetRegistry.Reason.IdTaken);
        registry.registerMany(one(registration(IMPORTED_MODEL, fields)));
    }

    function test_anIdTwiceInOneBatchIsRegisteredOnce() public {
        Fields memory fields = sample(DATASET, 1, 0, false);
        Fields memory other = sample(DATASET, 2, 0, false);
        other.id = fields.id;
        AssetRegistry.Registration[] memory batch = new AssetRegistry.Registration[](3);
        batch[0] = registration(DATASET, fields);
        batch[1] = registration(DATASET, other);
        batch[2] = registration(DATASET, fields);

        _expectRejected(fields.id, AssetRegistry.Reason.IdTaken);
        registry.registerMany(batch);

        vm.assertEq(registry.count(), 1, "count");
        vm.assertEq(registry.contractOf(fields.id), registry.addressOf(DATASET, batch[0].record), "contract");
    }

    function test_eachFlawOfARecordHasItsReason() public {
        Fields memory fields = sample(MODEL, 1, 2, true);
        bytes memory good = pack(fields);

        _rejects(9, good, fields.id, AssetRegistry.Reason.UnknownKind);
        _rejects(0, good, fields.id, AssetRegistry.Reason.UnknownKind);
        _rejects(MODEL, _with(good, 0, 0x02), fields.id, AssetRegistry.Reason.BadSchema);
        _rejects(MODEL, bytes.concat(good, hex"00"), fields.id, AssetRegistry.Reason.BadLength);
        _rejects(MODEL, _cut(good, good.length - 1), fields.id, AssetRegistry.Reason.BadLength);
        _rejects(MODEL, _cut(good, 81), fields.id, AssetRegistry.Reason.BadLength);
        _rejects(MODEL, _cut(good, 16), 0, AssetRegistry.Reason.BadLength);
        _rejects(MODEL, "", 0, AssetRegistry.Reason.BadLength);
        _rejects(MODEL, _with(good, 81, 0x81), fields.id, AssetRegistry.Reason.BadLength);
        _rejects(MODEL, _with(good, 81, 0x02), fields.id, AssetRegistry.Reason.BadLength);
        _rejects(MODEL, _with(good, 81, 0xc1), fields.id, AssetRegistry.Reason.BadLinks);
        _rejects(MODEL, pack(sample(MODEL, 1, 0, false)), fields.id, AssetRegistry.Reason.BadLinks);
        _rejects(TRANSLATION, pack(sample(TRANSLATION, 1, 0, true)), fields.id, AssetRegistry.Reason.BadLinks);
        _rejects(DATASET, good, fields.id, AssetRegistry.Reason.BadLength);

        fields.id = 0;
        _rejects(MODEL, pack(fields), 0, AssetRegistry.Reason.ZeroId);
        vm.assertEq(registry.count(), 0, "count");
    }

    function test_aRecordMayHave64Parents() public {
        Fields memory fields = sample(TRANSLATION, 1, 64, true);
        registry.registerMany(one(registration(TRANSLATION, fields)));
        vm.assertEq(IAssetParents(registry.contractOf(fields.id)).parents(), fields.parents, "parents");
        _rejects(
            TRANSLATION,
            pack(sample(TRANSLATION, 2, 65, true)),
            sample(TRANSLATION, 2, 0, true).id,
            AssetRegistry.Reason.BadLinks
        );
    }

    function test_aResultIsRecordedOnceAndTheSameAgainIsPassedOver() public {
        Fields memory fields = sample(MODEL, 1, 1, false);
        registry.registerMany(one(registration(MODEL, fields)));
        AssetRegistry.Result memory result = resultFor(fields.id, 7);

        vm.expectEmit(address(registry));
        emit AssetRegistry.Recorded(
            fields.id, result.outcome, result.commitment, result.metadataRoot, result.provenance
        );
        registry.recordMany(one(result));
        bytes32 digest = IAssetSlots(registry.contractOf(fields.id)).result();
        vm.assertEq(
            digest,
            keccak256(abi.encode(uint8(1), result.outcome, result.commitment, result.metadataRoot, result.provenance)),
            "digest"
        );

        vm.recordLogs();
        registry.recordMany(one(result));
        vm.assertEq(vm.getRecordedLogs().length, 0, "events");

        _expectRejected(fields.id, AssetRegistry.Reason.ResultDiffers);
        registry.recordMany(one(resultFor(fields.id, 8)));
        vm.assertEq(IAssetSlots(registry.contractOf(fields.id)).result(), digest, "result");
    }

    function test_aResultThatCannotBeIsRejected() public {
        bytes16 id = sample(MODEL, 1, 1, false).id;
        AssetRegistry.Result memory result = resultFor(id, 1);

        _expectRejected(id, AssetRegistry.Reason.UnknownId);
        registry.recordMany(one(result));

        registry.registerMany(one(registration(MODEL, sample(MODEL, 1, 1, false))));
        for (uint256 i; i < 2; ++i) {
            result.outcome = i == 0 ? 0 : 3;
            _expectRejected(id, AssetRegistry.Reason.BadOutcome);
            registry.recordMany(one(result));
        }

        for (uint8 kind = DATASET; kind <= IMPORTED_MODEL; kind += 2) {
            Fields memory fields = sample(kind, 10 + uint256(kind), 0, false);
            registry.registerMany(one(registration(kind, fields)));
            _expectRejected(fields.id, AssetRegistry.Reason.NoResultForKind);
            registry.recordMany(one(resultFor(fields.id, 1)));
            vm.assertEq(IAssetSlots(registry.contractOf(fields.id)).result(), 0, "result");
        }
    }

    function test_aRevocationIsRecordedOnceAndTheSameAgainIsPassedOver() public {
        Fields memory fields = sample(DATASET, 1, 0, false);
        AssetRegistry.Revocation memory revocation = AssetRegistry.Revocation(fields.id, noise(1, "reason"));

        _expectRejected(fields.id, AssetRegistry.Reason.UnknownId);
        registry.revokeMany(one(revocation));

        registry.registerMany(one(registration(DATASET, fields)));
        _expectRejected(fields.id, AssetRegistry.Reason.ZeroDigest);
        registry.revokeMany(one(AssetRegistry.Revocation(fields.id, 0)));

        vm.expectEmit(address(registry));
        emit AssetRegistry.Revoked(fields.id, revocation.digest);
        registry.revokeMany(one(revocation));

        vm.recordLogs();
        registry.revokeMany(one(revocation));
        vm.assertEq(vm.getRecordedLogs().length, 0, "events");

        _expectRejected(fields.id, AssetRegistry.Reason.RevocationDiffers);
        registry.revokeMany(one(AssetRegistry.Revocation(fields.id, noise(2, "reason"))));
        vm.assertEq(IAssetSlots(registry.contractOf(fields.id)).revocation(), revocation.digest, "revocation");
    }

    function test_aStrangerWritesNothing() public {
        bytes memory refusal = abi.encodeWithSelector(AssetRegistry.AssetRegistryUnauthorizedWriter.selector, STRANGER);
        vm.expectRevert(refusal);
        vm.prank(STRANGER);
        registry.registerMany(new AssetRegistry.Registration[](0));
        vm.expectRevert(refusal);
        vm.prank(STRANGER);
        registry.recordMany(new AssetRegistry.Result[](0));
        vm.expectRevert(refusal);
        vm.prank(STRANGER);
        registry.revokeMany(new AssetRegistry.Revocation[](0));
    }

    function test_aWriterCanBeForbiddenAgain() public {
        vm.expectEmit(address(registry));
        emit AssetRegistry.WriterAllowed(STRANGER, true);
        registry.allow(STRANGER, true);
        vm.prank(STRANGER);
        registry.registerMany(one(registration(DATASET, sample(DATASET, 1, 0, false))));
        vm.assertEq(registry.count(), 1, "count");

        registry.allow(STRANGER, false);
        vm.expectRevert(abi.encodeWithSelector(AssetRegistry.AssetRegistryUnauthorizedWriter.selector, STRANGER));
        vm.prank(STRANGER);
        registry.registerMany(one(registration(DATASET, sample(DATASET, 2, 0, false))));
    }

    function test_onlyTheOwnerAllowsAndDefines() public {
        bytes memory refusal = abi.encodeWithSelector(Ownable.OwnableUnauthorizedAccount.selector, STRANGER);
        vm.expectRevert(refusal);
        vm.prank(STRANGER);
        registry.allow(STRANGER, true);
        vm.expectRevert(refusal);
        vm.prank(STRANGER);
        registry.defineKind(5, address(this));
    }

    function test_ownershipPassesInTwoSteps() public {
        registry.transferOwnership(STRANGER);
        vm.assertEq(registry.owner(), address(this), "owner before acceptance");
        vm.prank(STRANGER);
        registry.acceptOwnership();
        vm.assertEq(registry.owner(), STRANGER, "owner");
    }

    function test_aKindIsDefinedOnce() public {
        address again = create("Dataset", address(registry));
        vm.expectRevert(abi.encodeWithSelector(AssetRegistry.AssetRegistryKindDefined.selector, DATASET));
        registry.defineKind(DATASET, again);
    }

    function test_aLaterKindCanBeAdded() public {
        address definition = address(new Shape(address(registry), 5, 7));
        vm.expectEmit(address(registry));
        emit AssetRegistry.KindDefined(5, definition);
        registry.defineKind(5, definition);
        vm.assertEq(registry.definitionOf(5), definition, "definition");

        Fields memory fields = sample(5, 1, 0, false);
        fields.own = "7 bytes";
        registry.registerMany(one(registration(5, fields)));
        vm.assertEq(registry.count(), 1, "count");
    }

    function test_aDefinitionThatDoesNotFitIsRefused() public {
        address self = address(registry);
        _refusesDefinition(5, address(new Shape(address(this), 5, 0)));
        _refusesDefinition(5, address(new Shape(self, 6, 0)));
        // 82 + 20 × 65 + 2714 is 4096: one byte more is refused.
        _refusesDefinition(5, address(new Shape(self, 5, 2715)));
        registry.defineKind(5, address(new Shape(self, 5, 2714)));

        Fields memory fields = sample(5, 1, 64, true);
        fields.own = new bytes(2714);
        AssetRegistry.Registration memory longest = registration(5, fields);
        vm.assertEq(longest.record.length, 4096, "longest record");
        registry.registerMany(one(longest));
        vm.assertEq(registry.contractOf(fields.id).code.length, 4096 + 45, "code of the longest record");
    }

    function test_withTooLittleGasABatchRevertsAndRejectsNothing() public {
        AssetRegistry.Registration[] memory batch = new AssetRegistry.Registration[](20);
        for (uint256 i; i < batch.length; ++i) {
            batch[i] = registration(MODEL, sample(MODEL, i, 64, false));
        }
        for (uint256 gas = 50_000; gas < 6_000_000; gas += 37_000) {
            try registry.registerMany{gas: gas}(batch) {
                vm.assertTrue(false, "the gas was thought not to suffice");
            } catch {}
        }
        vm.assertEq(registry.count(), 0, "count");
        registry.registerMany(batch);
        vm.assertEq(registry.count(), 20, "count");
    }

    function test_theStorageIsWhereProofsLookForIt() public {
        Fields memory fields = sample(MODEL, 1, 1, false);
        Fields memory plain = sample(DATASET, 2, 0, false);
        registry.registerMany(one(registration(MODEL, fields)));
        registry.registerMany(one(registration(DATASET, plain)));
        address asset = registry.contractOf(fields.id);

        vm.assertEq(vm.load(address(registry), bytes32(uint256(2))), registry.head(), "head");
        vm.assertEq(uint256(vm.load(address(registry), bytes32(uint256(3)))), 2, "count");
        bytes32 slot = keccak256(abi.encode(fields.id, uint256(4)));
        vm.assertEq(uint256(vm.load(address(registry), slot)), uint160(asset) | 1 << 160, "entry with result");
        slot = keccak256(abi.encode(plain.id, uint256(4)));
        vm.assertEq(
            uint256(vm.load(address(registry), slot)), uint160(registry.contractOf(plain.id)), "entry without result"
        );

        registry.recordMany(one(resultFor(fields.id, 1)));
        registry.revokeMany(one(AssetRegistry.Revocation(fields.id, bytes32(uint256(7)))));
        vm.assertEq(vm.load(asset, 0), IAssetSlots(asset).result(), "result");
        vm.assertEq(uint256(vm.load(asset, bytes32(uint256(1)))), 7, "revocation");
    }

    function test_addressOfARecordThatWouldBeRejectedIsZero() public view {
        vm.assertEq(registry.addressOf(DATASET, hex"01"), address(0), "too short");
        vm.assertEq(registry.addressOf(9, pack(sample(DATASET, 1, 0, false))), address(0), "unknown kind");
    }

    function _refusesDefinition(uint8 kind, address definition) private {
        vm.expectRevert(abi.encodeWithSelector(AssetRegistry.AssetRegistryBadDefinition.selector, kind, definition));
        registry.defineKind(kind, definition);
    }

    function _rejects(uint8 kind, bytes memory record, bytes16 id, AssetRegistry.Reason reason) private {
        _expectRejected(id, reason);
        registry.registerMany(one(AssetRegistry.Registration(kind, record)));
    }

    function _expectRejected(bytes16 id, AssetRegistry.Reason reason) private {
        vm.expectEmit(address(registry));
        emit AssetRegistry.Rejected(id, reason);
    }

    function _with(bytes memory record, uint256 offset, bytes1 value) private pure returns (bytes memory copy) {
        copy = bytes.concat(record);
        copy[offset] = value;
    }

    function _cut(bytes memory record, uint256 length) private pure returns (bytes memory copy) {
        copy = new bytes(length);
        for (uint256 i; i < length; ++i) {
            copy[i] = record[i];
        }
    }
}

interface IAssetSlots {
    function result() external view returns (bytes32);
    function revocation() external view returns (bytes32);
}

interface IAssetParents {
    function parents() external view returns (address[] memory);
}
