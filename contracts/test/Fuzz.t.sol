// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AssetRegistry} from "../src/AssetRegistry.sol";
import "./Records.sol";
import {Vm, vm} from "./Test.sol";

/// @dev What the registry does with batches of anything, against the rules written a second time.
contract FuzzTest {
    AssetRegistry private registry;

    function setUp() public {
        registry = deploy(address(this), address(this));
    }

    function testFuzz_anyBytesAreRejectedForTheReasonThatTheRulesGive(uint8 kind, bytes calldata record) public {
        _registersAsTheRulesSay(kind, record);
    }

    function testFuzz_aDamagedRecordIsJudgedAsTheRulesSay(uint256 seed, uint16 offset, bytes1 value, uint8 cut) public {
        uint8 kind = uint8(seed % 6);
        bytes memory record = pack(sample(kind, seed, (seed >> 8) % 70, (seed >> 16) % 2 == 0));
        // Half of the damage to the byte of the links and its neighbours.
        uint256 place = seed >> 17 & 1 == 0 ? offset % record.length : 79 + offset % 3;
        record[place] = value;
        uint256 length = seed >> 18 & 1 == 0 ? record.length : record.length - cut % record.length;
        assembly ("memory-safe") {
            mstore(record, length)
        }
        _registersAsTheRulesSay(kind, record);
    }

    function testFuzz_oneBadRecordNeverStopsTheOthers(uint256 seed, uint8 kind, bytes calldata bad, uint8 place)
        public
    {
        AssetRegistry.Registration[] memory batch = new AssetRegistry.Registration[](5);
        uint256 bad_ = place % 5;
        for (uint256 i; i < 5; ++i) {
            uint8 good = uint8(1 + (seed >> i) % 4);
            batch[i] = i == bad_
                ? AssetRegistry.Registration(kind, bad)
                : registration(good, sample(good, uint256(keccak256(abi.encode(seed, i))), 1 + i, i % 2 == 0));
        }
        registry.registerMany(batch);

        bytes32 head;
        for (uint256 i; i < 5; ++i) {
            if (i == bad_) continue;
            address asset = registry.contractOf(idOf(batch[i].record));
            vm.assertEq(asset, registry.addressOf(batch[i].kind, batch[i].record), "contract");
            head = keccak256(abi.encode(head, asset));
        }
        if (flawOf(kind, bad) != AssetRegistry.Reason.None) {
            vm.assertEq(registry.count(), 4, "count");
            vm.assertEq(registry.head(), head, "head");
        }
    }

    function testFuzz_oneBadResultOrRevocationNeverStopsTheOthers(uint256 seed, bytes16 id, uint8 outcome) public {
        Fields memory first = sample(MODEL, 1, 1, false);
        Fields memory second = sample(TRANSLATION, 2, 1, false);
        registry.registerMany(one(registration(MODEL, first)));
        registry.registerMany(one(registration(TRANSLATION, second)));

        AssetRegistry.Result[] memory results = new AssetRegistry.Result[](3);
        results[0] = resultFor(first.id, seed);
        results[1] = resultFor(id, seed);
        results[1].outcome = outcome;
        results[2] = resultFor(second.id, seed);
        registry.recordMany(results);

        AssetRegistry.Revocation[] memory revocations = new AssetRegistry.Revocation[](3);
        revocations[0] = AssetRegistry.Revocation(first.id, noise(seed, "first"));
        revocations[1] = AssetRegistry.Revocation(id, bytes32(uint256(outcome)));
        revocations[2] = AssetRegistry.Revocation(second.id, noise(seed, "second"));
        registry.revokeMany(revocations);

        _holds(results[0], revocations[0].digest);
        _holds(results[2], revocations[2].digest);
    }

    function testFuzz_aStrangerNeverWrites(address caller, bytes calldata input, uint8 which) public {
        // Nobody can send from address zero, which is also what the pending owner is while there is none.
        if (caller == address(this) || caller == address(0)) return;
        bytes4[7] memory selectors = [
            registry.registerMany.selector,
            registry.recordMany.selector,
            registry.revokeMany.selector,
            registry.allow.selector,
            registry.defineKind.selector,
            registry.transferOwnership.selector,
            registry.acceptOwnership.selector
        ];
        vm.prank(caller);
        (bool done,) = address(registry).call(bytes.concat(selectors[which % 7], input));
        vm.assertFalse(done, "it wrote");
    }

    function _registersAsTheRulesSay(uint8 kind, bytes memory record) private {
        AssetRegistry.Reason expected = flawOf(kind, record);
        vm.recordLogs();
        registry.registerMany(one(AssetRegistry.Registration(kind, record)));

        Vm.Log[] memory logs = vm.getRecordedLogs();
        vm.assertEq(logs.length, 1, "events");
        vm.assertEq(logs[0].topics[1], bytes32(idOf(record)), "id");
        address predicted = registry.addressOf(kind, record);
        if (expected == AssetRegistry.Reason.None) {
            vm.assertEq(logs[0].topics[0], AssetRegistry.Registered.selector, "registered");
            vm.assertEq(registry.contractOf(idOf(record)), predicted, "contract");
            vm.assertEq(registry.count(), 1, "count");
        } else {
            vm.assertEq(logs[0].topics[0], AssetRegistry.Rejected.selector, "rejected");
            vm.assertEq(abi.decode(logs[0].data, (uint256)), uint256(expected), "reason");
            vm.assertEq(predicted, address(0), "predicted");
            vm.assertEq(registry.count(), 0, "count");
            vm.assertEq(registry.head(), 0, "head");
        }
    }

    function _holds(AssetRegistry.Result memory r, bytes32 revocation) private view {
        Slots asset = Slots(registry.contractOf(r.id));
        bytes32 digest = keccak256(abi.encode(uint8(1), r.outcome, r.commitment, r.metadataRoot, r.provenance));
        vm.assertEq(asset.result(), digest, "result");
        vm.assertEq(asset.revocation(), revocation, "revocation");
    }
}

interface Slots {
    function result() external view returns (bytes32);
    function revocation() external view returns (bytes32);
}

/// @dev The id that an event about `record` has.
function idOf(bytes memory record) pure returns (bytes16 id) {
    if (record.length < 17) return 0;
    for (uint256 i; i < 16; ++i) {
        id |= bytes16(record[1 + i]) >> (8 * i);
    }
}

/// @dev The rules for a new record, byte by byte.
function flawOf(uint8 kind, bytes memory record) pure returns (AssetRegistry.Reason) {
    if (kind == 0 || kind > 4) return AssetRegistry.Reason.UnknownKind;
    if (record.length < 82) return AssetRegistry.Reason.BadLength;
    if (record[0] != 0x01) return AssetRegistry.Reason.BadSchema;
    if (idOf(record) == 0) return AssetRegistry.Reason.ZeroId;
    uint256 parents = uint8(record[81]) % 128;
    if (parents > 64) return AssetRegistry.Reason.BadLinks;
    if (parents == 0 && madeByJob(kind)) return AssetRegistry.Reason.BadLinks;
    uint256 links = uint8(record[81]) >= 128 ? parents + 1 : parents;
    if (record.length != 82 + 20 * links + sizeOfOwn(kind)) return AssetRegistry.Reason.BadLength;
    return AssetRegistry.Reason.None;
}
