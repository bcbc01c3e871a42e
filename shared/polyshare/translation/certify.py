"""Puts what the steps found into the certificate, and its gist into the translation's metadata."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from polyshare.hashing import hash_file
from polyshare.translation import agreement, certificate


class Converted(msgspec.Struct, frozen=True):
    """The signature.json that translate.py writes. `inputs` may have further hints, kept for the gate alone."""

    translator: str
    framework: str
    framework_version: str
    converter: str
    converter_version: str
    model: str
    loaded_by: str
    untrusted_types: list[str]
    inputs: list[dict[str, Any]]
    outputs: list[dict[str, str]]
    classes: list[str | int | float]
    dtype: str  # of the floating inputs
    dtype_reason: str
    native: dict[str, Any] = {}  # whatever translate.py has to tell predict.py


class Facts(msgspec.Struct, frozen=True):
    """The facts.json that the gate writes."""

    ir: int
    opset: dict[str, int]
    operators: dict[str, int]
    parameters: int
    onnx: str
    runtime: str
    canonical_again: bool
    test_data: str
    test_rows: int


@dataclass(frozen=True, slots=True)
class Ran:
    """The folders and environments of the steps."""

    model: Path  # the native model's folder
    file: str  # of the model, relative to it
    gated: Path  # model.onnx and inputs.npz
    facts: Facts
    environments: tuple[str, str]  # of the native side, and of the gate


def certificate_of(
    ran: Ran,
    converted: Converted,
    reason: str,
    measured: agreement.Measured,
    judged: tuple[agreement.Verdict, list[str]],
    tolerances: dict[str, agreement.Tolerance],
    most_affected: float,
) -> certificate.Certificate:
    """The document; `judged` is the verdict with its reasons, `reason` why the inputs have the dtype they have."""
    facts = ran.facts
    verdict, reasons = judged
    if not facts.canonical_again:
        verdict, reasons = "disagrees", ["the canonical form of the file is not stable: please report it", *reasons]
    files = sorted(path for path in ran.model.rglob("*") if path.is_file())
    onnx = hash_file(ran.gated / "model.onnx").digest
    floats = [one["dtype"] for one in converted.inputs if str(one["dtype"]).startswith("float")]
    return certificate.Certificate(
        model=certificate.Native(
            files=[_file(path, ran.model) for path in files],
            file=ran.file,
            kind=converted.model,
            framework=converted.framework,
            framework_version=converted.framework_version,
            loaded_by=converted.loaded_by,
            untrusted_types=converted.untrusted_types[:1000],
        ),
        onnx=certificate.Onnx(onnx.size, str(onnx), facts.ir, facts.opset, facts.operators, facts.parameters),
        converter=certificate.Converter(
            translator=converted.translator,
            name=converted.converter,
            version=converted.converter_version,
            dtype=str(floats[0]) if floats else "none",
            dtype_reason=reason if floats else "no input is floating",
        ),
        environments=certificate.Environments(*ran.environments, platform.machine(), facts.onnx, facts.runtime),
        inputs=certificate.Inputs(
            signature=[certificate.Input(i["name"], i["dtype"], i["shape"]) for i in converted.inputs],
            digest=str(hash_file(ran.gated / "inputs.npz").digest),
            test_data=facts.test_data,
            test_rows=facts.test_rows,
            answered=measured.answered,
            native_refusals=measured.native_refusals,
            onnx_failures=measured.onnx_failures,
        ),
        tolerances=tolerances,
        most_affected=most_affected,
        outputs=measured.outputs,
        class_agreement=agreement.bounds(measured),
        verdict=verdict,
        reasons=reasons,
        limits=_limits(facts),
    )


def _limits(facts: Facts) -> list[str]:
    limits = list(certificate.LIMITS)
    if not facts.test_rows:
        limits.append(certificate.GENERATED_ONLY)
    if any(name.startswith("com.microsoft.") for name in facts.operators):
        limits.append(certificate.RUNTIME_ONLY)
    return limits


def _file(path: Path, folder: Path) -> certificate.File:
    digest = hash_file(path).digest
    return certificate.File(str(path.relative_to(folder)), digest.size, str(digest))


def metadata_of(document: certificate.Certificate) -> dict[str, str | int | float]:
    """The fields of the translation's metadata."""
    judged = [m for o in document.outputs for origin, m in o.by_origin.items() if origin in agreement.JUDGED]
    fields: dict[str, str | int | float] = {
        "format": "onnx",
        "framework": document.model.framework,
        "framework_version": document.model.framework_version,
        "model_kind": document.model.kind[:200],
        "opset": document.onnx.opset["ai.onnx"],
        "ir": document.onnx.ir,
        "parameters": document.onnx.parameters,
        "converter": f"{document.converter.name} {document.converter.version}",
        "input_dtype": document.converter.dtype,
        "agreement": document.verdict,
        "rows_compared": sum(a.both for o, a in document.inputs.answered.items() if o in agreement.JUDGED),
        "max_absolute_difference": max((m.max_absolute for m in judged), default=0.0),
        "test_data": "registered" if document.inputs.test_rows else "generated inputs only",
    }
    if document.class_agreement:
        one = document.class_agreement[0]
        fields["class_agreement"] = one.agreeing / one.rows
        fields["class_agreement_lower_bound"] = one.lower_bound
    return fields
