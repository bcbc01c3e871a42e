// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AssetRegistry} from "../src/AssetRegistry.sol";
import "./Records.sol";
import {vm} from "./Test.sol";

/**
 * @dev Gas of whole transactions, calldata and the 21,000 of every transaction included (run with `--isolate`). The
 * registry has been written to before, as it has been in all its life but once.
 */
contract GasTest {
    string private constant GROUP = "AssetRegistry";

    AssetRegistry private registry;

    function setUp() public {
        registry = deploy(address(this), address(this));
        registry.registerMany(one(registration(DATASET, sample(DATASET, 1 << 128, 0, false))));
    }

    function test_gasOfRegistering() public {
        _register("register dataset, 0 parents", DATASET, 0, false);
        _register("register dataset, 0 parents, supersedes", DATASET, 0, true);
        _register("register imported model, 0 parents", IMPORTED_MODEL, 0, false);
        _register("register imported model, 2 parents", IMPORTED_MODEL, 2, false);
        _register("register model, 1 parent", MODEL, 1, false);
        _register("register model, 2 parents", MODEL, 2, false);
        _register("register model, 64 parents, supersedes", MODEL, 64, true);
        _register("register translation, 1 parent", TRANSLATION, 1, false);
    }

    function test_gasOfRegisteringAgain() public {
        registry.registerMany(_models(100, 0));
        registry.registerMany(_models(100, 0));
        vm.snapshotGasLastCall(GROUP, "register model, 2 parents, there already, batch of 100");
    }

    function test_gasOfResults() public {
        registry.registerMany(_models(101, 0));
        AssetRegistry.Result[] memory results = new AssetRegistry.Result[](100);
        for (uint256 i; i < 100; ++i) {
            results[i] = resultFor(sample(MODEL, i + 1, 0, false).id, i);
        }
        registry.recordMany(one(resultFor(sample(MODEL, 0, 0, false).id, 0)));
        vm.snapshotGasLastCall(GROUP, "record result, alone");
        registry.recordMany(results);
        vm.snapshotGasLastCall(GROUP, "record result, batch of 100");
    }

    function test_gasOfRevocations() public {
        registry.registerMany(_models(101, 0));
        AssetRegistry.Revocation[] memory revocations = new AssetRegistry.Revocation[](100);
        for (uint256 i; i < 100; ++i) {
            revocations[i] = AssetRegistry.Revocation(sample(MODEL, i + 1, 0, false).id, noise(i, "reason"));
        }
        registry.revokeMany(one(AssetRegistry.Revocation(sample(MODEL, 0, 0, false).id, noise(0, "reason"))));
        vm.snapshotGasLastCall(GROUP, "revoke, alone");
        registry.revokeMany(revocations);
        vm.snapshotGasLastCall(GROUP, "revoke, batch of 100");
    }

    function _register(string memory name, uint8 kind, uint256 parents, bool next) private {
        uint256 first = uint256(kind) << 64 | parents << 32 | (next ? 1 << 24 : 0);
        registry.registerMany(one(registration(kind, sample(kind, first, parents, next))));
        vm.snapshotGasLastCall(GROUP, string.concat(name, ", alone"));
        registry.registerMany(_batch(kind, 100, first + 1, parents, next));
        vm.snapshotGasLastCall(GROUP, string.concat(name, ", batch of 100"));
    }

    function _models(uint256 size, uint256 first) private pure returns (AssetRegistry.Registration[] memory) {
        return _batch(MODEL, size, first, 2, false);
    }

    function _batch(uint8 kind, uint256 size, uint256 first, uint256 parents, bool next)
        private
        pure
        returns (AssetRegistry.Registration[] memory batch)
    {
        batch = new AssetRegistry.Registration[](size);
        for (uint256 i; i < size; ++i) {
            batch[i] = registration(kind, sample(kind, first + i, parents, next));
        }
    }
}
