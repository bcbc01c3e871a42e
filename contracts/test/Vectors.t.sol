// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Hashes} from "@openzeppelin/contracts/utils/cryptography/Hashes.sol";
import {Asset} from "../src/Asset.sol";
import {AssetRegistry} from "../src/AssetRegistry.sol";
import "./Records.sol";
import {vm} from "./Test.sol";

/**
 * @dev Records and what follows from them, for other implementations of the format: tests/vectors/clone.json. All of it
 * is read from contracts after they took it. `make contracts` writes the file (WRITE_VECTORS=true).
 */
contract VectorsTest {
    string private constant PATH = "tests/vectors/clone.json";

    AssetRegistry private registry;
    string private text;

    function setUp() public {
        registry = deploy(address(this), address(this));
    }

    function test_theVectorsAreWhatTheContractsDo() public {
        _write("{\n");
        _field("registry", abi.encodePacked(registry));
        _write('"definitions": {\n');
        for (uint8 kind = DATASET; kind < TRANSLATION; ++kind) {
            _field(vm.toString(kind), abi.encodePacked(registry.definitionOf(kind)));
        }
        _last(vm.toString(TRANSLATION), abi.encodePacked(registry.definitionOf(TRANSLATION)));
        _write(',\n"records": [');
        address dataset = _record("a dataset", DATASET, 1, address(0), address(0), address(0));
        address next = _record("its next version", DATASET, 2, dataset, address(0), address(0));
        address model = _record("a model of it", MODEL, 3, address(0), next, address(0));
        _record("a model of both, the next version of the other", MODEL, 4, model, next, dataset);
        _record("an imported model", IMPORTED_MODEL, 5, address(0), address(0), address(0));
        _record("a translation of the model", TRANSLATION, 6, address(0), model, address(0));
        _write("],\n");
        _content();
        _metadata();
        _result(model);
        _write("}\n");

        if (vm.envOr("WRITE_VECTORS", false)) vm.writeFile(PATH, text);
        vm.assertEq(vm.readFile(PATH), text, "stale vectors: run `make contracts` and commit");
    }

    function _record(string memory name, uint8 kind, uint256 seed, address supersedes, address first, address second)
        private
        returns (address)
    {
        Fields memory fields = sample(kind, seed, first == address(0) ? 0 : second == address(0) ? 1 : 2, false);
        fields.supersedes = supersedes;
        if (first != address(0)) fields.parents[0] = first;
        if (second != address(0)) fields.parents[1] = second;
        registry.registerMany(one(registration(kind, fields)));
        Asset asset = Asset(registry.contractOf(fields.id));

        _write(seed == 1 ? "\n" : ",\n");
        _write(string.concat('{"name": "', name, '",\n"kind": ', vm.toString(kind), ",\n"));
        _field("id", abi.encodePacked(asset.id()));
        _field("commitment", abi.encodePacked(asset.commitment()));
        _field("metadataRoot", abi.encodePacked(asset.metadataRoot()));
        _field("supersedes", supersedes == address(0) ? bytes("") : abi.encodePacked(asset.supersedes()));
        bytes memory parents;
        for (uint256 i; i < asset.parents().length; ++i) {
            parents = bytes.concat(parents, bytes20(asset.parents()[i]));
        }
        _field("parents", parents);
        _field("own", fields.own);
        _field("record", asset.record());
        bytes memory code = address(asset).code;
        bytes memory initCode = bytes.concat(hex"61", bytes2(uint16(code.length)), hex"3d81600a3d39f3", code);
        _field("initCode", initCode);
        _field("initCodeHash", bytes.concat(keccak256(initCode)));
        _field("address", abi.encodePacked(asset));
        _last("head", bytes.concat(registry.head()));
        return address(asset);
    }

    function _content() private {
        (bytes32 salt, bytes32 root) = (noise(7, "salt"), noise(7, "root"));
        Fields memory fields = sample(DATASET, 7, 0, false);
        fields.commitment = sha256(bytes.concat("polyshare/content/1", salt, root));
        registry.registerMany(one(registration(DATASET, fields)));
        vm.assertTrue(Asset(registry.contractOf(fields.id)).verifyContent(salt, root), "content");

        _write('"content": {\n');
        _field("salt", bytes.concat(salt));
        _field("root", bytes.concat(root));
        _last("commitment", bytes.concat(fields.commitment));
        _write(",\n");
    }

    /// @dev A tree of two leaves: one field, whose proof is its sibling.
    function _metadata() private {
        string memory name = "name";
        string memory value = unicode'"digits ü"';
        bytes32 salt = noise(8, "salt");
        bytes32[] memory proof = new bytes32[](1);
        proof[0] = noise(8, "sibling");
        bytes32 leaf = keccak256(bytes.concat(keccak256(abi.encode(salt, name, value))));
        Fields memory fields = sample(DATASET, 8, 0, false);
        fields.metadataRoot = Hashes.commutativeKeccak256(leaf, proof[0]);
        registry.registerMany(one(registration(DATASET, fields)));
        vm.assertTrue(Asset(registry.contractOf(fields.id)).verifyField(name, value, salt, proof), "field");

        _write('"field": {\n');
        _field("salt", bytes.concat(salt));
        _field("name", bytes(name));
        _field("value", bytes(value));
        _field("leaf", bytes.concat(leaf));
        _field("sibling", bytes.concat(proof[0]));
        _last("root", bytes.concat(fields.metadataRoot));
        _write(",\n");
    }

    function _result(address model) private {
        AssetRegistry.Result memory result = resultFor(Asset(model).id(), 8);
        registry.recordMany(one(result));

        _write(string.concat('"result": {\n"outcome": ', vm.toString(result.outcome), ",\n"));
        _field("id", abi.encodePacked(result.id));
        _field("commitment", bytes.concat(result.commitment));
        _field("metadataRoot", bytes.concat(result.metadataRoot));
        _field("provenance", bytes.concat(result.provenance));
        _last("digest", bytes.concat(Asset(model).result()));
        _write("\n");
    }

    /// @dev Byte strings are in hex; parents, one behind the other.
    function _field(string memory name, bytes memory value) private {
        _write(string.concat('"', name, '": "', vm.toString(value), '",\n'));
    }

    function _last(string memory name, bytes memory value) private {
        _write(string.concat('"', name, '": "', vm.toString(value), '"}'));
    }

    function _write(string memory more) private {
        text = string.concat(text, more);
    }
}
