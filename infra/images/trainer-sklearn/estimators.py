"""Trains a scikit-learn model.

Reads the channel train (and test, for the accuracy): CSV files with a target column, .npz files with X and y, or
folders <label>/<file>.npy or .csv with one sample each. Parameters: `estimator` (see ESTIMATORS), `target` (a column,
default the last), `scale` (standardise first, default true where it matters), `seed` (default 0), and any of the
estimator's own, checked by its own rules. Writes model.skops, signature.json and metrics.json; the same inputs give the
same bytes.
"""

from __future__ import annotations

import importlib
import io
import json
import warnings
import zipfile
from pathlib import Path
from typing import Any

import data
import numpy as np
import sklearn
import skops.io
from data import ROOT, Data, Refused
from sklearn.base import BaseEstimator, is_classifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

# name → class, whether it is scaled unless told otherwise, what it gets unless told otherwise
ESTIMATORS: dict[str, tuple[str, bool, dict[str, Any]]] = {
    "logistic_regression": ("sklearn.linear_model.LogisticRegression", True, {"max_iter": 1000}),
    "random_forest": ("sklearn.ensemble.RandomForestClassifier", False, {}),
    "extra_trees": ("sklearn.ensemble.ExtraTreesClassifier", False, {}),
    "hist_gradient_boosting": ("sklearn.ensemble.HistGradientBoostingClassifier", False, {}),
    "gradient_boosting": ("sklearn.ensemble.GradientBoostingClassifier", False, {}),
    "decision_tree": ("sklearn.tree.DecisionTreeClassifier", False, {}),
    "mlp": ("sklearn.neural_network.MLPClassifier", True, {"max_iter": 500}),
    "svc": ("sklearn.svm.SVC", True, {}),
    "linear_svc": ("sklearn.svm.LinearSVC", True, {}),
    "k_neighbors": ("sklearn.neighbors.KNeighborsClassifier", True, {}),
    "gaussian_nb": ("sklearn.naive_bayes.GaussianNB", False, {}),
    "linear_regression": ("sklearn.linear_model.LinearRegression", True, {}),
    "ridge": ("sklearn.linear_model.Ridge", True, {}),
    "lasso": ("sklearn.linear_model.Lasso", True, {}),
    "random_forest_regressor": ("sklearn.ensemble.RandomForestRegressor", False, {}),
    "hist_gradient_boosting_regressor": ("sklearn.ensemble.HistGradientBoostingRegressor", False, {}),
    "mlp_regressor": ("sklearn.neural_network.MLPRegressor", True, {"max_iter": 500}),
    "svr": ("sklearn.svm.SVR", True, {}),
}
DEFAULT = "logistic_regression"


def train() -> None:
    parameters = data.parameters(ROOT / "input" / "config" / "hyperparameters.json")
    target = parameters.pop("target", None)
    model, name = make_model(parameters)
    rows = Data.read(ROOT / "input" / "data" / "train", target)
    y = rows.labels(classifies=is_classifier(model))
    print(f"training {name} on {len(rows.x)} rows of {rows.x.shape[1]} features")
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        try:
            model.fit(rows.x, y)
        except ValueError as error:
            raise Refused(f"{name} can't be trained on these data with these parameters: {error}") from error
    (ROOT / "model" / "model.skops").write_bytes(canonical(skops.io.dumps(model)))
    data.write(ROOT / "model" / "signature.json", signature(model, rows))
    metrics = {"train_rows": len(rows.x), "train_score": float(model.score(rows.x, y))}
    held = ROOT / "input" / "data" / "test"
    if held.is_dir() and any(held.iterdir()):
        test = Data.read(held, target)
        if test.x.shape[1:] != rows.x.shape[1:]:
            raise Refused(f"the test rows have {test.x.shape[1]} features, those trained on {rows.x.shape[1]}")
        score = float(model.score(test.x, test.labels(classifies=is_classifier(model))))
        metrics |= {"test_rows": len(test.x), "accuracy" if is_classifier(model) else "r2": score}
    data.write(ROOT / "output" / "metrics.json", metrics)
    print(json.dumps(metrics, sort_keys=True))


