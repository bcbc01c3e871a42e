"""The frame of trainers of neural networks: a network of dense layers on rows of numbers, by parameters.

Data and the parameters `target`, `seed` and `scale` are those of uv:sklearn; the others have the names they have in its
multilayer perceptron. A trainer's train.py ends in `data.main(lambda: network.train(…))`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import data
import numpy as np
from data import ROOT, Data, Refused

ESTIMATORS = ("mlp", "mlp_regressor")
ACTIVATIONS = ("relu", "tanh", "logistic", "identity")
DEFAULTS: dict[str, Any] = {
    "hidden_layer_sizes": [100],
    "activation": "relu",
    "max_iter": 100,  # passes over the rows
    "batch_size": 32,
    "learning_rate_init": 0.001,  # of Adam
}


@dataclass(frozen=True)
class Plan:
    """What the parameters ask for."""

    classifies: bool
    seed: int
    scale: bool
    hidden_layer_sizes: tuple[int, ...]
    activation: str
    max_iter: int
    batch_size: int
    learning_rate_init: float


@dataclass(frozen=True)
class Rows:
    """float32 rows; `y` is each row's position in `classes`, or its number. The network itself standardises: its
    inputs by `mean` and `deviation`, a regressor's answer by those of y, `offset` and `factor`."""

    x: np.ndarray
    y: np.ndarray
    classes: list[Any] | None
    mean: np.ndarray
    deviation: np.ndarray
    offset: float
    factor: float

    @property
    def outputs(self) -> int:
        return 1 if self.classes is None else len(self.classes)


Predict = Callable[[np.ndarray], np.ndarray]  # rows → probabilities of classes, or numbers in one column


def train(fit: Callable[[Plan, Rows], tuple[Predict, dict[str, Any]]]) -> None:
    """Read the job, train and save by `fit`, which gives the trained network and what signature.json says of it."""
    parameters = data.parameters(ROOT / "input" / "config" / "hyperparameters.json")
    target = parameters.pop("target", None)
    plan = _plan(parameters)
    table = Data.read(ROOT / "input" / "data" / "train", target)
    rows = _rows(table, plan)
    print(f"training on {len(rows.x)} rows of {rows.x.shape[1]} features")
    predict, said = fit(plan, rows)
    metrics = {"train_rows": len(rows.x), "train_score": _score(predict(rows.x), rows.y, rows.classes)}
    held = ROOT / "input" / "data" / "test"
    if held.is_dir() and any(held.iterdir()):
        test = Data.read(held, target)
        if test.x.shape[1:] != table.x.shape[1:]:
            raise Refused(f"the test rows have {test.x.shape[1]} features, those trained on {table.x.shape[1]}")
        y = _numbered(test.labels(classifies=plan.classifies), rows.classes)
        name = "accuracy" if plan.classifies else "r2"
        metrics |= {"test_rows": len(test.x), name: _score(predict(test.x.astype(np.float32)), y, rows.classes)}
    spans = [[float(low), float(high)] for low, high in zip(rows.x.min(0), rows.x.max(0), strict=True)]
    signature = {
        **said,
        "inputs": [{"name": "X", "dtype": "float32", "shape": [None, rows.x.shape[1]], "range": spans}],
        "classes": rows.classes,
        "features": table.names,
        "target": table.target,
    }
    data.write(ROOT / "model" / "signature.json", signature)
    data.write(ROOT / "output" / "metrics.json", metrics)
    print(json.dumps(metrics, sort_keys=True))


def _plan(parameters: dict[str, Any]) -> Plan:
    known = {"estimator": ESTIMATORS[0], "seed": 0, "scale": True, **DEFAULTS}
    for unknown in sorted(set(parameters) - set(known)):
        raise Refused(f"there is no parameter {unknown!r}; there are target, {', '.join(known)}")
    given = {**known, **parameters}
    sizes = given["hidden_layer_sizes"]
    sizes = [sizes] if type(sizes) is int else sizes
    wanted = {
        "estimator": (given["estimator"] in ESTIMATORS, f"one of {', '.join(ESTIMATORS)}"),
        "seed": (_whole(given["seed"], 0, 2**32 - 1), f"an integer from 0 to {2**32 - 1}"),
        "scale": (type(given["scale"]) is bool, "true or false"),
        "hidden_layer_sizes": (
            isinstance(sizes, list) and len(sizes) <= 20 and all(_whole(size, 1, 100_000) for size in sizes),
            "a list of up to 20 sizes from 1 to 100000",
        ),
        "activation": (given["activation"] in ACTIVATIONS, f"one of {', '.join(ACTIVATIONS)}"),
        "max_iter": (_whole(given["max_iter"], 1, 100_000), "an integer from 1 to 100000"),
        "batch_size": (_whole(given["batch_size"], 1, 1_000_000), "an integer from 1 to 1000000"),
        "learning_rate_init": (
            type(given["learning_rate_init"]) in (int, float) and 0 < given["learning_rate_init"] <= 10,
            "a number above 0, at most 10",
        ),
    }
    for name, (holds, what) in wanted.items():
        if not holds:
            raise Refused(f"{name} is {what}, not {given[name]!r}")
    return Plan(
        classifies=given["estimator"] == "mlp",
        seed=given["seed"],
        scale=given["scale"],
        hidden_layer_sizes=tuple(sizes),
        activation=given["activation"],
        max_iter=given["max_iter"],
        batch_size=given["batch_size"],
        learning_rate_init=float(given["learning_rate_init"]),
    )


def _rows(table: Data, plan: Plan) -> Rows:
    x = table.x.astype(np.float32)
    if not np.all(np.isfinite(x)):
        raise Refused("a network takes no missing values and no infinities: fill them in, or choose trees (uv:sklearn)")
    labels = table.labels(classifies=plan.classifies)
    classes = np.unique(labels).tolist() if plan.classifies else None
    if classes is not None and len(classes) < 2:
        raise Refused(f"all rows have the label {classes[0]!r}: a classifier needs two or more")
    width = x.shape[1]
    mean, deviation = np.zeros(width, np.float32), np.ones(width, np.float32)
    if plan.scale:
        mean, deviation = x.mean(0, dtype=np.float64).astype(np.float32), x.std(0, dtype=np.float64).astype(np.float32)
        deviation[deviation == 0] = 1  # a column of one value
    offset = factor = 0.0
    if classes is None:
        offset, factor = float(np.mean(labels)), float(np.std(labels)) or 1.0
    return Rows(x, _numbered(labels, classes), classes, mean, deviation, offset, factor)


def _numbered(labels: np.ndarray, classes: list[Any] | None) -> np.ndarray:
    if classes is None:
        return labels.astype(np.float32)
    unknown = np.setdiff1d(labels, np.array(classes))
    if len(unknown):
        raise Refused(f"the test rows have the label {unknown[0]!r}, which the training rows have not")
    return np.searchsorted(np.array(classes), labels)


def _score(answers: np.ndarray, y: np.ndarray, classes: list[Any] | None) -> float:
    """The accuracy of a classifier, R² of a regressor."""
    if classes is not None:
        return float(np.mean(answers.argmax(1) == y))
    left = math.fsum((answers[:, 0].astype(np.float64) - y) ** 2)
    return 1 - left / (math.fsum((y - np.mean(y, dtype=np.float64)) ** 2) or 1.0)


def _whole(value: Any, low: int, high: int) -> bool:
    return type(value) is int and low <= value <= high
