"""XGBoost, LightGBM and CatBoost, alone or at the end of a pipeline of scikit-learn → ONNX (harness.translate)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import boosters
import estimators
import harness
import loading
import onnx
import skl2onnx
from onnx import TensorProto, compose, helper

WHY = {
    "float32": "the native model compares in float32",
    "float64": "the native model compares in float64",
}


def convert(folder: Path, file: str, options: dict[str, Any]) -> tuple[bytes, dict[str, Any]]:
    opset = options.get("opset") or estimators.NEWEST_OPSET
    if not 13 <= opset <= estimators.NEWEST_OPSET:
        raise harness.Unsupported(f"boosted trees become ONNX of opset 13 to {estimators.NEWEST_OPSET}, not {opset}")
    found = boosters.load(folder / file)
    stated = options["stated"]
    native = "float64" if found.package == "lightgbm" else "float32"
    dtype = options["dtype"] or ("float64" if found.before else native)
    reason = "asked for" if options["dtype"] else f"scikit-learn computes in {dtype}" if found.before else WHY[native]
    inside = dtype if native == "float64" else "float32"  # in which the trees of the ONNX file compare
    classes = list(stated.get("classes") or []) if found.is_file else loading.labels(found.last)
    made = found.module.made(found.last if found.is_file else found.module.inner(found.last), classes, inside, opset)
    model, converter = made.model, made.converter
    if found.before is None:
        names = [str(one.get("name") or "") for one in stated.get("inputs", [])]
        name = names[0] if len(names) == 1 and names[0] else "X"
        inputs = [{"name": name, "dtype": dtype, "shape": [None, len(made.ranges)], "range": made.ranges}]
        loading.check_stated(stated.get("inputs", []), inputs)
        model = _merged(_cast(name, dtype, inside, len(made.ranges), opset), model)
    else:
        inputs = loading.inputs_of(found.model, stated.get("inputs", []), dtype)
        before = estimators.graph(found.before, inputs, opset)
        if len(before.graph.output) != 1:
            raise harness.Unsupported("the steps before the trees give several outputs: they must give one table")
        model = _merged(_single(before, inside), model)
        converter = (f"skl2onnx+{converter[0]}", f"{skl2onnx.__version__}+{converter[1]}")
    estimators.check_names(inputs, made.outputs)
    signature = {
        "translator": "boosting",
        "framework": found.module.NAME,
        "framework_version": found.module.VERSION,
        "converter": converter[0],
        "converter_version": converter[1],
        "model": found.kind,
        "dtype": dtype,
        "dtype_reason": reason,
        "inputs": inputs,
        "outputs": made.outputs,
        "classes": made.classes,
        "native": {"classes": made.classes},
        **found.how,
    }
    return model.SerializeToString(deterministic=True), signature


def _cast(name: str, dtype: str, inside: str, width: int, opset: int) -> onnx.ModelProto:
    kinds = {"float32": TensorProto.FLOAT, "float64": TensorProto.DOUBLE}
    given = helper.make_tensor_value_info(name, kinds[dtype], [None, width])
    result = helper.make_tensor_value_info("cast", kinds[inside], [None, width])
    node = helper.make_node("Cast", [name], ["cast"], to=kinds[inside])
    graph = helper.make_graph([node], "cast", [given], [result])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def _single(before: onnx.ModelProto, inside: str) -> onnx.ModelProto:
    """The steps' table in the type in which the trees compare."""
    to = TensorProto.DOUBLE if inside == "float64" else TensorProto.FLOAT
    table = before.graph.output[0]
    before.graph.node.append(helper.make_node("Cast", [table.name], ["cast"], to=to))
    table.name, table.type.tensor_type.elem_type = "cast", to
    return before


def _merged(first: onnx.ModelProto, trees: onnx.ModelProto) -> onnx.ModelProto:
    first = compose.add_prefix(first, "before_", rename_inputs=False)
    kept = [one for one in first.opset_import if one.domain not in ("", "ai.onnx", "ai.onnx.ml")]
    del first.opset_import[:]
    first.opset_import.extend([*trees.opset_import, *kept])
    first.ir_version = trees.ir_version
    return compose.merge_models(first, trees, io_map=[("before_cast", "features")])


if __name__ == "__main__":
    harness.translate(convert)
