"""ONNX files for tests of runs: `hardware_models.py NAME FILE`, in the environment uv:verify."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

WEIGHTS = np.random.default_rng(0).standard_normal((8, 16)).astype(np.float32)
ROWS = helper.make_tensor_value_info("X", TensorProto.FLOAT, [None, 8])
DENSE = [
    helper.make_node("MatMul", ["X", "W"], ["h"]),
    helper.make_node("Relu", ["h"], ["r"]),
    helper.make_node("Softmax", ["r"], ["y"]),
]
SCALER = helper.make_node("Scaler", ["X"], ["s"], "scale", domain="ai.onnx.ml", offset=[0.0] * 8, scale=[2.0] * 8)


def dense() -> onnx.ModelProto:
    return _model(DENSE, [ROWS], {"y": (TensorProto.FLOAT, 16)})


def mixed() -> onnx.ModelProto:
    """OpenVINO takes all of it but the operator of ai.onnx.ml."""
    return _model([*DENSE, SCALER], [ROWS], {"y": (TensorProto.FLOAT, 16), "s": (TensorProto.FLOAT, 8)})


def columns() -> onnx.ModelProto:
    """Two inputs of other types, one of text."""
    inputs = [
        helper.make_tensor_value_info("count", TensorProto.INT64, [None, 1]),
        helper.make_tensor_value_info("word", TensorProto.STRING, [None, 1]),
    ]
    nodes = [helper.make_node("Add", ["count", "count"], ["twice"]), helper.make_node("Identity", ["word"], ["same"])]
    return _model(nodes, inputs, {"twice": (TensorProto.INT64, 1), "same": (TensorProto.STRING, 1)})


def ringing() -> onnx.ModelProto:
    """A name that a terminal would obey."""
    model = dense()
    model.graph.node[1].name = "\x1b]0;owned\x07"
    return model


def endless() -> onnx.ModelProto:
    """A loop of 2^62 rounds."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["c"], ["d"]), helper.make_node("Sin", ["v"], ["w"])],
        "body",
        [helper.make_tensor_value_info(n, t, s) for n, t, s in (("i", 7, []), ("c", 9, []), ("v", 1, [None, 8]))],
        [helper.make_tensor_value_info(n, t, s) for n, t, s in (("d", 9, []), ("w", 1, [None, 8]))],
    )
    nodes = [
        helper.make_node("Constant", [], ["n"], value_int=2**62),
        helper.make_node("Constant", [], ["go"], value=helper.make_tensor("t", TensorProto.BOOL, [], [True])),
        helper.make_node("Loop", ["n", "go", "X"], ["y"], body=body),
    ]
    return _model(nodes, [ROWS], {"y": (TensorProto.FLOAT, 8)})


def _model(nodes: list, inputs: list, outputs: dict[str, tuple[int, int]]) -> onnx.ModelProto:
    held = [onnx.numpy_helper.from_array(WEIGHTS, "W")] if any("W" in node.input for node in nodes) else []
    made = [helper.make_tensor_value_info(name, kind, [None, wide]) for name, (kind, wide) in outputs.items()]
    graph = helper.make_graph(nodes, "model", inputs, made, held)
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


if __name__ == "__main__":
    onnx.save(globals()[sys.argv[1]](), Path(sys.argv[2]))
