"""The compiled contracts, as committed beside this file and derived from contracts/src."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from polyshare.assets import Kind

REGISTRY = "AssetRegistry"
DEFINITIONS: Mapping[Kind, str] = {
    Kind.DATASET: "Dataset",
    Kind.MODEL: "Model",
    Kind.IMPORTED_MODEL: "ImportedModel",
    Kind.TRANSLATION: "Translation",
}


@dataclass(frozen=True, slots=True)
class Artifact:
    """A compiled contract. `immutables` are the places in the runtime code that its constructor fills."""

    abi: list[dict[str, Any]]
    creation: bytes
    runtime: bytes
    immutables: tuple[tuple[int, ...], ...]  # offsets of 32-byte words, for each immutable in order of declaration


@cache
def load(name: str) -> Artifact:
    """Read the artifact of a contract by its name."""
    document = json.loads(resources.files("polyshare.ledger").joinpath("contracts", f"{name}.json").read_bytes())
    references = document.get("immutableReferences") or {}
    return Artifact(
        abi=document["abi"],
        creation=bytes.fromhex(document["bytecode"].removeprefix("0x")),
        runtime=bytes.fromhex(document["deployedBytecode"].removeprefix("0x")),
        # The compiler numbers declarations in the order of the sources.
        immutables=tuple(tuple(r["start"] for r in references[key]) for key in sorted(references, key=int)),
    )


def expected_code(name: str, address: bytes, registry: bytes) -> bytes:
    """The code of a contract deployed at `address`: Asset.sol has two immutables, the registry and its own address."""
    artifact = load(name)
    code = bytearray(artifact.runtime)
    for value, places in zip((registry, address), artifact.immutables, strict=False):
        for start in places:
            code[start : start + 32] = bytes(12) + value
    return bytes(code)
