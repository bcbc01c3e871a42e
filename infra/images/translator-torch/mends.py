"""Mends what ONNX Runtime would make of a converted model; each has a test that fails without it."""

from __future__ import annotations

import graph
import numpy as np
import onnx
from onnx import ModelProto, helper, numpy_helper


def rounding(model: ModelProto) -> None:
    """Fake quantisation is written as the rounding of floats that it is.

    torch.onnx writes a pair QuantizeLinear, DequantizeLinear, by which ONNX Runtime quantises the weights beside it too
    (WeightBiasQuantization), which the model does not. Pairs of a scale for each channel stay.
    """
    for inner in graph.graphs(model.graph):
        constants = {one.name: one for one in inner.initializer}
        constants |= {node.output[0]: node.attribute[0].t for node in inner.node if node.op_type == "Constant"}
        quantised = {node.output[0]: node for node in inner.node if node.op_type == "QuantizeLinear"}
        nodes: list[onnx.NodeProto] = []
        for node in inner.node:
            quantise = quantised.get(node.input[0]) if node.op_type == "DequantizeLinear" else None
            zero = constants.get(node.input[2]) if quantise and quantise.input[1:] == node.input[1:] else None
            scalar = zero is not None and not zero.dims
            nodes += _rounded(quantise.input[0], node, numpy_helper.to_array(zero)) if scalar else [node]
        used = {name for node in nodes for name in node.input} | {one.name for one in inner.output}
        del inner.node[:]
        inner.node.extend(node for node in nodes if node.op_type != "QuantizeLinear" or node.output[0] in used)


def _rounded(given: str, dequantise: onnx.NodeProto, zero: np.ndarray) -> list[onnx.NodeProto]:
    """As PyTorch computes it: (clip(round(x · (1 / scale)) + zero) - zero) · scale, the zero taken into the bounds."""
    scale, gives = dequantise.input[1], dequantise.output[0]
    span = np.iinfo(zero.dtype)
    nodes = [helper.make_node("Reciprocal", [scale], [f"{gives}/inverse"])]
    for name, value in (("low", span.min - int(zero)), ("high", span.max - int(zero))):
        tensor = numpy_helper.from_array(np.array(value, dtype=np.float32))
        nodes.append(helper.make_node("Constant", [], [f"{gives}/{name}/float"], value=tensor))
        nodes.append(helper.make_node("CastLike", [f"{gives}/{name}/float", scale], [f"{gives}/{name}"]))
    return [
        *nodes,
        helper.make_node("Mul", [given, f"{gives}/inverse"], [f"{gives}/steps"]),
        helper.make_node("Round", [f"{gives}/steps"], [f"{gives}/whole"]),
        helper.make_node("Clip", [f"{gives}/whole", f"{gives}/low", f"{gives}/high"], [f"{gives}/within"]),
        helper.make_node("Mul", [f"{gives}/within", scale], [gives]),
    ]
