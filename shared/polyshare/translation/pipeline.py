"""Native model → ONNX + certificate: convert, gate, native answers, comparison, each in a sandbox of its own.

This is the trusted side. It loads no model and no framework: it mounts what each run may see, carries files from one
to the next, and judges the measures.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec

from polyshare.errors import Invalid
from polyshare.hashing import hash_file
from polyshare.jobs.job import Limits
from polyshare.jobs.sandbox import Prepared
from polyshare.translation import agreement, certificate, certify, received, translators
from polyshare.translation.options import Options
from polyshare.translation.runs import MOST_JSON, MOST_ONNX, Execute, Runs, Stopped, TranslationFailed
from polyshare.translation.session import Session

__all__ = ["Options", "Translated", "TranslationFailed", "translate"]

SEARCHES = 3  # rounds of inputs that are searched for disagreement


@dataclass(frozen=True, slots=True)
class Translated:
    """The files of a translation, and the fields of its metadata."""

    model: Path
    certificate: Path
    metadata: dict[str, str | int | float]


def translate(
    execute: Execute,
    *,
    work: Path,
    model: Path,
    test: Path | None = None,
    options: Options | None = None,
    prepare: Callable[[str], Prepared],
    limits: Limits | None = None,
    beside: bool = True,
    find: Callable[[Path], translators.Native] = translators.find,
) -> Translated:
    """Translate the model in folder `model` and certify it; `work` is an empty folder for this alone.

    `execute` runs a command in a sandbox, with `beside` from several threads at once; `prepare` readies the environment
    it names; `find` finds the model and its translator. What is written here is read in the sandbox by another uid, so
    the caller's umask is 022. Raises TranslationFailed, and Invalid if there is no model that can be translated.
    """
    options = options or Options()
    native = find(model)
    environments = prepare(native.translator.environment), prepare(translators.VERIFIER)
    runs = Runs(execute, work, model, test, native, *environments, limits or Limits(), beside)
    with ExitStack() as stack:
        answers = stack.enter_context(runs.answers("native"))
        gated = _gated(runs, options, stack)
        compared = _compared(runs, gated, answers)
        answers.end()  # while the gate goes on, or ends itself
        measured = compared.measured
        verdict = agreement.judge(measured, options.most_affected)
        first = None
        if verdict[0] == "disagrees" and compared.outside is not None and gated.converted.stages:
            first = _first_disagreement(runs, gated, compared.outside)
    pinned = environments[0].reference, environments[1].reference
    ran = certify.Ran(model, native, gated.model, gated.inputs, gated.facts, pinned, compared.searched, first)
    document = certify.certificate_of(ran, gated.converted, gated.reason, measured, verdict, options)
    result = work / "result"
    result.mkdir()
    path = result / "certificate.json"
    try:
        path.write_bytes(document.encode())
    except ValueError as error:
        raise TranslationFailed(f"the signature has a number that can't be written down: {error}") from error
    if document.verdict == "disagrees":
        where = f"; it comes apart at {first.stage or first.operator}" if first else ""
        reasons = "; ".join(document.reasons)
        raise TranslationFailed(f"the translation does not agree with the model: {reasons}{where}", path)
    received.copy(gated.model, result / "model.onnx", MOST_ONNX)
    return Translated(result / "model.onnx", path, certify.metadata_of(document))


@dataclass(frozen=True, slots=True)
class _Gated:
    """A conversion that passed the gate."""

    gate: Session
    converted: certify.Converted
    reason: str  # for the dtype of its floating inputs
    signature: Path
    model: Path
    inputs: Path
    facts: certify.Facts


def _gated(runs: Runs, options: Options, stack: ExitStack) -> _Gated:
    """Convert and pass the gate. Unless a dtype is asked for, in float64, which scikit-learn computes in; in float32
    where the converter or ONNX Runtime has no float64: never by a wider tolerance."""
    gate = stack.enter_context(runs.gate("gate"))
    asked, candidate, converted = _convert(runs, options, options.dtype, "1")
    try:
        return _pass(runs, gate, asked, candidate, converted, converted.dtype_reason, "1")
    except Stopped:
        raise
    except TranslationFailed as error:
        if options.dtype or converted.dtype != "float64":
            raise
        first = error
    gate = stack.enter_context(runs.gate("gate-again"))
    asked, candidate, converted = _convert(runs, options, "float32", "2")
    try:
        reason = f"float64 was tried first: {first.message}"[:1000]
        return _pass(runs, gate, asked, candidate, converted, reason, "2")
    except TranslationFailed as error:
        raise error from first


def _convert(runs: Runs, options: Options, dtype: str | None, attempt: str) -> tuple[Path, Path, certify.Converted]:
    document = {
        "opset": options.opset or runs.native.translator.opset,
        "dtype": dtype,
        "rows": options.rows,
        "stated": runs.native.signature.stated,
        "tolerances": msgspec.to_builtins(dict(options.tolerances)),
    }
    asked = runs.write(f"options-{attempt}.json", document)
    return asked, *runs.convert(f"convert-{attempt}", asked)


def _pass(
    runs: Runs, gate: Session, asked: Path, candidate: Path, converted: certify.Converted, reason: str, attempt: str
) -> _Gated:
    document = {**msgspec.to_builtins(converted), "target": runs.native.signature.target}
    signature = runs.write(f"signature-{attempt}.json", document)
    given = {"candidate.onnx": candidate, "signature.json": signature, "options.json": asked}
    request = runs.write(f"gate-{attempt}.json", {"do": "gate"})
    answer = gate.ask({**given, "json": request}, ["json"], optional=["model.onnx", "inputs.npz"])
    said = _said(answer["json"], _Passed)
    if said.facts is None or "model.onnx" not in answer or "inputs.npz" not in answer:
        raise TranslationFailed(f"the gate refused the model: {said.refused}")
    return _Gated(gate, converted, reason, signature, answer["model.onnx"], answer["inputs.npz"], said.facts)


@dataclass(frozen=True, slots=True)
class _Compared:
    """All rounds of inputs compared."""

    measured: agreement.Measured
    searched: certificate.Searched
    outside: Path | None  # inputs that are outside the tolerance


def _compared(runs: Runs, gated: _Gated, answers: Session) -> _Compared:
    """Let both sides answer the gate's inputs, and then what a search makes of the rows that differ most."""
    inputs, digests = gated.inputs, []
    for number in range(SEARCHES + 1):
        try:
            native = answers.ask({"/signature.json": gated.signature, "npz": inputs}, ["json", "npz"])
        except Invalid as error:
            raise TranslationFailed(f"the native run left no usable answers: {error}") from error
        search = number if number < SEARCHES else None
        request = runs.write(f"compare-{number}.json", {"do": "compare", "search": search})
        given = {"errors.json": native["json"], "answers.npz": native["npz"], "json": request}
        answer = gated.gate.ask(given, ["json"], optional=["inputs.npz"])
        said = _said(answer["json"], _Measures)
        if said.more != "search" or "inputs.npz" not in answer:
            break
        inputs = answer["inputs.npz"]
        digests.append(str(hash_file(inputs).digest))
    searched = certificate.Searched(digests, said.measures.ratios)
    return _Compared(said.measures, searched, answer.get("inputs.npz") if said.more == "where" else None)


def _first_disagreement(runs: Runs, gated: _Gated, outside: Path) -> certificate.Disagreement | None:
    """Where the two come apart, on inputs that are outside; None where the native side can't show it."""
    try:
        with runs.answers("stages", stages=True) as answers:
            native = answers.ask({"/signature.json": gated.signature, "npz": outside}, ["json", "npz"])
        request = runs.write("find.json", {"do": "find"})
        answer = gated.gate.ask({"stages.npz": native["npz"], "json": request}, ["json"])
        return _said(answer["json"], _Found).first
    except (TranslationFailed, Invalid):
        return None


class _Passed(msgspec.Struct, frozen=True):
    facts: certify.Facts | None = None
    refused: str = ""


class _Measures(msgspec.Struct, frozen=True):
    measures: agreement.Measured
    more: str  # "search": there are inputs to go on with; "where": one row outside; else nothing


class _Found(msgspec.Struct, frozen=True):
    first: certificate.Disagreement | None


T = TypeVar("T")


def _said(answer: Path, kind: type[T]) -> T:
    try:
        return received.decode(answer, MOST_JSON, kind)
    except Invalid as error:
        raise TranslationFailed(f"the gate left no usable answer: {error}") from error
