"""Trains a model of XGBoost, LightGBM or CatBoost, or what uv:sklearn trains: the trainer used when no source is given.

Data and parameters are those of uv:sklearn; `estimator` may be one of BOOSTERS too (default xgboost). Writes the file
of the package (model.json, model.txt, model.cbm), signature.json and metrics.json; the same inputs give the same bytes.
"""

from __future__ import annotations

import importlib
import inspect
import json
from typing import Any

import data
import estimators
import numpy as np
from data import ROOT, Data, Refused

# name → class, and the file that the model is saved in
BOOSTERS = {
    "xgboost": ("xgboost.XGBClassifier", "model.json"),
    "xgboost_regressor": ("xgboost.XGBRegressor", "model.json"),
    "lightgbm": ("lightgbm.LGBMClassifier", "model.txt"),
    "lightgbm_regressor": ("lightgbm.LGBMRegressor", "model.txt"),
    "catboost": ("catboost.CatBoostClassifier", "model.cbm"),
    "catboost_regressor": ("catboost.CatBoostRegressor", "model.cbm"),
}
DEFAULT = "xgboost"
# What each package calls what is the same in every training, and its value; {seed} apart.
FIXED: dict[str, dict[str, Any]] = {
    "xgboost": {"n_jobs": 1, "verbosity": 0},
    "lightgbm": {"n_jobs": 1, "verbosity": -1, "deterministic": True, "force_row_wise": True},
    "catboost": {"thread_count": 1, "verbose": 0, "allow_writing_files": False},
}


def train() -> None:
    parameters = data.parameters(ROOT / "input" / "config" / "hyperparameters.json")
    name = parameters.pop("estimator", DEFAULT)
    if name in estimators.ESTIMATORS:
        return estimators.train()
    target = parameters.pop("target", None)
    model, package = make_model(name, parameters)
    classifies = not name.endswith("_regressor")
    rows = Data.read(ROOT / "input" / "data" / "train", target)
    labels = rows.labels(classifies=classifies)
    classes = np.unique(labels) if classifies else None
    numbered = classes if package != "catboost" else None  # CatBoost's files know the labels themselves
    print(f"training {name} on {len(rows.x)} rows of {rows.x.shape[1]} features")
    try:
        model.fit(rows.x, _numbered(labels, numbered))
    except (ValueError, TypeError, *_errors(package)) as error:
        raise Refused(f"{name} can't be trained on these data with these parameters: {error}") from error
    file = BOOSTERS[name][1]
    _save(model, package, str(ROOT / "model" / file))
    data.write(ROOT / "model" / "signature.json", signature(package, file, rows, classes))
    score = "accuracy" if classifies else "r2"
    metrics = {"train_rows": len(rows.x), "train_score": float(model.score(rows.x, _numbered(labels, numbered)))}
    held = ROOT / "input" / "data" / "test"
    if held.is_dir() and any(held.iterdir()):
        test = Data.read(held, target)
        if test.x.shape[1:] != rows.x.shape[1:]:
            raise Refused(f"the test rows have {test.x.shape[1]} features, those trained on {rows.x.shape[1]}")
        held_labels = _numbered(test.labels(classifies=classifies), numbered)
        metrics |= {"test_rows": len(test.x), score: float(model.score(test.x, held_labels))}
    data.write(ROOT / "output" / "metrics.json", metrics)
    print(json.dumps(metrics, sort_keys=True))
    return None


def make_model(name: str, parameters: dict[str, Any]) -> tuple[Any, str]:
    """The estimator that is asked for, untrained, and its package. Raises Refused naming a parameter that can't be."""
    if name not in BOOSTERS:
        raise Refused(f"estimator {name!r} is not one of {', '.join((*BOOSTERS, *estimators.ESTIMATORS))}")
    package, _, kind = BOOSTERS[name][0].partition(".")
    seed = parameters.pop("seed", 0)
    if type(seed) is not int or not 0 <= seed < 2**31:
        raise Refused(f"seed is an integer from 0 to {2**31 - 1}, not {seed!r}")
    made = getattr(importlib.import_module(package), kind)
    known = set(inspect.signature(made.__init__).parameters) | set(made().get_params())
    fixed = {**FIXED[package], "random_state": seed}
    known -= {"self", "kwargs", "random_seed", "missing", *fixed}
    for unknown in sorted(set(parameters) - known):
        there = ", ".join(sorted(known))
        raise Refused(f"{name} has no parameter {unknown!r}; it has estimator, target, seed, {there}")
    try:
        return made(**parameters, **fixed), package
    except (ValueError, TypeError, *_errors(package)) as error:
        raise Refused(f"{name} can't be made with these parameters: {error}") from error


def signature(package: str, file: str, rows: Data, classes: np.ndarray | None) -> dict[str, Any]:
    """What the model takes and gives; null is the number of rows."""
    return {
        "framework": package,
        "framework_version": importlib.import_module(package).__version__,
        "model": file,
        "inputs": [{"name": "X", "dtype": "float64", "shape": [None, int(rows.x.shape[1])]}],
        "classes": None if classes is None else classes.tolist(),
        "features": rows.names,
        "target": rows.target,
    }


def _numbered(labels: np.ndarray, classes: np.ndarray | None) -> np.ndarray:
    """Classes as their positions: what XGBoost takes, and what the files of XGBoost and LightGBM know of classes."""
    if classes is None:
        return labels
    unknown = np.setdiff1d(labels, classes)
    if len(unknown):
        raise Refused(f"the test rows have the label {unknown[0]!r}, which the training rows have not")
    return np.searchsorted(classes, labels)


def _save(model: Any, package: str, path: str) -> None:
    if package == "lightgbm":
        model.booster_.save_model(path)
        return
    if package == "catboost":
        for name in ("model_guid", "train_finish_time"):  # else each training would give other bytes
            model.get_metadata()[name] = ""
    model.save_model(path)


def _errors(package: str) -> tuple[type[Exception], ...]:
    module = importlib.import_module(package)
    where = {"xgboost": ("core", "XGBoostError"), "lightgbm": ("basic", "LightGBMError")}
    inside, name = where.get(package, ("core", "CatBoostError"))
    return (getattr(getattr(module, inside), name),)


if __name__ == "__main__":
    data.main(train)
