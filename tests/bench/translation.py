"""Translating models of digits, gate and certificate included, against the bare converter: load, convert, save.

Both in the same prepared environment. The peer's peak memory is its process's; ours that of all runs in their
sandboxes together, had each peaked at the same time. XGBoost is converted by our own program, so it has no such peer.
How long one row takes, natively and by ONNX Runtime, is a median on one thread.
"""

from __future__ import annotations

import json
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.bench.measure import ROOT, Row, cost, median, row
from tests.contract.translation_world import Workshop, prepare, train
from tests.translation import declared

ROUNDS = 5
_MIB = 1024**2
LATENCY = ROOT / "demo" / "polyglot" / "latency.py"
_SKLEARN = """
import sys, skl2onnx, skops.io
from skl2onnx.common.data_types import DoubleTensorType
file, out = sys.argv[1:]
model = skops.io.load(file, trusted=skops.io.get_untrusted_types(file=file))
made = skl2onnx.convert_sklearn(model, initial_types=[("X", DoubleTensorType([None, 64]))], target_opset=18)
open(out, "wb").write(made.SerializeToString())
"""
_KERAS = """
import sys, keras, tensorflow as tf, tf2onnx
file, out = sys.argv[1:]
model = keras.saving.load_model(file, compile=False)
spec = tuple(tf.TensorSpec((None, *one.shape[1:]), one.dtype) for one in model.inputs)
tf2onnx.convert.from_function(tf.function(lambda x: model(x)), spec, opset=18, output_path=out)
"""
_TORCH = """
import sys, torch
file, out = sys.argv[1:]
torch.onnx.export(torch.export.load(file), dynamo=True, verbose=False).save(out)
"""


@dataclass(frozen=True, slots=True)
class Subject:
    """A declared model, how latency.py runs it, and the peer's program."""

    name: str
    model: str
    kind: str
    bare: str = ""


SUBJECTS = (
    Subject("scikit-learn, scaled logistic regression", "scaled_logistic_regression", "sklearn", _SKLEARN),
    Subject("XGBoost", "xgboost_digits", "xgboost"),
    Subject("Keras, dense", "keras_dense", "keras", _KERAS),
    Subject("PyTorch, dense", "pt2_dense", "torch", _TORCH),
)


def run() -> list[Row]:
    with tempfile.TemporaryDirectory(prefix="polyshare-bench-") as name:
        return [one for subject in SUBJECTS for one in _rows(subject, Path(name) / subject.model)]


def _rows(subject: Subject, folder: Path) -> list[Row]:
    environment = declared.models()[subject.model].environment
    trained = train(subject.model, folder / "trained")
    file = next(path for path in sorted((trained / "model").iterdir()) if path.name.startswith("model"))
    ours, peaks, bare, bare_peaks = [], [], [], []
    for turn in range(ROUNDS + 1):
        seconds, peak = _ours(trained, folder / f"{turn}")
        found = cost([_python(environment), "-c", subject.bare, file, folder / "bare.onnx"]) if subject.bare else None
        if turn:  # the first is for the page cache, on both sides
            ours.append(seconds)
            peaks.append(peak)
            bare += [found.wall] if found else []
            bare_peaks += [found.peak / _MIB] if found else []
    made = folder / f"{ROUNDS}" / "made"
    native = _milliseconds(subject.kind, environment, trained / "model", trained)
    onnx = _milliseconds("onnx", "uv:verify", made, trained)
    goal = "<= 1.5" if subject.bare else "reported"
    return [
        row(f"translating: {subject.name}, s (peer: its bare converter)", median(ours), _median(bare), goal),
        row("… peak memory of all its runs, MiB (peer: the same)", median(peaks), _median(bare_peaks), "reported"),
        row("… one row by ONNX Runtime, ms (peer: native)", onnx, native, "reported"),
    ]


def _ours(trained: Path, folder: Path) -> tuple[float, float]:
    """Seconds, and MiB."""
    workshop = Workshop(folder)
    started = time.perf_counter()
    made = workshop.translate(trained)
    seconds = time.perf_counter() - started
    (folder / "made").mkdir()
    (folder / "made" / "model.onnx").write_bytes(made.model.read_bytes())
    return seconds, sum(finished.peak_memory for finished in workshop.finished) / _MIB


def _milliseconds(kind: str, environment: str, model: Path, trained: Path) -> float:
    rows, out = trained / "rows.csv", model.parent
    if not rows.exists():
        _write_rows(trained / "test", rows)
    cost([_python(environment), LATENCY, "--kind", kind, "--model", model, "--rows", rows, "--out", out])
    return float(json.loads((out / "latency.json").read_bytes())["milliseconds"])


def _write_rows(test: Path, to: Path) -> None:
    """The test data as latency.py takes it: 64 columns, and one that it leaves out."""
    (file,) = test.iterdir()
    x = np.load(file)["X"] if file.suffix == ".npz" else np.loadtxt(file, delimiter=",", skiprows=1)[:, :64]
    np.savetxt(to, np.column_stack([x, np.zeros(len(x))]), delimiter=",", header="rows", comments="")


def _python(environment: str) -> Path:
    programs = prepare(environment).programs
    assert programs is not None
    return programs.parent / "venv" / "bin" / "python"


def _median(values: list[float]) -> float | None:
    return median(values) if values else None
