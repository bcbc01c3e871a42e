"""ONNX → ONNX (harness.translate): all data in the file, no maps around scores, the operator set that was asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import file as onnx_file
import harness
import onnx
from onnx import version_converter


def convert(folder: Path, file: str, options: dict[str, Any]) -> tuple[bytes, dict[str, Any]]:
    model = onnx_file.load(folder / file)
    version = next((one.version for one in model.opset_import if one.domain in ("", "ai.onnx")), 0)
    producer = " ".join(part for part in (model.producer_name, model.producer_version) if part) or "unknown"
    ir = model.ir_version
    maps = onnx_file.without_maps(model)
    opset = options["opset"]
    if not version:  # all its operators are of ai.onnx.ml
        model.opset_import.append(onnx.helper.make_opsetid("", opset))
    elif opset != version:
        try:
            model = version_converter.convert_version(model, opset)
            onnx.checker.check_model(model, full_check=True)
        except Exception as error:
            raise harness.Unsupported(
                f"onnx can't take the model from opset {version} to {opset}: ask for opset {version}, the file's own "
                f"({str(error)[:500]})"
            ) from error
    inputs, outputs = onnx_file.inputs_of(model, options["stated"].get("inputs", [])), onnx_file.outputs_of(model)
    floats = [one["dtype"] for one in inputs if one["dtype"].startswith("float")]
    if options["dtype"] and set(floats) - {options["dtype"]}:
        raise harness.Unsupported(f"the file's inputs are {floats[0]}: an ONNX file keeps its own types")
    signature = {
        "translator": "onnx",
        "framework": "ONNX",
        "framework_version": f"IR {ir}, opset {version}",
        "converter": "onnx",
        "converter_version": onnx.__version__,
        "model": f"ONNX of {producer}"[:500],
        "loaded_by": "onnx",
        "untrusted_types": [],
        "dtype": floats[0] if floats else "none",
        "dtype_reason": "the file's own",
        "inputs": inputs,
        "outputs": outputs,
        "classes": next(iter(maps.values()), []),
        "native": {"maps": maps},
    }
    return model.SerializeToString(deterministic=True), signature


if __name__ == "__main__":
    harness.translate(convert)
