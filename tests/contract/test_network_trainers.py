"""The trainers of uv:tensorflow and uv:torch: their models repeat byte for byte, learn, and are translated."""

from __future__ import annotations

from pathlib import Path

import httpx
import numpy as np
import pytest

from polyshare.jobs import environment
from polyshare.jobs.steps import Place, perform
from polyshare.translation import certificate
from tests.contract.translation_world import Workshop
from tests.unit.jobs.conftest import CACHE, client, platform
from tests.unit.jobs.platform import Platform

__all__ = ["client", "platform"]

pytestmark = pytest.mark.slow

NAMES = ("tensorflow", "torch")


def rows(*, words: bool) -> bytes:
    """Three columns, one of a single value, and a label or a number that hangs on two of them."""
    random = np.random.default_rng(0)
    x = random.normal(size=(200, 2)) * [1, 100] + [0, 1000]
    kinds = (x[:, 0] > 0).astype(int) + (x[:, 1] > 1050)
    last = [("low", "middle", "high")[k] for k in kinds] if words else (300 * x[:, 0] - x[:, 1]).tolist()
    return ("a,b,c,kind\n" + "".join(f"{p},{q},7,{y}\n" for (p, q), y in zip(x, last, strict=True))).encode()


def trained(platform: Platform, client: httpx.Client, place: Path, name: str, data: bytes, **parameters: object):
    pinned = environment.resolve(f"uv:{name}")
    inputs = {"train": {"d.csv": data}, "test": {"t.csv": data}}
    job = platform.add("train", inputs, environment=pinned, parameters=parameters, wall=200)
    place.mkdir()
    perform(job, client, Place(place, CACHE))
    completion = platform.completions[job.id]
    return completion, platform.result(job) if completion["outcome"] == "trained" else {}


@pytest.mark.parametrize("estimator", ["mlp", "mlp_regressor"])
@pytest.mark.parametrize("name", NAMES)
def test_a_model_repeats_byte_for_byte_and_is_translated(name, estimator, platform, client, tmp_path) -> None:
    given = {"data": rows(words=estimator == "mlp"), "estimator": estimator, "hidden_layer_sizes": [16, 8]}
    first, files = trained(platform, client, tmp_path / "1", name, **given)
    assert first["outcome"] == "trained", first["reason"]
    assert trained(platform, client, tmp_path / "2", name, **given)[1] == files
    assert first["metadata"]["framework"] == ("pytorch" if name == "torch" else name)
    score = first["metadata"]["metric_accuracy" if estimator == "mlp" else "metric_r2"]
    assert score == pytest.approx(first["metadata"]["metric_train_score"], abs=1e-6)
    assert score > 0.9
    model = tmp_path / "trained" / "model"
    model.mkdir(parents=True)
    for file, data in files.items():
        (model / file).write_bytes(data)
    made = Workshop(tmp_path / "w").translate(model.parent)
    assert certificate.decode(made.certificate.read_bytes()).verdict == "agrees"


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [
        ({"depth": 3}, "there is no parameter 'depth'; there are target, estimator, seed"),
        ({"hidden_layer_sizes": [0]}, "hidden_layer_sizes is a list of up to 20 sizes"),
        ({"learning_rate_init": -1}, "learning_rate_init is a number above 0"),
        ({"estimator": "mlp_regressor"}, "a regressor needs a target of numbers"),
        ({"target": "weight"}, "d.csv has no column 'weight'"),
    ],
)
@pytest.mark.parametrize("name", NAMES)
def test_what_can_not_be_trained_is_said(name, parameters, reason, platform, client, tmp_path) -> None:
    completion, _ = trained(platform, client, tmp_path / "1", name, rows(words=True), **parameters)
    assert completion["outcome"] == "failed"
    assert reason in completion["reason"]


def test_missing_values_are_refused_with_what_to_do(platform, client, tmp_path) -> None:
    completion, _ = trained(platform, client, tmp_path / "1", "tensorflow", b"a,b,y\n1,2,0\n,3,1\n4,5,0\n")
    assert completion["outcome"] == "failed"
    assert "a network takes no missing values" in completion["reason"]
