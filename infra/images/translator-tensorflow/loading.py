"""Loads a TensorFlow, Keras or TFLite model and says what it takes and gives. Runs only inside a sandbox."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# What TensorFlow reads when it is imported: thread counts and oneDNN change the order of sums.
os.environ.update(TF_ENABLE_ONEDNN_OPTS="0", TF_CPP_MIN_LOG_LEVEL="3", KERAS_BACKEND="tensorflow")

import graph
import harness
import keras_file
import numpy as np
import onnx
import tensorflow as tf
import tf2onnx

tf.config.threading.set_intra_op_parallelism_threads(1)
tf.config.threading.set_inter_op_parallelism_threads(1)


@dataclass(frozen=True)
class Loaded:
    """A model: `call` takes the inputs' arrays in order and returns the outputs' in order, `convert` an opset."""

    kind: str
    loaded_by: str
    inputs: list[dict[str, Any]]  # name, dtype, shape; a size is None where it is open
    outputs: list[str]
    call: Callable[[list[np.ndarray]], list[np.ndarray]]
    convert: Callable[[int], onnx.ModelProto]


def load(path: Path) -> Loaded:
    """The model in `path`: a SavedModel folder, a Keras file or a TFLite file. Raises harness.Unsupported."""
    if path.is_dir():
        return _saved_model(path)
    with path.open("rb") as file:
        head = file.read(8)
    if head[4:8] == b"TFL3":
        return _lite(path)
    return _keras(path)


def _keras(path: Path) -> Loaded:
    opened = keras_file.open_model(path)
    return _from_function(opened.call, opened.inputs, opened.outputs, opened.kind, "keras, safe mode")


def _saved_model(path: Path) -> Loaded:
    model = tf.saved_model.load(str(path))
    signatures = dict(model.signatures)
    if "serving_default" not in signatures and len(signatures) != 1:
        there = ", ".join(sorted(signatures)) or "none"
        raise harness.Unsupported(
            f"the SavedModel has no signature serving_default; it has {there}: export it with one"
        )
    signature = signatures.get("serving_default") or next(iter(signatures.values()))
    specs = dict(sorted(signature.structured_input_signature[1].items()))  # they come in the order of a hash
    for name, spec in specs.items():
        if spec.shape.rank is None:
            raise harness.Unsupported(f"input {name!r} has no shape in the SavedModel's signature: export it with one")
    inputs = [{"name": name, "dtype": spec.dtype.name, "shape": spec.shape.as_list()} for name, spec in specs.items()]
    keys = sorted(signature.structured_outputs)

    def call(values: Sequence[Any]) -> list[Any]:
        answers = signature(**dict(zip(specs, values, strict=True)))
        return [answers[key] for key in keys]

    loaded = _from_function(call, inputs, graph.distinct(keys, list(specs)), "SavedModel", "tf.saved_model.load")
    loaded.call.model = model  # type: ignore[attr-defined]  # its variables live as long as it does
    return loaded


def _from_function(
    call: Callable[[Sequence[Any]], list[Any]],
    inputs: list[dict[str, Any]],
    outputs: list[str],
    kind: str,
    loaded_by: str,
) -> Loaded:
    specs = [tf.TensorSpec(one["shape"], one["dtype"], name=f"input_{i}") for i, one in enumerate(inputs)]

    @tf.function(input_signature=specs)
    def function(*values: Any) -> dict[str, Any]:
        return {f"output_{i}": tf.identity(answer) for i, answer in enumerate(call(values))}

    def native(arrays: list[np.ndarray]) -> list[np.ndarray]:
        answers = function(*[tf.constant(array, one.dtype) for array, one in zip(arrays, specs, strict=True)])
        return [answers[f"output_{i}"].numpy() for i in range(len(outputs))]

    def convert(opset: int) -> onnx.ModelProto:
        model = tf2onnx.convert.from_function(function, input_signature=specs, opset=opset)[0]
        _bind(model, function.get_concrete_function().graph.captures)
        given = {f"input_{i}": one["name"] for i, one in enumerate(inputs)}
        graph.rename(model, given, {f"output_{i}": name for i, name in enumerate(outputs)})
        return model

    return Loaded(kind, loaded_by, inputs, outputs, native, convert)


def _bind(model: onnx.ModelProto, captures: list[tuple[Any, Any]]) -> None:
    """Constants that a function takes from outside, such as a Normalization's means, are made inputs by tf2onnx."""
    values = {inner.name: outer for outer, inner in captures if outer.dtype != tf.resource}
    bound = [one for one in model.graph.input if one.name in values]
    for one in bound:
        model.graph.initializer.append(onnx.numpy_helper.from_array(values[one.name].numpy(), one.name))
        model.graph.input.remove(one)


def _lite(path: Path) -> Loaded:
    try:
        interpreter = tf.lite.Interpreter(model_path=str(path), num_threads=1)
    except (ValueError, RuntimeError) as error:
        raise harness.Unsupported(f"TFLite can't open {path.name}: {error}") from error
    given, gives = interpreter.get_input_details(), interpreter.get_output_details()
    names = graph.distinct([_bare(one["name"]) for one in given])
    outputs = graph.distinct([_bare(one["name"]) for one in gives], names)
    inputs = [
        {
            "name": name,
            "dtype": np.dtype(one["dtype"]).name,
            "shape": [None if size < 0 else int(size) for size in one["shape_signature"]],
        }
        for name, one in zip(names, given, strict=True)
    ]

    def call(arrays: list[np.ndarray]) -> list[np.ndarray]:
        if not all(array.size for array in arrays):
            raise ValueError("TFLite runs no empty batch")
        for one, array in zip(given, arrays, strict=True):
            interpreter.resize_tensor_input(one["index"], array.shape, strict=True)
        interpreter.allocate_tensors()
        for one, array in zip(given, arrays, strict=True):
            interpreter.set_tensor(one["index"], array)
        interpreter.invoke()
        return [interpreter.get_tensor(one["index"]) for one in gives]

    def convert(opset: int) -> onnx.ModelProto:
        _refuse_hybrid(interpreter)
        takes, answers = ([one["name"] for one in details] for details in (given, gives))
        model = tf2onnx.convert.from_tflite(str(path), takes, answers, opset=opset)[0]
        graph.rename(model, dict(zip(takes, names, strict=True)), dict(zip(answers, outputs, strict=True)))
        return model

    return Loaded("TFLite", "tf.lite.Interpreter", inputs, outputs, call, convert)


def _refuse_hybrid(interpreter: Any) -> None:
    """Dynamic range quantisation computes on int8 activations whose scales TFLite chooses row by row as it runs."""
    dtypes = {one["index"]: np.dtype(one["dtype"]) for one in interpreter.get_tensor_details()}
    for op in interpreter._get_ops_details():
        if op["op_name"] in ("DEQUANTIZE", "QUANTIZE", "GATHER", "EMBEDDING_LOOKUP"):
            continue
        taken = {dtypes[index].name for index in op["inputs"] if index in dtypes}
        if "float32" in taken and taken & {"int8", "uint8"}:
            raise harness.Unsupported(
                f"the TFLite file is quantised by dynamic range: its {op['op_name']} rounds its input to int8 by "
                "scales that TFLite chooses as it runs, which no ONNX operator does: in ONNX it would be off by "
                "about 1e-2. Register the float model it was made from, or one quantised in full (int8 in and out)"
            )


def _bare(name: str) -> str:
    return name.removeprefix("serving_default_").removesuffix(":0").replace(":", "_")
