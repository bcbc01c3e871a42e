"""CatBoost: its model files and estimators, through its own export to ONNX."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import catboost
import numpy as np
import onnx
from forest import TREES, Made, outputs_of, ranges
from harness import Unsupported
from onnx import helper

NAME, VERSION = "CatBoost", catboost.__version__

_EXPONENTS = ("Poisson", "Tweedie")  # losses whose answers are e to the sum
_SEVERAL = ("MultiLogloss", "MultiCrossEntropy", "MultiRMSE", "MultiRMSEWithMissingValues")


def read(path: Path) -> catboost.CatBoost:
    model = catboost.CatBoost()
    model.load_model(str(path))
    estimator = catboost.CatBoostClassifier() if len(model.classes_) else catboost.CatBoostRegressor()
    estimator.load_model(str(path))
    return estimator


def inner(estimator: catboost.CatBoost) -> catboost.CatBoost:
    return estimator


def made(model: catboost.CatBoost, _: list[Any], __: str, opset: int) -> Made:
    """The model as ONNX. Raises Unsupported."""
    graph, classes = _graph(model, opset), _classes(model)
    return Made(graph, outputs_of(bool(classes)), classes, _ranges(graph, model), ("catboost", VERSION))


def _classes(model: catboost.CatBoost) -> list[Any]:
    return [one.item() if isinstance(one, np.generic) else one for one in model.classes_]


def _ranges(graph: onnx.ModelProto, model: catboost.CatBoost) -> list[list[float]]:
    named = {attribute.name: attribute for attribute in graph.graph.node[0].attribute}
    inner = np.array([mode != b"LEAF" for mode in named["nodes_modes"].strings], dtype=bool)
    features, values = np.array(named["nodes_featureids"].ints), np.array(named["nodes_values"].floats)
    return ranges(len(model.feature_names_), [(features[inner], values[inner])])


def _graph(model: catboost.CatBoost, opset: int) -> onnx.ModelProto:
    """The model with input `features` (float32, [rows, features]) and its outputs."""
    for kind in ("cat", "text", "embedding"):
        indices = getattr(model, f"get_{kind}_feature_indices")()
        if indices:
            name = {"cat": "categorical"}.get(kind, kind)
            raise Unsupported(
                f"CatBoost does not export models with {name} features to ONNX (features {indices[:10]}): "
                "encode them as numbers before training, as in a pipeline of scikit-learn"
            )
    loss = str(model.get_all_params().get("loss_function", "")).partition(":")[0]
    if loss in _SEVERAL:
        raise Unsupported(f"models of several targets (loss {loss}) are not translated: train one for each")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        model.save_model(str(path), format="onnx")
        exported = onnx.load(path)
    nodes = [node for node in exported.graph.node if node.op_type != "ZipMap"]
    if len(nodes) != 1:
        raise Unsupported(f"CatBoost exported {[node.op_type for node in nodes]}, not one ensemble of trees")
    node, features, classes = nodes[0], len(model.feature_names_), _classes(model)
    given = [helper.make_tensor_value_info("features", onnx.TensorProto.FLOAT, [None, features])]
    node.input[0] = "features"
    all_nodes = [node]
    if classes:
        node.output[:] = ["label", "probabilities"]
        of = onnx.TensorProto.STRING if isinstance(classes[0], str) else onnx.TensorProto.INT64
        results = [
            helper.make_tensor_value_info("label", of, [None]),
            helper.make_tensor_value_info("probabilities", onnx.TensorProto.FLOAT, [None, len(classes)]),
        ]
    else:
        node.output[0] = "sums"
        all_nodes.append(helper.make_node("Exp" if loss in _EXPONENTS else "Identity", ["sums"], ["prediction"]))
        results = [helper.make_tensor_value_info("prediction", onnx.TensorProto.FLOAT, [None, 1])]
    graph = helper.make_graph(all_nodes, "catboost", given, results)
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("ai.onnx.ml", TREES)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)
