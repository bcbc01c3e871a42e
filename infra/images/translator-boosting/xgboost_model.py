"""XGBoost: its model files and estimators, as trees."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import forest
import numpy as np
import xgboost
from forest import Columns, Forest, Made, chain, tree_of
from harness import Unsupported

NAME, VERSION = "XGBoost", xgboost.__version__

_LOGIT, _LOG = lambda p: np.log(p / (1 - p)), np.log
# objective → how sums become answers, and how the base score, which is kept as an answer, becomes a sum
_OBJECTIVES: dict[str, tuple[str, Any]] = {
    "binary:logistic": ("binary", _LOGIT),
    "binary:logitraw": ("identity", None),
    "binary:hinge": ("step", None),
    "multi:softprob": ("softmax", None),
    "multi:softmax": ("softmax", None),
    "reg:logistic": ("sigmoid", _LOGIT),
    "count:poisson": ("exp", _LOG),
    "reg:gamma": ("exp", _LOG),
    "reg:tweedie": ("exp", _LOG),
    "survival:cox": ("exp", _LOG),
    "survival:aft": ("exp", _LOG),
    **dict.fromkeys(
        (
            "reg:squarederror", "reg:linear", "reg:squaredlogerror", "reg:pseudohubererror", "reg:absoluteerror",
            "reg:quantileerror", "rank:pairwise", "rank:ndcg", "rank:map",
        ),
        ("identity", None),
    ),
}  # fmt: skip


def read(path: Path) -> xgboost.Booster:
    return xgboost.Booster({"nthread": 1}, model_file=str(path))


def inner(estimator: Any) -> xgboost.Booster:
    """The booster that a scikit-learn estimator of XGBoost predicts with."""
    missing = estimator.get_params().get("missing", np.nan)
    if missing is not None and not np.isnan(missing):
        raise Unsupported(f"the estimator takes {missing} for a missing value: make it NaN in your data")
    booster = estimator.get_booster()
    try:
        return booster[: estimator.best_iteration + 1]
    except AttributeError:  # trained without early stopping
        return booster


def made(booster: xgboost.Booster, classes: list[Any], dtype: str, opset: int) -> Made:
    """The booster as ONNX, its features of `dtype`. Raises Unsupported."""
    return forest.made(trees(booster, classes), dtype, opset)


def trees(booster: xgboost.Booster, classes: list[Any]) -> Forest:
    learner = json.loads(bytes(booster.save_raw("json")))["learner"]
    objective = learner["objective"]["name"]
    if objective not in _OBJECTIVES:
        raise Unsupported(f"XGBoost's objective {objective!r} is not translated: {', '.join(_OBJECTIVES)} are")
    link, to_sum = _OBJECTIVES[objective]
    gradient = learner["gradient_booster"]
    if gradient["name"] not in ("gbtree", "dart"):
        raise Unsupported(f"XGBoost's booster {gradient['name']!r} is not translated: gbtree and dart are")
    drops = gradient.get("weight_drop")
    model = (gradient["gbtree"] if drops else gradient)["model"]
    if model.get("cats", {}).get("enc"):
        raise Unsupported("the model knows its categories by name: train it on their numbers (integers from 0)")
    shape = learner["learner_model_param"]
    targets = max(1, int(shape["num_class"]), int(shape["num_target"]))
    base = np.array(json.loads(shape["base_score"]), dtype=np.float32).reshape(-1)
    base = np.broadcast_to(base if to_sum is None else to_sum(base.astype(np.float64)), targets)
    whole: dict[int, str] = {}
    found = []
    for number, (tree, target) in enumerate(zip(model["trees"], model["tree_info"], strict=True)):
        found.append(_tree(tree, target, drops[number] if drops else 1.0, whole))
    if link in forest.CLASSES:
        classes = classes or list(range(max(2, targets)))
    return Forest(found, int(shape["num_feature"]), "BRANCH_LT", "float32", base, link, classes=classes, whole=whole)


def answer(booster: xgboost.Booster, classes: list[Any]) -> Any:
    """The native answers of a model file."""
    made = trees(booster, classes)
    booster.set_param({"nthread": 1})
    if made.link == "softmax":
        booster.set_param({"objective": "multi:softprob"})

    def answers(x: np.ndarray) -> dict[str, Any]:
        names, types = booster.feature_names, booster.feature_types
        given = xgboost.DMatrix(x, feature_names=names, feature_types=types, enable_categorical=True, nthread=1)
        found = booster.predict(given)
        if made.link == "binary":
            found = np.stack([1 - found, found], axis=1)
        if made.link in forest.CLASSES:
            return {"label": np.array(made.classes)[found.argmax(axis=1)], "probabilities": found}
        return {"prediction": found}

    return answers


def _tree(tree: dict[str, Any], target: int, weight: float, whole: dict[int, str]) -> Any:
    if int(tree["tree_param"]["size_leaf_vector"]) > 1:
        raise Unsupported("trees with a vector in each leaf are not translated: train with one_output_per_tree")
    left, right = tree["left_children"], tree["right_children"]
    leaf = [child < 0 for child in left]
    values = np.array(tree["split_conditions"], dtype=np.float32).astype(np.float64)
    values[leaf] = (values[leaf].astype(np.float32) * np.float32(weight)).astype(np.float64)
    columns: Columns = {
        "feature": [-1 if end else index for end, index in zip(leaf, tree["split_indices"], strict=True)],
        "equal": [False] * len(leaf),
        "value": values.tolist(),
        "true": list(left),
        "false": list(right),
        "missing": [bool(one) for one in tree["default_left"]],
    }
    starts = tree["categories_segments"]
    for node, start, size in zip(tree["categories_nodes"], starts, tree["categories_sizes"], strict=True):
        whole[columns["feature"][node]] = "Floor"
        goes_left = columns["missing"][node]
        chain(
            columns, node, tree["categories"][start : start + size], hit=right[node], miss=left[node],
            missing_hits=not goes_left,
        )  # fmt: skip
    return tree_of(columns, target)
