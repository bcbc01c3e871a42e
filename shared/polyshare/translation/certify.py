"""Puts what the steps found into the certificate, and its gist into the translation's metadata."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from polyshare.hashing import hash_file
from polyshare.translation import agreement, certificate, translators
from polyshare.translation.options import Options

_HINTS = ("range", "between", "categories", "columns", "text")  # of an input, for making rows


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
    outputs: list[dict[str, Any]]
    classes: list[str | int | float]
    dtype: str  # of the floating inputs
    dtype_reason: str
    sizes: dict[str, list[int]] = {}  # to be tried of the free dimensions, by name
    stages: bool = False  # whether predict.py can show the values within the model
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
    """The files and environments of the runs, and what they found beside the measures."""

    folder: Path  # the native model's
    native: translators.Native
    model: Path  # the ONNX file
    inputs: Path
    facts: Facts
    environments: tuple[str, str]  # of the native side, and of the gate
    searched: certificate.Searched
    first: certificate.Disagreement | None


def certificate_of(
    ran: Ran,
    converted: Converted,
    reason: str,
    measured: agreement.Measured,
    judged: tuple[agreement.Verdict, list[str]],
    options: Options,
) -> certificate.Certificate:
    """The document; `judged` is the verdict with its reasons, `reason` why the inputs have the dtype they have."""
    facts = ran.facts
    verdict, reasons = judged
    if not facts.canonical_again:
        verdict, reasons = "disagrees", ["the canonical form of the file is not stable: please report it", *reasons]
    files = sorted(path for path in ran.folder.rglob("*") if path.is_file())
    onnx = hash_file(ran.model).digest
    floats = [one["dtype"] for one in converted.inputs if str(one["dtype"]).startswith("float")]
    return certificate.Certificate(
        model=certificate.Native(
            files=[_file(path, ran.folder) for path in files],
            file=ran.native.file,
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
            signature=[_input(one) for one in converted.inputs],
            digest=str(hash_file(ran.inputs).digest),
            test_data=facts.test_data,
            test_rows=facts.test_rows,
            answered=measured.answered,
            native_refusals=measured.native_refusals,
            onnx_failures=measured.onnx_failures,
            sizes=converted.sizes,
            target=ran.native.signature.target,
            rows=options.rows,
            searched=ran.searched,
        ),
        tolerances=dict(options.tolerances),
        most_affected=options.most_affected,
        outputs=measured.outputs,
        class_agreement=agreement.bounds(measured),
        verdict=verdict,
        reasons=reasons,
        limits=_limits(facts, measured),
        first_disagreement=ran.first,
    )


def _limits(facts: Facts, measured: agreement.Measured) -> list[str]:
    limits = list(certificate.LIMITS)
    opens = sorted({operator for output in measured.outputs for operator in output.nan_open})
    if opens and "nan" in measured.answered:
        limits.append(f"{certificate.NAN_OPEN} {', '.join(opens)}.")
    if not facts.test_rows:
        limits.append(certificate.GENERATED_ONLY)
    if any(name.startswith("com.microsoft.") for name in facts.operators):
        limits.append(certificate.RUNTIME_ONLY)
    return limits


def _input(one: dict[str, Any]) -> certificate.Input:
    hints = {name: one[name] for name in _HINTS if name in one}
    return certificate.Input(one["name"], one["dtype"], one["shape"], hints)


def _file(path: Path, folder: Path) -> certificate.File:
    digest = hash_file(path).digest
    return certificate.File(str(path.relative_to(folder)), digest.size, str(digest))


def metadata_of(document: certificate.Certificate) -> dict[str, str | int | float]:
    """The fields of the translation's metadata."""
    judged = [m for o in document.outputs for origin, m in o.by_origin.items() if origin in o.judged]
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