def make_model(parameters: dict[str, Any]) -> tuple[BaseEstimator, str]:
    """The estimator that the parameters ask for, untrained. Raises Refused naming a parameter that can't be."""
    name = parameters.pop("estimator", DEFAULT)
    if name not in ESTIMATORS:
        raise Refused(f"estimator {name!r} is not one of {', '.join(ESTIMATORS)}")
    path, scaled, defaults = ESTIMATORS[name]
    module, _, kind = path.rpartition(".")
    seed, scale = parameters.pop("seed", 0), parameters.pop("scale", scaled)
    if type(seed) is not int or not 0 <= seed < 2**32:
        raise Refused(f"seed is an integer from 0 to {2**32 - 1}, not {seed!r}")
    if type(scale) is not bool:
        raise Refused(f"scale is true or false, not {scale!r}")
    estimator = getattr(importlib.import_module(module), kind)()
    known = estimator.get_params(deep=False)
    fixed = {"random_state", "n_jobs", "verbose", "warm_start", "callback"}
    for unknown in sorted(set(parameters) - (set(known) - fixed)):
        there = ", ".join(sorted(set(known) - fixed))
        raise Refused(f"{name} has no parameter {unknown!r}; it has estimator, target, scale, seed, {there}")
    chosen = {**defaults, **{key: tuple(v) if isinstance(v, list) else v for key, v in parameters.items()}}
    if "random_state" in known:
        chosen["random_state"] = seed
    if "n_jobs" in known and name not in ("logistic_regression",):
        chosen["n_jobs"] = 1
    estimator.set_params(**chosen)
    try:
        estimator._validate_params()  # scikit-learn's own check of types and ranges, before the data are read
    except ValueError as error:
        raise Refused(str(error)) from error
    return (make_pipeline(StandardScaler(), estimator) if scale else estimator), name


def signature(model: Any, rows: Data) -> dict[str, Any]:
    """What the model takes and gives; null is the number of rows."""
    kind = np.asarray(getattr(model, "classes_", np.zeros(1))).dtype.kind
    label = "int64" if kind == "i" else "string" if kind == "U" else "float64"
    outputs = [{"name": "label" if is_classifier(model) else "prediction", "dtype": label, "shape": [None]}]
    classes = np.asarray(model.classes_).tolist() if is_classifier(model) else None
    if classes is not None and hasattr(model, "predict_proba"):
        outputs.append({"name": "probabilities", "dtype": "float64", "shape": [None, len(classes)]})
    return {
        "framework": "sklearn",
        "framework_version": sklearn.__version__,
        "model": "model.skops",
        "inputs": [{"name": "X", "dtype": "float64", "shape": [None, int(rows.x.shape[1])]}],
        "outputs": outputs,
        "classes": classes,
        "features": rows.names,
        "target": rows.target,
    }


def canonical(archive: bytes) -> bytes:
    """The same zip archive with fixed times, its schema's ids renumbered in order: skops writes times and addresses."""
    out = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(archive)) as old,
        zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as new,
    ):
        members = {name: old.read(name) for name in old.namelist()}
        schema = json.loads(members.pop("schema.json"))
        files = sorted(members, key=lambda name: name)
        renamed = _renumber(schema, files)
        members["schema.json"] = json.dumps(schema, sort_keys=True).encode()
        for name in sorted(members, key=lambda name: renamed.get(name, name)):
            info = zipfile.ZipInfo(renamed.get(name, name), (1980, 1, 1, 0, 0, 0))
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = 0o644 << 16
            new.writestr(info, members[name])
    return out.getvalue()


def _renumber(schema: Any, files: list[str]) -> dict[str, str]:
    """Give ids and file names by order of appearance, in place; returns old name → new name of the files."""
    ids: dict[Any, int] = {}
    names: dict[str, str] = {}

    def walk(node: Any) -> None:
        if isinstance(node, dict):
            for key in sorted(node):
                value = node[key]
                if key == "__id__" and isinstance(value, int):
                    node[key] = ids.setdefault(value, len(ids) + 1)
                elif key == "file" and isinstance(value, str) and value in files:
                    node[key] = names.setdefault(value, f"{len(names) + 1}{Path(value).suffix}")
                else:
                    walk(value)
        elif isinstance(node, list):
            for item in node:
                walk(item)

    walk(schema)
    return names
