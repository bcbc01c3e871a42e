"""Mends what tf2onnx 1.17.0 can't map though ONNX has it; each has a test that fails without it."""

from __future__ import annotations

import math

import graph
import numpy as np
import onnx
from onnx import ModelProto, helper, numpy_helper


def gelu(model: ModelProto) -> None:
    """The exact GELU of Keras and of TFLite: tf2onnx leaves Erfc and TFL_GELU as they are."""
    for inner in graph.graphs(model.graph):
        nodes: list[onnx.NodeProto] = []
        for node in inner.node:
            nodes += {"Erfc": _erfc, "TFL_GELU": _gelu}.get(node.op_type, lambda one: [one])(node)
        del inner.node[:]
        inner.node.extend(nodes)


def _erfc(node: onnx.NodeProto) -> list[onnx.NodeProto]:
    given, gives = node.input[0], node.output[0]
    return [
        _constant(f"{gives}/one", 1.0),
        helper.make_node("Erf", [given], [f"{gives}/erf"]),
        helper.make_node("Sub", [f"{gives}/one", f"{gives}/erf"], [gives]),
    ]


def _gelu(node: onnx.NodeProto) -> list[onnx.NodeProto]:
    """x / 2 · (1 + erf(x / √2)); TFLite's approximate form has tanh and stays unmapped."""
    given, gives = node.input[0], node.output[0]
    if any(one.name == "approximate" and one.i for one in node.attribute):
        return [node]
    return [
        _constant(f"{gives}/root", math.sqrt(0.5)),
        _constant(f"{gives}/half", 0.5),
        _constant(f"{gives}/one", 1.0),
        helper.make_node("Mul", [given, f"{gives}/root"], [f"{gives}/scaled"]),
        helper.make_node("Erf", [f"{gives}/scaled"], [f"{gives}/erf"]),
        helper.make_node("Add", [f"{gives}/erf", f"{gives}/one"], [f"{gives}/share"]),
        helper.make_node("Mul", [given, f"{gives}/half"], [f"{gives}/halved"]),
        helper.make_node("Mul", [f"{gives}/halved", f"{gives}/share"], [gives]),
    ]


def _constant(name: str, value: float) -> onnx.NodeProto:
    return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(np.array(value, dtype=np.float32)))
