"""TensorFlow, Keras, TFLite → ONNX (harness.translate)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import graph
import harness
import loading
import mends
import tensorflow as tf
import tf2onnx

NEWEST_OPSET = 18  # of tf2onnx 1.17.0


def convert(folder: Path, file: str, options: dict[str, Any]) -> tuple[bytes, dict[str, Any]]:
    opset = options["opset"]
    if opset > NEWEST_OPSET:
        raise harness.Unsupported(f"tf2onnx writes opset {NEWEST_OPSET} at most, not {opset}: ask for a lower one")
    loaded = loading.load(folder / file)
    floats = sorted({one["dtype"] for one in loaded.inputs if "float" in one["dtype"]})
    if options["dtype"] and floats not in ([], [options["dtype"]]):
        raise harness.Unsupported(
            f"the model takes {', '.join(floats)}, which is fixed when it is trained: dtype {options['dtype']} can't be"
        )
    converted = loaded.convert(opset)
    mends.gelu(converted)
    graph.check_operators(converted, "tf2onnx")
    roles = graph.roles(converted)
    signature = {
        "translator": "tensorflow",
        "framework": "tensorflow",
        "framework_version": tf.__version__,
        "converter": "tf2onnx",
        "converter_version": tf2onnx.__version__,
        "model": loaded.kind,
        "loaded_by": loaded.loaded_by,
        "untrusted_types": [],
        "dtype": floats[0] if floats else "none",
        "dtype_reason": "the model's own",
        "inputs": graph.hinted(loaded.inputs, converted, options["stated"].get("inputs", [])),
        "outputs": [
            {"name": name, "role": role, "method": "call"} for name, role in zip(loaded.outputs, roles, strict=True)
        ],
        "classes": graph.classes(converted, roles, options["stated"].get("classes")),
    }
    return converted.SerializeToString(deterministic=True), signature


if __name__ == "__main__":
    harness.translate(convert)
