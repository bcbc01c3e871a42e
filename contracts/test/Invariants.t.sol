// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Asset} from "../src/Asset.sol";
import {AssetRegistry} from "../src/AssetRegistry.sol";
import "./Records.sol";
import {Vm, vm} from "./Test.sol";

/**
 * @dev The world around a registry: a writer who sends good and bad batches over a small set of ids, so that they
 * meet again, and strangers who try everything. It remembers what it saw happen.
 */
contract World {
    uint256 private constant IDS = 8;

    AssetRegistry public immutable registry;

    bytes16[] public ids;
    mapping(bytes16 id => address) public contractSeen;
    mapping(bytes16 id => bytes32) public recordSeen;
    mapping(bytes16 id => bytes32) public resultSeen;
    mapping(bytes16 id => bytes32) public revocationSeen;
    mapping(bytes16 id => uint256) public timesRegistered;
    mapping(bytes16 id => uint256) public timesRecorded;
    mapping(bytes16 id => uint256) public timesRevoked;

    /// @dev The chain over the events {Registered}.
    bytes32 public chain;
    uint256 public registrations;
    bool public strangerWrote;
    bool public goodLeftOut;

    constructor() {
        registry = deploy(address(this), address(this));
    }

    function register(uint256 seed) external {
        AssetRegistry.Registration[] memory batch = new AssetRegistry.Registration[](1 + seed % 4);
        for (uint256 i; i < batch.length; ++i) {
            batch[i] = _registration(uint256(keccak256(abi.encode(seed, i))));
        }
        vm.recordLogs();
        registry.registerMany(batch);
        _watch();
        for (uint256 i; i < batch.length; ++i) {
            // Whatever the others were: a record that can be registered is, under its id or by another before it.
            if (registry.addressOf(batch[i].kind, batch[i].record) != address(0)) {
                if (registry.contractOf(bytes16(_head(batch[i].record))) == address(0)) goodLeftOut = true;
            }
        }
    }

    function record(uint256 seed) external {
        AssetRegistry.Result[] memory batch = new AssetRegistry.Result[](1 + seed % 4);
        for (uint256 i; i < batch.length; ++i) {
            uint256 own = uint256(keccak256(abi.encode(seed, i)));
            batch[i] = resultFor(_id(own), own >> 8 & 3);
            if (own >> 16 & 3 == 0) batch[i].outcome = uint8(own >> 24);
        }
        vm.recordLogs();
        registry.recordMany(batch);
        _watch();
    }

    function revoke(uint256 seed) external {
        AssetRegistry.Revocation[] memory batch = new AssetRegistry.Revocation[](1 + seed % 4);
        for (uint256 i; i < batch.length; ++i) {
            uint256 own = uint256(keccak256(abi.encode(seed, i)));
            batch[i] = AssetRegistry.Revocation(_id(own), bytes32(own >> 8 & 3));
        }
        vm.recordLogs();
        registry.revokeMany(batch);
        _watch();
    }

    function intrude(address stranger, uint256 seed) external {
        if (stranger == address(this) || stranger == address(registry)) return;
        address asset = registry.contractOf(_id(seed));
        bytes[7] memory attempts = [
            abi.encodeCall(registry.registerMany, (one(_registration(seed)))),
            abi.encodeCall(registry.recordMany, (one(resultFor(_id(seed), seed)))),
            abi.encodeCall(registry.revokeMany, (one(AssetRegistry.Revocation(_id(seed), bytes32(seed))))),
            abi.encodeCall(registry.allow, (stranger, true)),
            abi.encodeCall(registry.defineKind, (uint8(seed), registry.definitionOf(DATASET))),
            abi.encodeCall(Asset.putResult, (bytes32(seed))),
            abi.encodeCall(Asset.putRevocation, (bytes32(seed)))
        ];
        for (uint256 i; i < attempts.length; ++i) {
            address target = i < 5 ? address(registry) : asset;
            if (target == address(0)) continue;
            vm.prank(stranger);
            (bool done,) = target.call(attempts[i]);
            if (done) strangerWrote = true;
        }
    }

    function known() external view returns (uint256) {
        return ids.length;
    }

    function _registration(uint256 seed) private pure returns (AssetRegistry.Registration memory entry) {
        uint8 kind = uint8(1 + (seed >> 8) % 4);
        Fields memory fields = sample(kind, seed >> 16 & 3, 1 + (seed >> 24 & 1), seed >> 32 & 1 == 0);
        fields.id = _id(seed);
        entry = registration(kind, fields);
        if (seed >> 40 & 3 == 0) entry.record[seed >> 48 & 1 == 0 ? 0 : 81] = bytes1(uint8(seed >> 56));
        if (seed >> 42 & 7 == 0) entry.kind = uint8(seed >> 64);
    }

    function _id(uint256 seed) private pure returns (bytes16) {
        return bytes16(noise(seed % IDS, "id"));
    }

    function _head(bytes memory record_) private pure returns (bytes32 word) {
        assembly ("memory-safe") {
            word := mload(add(record_, 33))
        }
    }

    function _watch() private {
        Vm.Log[] memory logs = vm.getRecordedLogs();
        for (uint256 i; i < logs.length; ++i) {
            bytes16 id = bytes16(logs[i].topics[1]);
            bytes32 name = logs[i].topics[0];
            if (name == AssetRegistry.Registered.selector) {
                address asset = address(uint160(uint256(logs[i].topics[2])));
                chain = keccak256(abi.encode(chain, asset));
                ++registrations;
                ++timesRegistered[id];
                ids.push(id);
                contractSeen[id] = asset;
                recordSeen[id] = keccak256(asset.code);
            } else if (name == AssetRegistry.Recorded.selector) {
                ++timesRecorded[id];
                resultSeen[id] = keccak256(bytes.concat(bytes32(uint256(1)), logs[i].data));
            } else if (name == AssetRegistry.Revoked.selector) {
                ++timesRevoked[id];
                revocationSeen[id] = bytes32(logs[i].data);
            }
        }
    }
}

