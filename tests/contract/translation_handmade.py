"""Models written by hand, and a translator of them: `convert`, `load` and `stages` as the programs of an environment.

The native side is the ONNX project's reference evaluator in numpy, which shares no code with ONNX Runtime. A model is a
file `case.json`: which of CASES it is, and which fault of translation_faults.py the conversion plants.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import harness
import numpy as np
import onnx
import translation_faults
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

OPSET = 21


def convert(folder: Path, file: str, options: dict[str, Any]) -> tuple[bytes, dict[str, Any]]:
    stated = json.loads((folder / file).read_text("utf-8"))
    model, signature = CASES[stated["case"]]()
    if stated.get("fault"):
        translation_faults.FAULTS[stated["fault"]](model)
    if stated.get("opset"):
        model.opset_import[0].version = stated["opset"]
    base = {
        "translator": "handmade", "framework": "handmade", "framework_version": onnx.__version__,
        "converter": "none", "converter_version": "1", "model": stated["case"], "loaded_by": "handmade",
        "untrusted_types": [], "dtype": "float32", "dtype_reason": "as written", "classes": [], "stages": True,
    }  # fmt: skip
    return model.SerializeToString(), base | signature


def load(folder: Path, file: str) -> harness.Ready:
    evaluator = _evaluator(folder / file)

    def ready(signature: dict[str, Any]) -> harness.Answer:
        names = [one["name"] for one in signature["outputs"]]
        return lambda arrays: dict(zip(names, evaluator.run(names, _objects(arrays)), strict=True))

    return ready


def stages(folder: Path, file: str) -> harness.Ready:
    evaluator = _evaluator(folder / file)
    makers = {name: node for node in evaluator.proto_.graph.node for name in node.output}

    def answer(arrays: harness.Arrays) -> dict[str, Any]:
        values = evaluator.run(None, _objects(arrays), intermediate=True)
        return {f"{name} ({makers[name].op_type})": value for name, value in values.items() if name in makers}

    return lambda signature: answer


def _evaluator(file: Path) -> ReferenceEvaluator:
    return ReferenceEvaluator(CASES[json.loads(file.read_text("utf-8"))["case"]]()[0])


def _objects(arrays: harness.Arrays) -> dict[str, np.ndarray]:
    return {name: array.astype(object) if array.dtype.kind == "U" else array for name, array in arrays.items()}


Case = Callable[[], tuple[onnx.ModelProto, dict[str, Any]]]


def _model(graph: str, **constants: np.ndarray) -> onnx.ModelProto:
    model = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : {OPSET}]> {graph}')
    model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    onnx.checker.check_model(model, full_check=True)
    return model


def _weights(*shape: int) -> np.ndarray:
    random = np.random.Generator(np.random.PCG64(sum(shape) * 1000 + len(shape)))
    return random.normal(0, 0.4, shape).astype(np.float32)


def heads() -> tuple[onnx.ModelProto, dict[str, Any]]:
    """Inputs of seven types and of ranks 2 to 4, tokens and mask of one free length; four outputs of ranks 1 to 3."""
    model = _model(
        """heads (float[N,4] x, int64[N,L] tokens, int32[N,L] mask, bool[N,2] flags, uint8[N,4,4,3] image,
                  float16[N,2] half, string[N,1] word)
           => (float[N,5] kind, int64[N] label, float[N,L,3] each, float[N,5] mood) {
             embedded = Gather <axis = 0> (table, tokens)
             shown = Cast <to = 1> (mask)
             shown3 = Unsqueeze (shown, two)
             masked = Mul (embedded, shown3)
             scores = MatMul (masked, w_each)
             each = Softmax <axis = -1> (scores)
             pooled = ReduceSum <keepdims = 0> (masked, one)
             flag = Cast <to = 1> (flags)
             pixels = Cast <to = 1> (image)
             scaled = Div (pixels, white)
             colour = ReduceMean <keepdims = 0> (scaled, sides)
             wide = Cast <to = 1> (half)
             same = Equal (word, sea)
             known = Cast <to = 1> (same)
             all = Concat <axis = 1> (x, pooled, flag, colour, wide, known)
             logits = Gemm (all, w_kind, b_kind)
             kind = Softmax <axis = -1> (logits)
             index = ArgMax <axis = 1, keepdims = 0> (kind)
             label = Gather (names, index)
             mood = Gemm (all, w_mood, b_mood)
           }""",
        table=_weights(50, 6), two=np.array([2]), one=np.array([1]), sides=np.array([1, 2]),
        white=np.array(255, dtype=np.float32), sea=np.array(["sea"], dtype=object), w_each=_weights(6, 3),
        w_kind=_weights(18, 5), b_kind=_weights(5), w_mood=_weights(18, 5) * 2, b_mood=_weights(5) + 1,
        names=np.array([30, 10, 50, 20, 40]),
    )  # fmt: skip
    inputs = [
        {"name": "x", "dtype": "float32", "shape": [None, 4]},
        {"name": "tokens", "dtype": "int64", "shape": [None, "length"], "between": [0, 49]},
        {"name": "mask", "dtype": "int32", "shape": [None, "length"], "between": [0, 1]},
        {"name": "flags", "dtype": "bool", "shape": [None, 2]},
        {"name": "image", "dtype": "uint8", "shape": [None, 4, 4, 3]},
        {"name": "half", "dtype": "float16", "shape": [None, 2]},
        {"name": "word", "dtype": "string", "shape": [None, 1], "categories": ["sea", "land"]},
    ]
    outputs = [
        _output("kind", "scores"),
        _output("label", "label", scores="kind", classes=[30, 10, 50, 20, 40]),
        _output("each", "scores"),
        _output("mood", "values"),
    ]
    return model, {"inputs": inputs, "outputs": outputs, "sizes": {"length": [7, 3, 11]}}


def images() -> tuple[onnx.ModelProto, dict[str, Any]]:
    """Convolution, normalisation, resizing and pooling, of images of a free size."""
    model = _model(
        """images (float[N,3,H,W] image) => (float[N,6] kind) {
             centred = Sub (image, mean)
             scaled = Div (centred, deviation)
             convolved = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (scaled, kernel, bias)
             normed = BatchNormalization <epsilon = 0.001> (convolved, gamma, beta, average, variance)
             bent = LeakyRelu <alpha = 0.3> (normed)
             larger = Resize <mode = "linear", coordinate_transformation_mode = "half_pixel"> (bent, , scales)
             halved = AveragePool <kernel_shape = [3, 3], strides = [2, 2]> (larger)
             sharp = Mul (halved, halved)
             pooled = ReduceMean <keepdims = 0> (sharp, sides)
             logits = Gemm (pooled, w, b)
             kind = Softmax <axis = 1> (logits)
           }""",
        mean=np.array([0.2, -0.1, 0.4], dtype=np.float32).reshape(3, 1, 1),
        deviation=np.array([1.5, 0.8, 2.0], dtype=np.float32).reshape(3, 1, 1),
        kernel=_weights(6, 3, 3, 3), bias=_weights(6), gamma=_weights(6) + 1, beta=_weights(6), average=_weights(6),
        variance=np.array([0.01, 0.02, 0.5, 1, 0.03, 0.2], dtype=np.float32),
        scales=np.array([1, 1, 1.5, 1.5], np.float32), sides=np.array([2, 3]), w=_weights(6, 6), b=_weights(6),
    )  # fmt: skip
    inputs = [{"name": "image", "dtype": "float32", "shape": [None, 3, "h", "w"]}]
    return model, {"inputs": inputs, "outputs": [_output("kind", "scores")], "sizes": {"h": [8, 6], "w": [8, 10]}}


def prices() -> tuple[onnx.ModelProto, dict[str, Any]]:
    """Large numbers: what has room in float32 and none in float16."""
    model = _model(
        """prices (float[N,3] x) => (float[N,1] price) {
             partly = MatMul (x, w)
             price = Mul (partly, thousands)
           }""",
        w=_weights(3, 1), thousands=np.array(100_000, dtype=np.float32),
    )  # fmt: skip
    inputs = [{"name": "x", "dtype": "float32", "shape": [None, 3], "range": [[0, 9], [1, 5], [-2, 2]]}]
    return model, {"inputs": inputs, "outputs": [_output("price", "values")]}


def fixed() -> tuple[onnx.ModelProto, dict[str, Any]]:
    """A batch of exactly four rows, and an output that has no row for each."""
    model = _model(
        """fixed (float[4,6] x) => (float[4,2] y, float[2] middle) {
             y = MatMul (x, w)
             middle = ReduceMean <keepdims = 0> (y, first)
           }""",
        w=_weights(6, 2), first=np.array([0]),
    )  # fmt: skip
    inputs = [{"name": "x", "dtype": "float32", "shape": [4, 6]}]
    return model, {"inputs": inputs, "outputs": [_output("y", "values"), _output("middle", "values")]}


def types() -> tuple[onnx.ModelProto, dict[str, Any]]:
    """Each type of numbers in and out."""
    kinds = {
        "float64": ("double", 11), "int8": ("int8", 3), "int16": ("int16", 5), "int32": ("int32", 6),
        "uint8": ("uint8", 2), "uint16": ("uint16", 4), "uint32": ("uint32", 12), "uint64": ("uint64", 13),
    }  # fmt: skip
    given = ", ".join(f"{word}[N,2] {name}" for name, (word, _) in kinds.items())
    made = "\n".join(f"{name}_d = Cast <to = 11> ({name})" for name in kinds)
    model = _model(
        f"""types ({given}) => (double[N,2] total, bool[N,2] odd, int8[N,2] back, float16[N,2] half) {{
             {made}
             total = Sum ({", ".join(f"{name}_d" for name in kinds)})
             odd = Equal (int8, int8)
             back = Identity (int8)
             small = Div (int8_d, thousand)
             half = Cast <to = 10> (small)
           }}""",
        thousand=np.array(1000.0),
    )
    inputs = [{"name": name, "dtype": name, "shape": [None, 2]} for name in kinds]
    outputs = [_output(name, "values") for name in ("total", "odd", "back", "half")]
    return model, {"inputs": inputs, "outputs": outputs, "dtype": "float64"}


def recurrent() -> tuple[onnx.ModelProto, dict[str, Any]]:
    """An LSTM over a free length, time first."""
    model = _model(
        """recurrent (float[N,T,3] x) => (float[T,D,N,4] each, float[D,N,4] last) {
             ahead = Transpose <perm = [1, 0, 2]> (x)
             each, last, cell = LSTM <hidden_size = 4> (ahead, w, r, b)
           }""",
        w=_weights(1, 16, 3), r=_weights(1, 16, 4), b=_weights(1, 32),
    )  # fmt: skip
    inputs = [{"name": "x", "dtype": "float32", "shape": [None, None, 3]}]
    return model, {"inputs": inputs, "outputs": [_output("each", "values"), _output("last", "values")]}


def quantised() -> tuple[onnx.ModelProto, dict[str, Any]]:
    """Integers in and out, as a fully quantised network has them."""
    model = _model(
        """quantised (uint8[N,8] x) => (uint8[N,4] y) {
             real = DequantizeLinear (x, fine, zero)
             weights = DequantizeLinear (w, fine, none)
             mixed = MatMul (real, weights)
             y = QuantizeLinear (mixed, coarse, middle)
           }""",
        fine=np.array(0.01, np.float32), zero=np.array(128, np.uint8),
        w=np.rint(_weights(8, 4) * 100).astype(np.int8), none=np.array(0, np.int8),
        coarse=np.array(0.0131, np.float32), middle=np.array(100, np.uint8),
    )  # fmt: skip
    return model, {"inputs": [{"name": "x", "dtype": "uint8", "shape": [None, 8]}], "outputs": [_output("y", "values")]}


def dynamic() -> tuple[onnx.ModelProto, dict[str, Any]]:
    """Weights and activations quantised as it runs: a dynamic range quantised network."""
    model = _model(
        """dynamic (float[N,8] x) => (float[N,4] y) {
             q, step, zero = DynamicQuantizeLinear (x)
             real = DequantizeLinear (q, step, zero)
             y = Gemm (real, w, b)
           }""",
        w=_weights(8, 4), b=_weights(4),
    )  # fmt: skip
    return model, {
        "inputs": [{"name": "x", "dtype": "float32", "shape": [None, 8]}],
        "outputs": [_output("y", "values")],
    }


def straight() -> tuple[onnx.ModelProto, dict[str, Any]]:
    """A plain sum, for a fault that shows far from where data is drawn."""
    model = _model("straight (float[N,8] x) => (float[N,1] y) { y = MatMul (x, w) }", w=_weights(8, 1))
    return model, {
        "inputs": [{"name": "x", "dtype": "float32", "shape": [None, 8]}],
        "outputs": [_output("y", "values")],
    }


CASES: dict[str, Case] = {
    one.__name__: one for one in (heads, images, prices, fixed, types, recurrent, quantised, dynamic, straight)
}


def _output(name: str, role: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "role": role, "method": "run", **more}
