"""A function of JAX or Flax → ONNX (harness.translate)."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

import harness
import jax
import jax2onnx
import loading
import onnx
from jax import export
from onnx import numpy_helper

NEWEST_OPSET = 23  # that jax2onnx 0.17.1 is made for


def convert(folder: Path, file: str, options: dict[str, Any]) -> tuple[bytes, dict[str, Any]]:
    opset = options["opset"]
    if opset > NEWEST_OPSET:
        raise harness.Unsupported(f"jax2onnx writes opset {NEWEST_OPSET} at most, not {opset}: ask for a lower one")
    stated = options["stated"]
    inputs = loading.inputs_of(stated)
    floats = [one["dtype"] for one in inputs if one["dtype"].startswith("float")]
    if options["dtype"] and set(floats) - {options["dtype"]}:
        raise harness.Unsupported(f"the function's inputs are {floats[0]}, as signature.json states")
    said = loading.said_of(stated, inputs)
    model = loading.load(folder, file, said)
    shapes = _shapes(inputs)
    answers = jax.eval_shape(model, *shapes)
    roles = {one["name"]: one["role"] for one in said["outputs"]}
    outputs = [{"name": name, "role": roles.get(name, "values"), "method": said["function"]} for name in answers]
    made = jax2onnx.to_onnx(
        lambda *given: tuple(model(*given).values()),
        shapes,
        opset=opset,
        enable_double_precision=said["double"],
        input_names=[one["name"] for one in inputs],
        output_names=[one["name"] for one in outputs],
    )
    _narrow_biases(made)
    signature = {
        "translator": "jax",
        "framework": "JAX",
        "framework_version": jax.__version__,
        "converter": "jax2onnx",
        "converter_version": version("jax2onnx"),
        "model": f"{said['function']} of {file}"[:500],
        "loaded_by": "python",
        "untrusted_types": ["any: the model's source is a program"],
        "dtype": floats[0] if floats else "none",
        "dtype_reason": "signature.json states it",
        "inputs": inputs,
        "outputs": outputs,
        "classes": list(stated.get("classes") or []),
        "native": said,
    }
    return made.SerializeToString(deterministic=True), signature


def _shapes(inputs: list[dict[str, Any]]) -> list[jax.ShapeDtypeStruct]:
    """Open dimensions as symbols: the batch is one for all inputs, equal names are equal sizes."""
    wanted = []
    for number, one in enumerate(inputs):
        for axis, size in enumerate(one["shape"]):
            if not isinstance(size, int):
                wanted.append("batch" if axis == 0 else f"n_{size}" if size else f"n_{number}_{axis}")
    names = list(dict.fromkeys(wanted))
    symbols = dict(zip(names, export.symbolic_shape(", ".join(names)), strict=True)) if names else {}
    waiting = iter(wanted)
    return [
        jax.ShapeDtypeStruct(
            tuple(size if isinstance(size, int) else symbols[next(waiting)] for size in one["shape"]), one["dtype"]
        )
        for one in inputs
    ]


def _narrow_biases(model: onnx.ModelProto) -> None:
    """jax2onnx gives a product of half precision a bias of float32, all zeros: it is left out."""
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Gemm" and len(node.input) == 3 and {node.input[1], node.input[2]} <= constants.keys():
            weights, bias = constants[node.input[1]], constants[node.input[2]]
            if weights.data_type != bias.data_type and not numpy_helper.to_array(bias).any():
                del node.input[2]


if __name__ == "__main__":
    harness.translate(convert)
