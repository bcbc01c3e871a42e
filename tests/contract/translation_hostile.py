"""Makes hostile files with an environment's own packages: `translation_hostile.py KIND PATH`."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np


def main() -> None:
    kind, path = sys.argv[1], Path(sys.argv[2])
    if kind == "untrusted_skops":
        import skops.io

        skops.io.dump({"model": Evil()}, path)
        return
    if kind == "all":
        check_all(path, sys.argv[3], json.loads(sys.argv[4]))
        return
    write(kind, path)


def check_all(folder: Path, programs: str, said: dict[str, str]) -> None:
    """The gate refuses every kind, each with its own sentence, in this one process."""
    sys.path.insert(0, programs)
    import gate
    from admit import Refused

    options = {"opset": 17, "rows": 64}
    for kind, sentence in said.items():
        write(kind, folder)
        signature = json.loads((folder / "signature.json").read_text())
        answer = "accepted"
        try:
            gate.gate(folder / "candidate.onnx", signature, options, None)
        except Refused as error:
            answer = str(error)
        assert sentence in answer, f"{kind}: {answer}"


def write(kind: str, path: Path) -> None:
    (path / "candidate.onnx").write_bytes(_onnx(kind))
    signature = {
        "translator": "sklearn", "framework": "scikit-learn", "framework_version": "1", "converter": "skl2onnx",
        "converter_version": "1", "model": "Hostile", "loaded_by": "joblib", "untrusted_types": [], "classes": [],
        "dtype": "float32", "dtype_reason": "asked for",
        "inputs": [{"name": "X", "dtype": "float32", "shape": [None, 4]}],
        "outputs": [{"name": "features", "role": "values", "method": "transform"}],
    }  # fmt: skip
    (path / "signature.json").write_text(json.dumps(signature))


class Evil:
    """Its type is not of scikit-learn, and its state runs code when it is set."""

    def __init__(self) -> None:
        self.command = "echo ran"

    def __setstate__(self, state: dict) -> None:
        os.system(state["command"])


def _onnx(kind: str) -> bytes:
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    value = helper.make_tensor_value_info
    x, y = value("X", TensorProto.FLOAT, [None, 4]), value("features", TensorProto.FLOAT, [None, 4])
    weights = numpy_helper.from_array(np.ones(4, dtype=np.float32), "w")
    node = helper.make_node("Add", ["X", "w"], ["features"])
    graph = helper.make_graph([node], "g", [x], [y], [weights])
    opset = [helper.make_opsetid("", 28 if kind == "newer_opset" else 18)]
    if kind == "external_data":
        tensor = graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="../../../../etc/passwd")
    elif kind == "custom_domain":
        graph.node[0].domain = "evil.example"
        opset.append(helper.make_opsetid("evil.example", 1))
    elif kind == "random_operator":
        graph.node[0].CopyFrom(helper.make_node("RandomNormalLike", ["X"], ["features"]))
    elif kind == "deep_subgraphs":
        graph.node.append(_nested(20))
    elif kind == "lying_dimensions":
        graph.initializer[0].dims[:] = [2**40]
    elif kind == "wrong_types":
        graph.node[0].CopyFrom(helper.make_node("Cast", ["X"], ["features"], to=TensorProto.INT64))
    elif kind == "other_inputs":
        graph.input[0].name = graph.node[0].input[0] = "Z"
    model = helper.make_model(graph, opset_imports=opset, ir_version=14 if kind == "newer_ir" else 8)
    if kind == "training":
        model.training_info.add()
    data = model.SerializeToString()
    if kind == "garbage":
        return bytes(range(256)) * 40
    if kind == "cut_short":
        return data[:-20]
    if kind == "deep_protobuf":
        return _deep(20_000)
    assert onnx.__version__
    return data


def _nested(depth: int):
    from onnx import TensorProto, helper

    out = helper.make_tensor_value_info("o", TensorProto.FLOAT, None)
    inner = helper.make_graph([helper.make_node("Identity", ["X"], ["o"])], "i", [], [out])
    for _ in range(depth):
        node = helper.make_node("If", ["c"], ["o"], then_branch=inner, else_branch=inner)
        inner = helper.make_graph([node], "i", [], [out])
        if inner.ByteSize() > 1_000_000:
            break
    return node


def _deep(depth: int) -> bytes:
    """model.graph.node.attribute.g.node.attribute.g…, each a length-delimited field within the other."""
    data = b""
    for _ in range(depth):
        for tag in (0x32, 0x2A, 0x0A):  # attribute.g = 6, node.attribute = 5, graph.node = 1
            data = bytes([tag]) + _length(len(data)) + data
    return bytes([0x3A]) + _length(len(data)) + data  # model.graph = 7


def _length(value: int) -> bytes:
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


if __name__ == "__main__":
    main()
