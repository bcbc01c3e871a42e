"""What the certificate says about an ONNX file, read from its graph."""

from __future__ import annotations

from typing import Any

import onnx
import onnxruntime
from admit import Refused, graphs
from onnx import ModelProto, NodeProto, TensorProto

DTYPES = {
    TensorProto.FLOAT: "float32",
    TensorProto.DOUBLE: "float64",
    TensorProto.FLOAT16: "float16",
    TensorProto.INT64: "int64",
    TensorProto.INT32: "int32",
    TensorProto.INT16: "int16",
    TensorProto.INT8: "int8",
    TensorProto.UINT64: "uint64",
    TensorProto.UINT32: "uint32",
    TensorProto.UINT16: "uint16",
    TensorProto.UINT8: "uint8",
    TensorProto.BOOL: "bool",
    TensorProto.STRING: "string",
}
# Operators that jump: an input moved by a rounding can move their output by much more than a rounding. So does Cast
# to integers. They jump only where they are given floating numbers that depend on the model's inputs.
JUMPS = {
    "ArgMax", "ArgMin", "Binarizer", "Ceil", "Compress", "DynamicQuantizeLinear", "Equal", "Floor", "Greater",
    "GreaterOrEqual", "Hardmax", "LabelEncoder", "Less", "LessOrEqual", "Mod", "NonMaxSuppression", "NonZero",
    "QuantizeLinear", "Round", "Shrink", "Sign", "ThresholdedRelu", "TopK", "TreeEnsemble", "TreeEnsembleClassifier",
    "TreeEnsembleRegressor", "Unique",
}  # fmt: skip
REQUANTISE = {"QLinearAdd", "QLinearConv", "QLinearMatMul"}  # round within, whatever they are given
# Operators of which neither ONNX nor IEEE 754 says what they make of NaN, or which runtimes bend: Cast to integers too.
NAN_OPEN = {
    "Clip", "DynamicQuantizeLinear", "GRU", "GlobalMaxPool", "HardSigmoid", "HardSwish", "LSTM", "Max", "MaxPool",
    "Min", "QuantizeLinear", "RNN", "ReduceMax", "ReduceMin", "Relu", "ThresholdedRelu", "TopK",
}  # fmt: skip
# Operators that compute in float32 inside, whatever their declared types are.
SINGLE = {
    "TreeEnsembleClassifier", "TreeEnsembleRegressor", "SVMClassifier", "SVMRegressor", "LinearClassifier",
    "LinearRegressor", "Scaler", "Normalizer",
}  # fmt: skip
WHOLE = {TensorProto.INT64, TensorProto.INT32, TensorProto.INT16, TensorProto.INT8, TensorProto.UINT64,
         TensorProto.UINT32, TensorProto.UINT16, TensorProto.UINT8, TensorProto.BOOL}  # fmt: skip


def facts(model: ModelProto, inferred: ModelProto, signature: dict[str, Any]) -> dict[str, Any]:
    """The file's facts; `inferred` is the model with the types of its values. Raises Refused where the stated signature
    is not the file's own."""
    stated = [(one["name"], one["dtype"], _open(one["shape"][1:])) for one in signature["inputs"]]
    found = [(v.name, dtype_of(v), _shape(v)[1:]) for v in model.graph.input]
    if stated != found:
        raise Refused(f"the model's inputs are {found}, but its signature says {stated}")
    for one, value in zip(signature["inputs"], model.graph.input, strict=True):
        fixed = (_shape(value) or [None])[0]
        if fixed is not None and one["shape"][:1] != [fixed]:
            raise Refused(f"the input {value.name!r} takes {fixed} rows, but its signature says {one['shape'][:1]}")
    names = [value.name for value in model.graph.output]
    if names != [one["name"] for one in signature["outputs"]]:
        raise Refused(f"the model's outputs are {names}, but its signature says otherwise")
    for value in model.graph.output:
        if dtype_of(value) == "other":
            raise Refused(f"the output {value.name!r} is no tensor of numbers or text: convert so that it is one")
    flow = _Flow(inferred)
    operators: dict[str, int] = {}
    for graph in graphs(model.graph):
        for node in graph.node:
            name = f"{node.domain}.{node.op_type}" if node.domain == "com.microsoft" else node.op_type
            operators[name] = operators.get(name, 0) + 1
    return {
        "ir": model.ir_version,
        "opset": {one.domain or "ai.onnx": one.version for one in model.opset_import},
        "operators": dict(sorted(operators.items())),
        "parameters": sum(_size(t) for graph in graphs(model.graph) for t in graph.initializer),
        "onnx": onnx.__version__,
        "runtime": onnxruntime.__version__,
        "outputs": [_output(value, flow) for value in model.graph.output],
    }


