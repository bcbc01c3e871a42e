"""LightGBM: its model files and estimators, as trees."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import forest
import lightgbm
import numpy as np
from forest import Columns, Forest, Made, chain, tree_of
from harness import Unsupported

NAME, VERSION = "LightGBM", lightgbm.__version__

_LINKS = {
    "binary": "binary",
    "multiclass": "softmax",
    "multiclassova": "one against all",
    "cross_entropy": "sigmoid",
    "cross_entropy_lambda": "log of one and exp",
    **dict.fromkeys(("poisson", "gamma", "tweedie"), "exp"),
    **dict.fromkeys(
        (
            "regression", "regression_l1", "huber", "fair", "quantile", "mape", "lambdarank", "rank_xendcg", "custom",
        ),
        "identity",
    ),
}  # fmt: skip
_CATEGORICAL, _DEFAULT_LEFT = 1, 2  # bits of decision_type; the two above say what counts as missing
_NO_MISSING, _ZERO, _NAN = 0, 1, 2


def read(path: Path) -> lightgbm.Booster:
    return lightgbm.Booster(model_file=str(path))


def inner(estimator: Any) -> lightgbm.Booster:
    return estimator.booster_


def made(booster: lightgbm.Booster, classes: list[Any], dtype: str, opset: int) -> Made:
    """The booster as ONNX, its features of `dtype`. Raises Unsupported."""
    return forest.made(trees(booster, classes), dtype, opset)


def trees(booster: lightgbm.Booster, classes: list[Any]) -> Forest:
    best = booster.best_iteration if booster.best_iteration and booster.best_iteration > 0 else -1
    head, *blocks = re.split(
        r"\n(?=Tree=\d)", booster.model_to_string(num_iteration=best).partition("\nend of trees")[0]
    )
    said = _fields(head)
    objective, *settings = said.get("objective", "custom").split()
    if objective not in _LINKS:
        raise Unsupported(f"LightGBM's objective {objective!r} is not translated: {', '.join(_LINKS)} are")
    link, factor = _LINKS[objective], 1.0
    if "sqrt" in settings:
        link = "signed square"
    for one in settings:
        if one.startswith("sigmoid:"):
            factor = float(one.removeprefix("sigmoid:"))
    targets = int(said["num_tree_per_iteration"])
    if any(line == "average_output" for line in head.splitlines()):
        factor *= targets / max(1, len(blocks))
    whole: dict[int, str] = {}
    zeros: set[int] = set()
    found = [_tree(_fields(block), number % targets, whole, zeros) for number, block in enumerate(blocks)]
    if link in forest.CLASSES:
        classes = classes or list(range(max(2, targets)))
    return Forest(
        found, int(said["max_feature_idx"]) + 1, "BRANCH_LEQ", "float64", np.zeros(targets), link, factor, classes,
        whole, sorted(zeros),
    )  # fmt: skip


def answer(booster: lightgbm.Booster, classes: list[Any]) -> Any:
    """The native answers of a model file."""
    made = trees(booster, classes)

    def answers(x: np.ndarray) -> dict[str, Any]:
        found = np.asarray(booster.predict(x, num_threads=1))
        if made.link == "binary":
            found = np.stack([1 - found, found], axis=1)
        if made.link in forest.CLASSES:
            return {"label": np.array(made.classes)[found.argmax(axis=1)], "probabilities": found}
        return {"prediction": found}

    return answers


def _fields(text: str) -> dict[str, str]:
    return dict(line.partition("=")[::2] for line in text.splitlines() if "=" in line)


def _tree(said: dict[str, str], target: int, whole: dict[int, str], zeros: set[int]) -> Any:
    if said.get("is_linear", "0") != "0":
        raise Unsupported("trees with linear models in their leaves are not translated: train with linear_tree=false")
    leaves = [float(value) for value in said["leaf_value"].split()]
    inner = int(said["num_leaves"]) - 1
    kinds, thresholds = _integers(said, "decision_type"), [float(v) for v in said.get("threshold", "").split()]
    features = _integers(said, "split_feature")
    true, false = (
        [child if child >= 0 else inner + ~child for child in _integers(said, side)]
        for side in ("left_child", "right_child")
    )
    ends = [0] * len(leaves)
    columns: Columns = {
        "feature": features + [-1] * len(leaves),
        "equal": [False] * (inner + len(leaves)),
        "value": thresholds + leaves,
        "true": true + ends,
        "false": false + ends,
        "missing": [_missing(kind, value) for kind, value in zip(kinds, thresholds, strict=True)]
        + [False] * len(leaves),
    }
    borders, bits = _integers(said, "cat_boundaries"), _integers(said, "cat_threshold")
    for node, kind in enumerate(kinds):
        if kind & _CATEGORICAL:
            whole[features[node]] = "Trunc"
            at = int(thresholds[node])
            words = bits[borders[at] : borders[at + 1]]
            members = [32 * i + bit for i, word in enumerate(words) for bit in range(32) if word >> bit & 1]
            chain(columns, node, members, hit=true[node], miss=false[node], missing_hits=False)
        elif kind >> 2 & 3 == _ZERO:
            zeros.add(features[node])
    return tree_of(columns, target)


def _missing(kind: int, threshold: float) -> bool:
    """Whether NaN goes left. Where training saw no missing value, LightGBM takes NaN for zero."""
    return threshold >= 0.0 if kind >> 2 & 3 == _NO_MISSING else bool(kind & _DEFAULT_LEFT)


def _integers(said: dict[str, str], name: str) -> list[int]:
    return [int(value) for value in said.get(name, "").split()]
