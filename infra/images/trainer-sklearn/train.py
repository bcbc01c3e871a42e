"""Trains a scikit-learn model: the trainer used when no source is given.

Reads the channel train (and test, for the accuracy): CSV files with a target column, .npz files with X and y, or
folders <label>/<file>.npy or .csv with one sample each. Parameters: `estimator` (see ESTIMATORS), `target` (a column,
default the last), `scale` (standardise first, default true where it matters), `seed` (default 0), and any of the
estimator's own, checked by its own rules. Writes model.skops, signature.json and metrics.json; the same inputs give the
same bytes.
"""

from __future__ import annotations

import csv
import importlib
import io
import json
import math
import os
import sys
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import sklearn
import skops.io
from sklearn.base import BaseEstimator, is_classifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

ROOT = Path("/opt/ml")
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


class Refused(Exception):
    """Something is wrong with the data or the parameters; the message says what, and what to do."""


def main() -> int:
    """Train; a refusal is told in /opt/ml/output/failure."""
    try:
        train()
    except Refused as error:
        (ROOT / "output" / "failure").write_text(str(error), "utf-8")
        print(error, file=sys.stderr)
        return 1
    return 0


def train() -> None:
    parameters = read_parameters(ROOT / "input" / "config" / "hyperparameters.json")
    target = parameters.pop("target", None)
    model, name = make_model(parameters)
    data = Data.read(ROOT / "input" / "data" / "train", target)
    y = data.labels(classifies=is_classifier(model))
    print(f"training {name} on {len(data.x)} rows of {data.x.shape[1]} features")
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        try:
            model.fit(data.x, y)
        except ValueError as error:
            raise Refused(f"{name} can't be trained on these data with these parameters: {error}") from error
    (ROOT / "model" / "model.skops").write_bytes(canonical(skops.io.dumps(model)))
    write(ROOT / "model" / "signature.json", signature(model, data))
    metrics = {"train_rows": len(data.x), "train_score": float(model.score(data.x, y))}
    held = ROOT / "input" / "data" / "test"
    if held.is_dir() and any(held.iterdir()):
        test = Data.read(held, target)
        if test.x.shape[1:] != data.x.shape[1:]:
            raise Refused(f"the test rows have {test.x.shape[1]} features, those trained on {data.x.shape[1]}")
        score = float(model.score(test.x, test.labels(classifies=is_classifier(model))))
        metrics |= {"test_rows": len(test.x), "accuracy" if is_classifier(model) else "r2": score}
    write(ROOT / "output" / "metrics.json", metrics)
    print(json.dumps(metrics, sort_keys=True))


def read_parameters(path: Path) -> dict[str, Any]:
    """hyperparameters.json: all values are strings, as SageMaker writes them; JSON in them is read."""
    found = {}
    for name, text in json.loads(path.read_text("utf-8")).items():
        try:
            found[name] = json.loads(text) if isinstance(text, str) else text
        except ValueError:
            found[name] = text
    return found


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


class Data:
    """Rows of numbers and what they are labelled with."""

    def __init__(self, x: np.ndarray, y: list[Any], names: list[str] | None, target: str | None) -> None:
        self.x, self.y, self.names, self.target = x, y, names, target

    def labels(self, *, classifies: bool) -> np.ndarray:
        """Integers where all are; numbers for a regressor; else strings."""
        texts = [str(label) for label in self.y]
        try:
            numbers = np.array([float(text) for text in texts])
        except ValueError:
            if not classifies:
                raise Refused("a regressor needs a target of numbers; choose a classifier, or another target") from None
            return np.array(texts)
        if classifies and np.all(numbers == np.floor(numbers)) and np.all(np.abs(numbers) < 2**53):
            return numbers.astype(np.int64)
        return np.array(texts) if classifies else numbers

    @classmethod
    def read(cls, folder: Path, target: Any) -> Data:
        """All files of a channel together. Raises Refused naming the file that can't be read."""
        files = (
            sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "dataset.json")
            if folder.is_dir()
            else []
        )
        parts = []
        for path in files:
            kind = path.suffix.lower()
            label = path.parent.name if path.parent != folder else None
            try:
                if kind == ".npz":
                    parts.append(_from_npz(path))
                elif kind == ".npy" and label is not None:
                    parts.append((np.load(path, allow_pickle=False).reshape(1, -1), [label], None, None))
                elif kind == ".csv" and label is not None:
                    parts.append((_numbers(_rows(path)).reshape(1, -1), [label], None, None))
                elif kind == ".csv":
                    parts.append(_from_csv(path, target))
            except (OSError, ValueError) as error:
                raise Refused(f"{path.relative_to(folder)} can't be read: {error}") from error
        if not parts:
            raise Refused(
                f"channel {folder.name} has no data this trainer reads: .csv with a target column, .npz with X, y or "
                "<label>/<file>.npy or .csv. Give a --source for other data"
            )
        widths = {part[0].shape[1] for part in parts}
        if len(widths) > 1:
            raise Refused(f"the files have different numbers of features: {sorted(widths)}")
        x = np.concatenate([part[0] for part in parts]).astype(np.float64)
        return cls(x, [label for part in parts for label in part[1]], parts[0][2], parts[0][3])


def _from_npz(path: Path) -> tuple[np.ndarray, list[Any], None, None]:
    with np.load(path, allow_pickle=False) as arrays:
        if "X" not in arrays or "y" not in arrays:
            raise Refused(f"{path.name} has {', '.join(arrays.files)}: it needs X and y")
        x, y = arrays["X"], arrays["y"]
    if len(x) != len(y) or not len(x):
        raise Refused(f"{path.name}: X has {len(x)} rows and y {len(y)}")
    return x.reshape(len(x), -1), y.tolist(), None, None


def _from_csv(path: Path, target: Any) -> tuple[np.ndarray, list[Any], list[str] | None, str | None]:
    rows = _rows(path)
    headed = not all(_is_number(cell) for cell in rows[0])
    header = [cell.strip() for cell in rows.pop(0)] if headed else [str(i) for i in range(len(rows[0]))]
    if not rows:
        raise Refused(f"{path.name} has a header and no rows")
    column = header.index(str(target)) if target is not None and str(target) in header else len(header) - 1
    if target is not None and str(target) not in header:
        raise Refused(f"{path.name} has no column {target!r}; it has {', '.join(header)[:500]}")
    if any(len(row) != len(header) for row in rows):
        raise Refused(f"{path.name}: not all rows have {len(header)} cells")
    x = _numbers([[cell for i, cell in enumerate(row) if i != column] for row in rows])
    names = [name for i, name in enumerate(header) if i != column] if headed else None
    return x, [row[column].strip() for row in rows], names, header[column] if headed else None


def _rows(path: Path) -> list[list[str]]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = [row for row in csv.reader(file) if row]
    if not rows:
        raise Refused(f"{path.name} is empty")
    return rows


def _numbers(rows: list[list[str]]) -> np.ndarray:
    return np.array([[float(cell) if cell.strip() else math.nan for cell in row] for row in rows])


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return not cell.strip()
    return True


def signature(model: Any, data: Data) -> dict[str, Any]:
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
        "inputs": [{"name": "X", "dtype": "float64", "shape": [None, int(data.x.shape[1])]}],
        "outputs": outputs,
        "classes": classes,
        "features": data.names,
        "target": data.target,
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


def write(path: Path, document: dict[str, Any]) -> None:
    path.write_text(json.dumps(document, sort_keys=True, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    os.umask(0o022)
    sys.exit(main())
