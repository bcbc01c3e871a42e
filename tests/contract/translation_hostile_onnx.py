"""Makes hostile ONNX files with the packages of uv:translator-onnx: `translation_hostile_onnx.py KIND FOLDER`."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper


def main() -> None:
    kind, path = sys.argv[1], Path(sys.argv[2]) / "model.onnx"
    x = helper.make_tensor_value_info("X", TensorProto.FLOAT, ["n", 4])
    y = helper.make_tensor_value_info("Y", TensorProto.FLOAT, None)
    weights = numpy_helper.from_array(np.ones(4, dtype=np.float32), "w")
    nodes, domains = [helper.make_node("Add", ["X", "w"], ["Y"])], [helper.make_opsetid("", 17)]
    if kind in ("reads host files", "beyond the end"):
        weights.ClearField("raw_data")
        weights.data_location = TensorProto.EXTERNAL
        where = "../../../../etc/passwd" if kind == "reads host files" else "model.onnx"
        weights.external_data.add(key="location", value=where)
        weights.external_data.add(key="length", value=str(2**40))
    elif kind == "custom domain":
        nodes[0].domain = "evil.example"
        domains.append(helper.make_opsetid("evil.example", 1))
    elif kind == "bomb":  # a constant of 2^36 numbers, whatever is given
        size = numpy_helper.from_array(np.array([2**36], dtype=np.int64), "size")
        nodes = [
            helper.make_node("ConstantOfShape", ["size"], ["big"]),
            helper.make_node("ReduceSum", ["big"], ["sum"], keepdims=0),
            helper.make_node("Add", ["X", "sum"], ["Y"]),
        ]
        weights = size
    graph = helper.make_graph(nodes, "g", [x], [y], [weights])
    data = helper.make_model(graph, opset_imports=domains, ir_version=8).SerializeToString()
    if kind == "cut short":
        data = data[:-20]
    elif kind == "deep":
        data = _deep(20_000)
    path.write_bytes(data)


def _deep(depth: int) -> bytes:
    """An IR version, and model.graph.node.attribute.g.node.attribute.g…, each a length-delimited field in the other."""
    data = b""
    for _ in range(depth):
        for tag in (0x32, 0x2A, 0x0A):  # attribute.g = 6, node.attribute = 5, graph.node = 1
            data = bytes([tag]) + _length(len(data)) + data
    return b"\x08\x08" + bytes([0x3A]) + _length(len(data)) + data  # ir_version = 1, graph = 7


def _length(value: int) -> bytes:
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


if __name__ == "__main__":
    main()
