"""The certificate of agreement: a canonical JSON document with a published schema (certificate.schema.json)."""

from __future__ import annotations

import json
from typing import Any, Literal

import msgspec
import rfc8785

from polyshare.translation.agreement import Answered, Bound, Output, Tolerance, Verdict

# What every certificate says about itself. docs/agreement.md explains each.
LIMITS = (
    "Tests on finitely many inputs do not prove that the two models are equal on all inputs.",
    "The native model is code that reports its own answers: evidence about honest models, not against forged ones.",
    "The figures hold for ONNX Runtime on the CPU of the stated architecture; other providers need their own run.",
    "Rows of origin 'infinity', 'extreme' and 'empty' are reported and not judged.",
    "Nothing is said about how good the model is, nor about its data.",
)
RUNTIME_ONLY = "An operator is of ONNX Runtime, not of the ONNX standard: other runtimes may not have it."
NAN_OPEN = "Rows with NaN are not judged for outputs behind operators of which it is open what they make of it:"
GENERATED_ONLY = "There was no test data: generated inputs only."


class File(msgspec.Struct, frozen=True):
    path: str
    size: int
    digest: str  # as in a manifest: sha256:<hex> or sha256-<parts>:<hex>


class Native(msgspec.Struct, frozen=True):
    """The model as it was trained."""

    files: list[File]
    file: str  # the one that was loaded
    kind: str  # what the model says it is
    framework: str
    framework_version: str
    loaded_by: str
    untrusted_types: list[str]  # what loading it ran, in the sandbox, that is not of the framework itself


class Onnx(msgspec.Struct, frozen=True):
    """The translation, in canonical form."""

    size: int
    digest: str
    ir: int
    opset: dict[str, int]
    operators: dict[str, int]
    parameters: int


class Converter(msgspec.Struct, frozen=True):
    translator: str
    name: str
    version: str
    dtype: str  # of the floating inputs
    dtype_reason: str


class Environments(msgspec.Struct, frozen=True):
    """Where each side ran: the pinned environments, and what of the machine the figures depend on."""

    native: str
    gate: str
    architecture: str
    onnx: str
    runtime: str
    provider: Literal["CPUExecutionProvider"] = "CPUExecutionProvider"


class Input(msgspec.Struct, frozen=True):
    name: str
    dtype: str
    shape: list[int | str | None]  # null: the batch, or free; a name: free, and equal where the name is
    hints: dict[str, Any] = {}  # what the translator knew of its values, from which inputs are made


class Searched(msgspec.Struct, frozen=True):
    """The inputs searched for disagreement, round by round, and how far the search came."""

    digests: list[str]  # of the inputs of each round; they follow from the native answers to the rounds before
    ratios: list[float]  # largest difference as a multiple of what is allowed: without search, then of each round


class Disagreement(msgspec.Struct, frozen=True):
    """Where a translation comes apart from its model, on a row that is outside the tolerance."""

    stage: str  # of the native model: the first whose values are not found in the ONNX graph; empty if all are
    after: str  # the last stage before, whose values are found; empty if none are
    difference: float | None  # of the stage's values to the nearest of the graph's of that size; null if there are none
    scale: float | None  # of the stage's values: their root mean square
    node: str  # of the ONNX graph: the first that computes something else, by its output's name; empty if there is none
    operator: str


class Inputs(msgspec.Struct, frozen=True):
    """What both sides were given. The digest is of the file with all batches, which the gate makes again from the ONNX
    file, the signature and the test data; it is not published, for it holds test rows."""

    signature: list[Input]
    digest: str  # of those made from the file and the test data, without those searched
    test_data: str
    test_rows: int  # registered; at most 2,048 of them are drawn
    answered: dict[str, Answered]
    native_refusals: list[str]
    onnx_failures: list[str]
    sizes: dict[str, list[int]] = {}  # tried of the free dimensions, where the translator knew better than the gate
    target: str | int | None = None  # the column of the test data that is not an input
    rows: int | None = None  # random rows, where another number than the gate's own was asked for
    searched: Searched | None = None


class Certificate(msgspec.Struct, frozen=True):
    """What was measured, how, and what follows. Holds no times: the same translation gives the same bytes."""

    model: Native
    onnx: Onnx
    converter: Converter
    environments: Environments
    inputs: Inputs
    tolerances: dict[str, Tolerance]
    most_affected: float
    outputs: list[Output]
    class_agreement: list[Bound]
    verdict: Verdict
    reasons: list[str]
    limits: list[str]
    first_disagreement: Disagreement | None = None  # where it was looked for and found
    schema: Literal["polyshare/agreement/1", "polyshare/agreement/2"] = "polyshare/agreement/2"

    def encode(self) -> bytes:
        """Canonical JSON (RFC 8785). Raises ValueError on numbers that it can't carry."""
        return rfc8785.dumps(msgspec.to_builtins(self))


def decode(data: bytes) -> Certificate:
    """Read a certificate, of schema 1 too; raises msgspec.ValidationError or DecodeError on anything else."""
    return msgspec.json.decode(data, type=Certificate)


def schema() -> dict[str, Any]:
    """The JSON Schema of certificates; certificate.schema.json is this, and a test keeps it so."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **msgspec.json.schema(Certificate)}


if __name__ == "__main__":
    print(json.dumps(schema(), indent=2, sort_keys=True))
