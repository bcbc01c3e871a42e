// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Clones} from "@openzeppelin/contracts/proxy/Clones.sol";
import {Hashes} from "@openzeppelin/contracts/utils/cryptography/Hashes.sol";
import {Asset} from "../src/Asset.sol";
import {AssetRegistry} from "../src/AssetRegistry.sol";
import {Model} from "../src/Model.sol";
import {Translation} from "../src/Translation.sol";
import "./Records.sol";
import {vm} from "./Test.sol";

contract AssetTest {
    AssetRegistry private registry;

    function setUp() public {
        registry = deploy(address(this), address(this));
    }

    function testFuzz_everyFieldIsReadAsItWasRegistered(uint256 seed) public {
        uint8 kind = uint8(1 + seed % 4);
        Fields memory fields = sample(kind, seed, (madeByJob(kind) ? 1 : 0) + (seed >> 8) % 64, (seed >> 16) % 2 == 0);
        Asset asset = _register(kind, fields);

        vm.assertEq(asset.record(), pack(fields), "record");
        vm.assertEq(asset.kind(), kind, "kind");
        vm.assertEq(asset.schema(), 1, "schema");
        vm.assertEq(asset.registry(), address(registry), "registry");
        vm.assertEq(bytes32(asset.id()), bytes32(fields.id), "id");
        vm.assertEq(asset.commitment(), fields.commitment, "commitment");
        vm.assertEq(asset.metadataRoot(), fields.metadataRoot, "metadata root");
        vm.assertEq(asset.supersedes(), fields.supersedes, "supersedes");
        vm.assertEq(asset.parents(), fields.parents, "parents");
        vm.assertEq(asset.ownLength(), sizeOfOwn(kind), "own length");
        vm.assertEq(asset.result(), 0, "result");
        vm.assertEq(asset.revocation(), 0, "revocation");
        if (madeByJob(kind)) {
            vm.assertEq(Model(address(asset)).environment(), noise(seed, "environment"), "environment");
        }
        if (kind == TRANSLATION) {
            vm.assertEq(Translation(address(asset)).opset(), 17 + seed % 4, "opset");
            vm.assertEq(Translation(address(asset)).source(), fields.parents[0], "source");
        }
    }

    function testFuzz_theCloneIsOpenZeppelins(uint256 seed) public {
        uint8 kind = uint8(1 + seed % 4);
        Fields memory fields = sample(kind, seed, 1 + (seed >> 8) % 64, (seed >> 16) % 2 == 0);
        address definition = registry.definitionOf(kind);
        address predicted = Clones.predictDeterministicAddressWithImmutableArgs(
            definition, pack(fields), bytes32(fields.id), address(registry)
        );

        vm.assertEq(registry.addressOf(kind, pack(fields)), predicted, "predicted");
        Asset asset = _register(kind, fields);
        vm.assertEq(address(asset), predicted, "deployed");
        vm.assertEq(
            address(asset).code,
            abi.encodePacked(hex"363d3d373d3d3d363d73", definition, hex"5af43d82803e903d91602b57fd5bf3", pack(fields)),
            "code"
        );
    }

    function testFuzz_contentVerifiesWithItsSaltAndRootOnly(bytes32 salt, bytes32 root, bytes32 other) public {
        Fields memory fields = sample(DATASET, 1, 0, false);
        fields.commitment = sha256(abi.encodePacked("polyshare/content/1", salt, root));
        Asset asset = _register(DATASET, fields);

        vm.assertTrue(asset.verifyContent(salt, root), "its own");
        if (other != root) vm.assertFalse(asset.verifyContent(salt, other), "another root");
        if (other != salt) vm.assertFalse(asset.verifyContent(other, root), "another salt");
    }

    function testFuzz_eachFieldVerifiesWithItsProofOnly(uint256 seed, string calldata name, string calldata value)
        public
    {
        bytes32 salt = noise(seed, "salt");
        bytes32[] memory leaves = new bytes32[](16);
        for (uint256 i; i < 16; ++i) {
            leaves[i] = keccak256(abi.encode(seed, "leaf", i));
        }
        uint256 place = seed % 16;
        leaves[place] = keccak256(bytes.concat(keccak256(abi.encode(salt, name, value))));
        (bytes32 root, bytes32[] memory proof) = _tree(leaves, place);
        Fields memory fields = sample(IMPORTED_MODEL, 1, 0, false);
        fields.metadataRoot = root;
        Asset asset = _register(IMPORTED_MODEL, fields);

        vm.assertTrue(asset.verifyField(name, value, salt, proof), "its own");
        vm.assertFalse(asset.verifyField(name, string.concat(value, " "), salt, proof), "another value");
        vm.assertFalse(asset.verifyField(string.concat(name, value, "x"), value, salt, proof), "another name");
        vm.assertFalse(asset.verifyField(name, value, ~salt, proof), "another salt");
        proof[seed % 4] = ~proof[seed % 4];
        vm.assertFalse(asset.verifyField(name, value, salt, proof), "another proof");
        vm.assertFalse(asset.verifyField(name, value, salt, new bytes32[](0)), "no proof");
    }

    function testFuzz_theResultVerifiesWithItsValuesOnly(uint256 seed) public {
        Fields memory fields = sample(MODEL, seed, 1, false);
        Asset asset = _register(MODEL, fields);
        AssetRegistry.Result memory r = resultFor(fields.id, seed);
        vm.assertFalse(asset.verifyResult(r.outcome, r.commitment, r.metadataRoot, r.provenance), "before");

        registry.recordMany(one(r));
        vm.assertTrue(asset.verifyResult(r.outcome, r.commitment, r.metadataRoot, r.provenance), "its own");
        vm.assertFalse(asset.verifyResult(3 - r.outcome, r.commitment, r.metadataRoot, r.provenance), "outcome");
        vm.assertFalse(asset.verifyResult(r.outcome, ~r.commitment, r.metadataRoot, r.provenance), "commitment");
        vm.assertFalse(asset.verifyResult(r.outcome, r.commitment, ~r.metadataRoot, r.provenance), "root");
        vm.assertFalse(asset.verifyResult(r.outcome, r.commitment, r.metadataRoot, ~r.provenance), "provenance");
    }

    function testFuzz_onlyTheRegistryWritesToAnAsset(address caller, bytes32 digest) public {
        Asset asset = _register(MODEL, sample(MODEL, 1, 1, false));
        if (caller == address(registry)) return;
        bytes memory refusal = abi.encodeWithSelector(Asset.AssetUnauthorized.selector, caller);

        vm.expectRevert(refusal);
        vm.prank(caller);
        asset.putResult(digest);
        vm.expectRevert(refusal);
        vm.prank(caller);
        asset.putRevocation(digest);
    }

    function test_aDefinitionHasNoRecord() public {
        for (uint8 kind = DATASET; kind <= TRANSLATION; ++kind) {
            Asset definition = Asset(registry.definitionOf(kind));
            vm.assertEq(definition.kind(), kind, "kind");
            bytes memory refusal = abi.encodeWithSelector(Asset.AssetIsDefinition.selector);
            vm.expectRevert(refusal);
            definition.record();
            vm.expectRevert(refusal);
            definition.schema();
            vm.expectRevert(refusal);
            definition.id();
            vm.expectRevert(refusal);
            definition.commitment();
            vm.expectRevert(refusal);
            definition.metadataRoot();
            vm.expectRevert(refusal);
            definition.parents();
            vm.expectRevert(refusal);
            definition.supersedes();
            vm.expectRevert(refusal);
            definition.verifyContent(0, 0);
            vm.expectRevert(refusal);
            definition.verifyField("", "", 0, new bytes32[](0));
            if (madeByJob(kind)) {
                vm.expectRevert(refusal);
                Model(address(definition)).environment();
            }
        }
    }

    function _register(uint8 kind, Fields memory fields) private returns (Asset) {
        registry.registerMany(one(registration(kind, fields)));
        return Asset(registry.contractOf(fields.id));
    }

    /// @dev Root and proof by the definition of a Merkle tree with sorted pairs; `leaves` is overwritten.
    function _tree(bytes32[] memory leaves, uint256 place) private pure returns (bytes32 root, bytes32[] memory proof) {
        proof = new bytes32[](4);
        for ((uint256 level, uint256 width) = (0, 16); width > 1; (++level, width /= 2)) {
            proof[level] = leaves[place ^ 1];
            for (uint256 i; i < width; i += 2) {
                leaves[i / 2] = Hashes.commutativeKeccak256(leaves[i], leaves[i + 1]);
            }
            place /= 2;
        }
        root = leaves[0];
    }
}
