"""What translators of neural networks need to know of, and do to, the ONNX graph that their converter made."""

from __future__ import annotations

from typing import Any

import harness
import onnx
from onnx import ModelProto, TensorProto

INTEGERS = {
    TensorProto.INT8, TensorProto.INT16, TensorProto.INT32, TensorProto.INT64,
    TensorProto.UINT8, TensorProto.UINT16, TensorProto.UINT32, TensorProto.UINT64,
}  # fmt: skip
# Through these an integer input still counts rows of a table; what is beyond, such as arithmetic of floats, does not.
CARRYING = {
    "Cast", "Identity", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Transpose", "Slice", "Split", "Expand", "Tile",
    "Concat", "Add", "Mul", "Less", "Where", "Clip", "Max", "Min",
}  # fmt: skip
UNCHANGED = ("Identity", "Cast", "Reshape", "Squeeze", "Unsqueeze", "Flatten")


def check_operators(model: ModelProto, converter: str) -> None:
    """Raises harness.Unsupported naming the operators that the converter left as it found them."""
    versions = {one.domain: one.version for one in model.opset_import}
    unknown = {
        f"{node.domain}.{node.op_type}" if node.domain else node.op_type
        for graph in graphs(model.graph)
        for node in graph.node
        if node.domain not in ("", "ai.onnx.ml") or not _known(node, versions)
    }
    if unknown:
        raise harness.Unsupported(
            f"{converter} has no ONNX form of {', '.join(sorted(unknown))[:500]}: build the model of other operations"
        )


def rename(model: ModelProto, inputs: dict[str, str], outputs: dict[str, str]) -> None:
    """Gives inputs and outputs new names (old → new) and this order; inner values that have one of them get another.

    Raises harness.Unsupported if one is not there: the converter found that nothing depends on it.
    """
    for values, names in ((model.graph.input, inputs), (model.graph.output, outputs)):
        there = {one.name: one for one in values}
        lost = [new for old, new in names.items() if old not in there]
        if lost or len(there) != len(names):
            raise harness.Unsupported(
                f"the converter made {', '.join(there) or 'nothing'} of {', '.join(names.values())}: an input that the "
                "model does not use can't stay; export the model without it"
            )
        ordered = [onnx.ValueInfoProto.FromString(there[old].SerializeToString()) for old in names]
        del values[:]
        values.extend(ordered)
    new = {**inputs, **outputs}
    wanted = set(new.values())
    inner = {one for graph in graphs(model.graph) for node in graph.node for one in (*node.input, *node.output)}
    inner |= {one.name for graph in graphs(model.graph) for one in graph.initializer}
    new.update({name: f"{name}/inner" for name in inner & wanted if name not in new})
    for graph in graphs(model.graph):
        for node in graph.node:
            node.input[:] = [new.get(name, name) for name in node.input]
            node.output[:] = [new.get(name, name) for name in node.output]
        for value in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
            value.name = new.get(value.name, value.name)


def bounds(model: ModelProto) -> dict[str, list[int]]:
    """The integer inputs that are numbers of rows of a table, such as tokens: [first, last] row, by input."""
    tables = {one.name: one.dims[0] for one in model.graph.initializer if one.dims}
    for node in model.graph.node:
        if node.op_type == "Constant" and node.attribute and node.attribute[0].t.dims:
            tables[node.output[0]] = node.attribute[0].t.dims[0]
    found = {}
    for value in model.graph.input:
        if value.type.tensor_type.elem_type not in INTEGERS:
            continue
        carried, sizes = {value.name}, []
        for node in model.graph.node:  # in the order in which they are computed
            if node.op_type == "Gather" and node.input[1] in carried and node.input[0] in tables:
                sizes.append(tables[node.input[0]])
            elif node.op_type in CARRYING and carried & set(node.input):
                carried.update(node.output)
        if sizes:
            found[value.name] = [0, min(sizes) - 1]
    return found


def roles(model: ModelProto) -> list[str]:
    """What each output is: `scores` of a softmax over two or more classes, a `label` that is an ArgMax, or `values`."""
    maker = {name: node for node in model.graph.node for name in node.output}
    found = []
    for value in model.graph.output:
        node = maker.get(value.name)
        while node is not None and node.op_type in UNCHANGED:
            node = maker.get(node.input[0])
        kind = node.op_type if node is not None else ""
        dims = value.type.tensor_type.shape.dim
        if kind in ("Softmax", "LogSoftmax") and len(dims) > 1 and dims[-1].dim_value != 1:
            found.append("scores")
        else:
            found.append("label" if kind == "ArgMax" else "values")
    return found


def classes(model: ModelProto, found: list[str], stated: Any) -> list[Any]:
    """The classes that the model's description states, where one output has a score for each of them."""
    scores = [value for value, role in zip(model.graph.output, found, strict=True) if role == "scores"]
    if len(scores) != 1 or not isinstance(stated, list):
        return []
    return stated if scores[0].type.tensor_type.shape.dim[-1].dim_value == len(stated) else []


def graphs(graph: onnx.GraphProto) -> list[onnx.GraphProto]:
    """A graph and all graphs within its nodes."""
    found, waiting = [], [graph]
    while waiting:
        one = waiting.pop()
        found.append(one)
        for node in one.node:
            for attribute in node.attribute:
                waiting += [attribute.g] if attribute.HasField("g") else attribute.graphs
    return found


def hinted(inputs: list[dict[str, Any]], model: ModelProto, stated: list[Any]) -> list[dict[str, Any]]:
    """The inputs with hints for making rows: what the model's description states, else what the graph tells."""
    known = bounds(model)
    by_name = {str(one.get("name")): one for one in stated if isinstance(one, dict)}
    for one in inputs:
        if one["name"] in known:
            one["between"] = known[one["name"]]
        said = by_name.get(one["name"], {})
        one.update({key: said[key] for key in ("between", "range", "categories", "columns") if said.get(key)})
    return inputs


def _known(node: onnx.NodeProto, versions: dict[str, int]) -> bool:
    try:
        onnx.defs.get_schema(node.op_type, versions.get(node.domain, 1), node.domain)
    except onnx.defs.SchemaError:
        return False
    return True


def distinct(names: list[str], taken: list[str] | None = None) -> list[str]:
    """The names, each made its own by a number where it is there already."""
    used = set(taken or ())
    found = []
    for name in names:
        count, one = 1, name
        while one in used:
            count, one = count + 1, f"{name}_{count}"
        used.add(one)
        found.append(one)
    return found