contract InvariantsTest {
    World private world;
    AssetRegistry private registry;

    function setUp() public {
        world = new World();
        registry = world.registry();
    }

    function targetContracts() public view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(world);
    }

    function invariant_anIdIsNeverRegisteredTwice() public view {
        for (uint256 i; i < world.known(); ++i) {
            bytes16 id = world.ids(i);
            vm.assertEq(world.timesRegistered(id), 1, "times registered");
            vm.assertEq(registry.contractOf(id), world.contractSeen(id), "contract");
            vm.assertEq(keccak256(world.contractSeen(id).code), world.recordSeen(id), "record");
        }
    }

    function invariant_resultAndRevocationAreWrittenOnceAndNeverChange() public view {
        for (uint256 i; i < world.known(); ++i) {
            bytes16 id = world.ids(i);
            Asset asset = Asset(world.contractSeen(id));
            vm.assertEq(asset.result(), world.resultSeen(id), "result");
            vm.assertEq(asset.revocation(), world.revocationSeen(id), "revocation");
            vm.assertTrue(world.timesRecorded(id) < 2, "times recorded");
            vm.assertTrue(world.timesRevoked(id) < 2, "times revoked");
            if (!asset.takesResult()) vm.assertEq(asset.result(), 0, "a result that cannot be");
        }
    }

    function invariant_theHeadIsTheChainOfTheEvents() public view {
        vm.assertEq(registry.head(), world.chain(), "head");
        vm.assertEq(registry.count(), world.registrations(), "count");
    }

    function invariant_aStrangerNeverWrites() public view {
        vm.assertFalse(world.strangerWrote(), "a stranger wrote");
        vm.assertEq(registry.owner(), address(world), "owner");
    }

    function invariant_oneBadRecordNeverStopsTheOthers() public view {
        vm.assertFalse(world.goodLeftOut(), "a good record was left out");
    }
}
