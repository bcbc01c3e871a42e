"""The runs of a translation, each in a sandbox of its own that sees only what is mounted for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import msgspec

from polyshare.errors import Invalid, PolyshareError
from polyshare.jobs.job import Limits
from polyshare.jobs.sandbox import PROGRAMS, Finished, Mount, Prepared, Run, never
from polyshare.translation import certify, received, translators
from polyshare.translation.session import Session

MOST_ONNX = 2**31 - 1  # protobuf's limit
MOST_ARRAYS = 4 * 1024**3
MOST_JSON = 16 * 1024 * 1024
Given = Mapping[str, str | tuple[Path, str]]  # an argument of a program: text, or a path and its name inside
_IN, _OUT = "/opt/ml/input", "/opt/ml/output"
# Pinned as in training: hash seeds and thread counts change bytes and last digits.
_ENVIRON = {
    "PYTHONHASHSEED": "0",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": "upb",
}


class Execute(Protocol):
    """Runs a command in a sandbox, until it ends or `ended` says that it is not wanted any more."""

    def __call__(self, run: Run, ended: Callable[[], bool] = never) -> Finished: ...


class TranslationFailed(PolyshareError):
    """The model was not translated; the message says why. `report` is the certificate's document with the verdict
    "disagrees", where it came that far."""

    slug, status = "translation-failed", 422

    def __init__(self, message: str, report: Path | None = None) -> None:
        super().__init__(message)
        self.report = report


class Stopped(TranslationFailed):
    """A run went over its limits: what it was asked to do in another way would too."""


@dataclass(frozen=True, slots=True)
class Runs:
    """All runs over one work folder. With `beside`, two of them may go on at once."""

    execute: Execute
    work: Path
    model: Path
    test: Path | None
    native: translators.Native
    framework: Prepared
    verifier: Prepared
    limits: Limits
    beside: bool

    def convert(self, name: str, options: Path) -> tuple[Path, certify.Converted]:
        """The candidate and its signature; `name` is a fresh folder's."""
        out = self._folder(f"{name}-out")
        given: Given = {"model": (self.model, "model"), "file": self.native.file, "options": (options, "options.json")}
        self._run("the converter", self.framework, "translate.py", given, out, never)
        try:
            candidate = received.copy(out / "candidate.onnx", self._folder(name) / "candidate.onnx", MOST_ONNX)
        except Invalid as error:
            raise TranslationFailed(f"the converter left no usable ONNX file: {error}") from error
        try:
            return candidate, received.decode(out / "signature.json", MOST_JSON, certify.Converted)
        except Invalid as error:
            raise TranslationFailed(f"the converter left no usable signature: {error}") from error

    def gate(self, name: str) -> Session:
        """The gate and the comparison (infra/images/verify/verify.py)."""

        def start(requests: Path, out: Path, over: Callable[[], bool]) -> None:
            given: Given = {"requests": (requests, "requests")}
            if self.test is not None:
                given = {**given, "test": (self.test, "test")}
            self._run("the gate", self.verifier, "verify.py", given, out, over)

        most = {"model.onnx": MOST_ONNX, "inputs.npz": MOST_ARRAYS, "json": MOST_JSON}
        return Session(start, self.work / name, most, beside=self.beside, replays=True)

    def answers(self, name: str, *, stages: bool = False) -> Session:
        """The native run: it gets the signature and inputs, and neither the ONNX file, nor the plan, nor test data."""

        def start(requests: Path, out: Path, over: Callable[[], bool]) -> None:
            given: Given = {"model": (self.model, "model"), "file": self.native.file, "inputs": (requests, "inputs")}
            flags = ("--stages",) if stages else ()
            self._run("the native run", self.framework, "predict.py", given, out, over, flags)

        most = {"npz": MOST_ARRAYS, "json": MOST_JSON}
        return Session(start, self.work / name, most, beside=self.beside and not stages)

    def write(self, name: str, document: object) -> Path:
        """A JSON file of ours in the work folder."""
        path = self.work / name
        path.write_bytes(msgspec.json.encode(document))
        return path

    def _run(
        self,
        who: str,
        environment: Prepared,
        program: str,
        given: Given,
        out: Path,
        over: Callable[[], bool],
        flags: tuple[str, ...] = (),
    ) -> None:
        """Run a program of an environment; an argument that is a path is mounted read-only."""
        command = ["python", f"{PROGRAMS}/{program}"]
        mounts = [Mount(out, _OUT, writable=True)]
        for name, value in given.items():
            if isinstance(value, tuple):
                mounts.append(Mount(value[0], f"{_IN}/{value[1]}"))
                command += [f"--{name}", f"{_IN}/{value[1]}"]
            else:
                command += [f"--{name}={value}"]
        command += [*flags, "--out", _OUT]
        log = out.with_suffix(".log")
        finished = self.execute(Run(environment, tuple(command), tuple(mounts), _ENVIRON, self.limits, log), over)
        if finished.status == "done" or over():
            return
        said = received.text(out / "failure", 4096) or received.tail(log, 600) or finished.reason
        if finished.status == "failed":
            raise TranslationFailed(f"{who}: {said}")
        raise Stopped(f"{who} was stopped ({finished.status}): {finished.reason}")

    def _folder(self, name: str) -> Path:
        folder = self.work / name
        folder.mkdir()
        return folder
