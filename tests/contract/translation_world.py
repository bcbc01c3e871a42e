"""Real translations for tests: models trained in the translator's environment, steps run in the machine's sandbox."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from polyshare.jobs import environment, sandbox
from polyshare.jobs.job import Limits
from polyshare.jobs.sandbox import Finished, Prepared, Run
from polyshare.translation import pipeline, translators
from polyshare.translation.pipeline import Options, Translated
from tests.translation import declared

ROOT = Path(__file__).parents[2]
CACHE = ROOT / ".make" / "environments"  # named by digest, so it may be kept between runs
LIMITS = Limits(wall_seconds=240)


def prepare(reference: str) -> Prepared:
    return environment.prepare(environment.resolve(reference), CACHE)


def run(reference: str, *command: str, hash_seed: str = "0") -> None:
    """Run trusted test code with an environment's packages, outside any sandbox."""
    prepared = prepare(reference)
    assert prepared.programs is not None
    python = prepared.programs.parent / "venv" / "bin" / "python"
    environ = {"PATH": "/usr/bin:/bin", "PYTHONHASHSEED": hash_seed, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    environ["PYTHONPATH"] = str(ROOT)
    subprocess.run([str(python), *command], check=True, timeout=240, env=environ)


def train(name: str, folder: Path) -> Path:
    """A folder with model/ and maybe test/, of a model that tests/translation/models declares."""
    if not folder.exists():
        model = declared.models()[name]
        run(model.environment, "-P", "-m", model.module, name, str(folder))
    return folder


@dataclass
class Workshop:
    """Translates and keeps what the steps were given. `tamper` may change what a step wrote, as a faulty one would."""

    folder: Path
    runs: list[Run] = field(default_factory=list)
    finished: list[Finished] = field(default_factory=list)
    tamper: Callable[[str, Path], None] | None = None
    converted: Path | None = None  # an earlier conversion to use again
    limits: Limits = LIMITS
    beside: bool = True
    find: Callable[[Path], translators.Native] = translators.find
    prepare: Callable[[str], Prepared] = prepare

    def translate(self, trained: Path, options: Options | None = None, *, test: bool = True) -> Translated:
        self.folder.mkdir(parents=True, exist_ok=True)
        for path in (trained / "model").rglob("*"):
            path.chmod(path.stat().st_mode | 0o444)  # as a job's fetch does; safetensors writes for its owner alone
        return pipeline.translate(
            self._execute,
            work=self.folder,
            model=trained / "model",
            test=trained / "test" if test and (trained / "test").is_dir() else None,
            options=options,
            prepare=self.prepare,
            limits=self.limits,
            beside=self.beside,
            find=self.find,
        )

    def _execute(self, run: Run, ended: Callable[[], bool] = sandbox.never) -> Finished:
        self.runs.append(run)
        program = Path(run.command[1]).name
        out = next(mount.host for mount in run.mounts if mount.writable)
        if program == "translate.py" and self.converted is not None:
            for name in ("candidate.onnx", "signature.json"):
                shutil.copy(self.converted / name, out / name)
            finished = Finished("done", "", 0, 0.0, 0.0, 0)
        else:
            finished = sandbox.choose(run.environment.reference).run(run, cancelled=ended)
        self.finished.append(finished)
        if self.tamper is not None:
            self.tamper(program, out)
        return finished
