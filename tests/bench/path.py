"""The whole path, from files of a dataset to a verified ONNX model, against a bare script that trains, converts, saves.

Both in environments that are prepared beforehand, with the same data, estimator and parameters. What ours takes longer
is what it does besides: hashing, uploading, anchoring, three sandboxes more, the gate and the measured agreement,
fetching and verifying. The stages' times are what the registry itself noted, as `polyshare status` shows them.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from polyshare.client import Client
from polyshare.jobs.environment import prepare, resolve
from polyshare.jobs.sandbox import ENVIRONMENT
from tests.bench.measure import ROOT, Row, cost, median, row
from tests.bench.stack import stack

CACHE = ROOT / ".make" / "environments"  # named by digest, so it is kept between runs
ROUNDS = 3
TREES = 50
_PATIENCE = 300.0  # seconds
_BARE = """
import sys
import numpy as np
import skops.io
from skl2onnx import to_onnx
from sklearn.ensemble import RandomForestClassifier
data, out = sys.argv[1:]
table = np.genfromtxt(data + "/train/digits.csv", delimiter=",", skip_header=1)
model = RandomForestClassifier(n_estimators=50, random_state=0).fit(table[:, :-1], table[:, -1].astype(int))
skops.io.dump(model, out + "/model.skops")
with open(out + "/model.onnx", "wb") as file:
    file.write(to_onnx(model, table[:1, :-1]).SerializeToString())
"""


def run() -> list[Row]:
    with tempfile.TemporaryDirectory(prefix="polyshare-bench-") as name:
        folder = Path(name)
        python = _prepare()
        cost([python, ROOT / "demo" / "export_digits.py", folder])
        ours: list[dict[str, float]] = []
        bare: list[float] = []
        with stack(CACHE) as running, running.client() as client:
            for turn in range(ROUNDS + 1):
                bare_out = folder / f"bare-{turn}"
                bare_out.mkdir()
                seconds = cost([python, "-c", _BARE, folder / "digits", bare_out]).wall
                taken = _path(client, folder / "digits", folder / f"onnx-{turn}", turn)
                if turn:  # the first is for the page cache, on both sides
                    ours.append(taken)
                    bare.append(seconds)
    total = median(sum(taken.values()) for taken in ours)
    stages = [row(f"of it, {name}, s", median(taken[name] for taken in ours), None, "reported") for name in ours[0]]
    return [
        row("dataset to verified ONNX, s (peer: a bare script)", total, median(bare), "reported"),
        row("of it, more than the bare script, s", total - median(bare), None, "reported"),
        *stages,
    ]


def _prepare() -> Path:
    """The Python that has scikit-learn and its converter."""
    prepared = [prepare(resolve(name), CACHE) for name in ("uv:sklearn", "uv:verify", "uv:translator-sklearn")]
    return next(m.host for m in prepared[-1].mounts if m.inside == ENVIRONMENT) / "bin" / "python"


def _path(client: Client, data: Path, out: Path, turn: int) -> dict[str, float]:
    """Seconds by stage, none of them twice."""
    taken: dict[str, float] = {}
    last = time.time()

    def until(at: float, stage: str) -> None:
        nonlocal last
        taken[stage] = max(0.0, at - last)
        last = max(last, at)

    dataset = client.add_dataset(data, name=f"digits-{turn}")
    until(time.time(), "dataset registered")
    parameters = {"estimator": "random_forest", "n_estimators": TREES}
    model = client.add_model(dataset=dataset.id, image="uv:sklearn", parameters=parameters)
    until(time.time(), "model registered")
    trained = _stages(client, model.id)
    until(trained["running"], "until the training runs (dataset and model anchored, inputs verified)")
    until(trained["publishing"], "training, in its sandbox")
    until(trained["result anchored"], "model published and its result anchored")
    translation = _translation(client, model.id)
    done = _stages(client, translation)
    until(done["running"], "until the translation runs")
    until(done["publishing"], "conversion, gate, native run and comparison, each in its sandbox")
    until(done["result anchored"], "translation published and its result anchored")
    client.fetch(translation, out)
    until(time.time(), "fetched")
    report = client.verify(out)
    until(time.time(), "verified")
    if any(check.outcome == "failed" for check in report.checks):
        raise RuntimeError(f"the translation does not verify: {report}")
    return taken


def _stages(client: Client, asset: str) -> dict[str, float]:
    """When each stage of an asset was reached, once nothing more will happen."""
    for status in client.follow(asset, seconds=_PATIENCE):
        if status.finished and status.state == "failed":
            raise RuntimeError(f"{asset} failed: {status.reason}")
    return {stage.stage: stage.at for stage in status.stages}


def _translation(client: Client, model: str) -> str:
    end = time.monotonic() + _PATIENCE
    while time.monotonic() < end:
        found = client.status(model).translation
        if found is not None:
            return found
        time.sleep(0.05)
    raise RuntimeError(f"{model} was not translated in {_PATIENCE:.0f} s")
