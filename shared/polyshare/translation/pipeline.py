"""Native model → ONNX + certificate: convert, gate, native run, comparison, each in a sandbox of its own.

This is the trusted side. It loads no model and no framework: it mounts what each step may see, carries files from one
to the next, and judges the measures.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from polyshare.errors import Invalid, PolyshareError
from polyshare.jobs.job import Limits
from polyshare.jobs.sandbox import PROGRAMS, Finished, Mount, Prepared, Run
from polyshare.translation import agreement, certify, received, translators
from polyshare.translation.agreement import Tolerance

_IN, _OUT = "/opt/ml/input", "/opt/ml/output"
_MOST_ONNX = 2**31 - 1  # protobuf's limit
_MOST_ARRAYS = 4 * 1024**3
_MOST_JSON = 16 * 1024 * 1024
# Pinned as in training: hash seeds and thread counts change bytes and last digits.
_ENVIRON = {
    "PYTHONHASHSEED": "0",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": "upb",
}

Execute = Callable[[Run], Finished]


class TranslationFailed(PolyshareError):
    """The model was not translated; the message says why. `report` is the certificate's document with the verdict
    "disagrees", where it came that far."""

    slug, status = "translation-failed", 422

    def __init__(self, message: str, report: Path | None = None) -> None:
        super().__init__(message)
        self.report = report


class Stopped(TranslationFailed):
    """A step went over its limits: what it was asked to do in another way would too."""


@dataclass(frozen=True, slots=True)
class Options:
    """What may be asked for. Raises Invalid on what can't be, tolerances looser than the stated ones included."""

    opset: int | None = None  # default: the newest that the converter and ONNX Runtime both take
    dtype: str | None = None  # of floating inputs; default float64 where converter and runtime take it, else float32
    rows: int | None = None  # random rows; default 1,024
    tolerances: Mapping[str, Tolerance] = field(default_factory=lambda: agreement.TOLERANCES)
    most_affected: float = agreement.MOST_AFFECTED

    def __post_init__(self) -> None:
        if self.opset is not None and not 7 <= self.opset <= 26:
            raise Invalid(f"opset {self.opset} can't be asked for: name one of 7 to 26")
        if self.dtype not in (None, "float32", "float64"):
            raise Invalid(f"dtype {str(self.dtype)[:50]!r} is not float32 or float64")
        if self.rows is not None and not agreement.FEWEST_ROWS <= self.rows <= 100_000:
            raise Invalid(f"rows must be {agreement.FEWEST_ROWS} to 100000, not {self.rows}")
        if not 0 <= self.most_affected <= agreement.MOST_AFFECTED:
            raise Invalid(f"most_affected can be tightened only: 0 to {agreement.MOST_AFFECTED}")

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Options:
        """Read a job document's options; raises Invalid on unknown names and wrong types."""
        kinds = {"opset": int, "dtype": str, "rows": int, "most_affected": (int, float), "tolerances": dict}
        known = {name: value for name, value in document.items() if value is not None}
        for name, value in known.items():
            if name not in kinds or isinstance(value, bool) or not isinstance(value, kinds[name]):  # type: ignore[arg-type]
                raise Invalid(f"translation option {name[:50]!r} = {str(value)[:50]} is not one of {', '.join(kinds)}")
        if "tolerances" in known:
            known["tolerances"] = agreement.tightened(known["tolerances"])
        return cls(**known)


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
) -> Translated:
    """Translate the model in folder `model` and certify it; `work` is an empty folder for this alone.

    `execute` runs a command in a sandbox, `prepare` readies the environment it names. What is written here is read in
    the sandbox by another uid, so the caller's umask is 022. Raises TranslationFailed, and
    Invalid if the folder holds no model that can be translated.
    """
    options = options or Options()
    native = translators.find(model)
    steps = _Steps(
        execute,
        work,
        model,
        test,
        native,
        prepare(native.translator.environment),
        prepare(translators.VERIFIER),
        limits or Limits(),
    )
    converted, reason = _converted(steps, options)
    steps.predict()
    measured = steps.compare(options)
    verdict, reasons = agreement.judge(measured, options.most_affected)
    document = certify.certificate_of(
        steps.ran(), converted, reason, measured, (verdict, reasons), dict(options.tolerances), options.most_affected
    )
    result = work / "result"
    result.mkdir()
    path = result / "certificate.json"
    path.write_bytes(document.encode())
    if document.verdict == "disagrees":
        raise TranslationFailed("the translation does not agree with the model: " + "; ".join(document.reasons), path)
    received.copy(steps.gated / "model.onnx", result / "model.onnx", _MOST_ONNX)
    return Translated(result / "model.onnx", path, certify.metadata_of(document))


def _converted(steps: _Steps, options: Options) -> tuple[certify.Converted, str]:
    """Convert and pass the gate. Unless a dtype is asked for, in float64, which scikit-learn computes in; in float32
    where the converter or ONNX Runtime has no float64: never by a wider tolerance."""
    converted = steps.convert(options, options.dtype)
    try:
        steps.gate(options)
    except Stopped:
        raise
    except TranslationFailed as error:
        if options.dtype or converted.dtype != "float64":
            raise
        first = error
    else:
        return converted, converted.dtype_reason
    steps.attempt += 1
    converted = steps.convert(options, "float32")
    try:
        steps.gate(options)
    except TranslationFailed as error:
        raise error from first
    return converted, f"float64 was tried first: {first.message}"[:1000]


