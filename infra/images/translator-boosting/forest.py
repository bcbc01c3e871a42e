"""Boosted trees as ONNX: one TreeEnsembleRegressor sums their leaves, a link makes the sums the model's answers.

onnxmltools 1.16.0 is not used: it converts some objectives of XGBoost to other functions (reg:logistic, binary:hinge),
DART boosters and named features not at all, and rounds LightGBM's thresholds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from harness import Unsupported
from onnx import TensorProto, helper, numpy_helper

VERSION = "1"  # of what is done here, for certificates
TREES = 3  # the version of ai.onnx.ml, which has float64 thresholds
ZERO = float(np.float32(1e-35))  # LightGBM takes what is not further from zero for zero


Columns = dict[str, list[Any]]  # a tree in the making: the fields of Tree but the last


@dataclass
class Tree:
    """Nodes by index, the root first. A node with a feature goes on at `true` where its comparison with `value` holds,
    else at `false`; one without (−1) is a leaf and gives `value`."""

    feature: np.ndarray
    equal: np.ndarray  # compares by ==, not by the forest's order
    value: np.ndarray
    true: np.ndarray
    false: np.ndarray
    missing: np.ndarray  # a missing value goes on at `true`
    target: int = 0


@dataclass
class Made:
    """A booster as ONNX: a model of input `features` [rows, features], and what the signature says of it."""

    model: onnx.ModelProto
    outputs: list[dict[str, str]]
    classes: list[Any]
    ranges: list[list[float]]  # of each feature
    converter: tuple[str, str]  # its name and version


@dataclass
class Forest:
    """The trees of a booster. `link` is a key of LINKS."""

    trees: list[Tree]
    width: int  # features
    order: str  # BRANCH_LT or BRANCH_LEQ
    dtype: str  # in which the native model compares: float32 or float64
    base: np.ndarray  # of each target
    link: str
    factor: float = 1.0  # of the sums, before the link
    classes: list[Any] = field(default_factory=list)
    whole: dict[int, str] = field(default_factory=dict)  # categorical columns: how numbers are cut, Floor or Trunc
    zeros: list[int] = field(default_factory=list)  # columns where zero is a missing value


def made(forest: Forest, dtype: str, opset: int) -> Made:
    """The forest as ONNX, its features of `dtype`. Raises Unsupported."""
    for tree in forest.trees:
        _check(tree, forest.width)
    inner = [(tree.feature[tree.feature >= 0], tree.value[tree.feature >= 0]) for tree in forest.trees]
    graph, outputs = _graph(forest, dtype, opset), outputs_of(forest.link in CLASSES)
    return Made(graph, outputs, forest.classes, ranges(forest.width, inner), ("polyshare", VERSION))


def _check(tree: Tree, width: int) -> None:
    """Raises Unsupported if the nodes are no tree. Nodes of one set of categories share where they lead."""
    inner = tree.feature >= 0
    leads = np.concatenate([tree.true[inner], tree.false[inner]])
    if (leads <= 0).any() or (leads >= len(inner)).any() or (tree.feature >= width).any():
        raise Unsupported("the model's trees are damaged: a node leads to none, or splits by a feature that is none")
    depth, level = 0, np.array([0])
    while len(level):
        level = np.unique(np.concatenate([side[level[inner[level]]] for side in (tree.true, tree.false)]))
        depth += 1
        if depth > len(inner):
            raise Unsupported("the model's trees are damaged: a node leads back to itself")


def outputs_of(classifies: bool) -> list[dict[str, str]]:
    if classifies:
        return [
            {"name": "label", "role": "label", "method": "predict"},
            {"name": "probabilities", "role": "scores", "method": "predict_proba"},
        ]
    return [{"name": "prediction", "role": "values", "method": "predict"}]


def ranges(width: int, splits: list[tuple[np.ndarray, np.ndarray]]) -> list[list[float]]:
    """Where the thresholds of each feature lie, and some way beyond: inputs are made there. `splits` are features and
    thresholds of trees."""
    low, high = np.full(width, np.inf), np.full(width, -np.inf)
    for features, thresholds in splits:
        np.minimum.at(low, features, thresholds)
        np.maximum.at(high, features, thresholds)
    used = np.isfinite(low) & np.isfinite(high)
    low, high = np.where(used, low, 0.0), np.where(used, high, 0.0)
    beyond = np.where(high > low, (high - low) * 0.2, np.maximum(1.0, np.abs(high) * 0.2))
    return [[float(a), float(b)] for a, b in zip(low - beyond, high + beyond, strict=True)]


def chain(
    tree: dict[str, list[Any]], node: int, members: list[int], *, hit: int, miss: int, missing_hits: bool
) -> None:
    """Make `node` a chain of comparisons with each member of a set: `hit` where one holds, `miss` where none does."""
    last = len(members) - 1
    for at, member in enumerate(members):
        following = len(tree["feature"]) if at < last else miss
        values = {
            "feature": tree["feature"][node], "equal": True, "value": float(member), "true": hit, "false": following,
            "missing": missing_hits,
        }  # fmt: skip
        for name, value in values.items():
            tree[name][node] = value
        if at < last:
            node = following
            for name, value in values.items():
                tree[name].append(value)


def tree_of(columns: Columns, target: int) -> Tree:
    kinds = {"feature": int, "equal": bool, "value": float, "true": int, "false": int, "missing": bool}
    return Tree(**{name: np.array(columns[name], dtype=kind) for name, kind in kinds.items()}, target=target)


def _graph(forest: Forest, dtype: str, opset: int) -> onnx.ModelProto:
    if not forest.trees:
        raise Unsupported("the model has no trees: train it for at least one round")
    if forest.link in CLASSES and len(forest.classes) != max(2, len(forest.base)):
        raise Unsupported(
            f"signature.json lists {len(forest.classes)} classes, the model has {max(2, len(forest.base))}: list "
            "them all in order, or leave them out"
        )
    build = _Builder()
    kind = TensorProto.DOUBLE if dtype == "float64" else TensorProto.FLOAT
    source = build.columns(forest, dtype)
    sums = build.node("TreeEnsembleRegressor", source, domain="ai.onnx.ml", **_attributes(forest, dtype))
    if forest.factor != 1.0:
        sums = build.node("Mul", sums, build.constant(np.float32(forest.factor)))
    LINKS[forest.link](build, sums, forest.classes)
    value = helper.make_tensor_value_info
    if forest.link in CLASSES:
        label = TensorProto.STRING if isinstance(forest.classes[0], str) else TensorProto.INT64
        results = [value("label", label, [None])]
        results.append(value("probabilities", TensorProto.FLOAT, [None, len(forest.classes)]))
    else:
        results = [value("prediction", TensorProto.FLOAT, [None, len(forest.base)])]
    given = [value("features", kind, [None, forest.width])]
    graph = helper.make_graph(build.nodes, "forest", given, results, build.constants)
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("ai.onnx.ml", TREES)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def _attributes(forest: Forest, dtype: str) -> dict[str, Any]:
    """The attributes of TreeEnsembleRegressor. In float32, thresholds of a model that compares float64 are moved to the
    neighbour that decides the same for every float32 value."""
    columns: Columns = {
        name: []
        for name in (
            "nodes_treeids", "nodes_nodeids", "nodes_featureids", "nodes_modes", "nodes_truenodeids",
            "nodes_falsenodeids", "nodes_missing_value_tracks_true", "target_treeids", "target_nodeids", "target_ids",
        )
    }  # fmt: skip
    values, weights = [], []
    for number, tree in enumerate(forest.trees):
        inner = tree.feature >= 0
        leaves = np.flatnonzero(~inner)
        columns["nodes_treeids"] += [number] * len(inner)
        columns["nodes_nodeids"] += range(len(inner))
        columns["nodes_featureids"] += np.where(inner, tree.feature, 0).tolist()
        modes = np.where(inner, np.where(tree.equal, "BRANCH_EQ", forest.order), "LEAF")
        columns["nodes_modes"] += modes.tolist()
        columns["nodes_truenodeids"] += np.where(inner, tree.true, 0).tolist()
        columns["nodes_falsenodeids"] += np.where(inner, tree.false, 0).tolist()
        columns["nodes_missing_value_tracks_true"] += (tree.missing & inner).astype(int).tolist()
        columns["target_treeids"] += [number] * len(leaves)
        columns["target_nodeids"] += leaves.tolist()
        columns["target_ids"] += [tree.target] * len(leaves)
        values.append(np.where(inner, tree.value, 0.0))
        weights.append(tree.value[leaves])
    thresholds = np.concatenate(values)
    numbers = {
        "nodes_values": thresholds if dtype == "float64" else _single(thresholds, forest.order),
        "target_weights": np.concatenate(weights), "base_values": forest.base,
    }  # fmt: skip
    for name, array in numbers.items():
        if dtype == "float64":
            columns[f"{name}_as_tensor"] = numpy_helper.from_array(array.astype(np.float64))  # type: ignore[assignment]
        else:
            columns[name] = array.astype(np.float32).tolist()
    return {**columns, "n_targets": len(forest.base), "aggregate_function": "SUM", "post_transform": "NONE"}


def _single(thresholds: np.ndarray, order: str) -> np.ndarray:
    """x ≤ t holds for the same float32 x with t rounded down, x < t with t rounded up."""
    near = thresholds.astype(np.float32)
    if order == "BRANCH_LEQ":
        return np.where(near > thresholds, np.nextafter(near, np.float32(-np.inf)), near)
    return np.where(near < thresholds, np.nextafter(near, np.float32(np.inf)), near)


class _Builder:
    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[TensorProto] = []

    def node(self, kind: str, *inputs: str, to: str = "", domain: str = "", **attributes: Any) -> str:
        name = to or f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], domain=domain, **attributes))
        return name

    def constant(self, value: Any) -> str:
        array = np.asarray(value)
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(array.astype(object) if array.dtype.kind == "U" else array, name))
        return name

    def columns(self, forest: Forest, dtype: str) -> str:
        """The features as the trees compare them: categories cut to whole numbers, zeros that are missing made NaN."""
        source = "features"
        for cut in ("Floor", "Trunc"):
            chosen = np.isin(np.arange(forest.width), [i for i, how in forest.whole.items() if how == cut])
            if chosen.any():
                whole = self.node("Floor", source if cut == "Floor" else self.node("Abs", source))
                if cut == "Trunc":
                    whole = self.node("Mul", self.node("Sign", source), whole)
                source = self.node("Where", self.constant(chosen), whole, source)
        if forest.zeros:
            chosen = np.isin(np.arange(forest.width), forest.zeros)
            small = self.node("LessOrEqual", self.node("Abs", source), self.constant(np.array(ZERO, dtype=dtype)))
            hit = self.node("And", small, self.constant(chosen))
            source = self.node("Where", hit, self.constant(np.array(np.nan, dtype=dtype)), source)
        return source


def _labelled(build: _Builder, probabilities: str, classes: list[Any]) -> None:
    index = build.node("ArgMax", probabilities, axis=1, keepdims=0)
    known = np.array(classes) if isinstance(classes[0], str) else np.array(classes, dtype=np.int64)
    build.node("Gather", build.constant(known), index, to="label", axis=0)


def _binary(build: _Builder, sums: str, classes: list[Any]) -> None:
    second = build.node("Sigmoid", sums)
    first = build.node("Sub", build.constant(np.float32(1)), second)
    _labelled(build, build.node("Concat", first, second, to="probabilities", axis=1), classes)


def _softmax(build: _Builder, sums: str, classes: list[Any]) -> None:
    _labelled(build, build.node("Softmax", sums, to="probabilities", axis=1), classes)


def _one_against_all(build: _Builder, sums: str, classes: list[Any]) -> None:
    _labelled(build, build.node("Sigmoid", sums, to="probabilities"), classes)


def _plain(*kinds: str) -> Callable[[_Builder, str, list[Any]], None]:
    def link(build: _Builder, sums: str, _: list[Any]) -> None:
        for kind in kinds[:-1]:
            sums = build.node(kind, sums)
        build.node(kinds[-1], sums, to="prediction")

    return link


def _step(build: _Builder, sums: str, _: list[Any]) -> None:
    above = build.node("Greater", sums, build.constant(np.float32(0)))
    build.nodes.append(helper.make_node("Cast", [above], ["prediction"], to=TensorProto.FLOAT))


def _signed_square(build: _Builder, sums: str, _: list[Any]) -> None:
    build.node("Mul", build.node("Abs", sums), sums, to="prediction")


CLASSES = {"binary": _binary, "softmax": _softmax, "one against all": _one_against_all}
LINKS: dict[str, Callable[[_Builder, str, list[Any]], None]] = {
    **CLASSES,
    "identity": _plain("Identity"),
    "exp": _plain("Exp"),
    "sigmoid": _plain("Sigmoid"),
    "log of one and exp": _plain("Softplus"),
    "signed square": _signed_square,
    "step": _step,
}