def dtype_of(value: onnx.ValueInfoProto) -> str:
    """The dtype of a tensor's elements as numpy names it, or `other`."""
    if not value.type.HasField("tensor_type"):
        return "other"
    return DTYPES.get(value.type.tensor_type.elem_type, "other")


class _Flow:
    """How values come from each other, with their types; values in subgraphs included, for names are canonical."""

    def __init__(self, inferred: ModelProto) -> None:
        self.half = any(dtype_of(value) == "float16" for value in inferred.graph.input)
        self.types: dict[str, str] = {}
        self.maker: dict[str, NodeProto] = {}
        self.reads: dict[str, list[str]] = {}
        uses: dict[str, list[str]] = {}
        for graph in graphs(inferred.graph):
            for value in (*graph.value_info, *graph.input, *graph.output):
                self.types[value.name] = dtype_of(value)
            for tensor in graph.initializer:
                self.types[tensor.name] = DTYPES.get(tensor.data_type, "other")
            for node in graph.node:
                inner = [g for a in node.attribute for g in ([a.g] if a.HasField("g") else a.graphs)]
                given = [*node.input, *(value.name for one in inner for value in one.output)]
                self.maker.update(dict.fromkeys(node.output, node))
                self.reads.update(dict.fromkeys(node.output, given))
                self.reads.update({value.name: list(node.input) for one in inner for value in one.input})
        for name, given in self.reads.items():
            for one in given:
                uses.setdefault(one, []).append(name)
        self.fed = _reached([value.name for value in inferred.graph.input], uses)  # depend on the model's inputs

    def above(self, name: str) -> set[str]:
        """The value and all that it is computed from."""
        return _reached([name], self.reads)

    def jumps(self, node: NodeProto) -> bool:
        """Whether a node jumps, for what it is given."""
        if node.op_type in REQUANTISE:
            return True
        return (node.op_type in JUMPS or _is_cast_to_integers(node)) and self._is_fed_floats(node)

    def opens(self, node: NodeProto) -> bool:
        """Whether it is open what a node makes of NaN."""
        return (node.op_type in NAN_OPEN or _is_cast_to_integers(node)) and self._is_fed_floats(node)

    def _is_fed_floats(self, node: NodeProto) -> bool:
        floating = [name for name in node.input if self.types.get(name, "float32").startswith("float")]
        return any(name in self.fed for name in floating)


def _is_cast_to_integers(node: NodeProto) -> bool:
    to = next((attribute.i for attribute in node.attribute if attribute.name == "to"), None)
    return node.op_type == "Cast" and to in WHOLE


def _reached(start: list[str], steps: dict[str, list[str]]) -> set[str]:
    seen: set[str] = set()
    waiting = list(start)
    while waiting:
        one = waiting.pop()
        if one and one not in seen:
            seen.add(one)
            waiting.extend(steps.get(one, ()))
    return seen


def _output(value: onnx.ValueInfoProto, flow: _Flow) -> dict[str, Any]:
    """An output's type, the precision of what it is computed from, and the operators before it that jump."""
    above = flow.above(value.name)
    nodes = {id(node): node for node in (flow.maker.get(name) for name in above) if node is not None}.values()
    types = {flow.types.get(name) for name in above}
    single = "float32" in types or any(node.op_type in SINGLE for node in nodes)
    # Half precision has its wide tolerance only where the model is given half precision: else a conversion that loses
    # precision would loosen its own tolerance.
    half = flow.half and "float16" in types
    precision = "float16" if half else "float32" if single or "float16" in types else "float64"
    jumps = sorted({node.op_type for node in nodes if flow.jumps(node)})
    return {
        "name": value.name,
        "dtype": dtype_of(value),
        "precision": precision,
        "jumps": jumps,
        "nan_open": sorted({node.op_type for node in nodes if flow.opens(node)}),
    }


def _shape(value: onnx.ValueInfoProto) -> list[int | None]:
    return [d.dim_value if d.HasField("dim_value") else None for d in value.type.tensor_type.shape.dim]


def _open(shape: list[Any]) -> list[int | None]:
    return [size if isinstance(size, int) else None for size in shape]


def _size(tensor: TensorProto) -> int:
    size = 1
    for dim in tensor.dims:
        size *= dim
    return size
