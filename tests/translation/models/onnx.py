"""ONNX files as other tools write them: with a map around scores, data in another file, an older operator set.

The weights are drawn with a stated seed: what is shown is that the file is taken as it is, not that it is a good model.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.translation.declared import Models

FORMAT = "ONNX"
MODELS = Models("onnx", "uv:translator-onnx", {FORMAT: {}})
add = MODELS.add


def _save(
    folder: Path, nodes: list[Any], inputs: list[Any], outputs: list[Any], weights: dict[str, Any], **more: Any
) -> None:
    import onnx
    from onnx import helper, numpy_helper

    constants = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "a name", inputs, outputs, constants)
    opsets = [helper.make_opsetid("", more.pop("opset", 17)), helper.make_opsetid("ai.onnx.ml", 3)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8, producer_name="a tool", doc_string="of today")
    onnx.checker.check_model(model, full_check=True)
    onnx.save_model(model, folder / "model" / "model.onnx", **more)
    for path in (folder / "model").iterdir():
        path.chmod(0o644)  # onnx keeps data files to their owner


def _value(name: str, dtype: str, *shape: Any) -> Any:
    from onnx import TensorProto, helper

    kinds = {"float32": "FLOAT", "float64": "DOUBLE", "float16": "FLOAT16"}
    return helper.make_tensor_value_info(name, getattr(TensorProto, kinds.get(dtype, dtype.upper())), ["n", *shape])


def _random(*shape: int, dtype: str = "float32", seed: int = 0) -> Any:
    import numpy as np

    return (np.random.default_rng(seed).normal(size=shape) / np.sqrt(shape[0])).astype(dtype)


@add(FORMAT, "dense", light=True)
def onnx_dense_with_a_map(folder: Path) -> None:
    """A classifier as converters write it unless told otherwise: probabilities as a list of maps."""
    import numpy as np
    from onnx import TensorProto, helper

    node = helper.make_node
    nodes = [
        node("Gemm", ["X", "W", "b"], ["z"]), node("Softmax", ["z"], ["p"], axis=1),
        node("ArgMax", ["p"], ["i"], axis=1, keepdims=0), node("Gather", ["names", "i"], ["label"]),
        node("ZipMap", ["p"], ["probabilities"], domain="ai.onnx.ml", classlabels_strings=["a", "b", "c"]),
    ]  # fmt: skip
    map_type = helper.make_map_type_proto(TensorProto.STRING, helper.make_tensor_type_proto(TensorProto.FLOAT, []))
    maps = helper.make_value_info("probabilities", helper.make_sequence_type_proto(map_type))
    weights = {"W": _random(5, 3), "b": _random(3), "names": np.array(["a", "b", "c"], dtype=object)}
    _save(folder, nodes, [_value("X", "float32", 5)], [_value("label", "string"), maps], weights)


@add(FORMAT, "convolutional")
def onnx_convolutional(folder: Path) -> None:
    """Its weights are in another file beside it."""
    from onnx import helper

    node = helper.make_node
    nodes = [
        node("Conv", ["image", "K", "c"], ["f"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]), node("Relu", ["f"], ["r"]),
        node("MaxPool", ["r"], ["m"], kernel_shape=[2, 2], strides=[2, 2]), node("Flatten", ["m"], ["v"]),
        node("Gemm", ["v", "W"], ["logits"]),
    ]  # fmt: skip
    weights = {"K": _random(8, 1, 3, 3), "c": _random(8), "W": _random(128, 10)}
    external = {"save_as_external_data": True, "location": "weights.bin", "size_threshold": 0}
    _save(folder, nodes, [_value("image", "float32", 1, 8, 8)], [_value("logits", "float32", 10)], weights, **external)


@add(FORMAT, "recurrent")
def onnx_recurrent(folder: Path) -> None:
    from onnx import helper

    node = helper.make_node
    nodes = [
        node("Transpose", ["X"], ["steps"], perm=[1, 0, 2]),
        node("GRU", ["steps", "W", "R", "B"], ["", "last"], hidden_size=6, linear_before_reset=1),
        node("Squeeze", ["last", "axis"], ["prediction"]),
    ]  # fmt: skip
    import numpy as np

    weights = {"W": _random(1, 18, 4), "R": _random(1, 18, 6), "B": _random(1, 36), "axis": np.array([0])}
    _save(folder, nodes, [_value("X", "float32", 7, 4)], [_value("prediction", "float32", 6)], weights)


@add(FORMAT, "attention", "integer inputs")
def onnx_attention(folder: Path) -> None:
    """Words by their numbers in a table of 50."""
    import numpy as np
    from onnx import helper

    node = helper.make_node
    nodes = [
        node("Gather", ["table", "tokens"], ["x"]),
        *(node("MatMul", ["x", name], [name.lower()]) for name in ("Q", "K", "V")),
        node("Transpose", ["k"], ["kt"], perm=[0, 2, 1]), node("MatMul", ["q", "kt"], ["qk"]),
        node("Div", ["qk", "root"], ["scaled"]), node("Softmax", ["scaled"], ["weights"], axis=-1),
        node("MatMul", ["weights", "v"], ["seen"]), node("ReduceMean", ["seen"], ["features"], axes=[1], keepdims=0),
    ]  # fmt: skip
    weights = {name: _random(16, 16, seed=i) for i, name in enumerate("QKV")}
    weights |= {"table": _random(50, 16), "root": np.float32([4])}
    _save(folder, nodes, [_value("tokens", "int64", 12)], [_value("features", "float32", 16)], weights)


@add(FORMAT, "tree ensemble", "several inputs or outputs")
def onnx_trees(folder: Path) -> None:
    """Two inputs and two outputs, one of them of a tree."""
    from onnx import helper

    tree = helper.make_node(
        "TreeEnsembleRegressor", ["both"], ["leaf"], domain="ai.onnx.ml", n_targets=1, nodes_treeids=[0, 0, 0],
        nodes_nodeids=[0, 1, 2], nodes_featureids=[1, 0, 0], nodes_modes=["BRANCH_LEQ", "LEAF", "LEAF"],
        nodes_values=[0.3, 0.0, 0.0], nodes_truenodeids=[1, 0, 0], nodes_falsenodeids=[2, 0, 0],
        target_treeids=[0, 0], target_nodeids=[1, 2], target_ids=[0, 0], target_weights=[1.5, -2.0],
    )  # fmt: skip
    nodes = [
        helper.make_node("Concat", ["a", "b"], ["both"], axis=1),
        tree,
        helper.make_node("Mul", ["a", "b"], ["product"]),
    ]
    inputs = [_value("a", "float32", 1), _value("b", "float32", 1)]
    _save(folder, nodes, inputs, [_value("leaf", "float32", 1), _value("product", "float32", 1)], {})


@add(FORMAT, "text with strings")
def onnx_text(folder: Path) -> None:
    import numpy as np
    from onnx import helper

    node = helper.make_node
    encode = node(
        "LabelEncoder", ["word"], ["number"], domain="ai.onnx.ml", keys_strings=["up", "down"],
        values_floats=[1.0, 2.0],
        default_float=0.0,
    )  # fmt: skip
    nodes = [encode, node("Mul", ["number", "W"], ["features"])]
    _save(
        folder, nodes, [_value("word", "string", 1)], [_value("features", "float32", 3)], {"W": np.float32([[1, 2, 3]])}
    )


@add(FORMAT, "float16 inputs")
def onnx_half(folder: Path) -> None:
    from onnx import helper

    nodes = [helper.make_node("MatMul", ["X", "W"], ["z"]), helper.make_node("Tanh", ["z"], ["features"])]
    weights = {"W": _random(6, 4, dtype="float16")}
    _save(folder, nodes, [_value("X", "float16", 6)], [_value("features", "float16", 4)], weights)


@add(FORMAT, "quantised")
def onnx_quantised(folder: Path) -> None:
    """Weights and activations of eight bits."""
    import numpy as np
    from onnx import helper

    node = helper.make_node
    nodes = [
        node("QuantizeLinear", ["X", "s", "z"], ["q"]), node("DequantizeLinear", ["q", "s", "z"], ["x"]),
        node("DequantizeLinear", ["W", "t", "y"], ["w"]), node("MatMul", ["x", "w"], ["features"]),
    ]  # fmt: skip
    weights = {
        "s": np.float32(0.02), "z": np.uint8(128), "t": np.float32(0.01), "y": np.int8(0),
        "W": np.random.default_rng(0).integers(-127, 127, (6, 4)).astype(np.int8),
    }  # fmt: skip
    _save(folder, nodes, [_value("X", "float32", 6)], [_value("features", "float32", 4)], weights)


@add(FORMAT, "dense")
def onnx_older_opset(folder: Path) -> None:
    from onnx import helper

    nodes = [helper.make_node("MatMul", ["X", "W"], ["z"]), helper.make_node("Softmax", ["z"], ["features"])]
    _save(
        folder,
        nodes,
        [_value("X", "float64", 5)],
        [_value("features", "float64", 3)],
        {"W": _random(5, 3, dtype="float64")},
        opset=9,
    )


@add(FORMAT, "dense")
def onnx_fixed_batch(folder: Path) -> None:
    from onnx import TensorProto, helper

    x = helper.make_tensor_value_info("X", TensorProto.FLOAT, [4, 5])
    y = helper.make_tensor_value_info("Y", TensorProto.FLOAT, [4, 5])
    _save(folder, [helper.make_node("Tanh", ["X"], ["Y"])], [x], [y], {})


if __name__ == "__main__":
    MODELS.main()
