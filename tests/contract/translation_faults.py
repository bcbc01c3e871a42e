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


def old_softmax(model: onnx.ModelProto) -> None:
    """Softmax as before opset 13: over all axes from the second on, taken together."""
    node = next(n for n in model.graph.node if n.op_type == "Softmax" and n.output[0] == "each")
    rest = [*node.input, *node.output]
    add = model.graph.initializer.append
    add(numpy_helper.from_array(np.array([0, -1]), "planted_flat"))
    nodes = [
        helper.make_node("Shape", rest[:1], ["planted_shape"]),
        helper.make_node("Reshape", [rest[0], "planted_flat"], ["planted_wide"]),
        helper.make_node("Softmax", ["planted_wide"], ["planted_soft"], axis=1),
        helper.make_node("Reshape", ["planted_soft", "planted_shape"], rest[1:]),
    ]
    _instead(model, node, nodes)


def dropped_preprocessing(model: onnx.ModelProto) -> None:
    _bypass(model, "Sub")
    _bypass(model, "Div")


def float16_overflow(model: onnx.ModelProto) -> None:
    """Computed in half precision, which ends at 65,504."""
    _after_output(model, 0, lambda a, b: [
        helper.make_node("Cast", [a], ["planted_half"], to=TensorProto.FLOAT16),
        helper.make_node("Cast", ["planted_half"], [b], to=TensorProto.FLOAT),
    ])  # fmt: skip


def wrong_padding(model: onnx.ModelProto) -> None:
    """As much padding, all of it at the end: SAME_LOWER for SAME_UPPER and the like."""
    _attribute(model, "Conv", "pads", [0, 0, 2, 2])


def swapped_outputs(model: onnx.ModelProto) -> None:
    """Two heads of one shape exchanged."""
    names = {"kind": "mood", "mood": "kind"}
    for node in model.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]


def wrong_default(model: onnx.ModelProto) -> None:
    """An attribute left out, so that the operator's own default holds: 0.01 for LeakyRelu's slope."""
    node = next(n for n in model.graph.node if n.op_type == "LeakyRelu")
    del node.attribute[:]


def class_names(model: onnx.ModelProto) -> None:
    """Two classes exchanged where an index becomes a label."""
    tensor = next(t for t in model.graph.initializer if t.name == "names")
    _replace(tensor, numpy_helper.to_array(tensor)[[1, 0, *range(2, tensor.dims[0])]])


def normalisation_epsilon(model: onnx.ModelProto) -> None:
    """Another framework's default: 1e-5 for 1e-3."""
    _attribute(model, "BatchNormalization", "epsilon", 1e-5)


def resize_mode(model: onnx.ModelProto) -> None:
    _attribute(model, "Resize", "coordinate_transformation_mode", "align_corners")


def counted_padding(model: onnx.ModelProto) -> None:
    """Padding that an average counts, or does not."""
    _attribute(model, "AveragePool", "pads", [1, 1, 0, 0])


def transposed_kernel(model: onnx.ModelProto) -> None:
    """A convolution's height and width exchanged."""
    tensor = next(t for t in model.graph.initializer if len(t.dims) == 4)
    _replace(tensor, numpy_helper.to_array(tensor).swapaxes(2, 3).copy())


def baked_length(model: onnx.ModelProto) -> None:
    """A size seen when the model was traced, written into it."""
    node = next(n for n in model.graph.node if n.op_type == "ReduceSum")
    first = helper.make_node("Slice", [node.input[0], "planted_start", "planted_end", node.input[1]], ["planted_some"])
    for name, value in (("planted_start", 0), ("planted_end", 7)):
        model.graph.initializer.append(numpy_helper.from_array(np.array([value]), name))
    _instead(
        model, node, [first, helper.make_node("ReduceSum", ["planted_some", node.input[1]], node.output, keepdims=0)]
    )


def lost_direction(model: onnx.ModelProto) -> None:
    """Recurrence over the reversed sequence."""
    node = next(n for n in model.graph.node if n.op_type == "LSTM")
    node.attribute.append(helper.make_attribute("direction", "reverse"))


def not_quantised(model: onnx.ModelProto) -> None:
    """Activations left as they are, where the model quantises them as it runs."""
    quantise, real = (
        next(n for n in model.graph.node if n.op_type == kind) for kind in ("DynamicQuantizeLinear", "DequantizeLinear")
    )
    _instead(model, real, [helper.make_node("Identity", [quantise.input[0]], real.output)])
    model.graph.node.remove(quantise)


def off_by_a_step(model: onnx.ModelProto) -> None:
    """A zero point that is one off."""
    tensor = next(t for t in model.graph.initializer if t.name == "middle")
    _replace(tensor, numpy_helper.to_array(tensor) + np.uint8(1))


def far_away(model: onnx.ModelProto) -> None:
    """Wrong only far out in one direction, where rows at random hardly ever are."""
    signs = np.array([1, -1, 1, 1, -1, -1, 1, -1], dtype=np.float32).reshape(8, 1)
    for name, value in (("planted_signs", signs), ("planted_power", np.float32(6)), ("planted_size", np.float32(36))):
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
    _after_output(model, 0, lambda a, b: [
        helper.make_node("MatMul", ["x", "planted_signs"], ["planted_along"]),
        helper.make_node("Relu", ["planted_along"], ["planted_positive"]),
        helper.make_node("Div", ["planted_positive", "planted_size"], ["planted_share"]),
        helper.make_node("Pow", ["planted_share", "planted_power"], ["planted_steep"]),
        helper.make_node("Mul", ["planted_steep", "planted_small"], ["planted_error"]),
        helper.make_node("Add", [a, "planted_error"], [b]),
    ])  # fmt: skip
    model.graph.initializer.append(numpy_helper.from_array(np.asarray(np.float32(2e-3)), "planted_small"))


FAULTS = {one.__name__: one for one in (
    transposed_weights, missing_softmax, softmax_over_the_batch, dropped_scaler, missing_bias, epsilon, class_order,
    swapped_columns, half_precision, missing_values_go_right, lost_tree, strict_comparison, old_softmax,
    dropped_preprocessing, float16_overflow, wrong_padding, swapped_outputs, wrong_default, class_names,
    normalisation_epsilon, resize_mode, counted_padding, transposed_kernel, baked_length, lost_direction, not_quantised,
    off_by_a_step, far_away,
)}  # fmt: skip


def _replace(tensor: TensorProto, values: np.ndarray) -> None:
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))


def _attribute(model: onnx.ModelProto, kind: str, name: str, value: object) -> None:
    node = next(n for n in model.graph.node if n.op_type == kind)
    kept = [a for a in node.attribute if a.name != name]
    del node.attribute[:]
    node.attribute.extend([*kept, helper.make_attribute(name, value)])


def _instead(model: onnx.ModelProto, node: onnx.NodeProto, nodes: list[onnx.NodeProto]) -> None:
    at = list(model.graph.node).index(node)
    model.graph.node.remove(node)
    for one in reversed(nodes):
        model.graph.node.insert(at, one)


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
