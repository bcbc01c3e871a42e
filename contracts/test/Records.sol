// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AssetRegistry} from "../src/AssetRegistry.sol";
import {vm} from "./Test.sol";

uint8 constant DATASET = 1;
uint8 constant MODEL = 2;
uint8 constant IMPORTED_MODEL = 3;
uint8 constant TRANSLATION = 4;

/// @dev A record as values; packed here apart from how the contracts read it.
struct Fields {
    bytes16 id;
    bytes32 commitment;
    bytes32 metadataRoot;
    address supersedes;
    address[] parents;
    bytes own;
}

function pack(Fields memory fields) pure returns (bytes memory record) {
    bool next = fields.supersedes != address(0);
    record = abi.encodePacked(
        uint8(1),
        fields.id,
        fields.commitment,
        fields.metadataRoot,
        uint8((next ? 0x80 : 0) + fields.parents.length),
        next ? abi.encodePacked(fields.supersedes) : bytes("")
    );
    for (uint256 i; i < fields.parents.length; ++i) {
        record = abi.encodePacked(record, fields.parents[i]);
    }
    record = abi.encodePacked(record, fields.own);
}

function sizeOfOwn(uint8 kind) pure returns (uint256) {
    return kind == MODEL ? 32 : kind == TRANSLATION ? 34 : 0;
}

function madeByJob(uint8 kind) pure returns (bool) {
    return kind == MODEL || kind == TRANSLATION;
}

/// @dev A good record of `kind` with `parents` parents; all but its shape comes from `seed`.
function sample(uint8 kind, uint256 seed, uint256 parents, bool next) pure returns (Fields memory fields) {
    fields.id = bytes16(noise(seed, "id"));
    fields.commitment = noise(seed, "commitment");
    fields.metadataRoot = noise(seed, "metadata root");
    if (next) fields.supersedes = address(bytes20(noise(seed, "supersedes")));
    fields.parents = new address[](parents);
    for (uint256 i; i < parents; ++i) {
        fields.parents[i] = address(bytes20(keccak256(abi.encode(seed, "parent", i))));
    }
    bytes32 environment = noise(seed, "environment");
    if (kind == MODEL) fields.own = abi.encodePacked(environment);
    if (kind == TRANSLATION) fields.own = abi.encodePacked(environment, uint16(17 + seed % 4));
}

function noise(uint256 seed, string memory what) pure returns (bytes32) {
    return keccak256(abi.encode(seed, what));
}

function registration(uint8 kind, Fields memory fields) pure returns (AssetRegistry.Registration memory) {
    return AssetRegistry.Registration(kind, pack(fields));
}

function one(AssetRegistry.Registration memory entry) pure returns (AssetRegistry.Registration[] memory batch) {
    batch = new AssetRegistry.Registration[](1);
    batch[0] = entry;
}

function one(AssetRegistry.Result memory entry) pure returns (AssetRegistry.Result[] memory batch) {
    batch = new AssetRegistry.Result[](1);
    batch[0] = entry;
}

function one(AssetRegistry.Revocation memory entry) pure returns (AssetRegistry.Revocation[] memory batch) {
    batch = new AssetRegistry.Revocation[](1);
    batch[0] = entry;
}

function resultFor(bytes16 id, uint256 seed) pure returns (AssetRegistry.Result memory) {
    return AssetRegistry.Result(
        id, uint8(1 + seed % 2), noise(seed, "content"), noise(seed, "root"), noise(seed, "provenance")
    );
}

/// @dev A registry as it is deployed: the committed bytecode, four kinds and one writer. The caller is to be `owner`.
function deploy(address owner, address writer) returns (AssetRegistry registry) {
    registry = AssetRegistry(create("AssetRegistry", owner));
    registry.defineKind(DATASET, create("Dataset", address(registry)));
    registry.defineKind(MODEL, create("Model", address(registry)));
    registry.defineKind(IMPORTED_MODEL, create("ImportedModel", address(registry)));
    registry.defineKind(TRANSLATION, create("Translation", address(registry)));
    registry.allow(writer, true);
}

/// @dev Deploys a contract from its committed bytecode.
function create(string memory name, address argument) returns (address created) {
    bytes memory code = vm.getCode(string.concat("shared/polyshare/ledger/contracts/", name, ".json"));
    code = bytes.concat(code, abi.encode(argument));
    assembly ("memory-safe") {
        created := create(0, add(code, 32), mload(code))
    }
    require(created != address(0), string.concat(name, " was not created"));
}
