"""Running an ONNX file once, on given inputs, on one execution provider, in a sandbox: model files are hostile."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec

from polyshare.errors import Invalid, PolyshareError
from polyshare.hardware.providers import Target
from polyshare.jobs import environment, sandbox
from polyshare.jobs.job import Limits
from polyshare.jobs.sandbox import PROGRAMS, Mount, Prepared, Run
from polyshare.translation import received

LIMITS = Limits(memory_bytes=4 * 1024**3, processes=2048, wall_seconds=600)
_IN, _OUT = "/opt/ml/input", "/opt/ml/output"
_MOST_JSON, _MOST_ARRAYS = 16 * 1024 * 1024, 4 * 1024**3
_T = TypeVar("_T")


class NotRun(PolyshareError):
    """The model did not run as asked; the message says why, and what to do."""

    slug, status = "not-run", 422


@dataclass(frozen=True, slots=True)
class Given:
    """A file of inputs: of one input by its name, or "" for all that it holds."""

    name: str
    path: Path


class Told(msgspec.Struct, frozen=True):
    """Told by a run of a hostile model: its texts are made printable, for a terminal obeys control characters."""

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if isinstance(value, str):
                msgspec.structs.force_setattr(self, name, plain(value))
            elif isinstance(value, list) and value and isinstance(value[0], str):
                msgspec.structs.force_setattr(self, name, [plain(text) for text in value])


class Node(Told, frozen=True):
    provider: str
    name: str
    operator: str


class Shown(Told, frozen=True):
    """An output; `values` are its first, as text."""

    name: str
    dtype: str
    shape: list[int]
    values: list[str]


class Ran(Told, frozen=True):
    """What came of a run: which node ran on which provider, how long, and the outputs."""

    runtime: str
    seconds: float
    nodes: list[Node]
    milliseconds: dict[str, float]  # by provider
    outputs: list[Shown]


def run(
    model: Path,
    inputs: Sequence[Given],
    target: Target,
    *,
    cache: Path,
    output: Path | None = None,
    limits: Limits = LIMITS,
    progress: Callable[[str], None] = sandbox.unheard,
) -> Ran:
    """Run `model`; the outputs go to `output` (.npz), if it is given. Raises NotRun."""
    prepared = environment.prepare(environment.resolve(target.provider.environment), cache, progress)
    with Workbench(prepared, limits, target) as bench:
        files = [
            {"name": given.name, "said": given.path.name, "path": bench.lay(given.path, f"{number}{given.path.suffix}")}
            for number, given in enumerate(inputs)
        ]
        options = {**asked(target), "inputs": files}
        progress(f"running on {target.provider.execution}")
        out = bench.run("run.py", onnx=bench.lay(model, "model.onnx"), options=bench.write("options.json", options))
        ran = bench.read(out / "ran.json", Ran)
        if output is not None:
            shutil.move(bench.take(out, ["outputs.npz"]) / "outputs.npz", output)
    return ran


def plain(text: str) -> str:
    """Text without what is not printable."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def asked(target: Target) -> dict[str, object]:
    """What the programs are told of a target."""
    return {
        "provider": target.provider.execution,
        "options": dict(target.options),
        "allow_cpu": target.allow_cpu,
    }


class Workbench:
    """Files laid out for programs of one environment, which run in a sandbox and see these files only."""

    def __init__(self, prepared: Prepared, limits: Limits, target: Target | None = None) -> None:
        """What of this machine's devices the programs see follows from `target`."""
        self._prepared, self._limits = prepared, limits
        self._devices, self._more = (target.devices, target.mounts) if target else ((), ())
        self._environ = target.environ if target else {}
        self._temporary = tempfile.TemporaryDirectory(prefix="polyshare-run-")
        self._work = Path(self._temporary.name)
        self._mounts: list[Mount] = []

    def __enter__(self) -> Workbench:
        return self

    def __exit__(self, *_: object) -> None:
        self._temporary.cleanup()

    def lay(self, path: Path, name: str) -> str:
        """Where the program finds a copy of a file or folder, which the uid inside may read whatever its mode is."""
        target = self._work / name
        if path.is_dir():
            shutil.copytree(path, target, copy_function=shutil.copyfile)
        else:
            shutil.copyfile(path, target)
        for one in (target, *target.rglob("*")):
            one.chmod(0o755 if one.is_dir() else 0o644)
        self._mounts.append(Mount(target, f"{_IN}/{name}"))
        return f"{_IN}/{name}"

    def write(self, name: str, document: object) -> str:
        """Lay out a JSON document."""
        path = self._work / f"written-{name}"
        path.write_bytes(msgspec.json.encode(document))
        return self.lay(path, name)

    def run(self, program: str, **arguments: str) -> Path:
        """Run a program of the environment, or one laid out, to its end; the folder that it wrote to.

        Raises NotRun with what it said.
        """
        out = self._work / f"out-{Path(program).name}"
        out.mkdir()
        command = ["python", str(Path(PROGRAMS, program)), "--out", _OUT]
        for name, value in arguments.items():
            command += [f"--{name}", value]
        log = out.with_suffix(".log")
        mounts = (*self._mounts, *self._more, Mount(out, _OUT, writable=True))
        run = Run(self._prepared, tuple(command), mounts, self._environ, self._limits, log, devices=self._devices)
        finished = sandbox.choose("uv:").run(run)
        if finished.status == "failed":
            said = received.text(out / "failure", 4096)
            raise NotRun(
                said or f"the run ended without an answer: {finished.reason} {received.tail(log, 600)}".strip()
            )
        if finished.status != "done":
            raise NotRun(f"the run was stopped ({finished.status}): {finished.reason}")
        return out

    def take(self, out: Path, names: Sequence[str]) -> Path:
        """Files that a program wrote, in a folder of ours."""
        taken = self._work / f"taken-{out.name}"
        taken.mkdir()
        for name in names:
            try:
                received.copy(out / name, taken / name, _MOST_ARRAYS)
            except Invalid as error:
                raise NotRun(f"the run left no usable answer: {error.message}") from error
        return taken

    def read(self, path: Path, kind: type[_T]) -> _T:
        """A JSON document that the program wrote."""
        try:
            return received.decode(path, _MOST_JSON, kind)
        except Invalid as error:
            raise NotRun(f"the run left no usable answer: {error.message}") from error
