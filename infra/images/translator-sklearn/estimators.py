"""scikit-learn's estimators and pipelines as ONNX."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import harness
import loading
import mends
import onnx
import skl2onnx
import sklearn
from skl2onnx.common.data_types import (
    BooleanTensorType,
    DoubleTensorType,
    FloatTensorType,
    Int64TensorType,
    StringTensorType,
)

TYPES = {
    "float32": FloatTensorType,
    "float64": DoubleTensorType,
    "int64": Int64TensorType,
    "bool": BooleanTensorType,
    "string": StringTensorType,
}
NEWEST_OPSET = 22  # of skl2onnx 1.20.0


def convert(folder: Path, file: str, options: dict[str, Any]) -> tuple[bytes, dict[str, Any]]:
    opset = options.get("opset") or NEWEST_OPSET
    if opset > NEWEST_OPSET:
        raise harness.Unsupported(f"skl2onnx writes opset {NEWEST_OPSET} at most, not {opset}: ask for a lower one")
    model, how = loading.load(folder / file)
    outputs = loading.outputs_of(model)
    stated = options["stated"].get("inputs", [])
    dtypes = [options["dtype"]] if options["dtype"] else ["float64", "float32"]
    reason = "asked for" if options["dtype"] else "the native model computes in float64"
    for dtype in dtypes:
        inputs = loading.inputs_of(model, stated, dtype)
        try:
            converted = graph(model, inputs, opset)
            break
        except Exception as error:  # skl2onnx has no float64 for some models, and says so in many ways
            if dtype is dtypes[-1]:
                raise
            reason = f"float64 was tried first: the converter: {type(error).__name__}: {error}"[:1000]
    if len(converted.graph.output) != len(outputs):
        raise harness.Unsupported(
            f"{type(model).__name__} became {len(converted.graph.output)} outputs where {len(outputs)} were expected: "
            "models with several targets are not translated yet"
        )
    check_names(inputs, outputs)
    for value, wanted in zip(converted.graph.output, outputs, strict=True):
        rename_output(converted.graph, value.name, wanted["name"])
    if outputs[-1]["method"] == "decision_function" and outputs[-1]["role"] == "scores":
        mends.binary_scores(converted)
        if type(loading.steps(model)[-1]).__name__ in ("SVC", "NuSVC") and len(loading.labels(model)) == 2:
            mends.binary_support_vectors(converted)
    signature = {
        "translator": "sklearn",
        "framework": "scikit-learn",
        "framework_version": sklearn.__version__,
        "converter": "skl2onnx",
        "converter_version": skl2onnx.__version__,
        "model": " > ".join(type(step).__name__ for step in loading.steps(model))[:500],
        "dtype": dtype,
        "dtype_reason": reason,
        "inputs": inputs,
        "outputs": outputs,
        "stages": True,
        "classes": loading.labels(model) if outputs[0]["role"] == "label" else [],
        **how,
    }
    return converted.SerializeToString(deterministic=True), signature


def graph(model: Any, inputs: list[dict[str, Any]], opset: int) -> onnx.ModelProto:
    """The estimator or pipeline as skl2onnx converts it, mended; its inputs and outputs have skl2onnx's names."""
    initial = [(one["name"], TYPES[one["dtype"]](one["shape"])) for one in inputs]
    converted = _convert(model, initial, opset)
    mends.types(converted)
    mends.opset(converted, opset)
    mends.locale(converted)
    return converted


def _convert(model: Any, initial: list[tuple[str, Any]], opset: int) -> onnx.ModelProto:
    mends.trees()
    last = loading.steps(model)[-1]
    # Version 4 of ai.onnx.ml and above are not known to all of skl2onnx 1.20.0.
    versions = {"": opset, "ai.onnx.ml": 3 if opset >= 15 else 1}
    attempts: list[dict[int, dict[str, bool]]] = [{id(model): {"zipmap": False}}, {id(last): {}}]
    for options in attempts:
        try:
            return skl2onnx.convert_sklearn(
                model, name="model", initial_types=initial, target_opset=versions, options=options
            )
        except NameError as error:  # a classifier without the option has no ZipMap to leave out
            if "zipmap" not in str(error) or options is attempts[-1]:
                raise
    raise harness.Unsupported("no way to convert was tried")


def check_names(inputs: list[dict[str, Any]], outputs: list[dict[str, str]]) -> None:
    taken = {one["name"] for one in inputs} & {one["name"] for one in outputs}
    if taken:
        raise harness.Unsupported(f"the input {taken.pop()!r} has an output's name: rename that column and train again")


def rename_output(graph: onnx.GraphProto, old: str, new: str) -> None:
    for node in graph.node:
        for names in (node.input, node.output):
            for index, name in enumerate(names):
                if name == new and old != new:
                    names[index] = f"{new}_inner"
        for names in (node.input, node.output):
            for index, name in enumerate(names):
                if name == old:
                    names[index] = new
    for value in graph.output:
        if value.name == old:
            value.name = new
