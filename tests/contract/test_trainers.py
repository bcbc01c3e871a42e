"""The trainers of uv:boosting and uv:jax: their models repeat byte for byte, and are translated with their labels."""

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

REGRESSORS = ("xgboost_regressor", "lightgbm_regressor", "catboost_regressor", "jax regression")


def rows(*, words: bool) -> bytes:
    """Two numbers, and a label or a number that hangs on both."""
    random = np.random.default_rng(0)
    x = random.normal(size=(200, 2))
    kinds = (x[:, 0] > 0).astype(int) + (x[:, 1] > 0.5)
    last = [("low", "middle", "high")[k] for k in kinds] if words else (3 * x[:, 0] - x[:, 1]).tolist()
    return ("a,b,kind\n" + "".join(f"{p},{q},{y}\n" for (p, q), y in zip(x, last, strict=True))).encode()


def trained(platform: Platform, client: httpx.Client, place: Path, estimator: str, **parameters: object):
    data = rows(words=estimator not in REGRESSORS)
    kind, _, task = estimator.partition(" ")
    parameters = {"task": task, **parameters} if task else {"estimator": estimator, **parameters}
    inputs = {"train": {"d.csv": data}, "test": {"t.csv": data}}
    pinned = environment.resolve(f"uv:{kind}" if task else "uv:boosting")
    job = platform.add("train", inputs, environment=pinned, parameters=parameters, wall=200)
    place.mkdir()
    perform(job, client, Place(place, CACHE))
    completion = platform.completions[job.id]
    return completion, platform.result(job) if completion["outcome"] == "trained" else {}


@pytest.mark.parametrize(
    "estimator", ["xgboost", "lightgbm", "catboost", "jax classification", *REGRESSORS, "random_forest"]
)
def test_a_model_repeats_byte_for_byte_and_is_translated(estimator, platform, client, tmp_path) -> None:
    few = {"epochs": 30} if estimator.startswith("jax ") else {"n_estimators": 10}
    first, files = trained(platform, client, tmp_path / "1", estimator, **few)
    assert first["outcome"] == "trained", first["reason"]
    assert trained(platform, client, tmp_path / "2", estimator, **few)[1] == files
    framework = "sklearn" if estimator == "random_forest" else estimator.replace(" ", "_").split("_")[0]
    assert first["metadata"]["framework"] == framework
    assert first["metadata"]["metric_train_score"] > 0.7
    model = tmp_path / "trained" / "model"
    model.mkdir(parents=True)
    for name, data in files.items():
        (model / name).write_bytes(data)
    made = Workshop(tmp_path / "w").translate(model.parent)
    assert certificate.decode(made.certificate.read_bytes()).verdict == "agrees"
    if not estimator.startswith("jax "):  # whose networks give probabilities alone
        labelled = b"middle" in made.model.read_bytes()
        assert labelled == (estimator not in REGRESSORS), "the labels are those of the data"


@pytest.mark.parametrize(
    ("estimator", "parameters", "reason"),
    [
        ("xgboost", {"depth": 3}, "xgboost has no parameter 'depth'; it has"),
        ("catboost", {"iterations": -1}, "catboost can't be trained on these data with these parameters"),
        ("lightgbm", {"n_jobs": 8}, "lightgbm has no parameter 'n_jobs'"),
        ("boosted", {}, "estimator 'boosted' is not one of xgboost, "),
        ("jax classification", {"layers": [0]}, "layers is a list of widths from 1 to 4096, not [0]"),
        ("jax classification", {"depth": 2}, "there is no parameter 'depth'; there are target, task, "),
    ],
)
def test_a_parameter_that_can_not_be_is_named(estimator, parameters, reason, platform, client, tmp_path) -> None:
    completion, _ = trained(platform, client, tmp_path / "1", estimator, **parameters)
    assert completion["outcome"] == "failed"
    assert reason in completion["reason"]
