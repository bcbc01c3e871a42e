"""PyTorch, and Keras on PyTorch → ONNX (harness.translate)."""

from __future__ import annotations

import io
import logging
from pathlib import Path
from typing import Any

import graph
import harness
import loading
import mends
import onnx
import torch
from torch.export import Dim

NEWEST_EXPORTED, NEWEST_TRACED = 24, 20  # opsets of PyTorch 2.13's two exporters


def convert(folder: Path, file: str, options: dict[str, Any]) -> tuple[bytes, dict[str, Any]]:
    logging.disable(logging.WARNING)
    opset = options["opset"]
    loaded = loading.load(folder, file, options["stated"])
    floats = sorted({one["dtype"] for one in loaded.inputs if "float" in one["dtype"]})
    if options["dtype"] and floats not in ([], [options["dtype"]]):
        raise harness.Unsupported(
            f"the model takes {', '.join(floats)}, which is fixed when it is trained: dtype {options['dtype']} can't be"
        )
    converted, way = _converted(loaded, opset)
    if [one.version for one in converted.opset_import if one.domain == ""] != [opset]:
        raise harness.Unsupported(
            f"torch.onnx does not write this model with opset {opset}: ask for one of 18 to {NEWEST_TRACED}"
        )
    mends.rounding(converted)
    graph.check_operators(converted, "torch.onnx")
    roles = graph.roles(converted)
    signature = {
        "translator": "torch",
        "framework": "pytorch",
        "framework_version": torch.__version__,
        "converter": way,
        "converter_version": torch.__version__,
        "model": loaded.kind,
        "loaded_by": loaded.loaded_by,
        "untrusted_types": loaded.untrusted,
        "dtype": floats[0] if floats else "none",
        "dtype_reason": "the model's own",
        "inputs": graph.hinted(loaded.inputs, converted, options["stated"].get("inputs", [])),
        "outputs": [
            {"name": name, "role": role, "method": "forward"} for name, role in zip(loaded.outputs, roles, strict=True)
        ],
        "classes": graph.classes(converted, roles, options["stated"].get("classes")),
        "sizes": loaded.sizes,
        "native": {key: options["stated"].get(key) for key in ("inputs", "source", "class", "arguments")},
    }
    return converted.SerializeToString(deterministic=True), signature


def _converted(loaded: loading.Loaded, opset: int) -> tuple[onnx.ModelProto, str]:
    """The ONNX model, and the exporter that made it. What torch.export can't is traced where it may be: what tracing
    loses, such as a branch, the comparison is there to find."""
    ways = {"export": (_exported, NEWEST_EXPORTED), "trace": (_traced, NEWEST_TRACED)}
    newest = max(ways[way][1] for way in loaded.ways)
    if opset > newest:
        raise harness.Unsupported(
            f"torch.onnx writes this model with opset {newest} at most, not {opset}: ask for a lower one"
        )
    reasons = []
    for way in loaded.ways:
        make, most = ways[way]
        try:
            if opset <= most:
                return make(loaded, opset), f"torch.onnx ({way})"
        except Exception as error:  # the exporters fail in many ways
            reasons.append(_reason(error))
    raise harness.Unsupported("; ".join(reasons))


def _reason(error: Exception) -> str:
    said = str(error)
    causes = [one for one in said.splitlines() if one.startswith("<class")] or [said.strip().partition("\n")[0]]
    if any(one in said for one in ("specialized it to be a constant", "conflicts between user-specified ranges")):
        return (
            "the model fixes a size that its inputs leave free, as recurrent layers of Keras on PyTorch "
            "do with the length: give it a size, or build it without such a layer"
        )
    if isinstance(error, torch.onnx.errors.UnsupportedOperatorError):
        causes.append("save the model by torch.export.save")
    return f"torch.onnx can't convert the model: {': '.join(causes)}"[:1000]


def _exported(loaded: loading.Loaded, opset: int) -> onnx.ModelProto:
    named: dict[str, Any] = {}
    if isinstance(loaded.program, torch.nn.Module):
        # The module takes its inputs as one tuple of any length.
        named["dynamic_shapes"] = (tuple(_free(one["shape"], Dim.DYNAMIC) for one in loaded.inputs),)
        named["args"] = tuple(loading.examples(loaded.inputs))
    program = torch.onnx.export(
        loaded.program, dynamo=True, opset_version=opset, verbose=False, external_data=False, **named
    )
    return _named(program.model_proto, loaded)


def _traced(loaded: loading.Loaded, opset: int) -> onnx.ModelProto:
    names = [f"input_{i}" for i in range(len(loaded.inputs))]
    axes = {
        name: {axis: f"{name}_{axis}" for axis in _free(one["shape"], None)}
        for name, one in zip(names, loaded.inputs, strict=True)
    }
    out = io.BytesIO()
    torch.onnx.export(
        loaded.program,
        tuple(loading.examples(loaded.inputs)),
        out,
        dynamo=False,
        opset_version=opset,
        verbose=False,
        input_names=names,
        dynamic_axes=axes,
    )
    return _named(onnx.load_model_from_string(out.getvalue()), loaded)


def _named(model: onnx.ModelProto, loaded: loading.Loaded) -> onnx.ModelProto:
    """The model with our names; both exporters keep the order of inputs and outputs."""
    for given, wanted in ((model.graph.input, loaded.inputs), (model.graph.output, loaded.outputs)):
        if len(given) != len(wanted):
            raise harness.Unsupported(
                f"the exporter made {len(given)} inputs or outputs of the model's {len(wanted)}: leave out what the "
                "model does not use"
            )
    inputs = {value.name: one["name"] for value, one in zip(model.graph.input, loaded.inputs, strict=True)}
    graph.rename(model, inputs, {v.name: name for v, name in zip(model.graph.output, loaded.outputs, strict=True)})
    return model


def _free(shape: list[Any], mark: Any) -> dict[int, Any]:
    return {axis: mark for axis, size in enumerate(shape) if not isinstance(size, int)}


if __name__ == "__main__":
    harness.translate(convert)
