"""Plants a wrong conversion in an ONNX file, inside the gate's environment: `translation_faults.py FAULT FILE`.

Each is a mistake that a converter could make; what comes out is still a valid model of the same inputs and outputs.
"""

from __future__ import annotations

import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def main() -> None:
    model = onnx.load(sys.argv[2])
    FAULTS[sys.argv[1]](model)
    onnx.checker.check_model(model)
    onnx.save(model, sys.argv[2])


def transposed_weights(model: onnx.ModelProto) -> None:
    tensor = next(t for t in model.graph.initializer if len(t.dims) == 2 and t.dims[0] == t.dims[1] > 1)
    _replace(tensor, numpy_helper.to_array(tensor).T.copy())


def missing_softmax(model: onnx.ModelProto) -> None:
    _bypass(model, "Softmax")


def softmax_over_the_batch(model: onnx.ModelProto) -> None:
    """The semantics of another opset: what an axis left out means has changed."""
    node = next(n for n in model.graph.node if n.op_type == "Softmax")
    del node.attribute[:]
    node.attribute.append(helper.make_attribute("axis", 0))


def dropped_scaler(model: onnx.ModelProto) -> None:
    for kind in ("Scaler", "Sub", "Div"):
        if any(n.op_type == kind for n in model.graph.node):
            _bypass(model, kind)


def missing_bias(model: onnx.ModelProto) -> None:
    node = [n for n in model.graph.node if n.op_type in ("Add", "Gemm")][-1]
    tensor = next(t for t in model.graph.initializer if t.name == node.input[-1])
    _replace(tensor, np.zeros_like(numpy_helper.to_array(tensor)))


def epsilon(model: onnx.ModelProto) -> None:
    """A divisor with an epsilon that the model does not have."""
    node = next(n for n in model.graph.node if n.op_type == "Div")
    tensor = next(t for t in model.graph.initializer if t.name == node.input[1])
    _replace(tensor, np.sqrt(numpy_helper.to_array(tensor) ** 2 + 1e-5))


def class_order(model: onnx.ModelProto) -> None:
    tensor = next(t for t in model.graph.initializer if t.data_type in (TensorProto.INT64, TensorProto.INT32)
                  and sorted(numpy_helper.to_array(t).ravel().tolist()) == list(range(10)))  # fmt: skip
    values = numpy_helper.to_array(tensor).copy()
    flat = values.reshape(-1)
    flat[[3, 8]] = flat[[8, 3]]
    _replace(tensor, values)


def swapped_columns(model: onnx.ModelProto) -> None:
    """Probabilities of two classes exchanged, labels left as they are."""
    order = list(range(10))
    order[0], order[1] = 1, 0
    model.graph.initializer.append(numpy_helper.from_array(np.array(order, dtype=np.int64), "planted_order"))
    _after_output(model, 1, lambda a, b: [helper.make_node("Gather", [a, "planted_order"], [b], axis=1)])


def half_precision(model: onnx.ModelProto) -> None:
    kind = model.graph.output[1].type.tensor_type.elem_type
    _after_output(model, 1, lambda a, b: [
        helper.make_node("Cast", [a], ["planted_half"], to=TensorProto.FLOAT16),
        helper.make_node("Cast", ["planted_half"], [b], to=kind),
    ])  # fmt: skip


def missing_values_go_right(model: onnx.ModelProto) -> None:
    node = next(n for n in model.graph.node if n.op_type.startswith("TreeEnsemble"))
    for attribute in node.attribute:
        if attribute.name == "nodes_missing_value_tracks_true":
            attribute.ints[:] = [0] * len(attribute.ints)


def lost_tree(model: onnx.ModelProto) -> None:
    """The leaves of one tree weigh nothing."""
    node = next(n for n in model.graph.node if n.op_type.startswith("TreeEnsemble"))
    named = {a.name: a for a in node.attribute}
    weights = named.get("class_weights")
    trees = named["class_treeids"].ints
    if weights is not None:
        weights.floats[:] = [0.0 if t == 0 else w for t, w in zip(trees, weights.floats, strict=True)]
    else:
        tensor = named["class_weights_as_tensor"].t
        values = numpy_helper.to_array(tensor).copy()
        values[np.array(trees) == 0] = 0
        _replace(tensor, values)


def strict_comparison(model: onnx.ModelProto) -> None:
    """x < threshold where the model has x <= threshold."""
    node = next(n for n in model.graph.node if n.op_type.startswith("TreeEnsemble"))
    for attribute in node.attribute:
        if attribute.name == "nodes_modes":
            attribute.strings[:] = [b"BRANCH_LT" if s == b"BRANCH_LEQ" else s for s in attribute.strings]


FAULTS = {one.__name__: one for one in (
    transposed_weights, missing_softmax, softmax_over_the_batch, dropped_scaler, missing_bias, epsilon, class_order,
    swapped_columns, half_precision, missing_values_go_right, lost_tree, strict_comparison,
)}  # fmt: skip


def _replace(tensor: TensorProto, values: np.ndarray) -> None:
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))


def _bypass(model: onnx.ModelProto, kind: str) -> None:
    node = next(n for n in model.graph.node if n.op_type == kind)
    index = list(model.graph.node).index(node)
    model.graph.node.remove(node)
    model.graph.node.insert(index, helper.make_node("Identity", [node.input[0]], [node.output[0]]))


def _after_output(model: onnx.ModelProto, index: int, made) -> None:
    name = model.graph.output[index].name
    for node in model.graph.node:
        for names in (node.input, node.output):
            for at, one in enumerate(names):
                if one == name:
                    names[at] = "planted_before"
    model.graph.node.extend(made("planted_before", name))


if __name__ == "__main__":
    main()
