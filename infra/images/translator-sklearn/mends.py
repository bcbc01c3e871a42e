"""Mends what skl2onnx 1.20.0 gets wrong: found by the certificate, each with a test that fails without it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from skl2onnx.operator_converters import decision_tree, gradient_boosting, isolation_forest, random_forest

SINGLE = ("SVMRegressor", "TreeEnsembleRegressor", "TreeEnsembleClassifier")
_HIST: list[tuple[dict[str, list[Any]], list[float]]] = []  # attributes of a node in the making, its thresholds
LOCALE = "C.UTF-8"  # in every glibc since 2.35; ONNX Runtime's default, en_US, often is not installed


def trees() -> None:
    """Makes the converters of trees exact.

    scikit-learn's trees compare float32 values with float64 thresholds: rounding a threshold down decides the same for
    every float32 value, rounding it to the nearest does not. They send a missing value where training found it best or
    most rows went; skl2onnx says so for HistGradientBoosting alone. That one compares in float64: its thresholds are
    kept for `types`.
    """
    for module in (decision_tree, gradient_boosting, isolation_forest, random_forest):
        if not hasattr(module.add_tree_to_attribute_pairs, "mended"):
            module.add_tree_to_attribute_pairs = _exact(module.add_tree_to_attribute_pairs)
    plain = random_forest.add_tree_to_attribute_pairs_hist_gradient_boosting
    if not hasattr(plain, "mended"):
        random_forest.add_tree_to_attribute_pairs_hist_gradient_boosting = _recorded(plain)


def _exact(plain: Callable[..., None]) -> Callable[..., None]:
    def mended(attrs: dict[str, list[Any]], is_classifier: bool, tree: Any, *args: Any, **named: Any) -> None:
        start = len(attrs["nodes_values"])
        plain(attrs, is_classifier, tree, *args, **named)
        inner = tree.children_left >= 0
        attrs["nodes_values"][start:] = _rounded_down(np.where(inner, tree.threshold, 0))
        directions = getattr(tree, "missing_go_to_left", None)
        if directions is not None:
            attrs["nodes_missing_value_tracks_true"][start:] = [int(d) for d in directions.astype(bool) & inner]

    mended.mended = True  # type: ignore[attr-defined]
    return mended


def _recorded(plain: Callable[..., None]) -> Callable[..., None]:
    def mended(attrs: dict[str, list[Any]], *args: Any, **named: Any) -> None:
        start = len(attrs["nodes_values"])
        plain(attrs, *args, **named)
        if named.get("dtype") is not np.float64:
            attrs["nodes_values"][start:] = _rounded_down(np.array(attrs["nodes_values"][start:]))
            return
        if not any(one is attrs for one, _ in _HIST):
            _HIST.append((attrs, []))
        kept = next(values for one, values in _HIST if one is attrs)
        kept[:] = [float(value) for value in attrs["nodes_values"]]

    mended.mended = True  # type: ignore[attr-defined]
    return mended


def _rounded_down(thresholds: np.ndarray) -> list[float]:
    """Each threshold as the largest float32 that is not above it."""
    below = thresholds.astype(np.float32)
    return [float(v) for v in np.where(below > thresholds, np.nextafter(below, np.float32(-np.inf)), below)]


def opset(model: onnx.ModelProto, version: int) -> None:
    """States the operator set that was asked for: skl2onnx chose each operator by it and then states an older one."""
    for one in model.opset_import:
        if one.domain in ("", "ai.onnx"):
            one.version = version


def locale(model: onnx.ModelProto) -> None:
    """Lower-casing of text asks for a locale that machines have."""
    for node in model.graph.node:
        if node.op_type == "StringNormalizer":
            kept = [attribute for attribute in node.attribute if attribute.name != "locale"]
            del node.attribute[:]
            node.attribute.extend([*kept, helper.make_attribute("locale", LOCALE)])


def types(model: onnx.ModelProto) -> None:
    """Mends float64 graphs: trees get the type that scikit-learn compares in (float32, or float64 thresholds for
    HistGradientBoosting), SVMRegressor the float32 that ONNX Runtime has; all give float32, whatever was declared."""
    if not any(v.type.tensor_type.elem_type == TensorProto.DOUBLE for v in model.graph.input):
        return
    declared = {v.name: v.type.tensor_type.elem_type for v in (*model.graph.output, *model.graph.value_info)}
    for node in model.graph.node:
        if node.op_type == "Identity" and declared.get(node.output[0]) == TensorProto.DOUBLE:
            declared[node.input[0]] = TensorProto.DOUBLE
    nodes = []
    for count, node in enumerate(model.graph.node):
        before, after = [], []
        if node.op_type in SINGLE:
            if _widen(node):
                for opset in model.opset_import:
                    opset.version = max(3, opset.version) if opset.domain == "ai.onnx.ml" else opset.version
            else:
                before.append(helper.make_node("Cast", [node.input[0]], [f"narrow_{count}"], to=TensorProto.FLOAT))
                node.input[0] = f"narrow_{count}"
            last = node.output[-1]
            if declared.get(last) == TensorProto.DOUBLE:
                after.append(helper.make_node("Cast", [f"wide_{count}"], [last], to=TensorProto.DOUBLE))
                node.output[len(node.output) - 1] = f"wide_{count}"
        nodes += [*before, node, *after]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    del model.graph.value_info[:]


def _widen(node: onnx.NodeProto) -> bool:
    """Give a node of HistGradientBoosting its float64 thresholds, as tensors; False if it is another's."""
    attributes = {one.name: one for one in node.attribute}
    values = np.array(attributes["nodes_values"].floats) if "nodes_values" in attributes else np.zeros(0)
    for _, kept in _HIST:
        if len(kept) == len(values) and np.array_equal(np.float32(kept), np.float32(values), equal_nan=True):
            break
    else:
        return False
    for name in ("nodes_values", "nodes_hitrates", "class_weights", "target_weights", "base_values"):
        if name in attributes:
            numbers = np.array(kept if name == "nodes_values" else attributes[name].floats, dtype=np.float64)
            node.attribute.remove(attributes[name])
            node.attribute.append(helper.make_attribute(f"{name}_as_tensor", numpy_helper.from_array(numbers)))
    return True


def binary_support_vectors(model: onnx.ModelProto) -> None:
    """skl2onnx's decision of a two-class SVC has the sign of the wrong class."""
    for index, node in enumerate(model.graph.node):
        if node.op_type == "SVMClassifier":
            scores = node.output[1]
            node.output[1] = "before_sign"
            model.graph.node.insert(index + 1, helper.make_node("Neg", ["before_sign"], [scores]))
            return


def binary_scores(model: onnx.ModelProto) -> None:
    """Decision scores of two classes come in one or in two columns, whatever skl2onnx declares: leave it open."""
    for dim in model.graph.output[1].type.tensor_type.shape.dim[1:]:
        dim.Clear()