class _Steps:
    """The four steps over one work folder. Each sees its own mounts only."""

    def __init__(
        self,
        execute: Execute,
        work: Path,
        model: Path,
        test: Path | None,
        native: translators.Native,
        framework: Prepared,
        gate: Prepared,
        limits: Limits,
    ) -> None:
        self.execute, self.work, self.model, self.test, self.native = execute, work, model, test, native
        self.framework, self.verify, self.limits = framework, gate, limits
        self.attempt = 1
        self.signature = self.options = self.converted = self.gated = self.answers = work

    def convert(self, options: Options, dtype: str | None) -> certify.Converted:
        self.options = self._write("options.json", _options(self.native, options, dtype))
        out = self._run("convert", self.framework, "translate.py", {
            "model": (self.model, "model"), "file": self.native.file, "options": (self.options, "options.json"),
        })  # fmt: skip
        self.converted = self._take(out, "candidate.onnx", _MOST_ONNX)
        try:
            converted = received.decode(out / "signature.json", _MOST_JSON, certify.Converted)
        except Invalid as error:
            raise TranslationFailed(f"the converter left no usable signature: {error}") from error
        document = msgspec.to_builtins(converted)
        document["target"] = self.native.signature.target
        self.signature = self._write("signature.json", document)
        return converted

    def gate(self, options: Options) -> None:
        arguments: dict[str, str | tuple[Path, str]] = {
            "onnx": (self.converted, "candidate.onnx"),
            "signature": (self.signature, "signature.json"),
            "options": (self.options, "options.json"),
        }
        if self.test is not None:
            arguments["test"] = (self.test, "test")
        out = self._run("gate", self.verify, "gate.py", arguments)
        self.gated = self._folder("gated")
        sizes = {
            "model.onnx": _MOST_ONNX,
            "inputs.npz": _MOST_ARRAYS,
            "plan.json": _MOST_JSON,
            "facts.json": _MOST_JSON,
        }
        for name, most in sizes.items():
            received.copy(out / name, self.gated / name, most)

    def predict(self) -> None:
        """The native run: it gets the inputs, and neither the ONNX file, nor the plan, nor the test data."""
        out = self._run("native", self.framework, "predict.py", {
            "model": (self.model, "model"), "file": self.native.file, "signature": (self.signature, "signature.json"),
            "inputs": (self.gated / "inputs.npz", "inputs.npz"),
        })  # fmt: skip
        self.answers = self._folder("answers")
        for name, most in (("outputs.npz", _MOST_ARRAYS), ("errors.json", _MOST_JSON)):
            try:
                received.copy(out / name, self.answers / name, most)
            except Invalid as error:
                raise TranslationFailed(f"the native run left no usable answers: {error}") from error

    def compare(self, options: Options) -> agreement.Measured:
        out = self._run("compare", self.verify, "agree.py", {
            "onnx": (self.gated / "model.onnx", "model.onnx"), "inputs": (self.gated / "inputs.npz", "inputs.npz"),
            "plan": (self.gated / "plan.json", "plan.json"), "facts": (self.gated / "facts.json", "facts.json"),
            "signature": (self.signature, "signature.json"), "options": (self.options, "options.json"),
            "native": (self.answers, "native"),
        })  # fmt: skip
        try:
            return received.decode(out / "measures.json", _MOST_JSON, agreement.Measured)
        except Invalid as error:
            raise TranslationFailed(f"the comparison left no usable measures: {error}") from error

    def ran(self) -> certify.Ran:
        """What the certificate needs to know of the steps."""
        facts = received.decode(self.gated / "facts.json", _MOST_JSON, certify.Facts)
        environments = (self.framework.reference, self.verify.reference)
        return certify.Ran(self.model, self.native.file, self.gated, facts, environments)

    def _run(
        self, step: str, environment: Prepared, program: str, arguments: Mapping[str, str | tuple[Path, str]]
    ) -> Path:
        """Run a program of an environment; an argument that is a path is mounted read-only. Returns its out folder."""
        out = self._folder(f"{step}-out")
        command = ["python", f"{PROGRAMS}/{program}"]
        mounts = [Mount(out, _OUT, writable=True)]
        for name, value in arguments.items():
            if isinstance(value, tuple):
                mounts.append(Mount(value[0], f"{_IN}/{value[1]}"))
                command += [f"--{name}", f"{_IN}/{value[1]}"]
            else:
                command += [f"--{name}={value}"]
        command += ["--out", _OUT]
        log = self.work / f"{step}-{self.attempt}.log"
        finished = self.execute(Run(environment, tuple(command), tuple(mounts), _ENVIRON, self.limits, log))
        if finished.status != "done":
            said = received.text(out / "failure", 4096) or received.tail(log, 600) or finished.reason
            where = {"convert": "the converter", "gate": "the gate", "native": "the native run"}.get(step, step)
            if finished.status == "failed":
                raise TranslationFailed(f"{where} refused the model: {said}" if step == "gate" else f"{where}: {said}")
            raise Stopped(f"{where} was stopped ({finished.status}): {finished.reason}")
        return out

    def _take(self, out: Path, name: str, most: int) -> Path:
        try:
            return received.copy(out / name, self._folder("candidate") / name, most)
        except Invalid as error:
            raise TranslationFailed(f"the converter left no usable ONNX file: {error}") from error

    def _folder(self, name: str) -> Path:
        folder = self.work / f"{name}-{self.attempt}"
        folder.mkdir()
        return folder

    def _write(self, name: str, document: object) -> Path:
        path = self.work / f"{self.attempt}-{name}"
        path.write_bytes(msgspec.json.encode(document))
        return path


def _options(native: translators.Native, options: Options, dtype: str | None) -> dict[str, Any]:
    return {
        "opset": options.opset or native.translator.opset,
        "dtype": dtype,
        "rows": options.rows,
        "stated": native.signature.stated,
        "tolerances": msgspec.to_builtins(dict(options.tolerances)),
    }
