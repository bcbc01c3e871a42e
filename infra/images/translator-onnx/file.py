"""An ONNX file as it came: what it takes and gives, with the maps that some converters put around scores taken off."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
from harness import Unsupported
from onnx import ModelProto, TensorProto, helper

DTYPES = {
    TensorProto.FLOAT: "float32",
    TensorProto.DOUBLE: "float64",
    TensorProto.FLOAT16: "float16",
    TensorProto.INT64: "int64",
    TensorProto.INT32: "int32",
    TensorProto.INT16: "int16",
    TensorProto.INT8: "int8",
    TensorProto.UINT8: "uint8",
    TensorProto.BOOL: "bool",
    TensorProto.STRING: "string",
}
PASSES = {"Cast", "Identity", "Reshape", "Unsqueeze", "Squeeze", "Flatten", "Transpose"}  # indices stay what they are
HINTS = {"range", "between", "columns", "categories", "text"}  # of where the values of an input lie


def load(path: Path) -> ModelProto:
    """The model with all its data, what lies in other files beside it included. Raises Unsupported if it is none."""
    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:
        raise Unsupported(f"{path.name} is not ONNX: {error}") from error
    for tensor in tensors(model.graph):
        if tensor.data_location == TensorProto.EXTERNAL:
            _take_in(tensor, path.parent)
    return model


def _take_in(tensor: TensorProto, folder: Path) -> None:
    """Put a tensor's data, which are in another file of the folder, in the tensor itself."""
    where = {entry.key: entry.value for entry in tensor.external_data}
    name = where.get("location", "")
    path = (folder / name).resolve()
    if not name or not path.is_relative_to(folder.resolve()) or not path.is_file():
        raise Unsupported(f"the tensor {tensor.name!r} keeps its data in {name!r}, which is no file of the model")
    offset, length = int(where.get("offset", 0)), int(where.get("length", -1))
    if offset < 0 or length > path.stat().st_size - offset:
        raise Unsupported(f"the tensor {tensor.name!r} keeps its data beyond the end of {name!r}")
    with path.open("rb") as file:
        file.seek(offset)
        tensor.raw_data = file.read(length)
    tensor.data_location = TensorProto.DEFAULT
    del tensor.external_data[:]


def tensors(graph: onnx.GraphProto) -> list[TensorProto]:
    found = list(graph.initializer)
    for node in graph.node:
        for attribute in node.attribute:
            found += [attribute.t, *attribute.tensors]
            for inner in (attribute.g, *attribute.graphs):
                found += tensors(inner)
    return found


def inputs_of(model: ModelProto, stated: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The inputs, each with name, dtype and shape; hints of where values lie are taken from what is stated, or, for
    indices, from the table that they index."""
    constants = {tensor.name for tensor in model.graph.initializer}
    said = {str(one.get("name")): one for one in stated}
    found = []
    for value in model.graph.input:
        if value.name in constants:
            continue
        kind = value.type.tensor_type
        if not value.type.HasField("tensor_type") or kind.elem_type not in DTYPES:
            raise Unsupported(f"the input {value.name!r} is not a tensor of numbers, booleans or text")
        shape = [_size(dim) for dim in kind.shape.dim]
        if not shape:
            raise Unsupported(f"the input {value.name!r} has no dimensions: its first must be the batch")
        one: dict[str, Any] = {
            "name": value.name,
            "dtype": DTYPES[kind.elem_type],
            "shape": [_batch(shape[0]), *shape[1:]],
        }
        hints = said.get(value.name, {})
        one.update({name: hints[name] for name in HINTS if name in hints})
        rows = _table(model.graph, value.name)
        if rows and "int" in one["dtype"] and not HINTS & one.keys():
            one["between"] = [0, rows - 1]
        found.append(one)
    return found


def _size(dim: onnx.TensorShapeProto.Dimension) -> int | str | None:
    """A dimension's size, or its name, or nothing: equal names have equal sizes."""
    return dim.dim_value if dim.HasField("dim_value") else dim.dim_param or None


def _batch(size: int | str | None) -> int | None:
    return size if isinstance(size, int) else None


def outputs_of(model: ModelProto) -> list[dict[str, str]]:
    """The outputs of a model without maps: a label and its scores where they are that, else values."""
    values = list(model.graph.output)
    for value in values:
        if not value.type.HasField("tensor_type"):
            raise Unsupported(f"the output {value.name!r} is not a tensor: have the model give tensors")
    is_label = [value.type.tensor_type.elem_type in (TensorProto.INT64, TensorProto.STRING) for value in values]
    classifies = len(values) == 2 and is_label == [True, False]
    roles = ["label", "scores"] if classifies else ["label" if one else "values" for one in is_label]
    return [{"name": value.name, "role": role, "method": "run"} for value, role in zip(values, roles, strict=True)]


def without_maps(model: ModelProto) -> dict[str, list[str | int]]:
    """Take the ZipMap nodes before outputs off, in place; returns the keys of each, in the order of their columns."""
    maps: dict[str, list[str | int]] = {}
    by_output = {name: node for node in model.graph.node for name in node.output}
    for value in model.graph.output:
        node = by_output.get(value.name)
        if node is None or node.op_type != "ZipMap":
            continue
        named = {one.name: helper.get_attribute_value(one) for one in node.attribute}
        keys = named.get("classlabels_int64s") or [key.decode() for key in named.get("classlabels_strings", [])]
        maps[value.name] = list(keys)
        model.graph.node.remove(node)
        model.graph.node.append(helper.make_node("Identity", [node.input[0]], [value.name]))
        value.type.CopyFrom(helper.make_tensor_type_proto(TensorProto.FLOAT, [None, len(keys)]))
    return maps


def _table(graph: onnx.GraphProto, name: str) -> int | None:
    """The size of the constant table whose rows an input selects, if it does."""
    tables = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant":
            tables[node.output[0]] = next((list(a.t.dims) for a in node.attribute if a.name == "value"), [])
    names = {name}
    for node in graph.node:
        if node.op_type in PASSES and node.input[0] in names:
            names.add(node.output[0])
        if node.op_type == "Gather" and node.input[1] in names and tables.get(node.input[0]):
            axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 0)
            return tables[node.input[0]][axis]
    return None
