"""Trains a dense network in JAX: the trainer used when no source is given.

Data as for uv:sklearn. Parameters: `task` (classification or regression), `layers` (widths of the hidden layers, [32]),
`epochs` (100), `batch` (64), `learning_rate` (0.01), `target` (a column, default the last), `seed` (0). Writes
model.py, parameters.npz, signature.json and metrics.json; the same inputs give the same bytes.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import data
import jax
import jax.numpy as jnp
import network
import numpy as np
import optax
from data import ROOT, Data, Refused

DEFAULTS: dict[str, Any] = {
    "task": "classification",
    "layers": [32],
    "epochs": 100,
    "batch": 64,
    "learning_rate": 0.01,
    "seed": 0,
}


def train() -> None:
    parameters = data.parameters(ROOT / "input" / "config" / "hyperparameters.json")
    target = parameters.pop("target", None)
    asked = check(parameters)
    classifies = asked["task"] == "classification"
    rows = Data.read(ROOT / "input" / "data" / "train", target)
    labels = rows.labels(classifies=classifies)
    classes = np.unique(labels) if classifies else None
    if classes is not None and len(classes) < 2:
        raise Refused(f"all rows have the label {classes[0]!r}: a classifier needs two at least")
    print(f"training a network of {asked['layers']} on {len(rows.x)} rows of {rows.x.shape[1]} features")
    fitted = fit(rows.x, _numbered(labels, classes), 1 if classes is None else len(classes), asked)
    np.savez(ROOT / "model" / "parameters.npz", **fitted)
    shutil.copyfile(Path(__file__).with_name("network.py"), ROOT / "model" / "model.py")
    data.write(ROOT / "model" / "signature.json", signature(rows, classes))
    metrics = {"train_rows": len(rows.x), "train_score": score(fitted, rows.x, _numbered(labels, classes), classes)}
    held = ROOT / "input" / "data" / "test"
    if held.is_dir() and any(held.iterdir()):
        test = Data.read(held, target)
        if test.x.shape[1:] != rows.x.shape[1:]:
            raise Refused(f"the test rows have {test.x.shape[1]} features, those trained on {rows.x.shape[1]}")
        known = _numbered(test.labels(classifies=classifies), classes)
        metrics |= {"test_rows": len(test.x), "accuracy" if classifies else "r2": score(fitted, test.x, known, classes)}
    data.write(ROOT / "output" / "metrics.json", metrics)
    print(json.dumps(metrics, sort_keys=True))


def check(parameters: dict[str, Any]) -> dict[str, Any]:
    """The parameters with their defaults. Raises Refused naming one that can't be."""
    for unknown in sorted(set(parameters) - DEFAULTS.keys()):
        raise Refused(f"there is no parameter {unknown!r}; there are target, {', '.join(DEFAULTS)}")
    asked = {**DEFAULTS, **parameters}
    rules = {
        "task": (asked["task"] in ("classification", "regression"), "classification or regression"),
        "layers": (
            isinstance(asked["layers"], list) and all(type(n) is int and 1 <= n <= 4096 for n in asked["layers"]),
            "a list of widths from 1 to 4096",
        ),
        "learning_rate": (
            isinstance(asked["learning_rate"], int | float) and 0 < asked["learning_rate"] <= 1,
            "a number above 0, at most 1",
        ),
        **{
            name: (type(asked[name]) is int and least <= asked[name] < 2**31, f"an integer from {least} to {2**31 - 1}")
            for name, least in (("epochs", 1), ("batch", 1), ("seed", 0))
        },
    }  # fmt: skip
    for name, (holds, rule) in rules.items():
        if not holds:
            raise Refused(f"{name} is {rule}, not {asked[name]!r}")
    return asked


def fit(x: np.ndarray, y: np.ndarray, outputs: int, asked: dict[str, Any]) -> dict[str, np.ndarray]:
    """Parameters of the network, by Adam on batches shuffled by the seed."""
    if not np.isfinite(x).all():
        raise Refused("the data have missing or infinite values: a network takes numbers only")
    shift, spread = (y.mean(), y.std() or 1.0) if outputs == 1 else (0.0, 1.0)
    scale = np.where(x.std(axis=0) > 0, x.std(axis=0), 1)
    fixed: dict[str, Any] = {"mean": x.mean(axis=0), "scale": scale, "shift": shift, "spread": spread}
    fixed = {name: jnp.asarray(value, jnp.float32) for name, value in fixed.items()}
    random = np.random.default_rng(asked["seed"])
    weights: dict[str, Any] = {}
    wide = x.shape[1]
    for number, width in enumerate([*asked["layers"], outputs]):
        drawn = random.normal(size=(wide, width)) * np.sqrt(2 / wide)
        weights |= {f"weights_{number}": jnp.asarray(drawn, jnp.float32), f"bias_{number}": jnp.zeros(width)}
        wide = width
    rows, answers = jnp.asarray(x, jnp.float32), jnp.asarray(y)
    optimiser = optax.adam(asked["learning_rate"])
    state = optimiser.init(weights)

    def loss(weights: dict[str, Any], rows: Any, answers: Any) -> Any:
        sums = network.sums({**fixed, **weights}, rows)
        if outputs > 1:
            return optax.softmax_cross_entropy_with_integer_labels(sums, answers).mean()
        return jnp.mean(((network.apply({**fixed, **weights}, rows) - answers) / fixed["spread"]) ** 2)

    @jax.jit
    def step(weights: dict[str, Any], state: Any, rows: Any, answers: Any) -> tuple[dict[str, Any], Any]:
        updates, state = optimiser.update(jax.grad(loss)(weights, rows, answers), state)
        return optax.apply_updates(weights, updates), state

    size = min(asked["batch"], len(x))
    for _ in range(asked["epochs"]):
        order = random.permutation(len(x))
        for at in range(0, len(x) - size + 1, size):
            some = order[at : at + size]
            weights, state = step(weights, state, rows[some], answers[some])
    return {name: np.asarray(value) for name, value in sorted({**fixed, **weights}.items())}


def score(fitted: dict[str, np.ndarray], x: np.ndarray, y: np.ndarray, classes: np.ndarray | None) -> float:
    """Accuracy of a classifier, R² of a regressor."""
    found = np.asarray(network.apply(fitted, jnp.asarray(x, jnp.float32)))
    if classes is not None:
        return float((found.argmax(axis=1) == y).mean())
    return float(1 - ((y - found) ** 2).sum() / ((y - y.mean()) ** 2).sum())


def signature(rows: Data, classes: np.ndarray | None) -> dict[str, Any]:
    """What the model takes and gives; null is the number of rows."""
    name, role = ("prediction", "values") if classes is None else ("probabilities", "scores")
    ranges = [[float(low), float(high)] for low, high in zip(rows.x.min(axis=0), rows.x.max(axis=0), strict=True)]
    return {
        "framework": "jax",
        "framework_version": jax.__version__,
        "model": "model.py",
        "function": "apply",
        "parameters": "parameters.npz",
        "inputs": [{"name": "X", "dtype": "float32", "shape": [None, int(rows.x.shape[1])], "range": ranges}],
        "outputs": [{"name": name, "role": role}],
        "classes": None if classes is None else classes.tolist(),
        "features": rows.names,
        "target": rows.target,
    }


def _numbered(labels: np.ndarray, classes: np.ndarray | None) -> np.ndarray:
    if classes is None:
        return labels
    unknown = np.setdiff1d(labels, classes)
    if len(unknown):
        raise Refused(f"the test rows have the label {unknown[0]!r}, which the training rows have not")
    return np.searchsorted(classes, labels)


if __name__ == "__main__":
    data.main(train)
