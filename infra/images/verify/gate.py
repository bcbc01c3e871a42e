"""The gate: refuses an ONNX file or makes it canonical, runs it, and makes the inputs for both sides.
`gate.py --onnx FILE --signature FILE --options FILE [--test FOLDER] --out FOLDER`

Writes model.onnx, facts.json, inputs.npz and plan.json; on refusal a sentence to `failure`, and exits 1.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import batches
import numpy as np
import onnx
import onnxruntime
import testdata
from admit import Refused, admit, graphs
from canonical import canonical
from onnx import TensorProto

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
# Operators that jump: an input moved by a rounding can move their output by much more than a rounding.
JUMPS = {
    "TreeEnsemble", "TreeEnsembleClassifier", "TreeEnsembleRegressor", "Binarizer", "ArgMax", "ArgMin", "TopK",
    "Floor", "Ceil", "Round", "Sign", "QuantizeLinear", "DynamicQuantizeLinear", "NonMaxSuppression", "Unique",
    "Less", "LessOrEqual", "Greater", "GreaterOrEqual", "Equal", "Hardmax",
}  # fmt: skip
# Operators that compute in float32 inside, whatever their declared types are.
SINGLE = {
    "TreeEnsembleClassifier", "TreeEnsembleRegressor", "SVMClassifier", "SVMRegressor", "LinearClassifier",
    "LinearRegressor", "Scaler", "Normalizer",
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("onnx", "signature", "options", "out"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--test")
    args = parser.parse_args()
    out = Path(args.out)
    try:
        signature = json.loads(Path(args.signature).read_text("utf-8"))
        options = json.loads(Path(args.options).read_text("utf-8"))
        gate(Path(args.onnx), signature, options, Path(args.test) if args.test else None, out)
    except Refused as error:
        (out / "failure").write_text(str(error)[:4000], "utf-8")
        sys.exit(1)


def gate(file: Path, signature: dict[str, Any], options: dict[str, Any], test: Path | None, out: Path) -> None:
    if file.stat().st_size > 2**31 - 1:
        raise Refused(f"the ONNX file has {file.stat().st_size} bytes, over the limit of {2**31 - 1}")
    model = admit(file.read_bytes())
    try:
        onnx.checker.check_model(model, full_check=True)
        data = canonical(model)
        model = onnx.load_model_from_string(data)
        onnx.checker.check_model(model, full_check=True)
        inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    except Exception as error:
        raise Refused(f"the ONNX checker refuses the model: {str(error)[:2000]}") from error
    facts = _facts(model, inferred, signature)
    if options["opset"] not in (None, facts["opset"]["ai.onnx"]):
        raise Refused(f"opset {options['opset']} was asked for, the model has {facts['opset']['ai.onnx']}")
    facts["canonical_again"] = canonical(model) == data
    session = open_session(data)
    seed = int.from_bytes(hashlib.sha256(data).digest()[:8], "big")
    rows, said = testdata.read(test, signature) if test else (None, "none")
    made = batches.make(signature["inputs"], rows, seed, options.get("rows"))
    _run_once(session, made)
    (out / "model.onnx").write_bytes(data)
    np.savez(out / "inputs.npz", **made.arrays)
    facts["test_data"] = said
    facts["test_rows"] = 0 if rows is None else len(next(iter(rows.values())))
    (out / "plan.json").write_text(json.dumps(made.plan), "utf-8")
    (out / "facts.json").write_text(json.dumps(facts), "utf-8")


def open_session(data: bytes) -> onnxruntime.InferenceSession:
    """ONNX Runtime on the CPU alone, one thread so that sums are always in one order; raises Refused."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.use_deterministic_compute = True
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise Refused(f"ONNX Runtime can't run the model: {str(error)[:2000]}") from error
    session.disable_fallback()
    if session.get_providers() != ["CPUExecutionProvider"]:
        raise Refused(f"ONNX Runtime fell back to {session.get_providers()}")
    return session


def _run_once(session: onnxruntime.InferenceSession, made: batches.Made) -> None:
    first = made.plan[0]["batch"]
    given = {one.name: made.arrays[f"{first}/{one.name}"] for one in session.get_inputs()}
    try:
        session.run(None, {k: v.astype(object) if v.dtype.kind == "U" else v for k, v in given.items()})
    except Exception as error:
        raise Refused(f"ONNX Runtime can't run the model on an ordinary input: {str(error)[:2000]}") from error


def _facts(model: onnx.ModelProto, inferred: onnx.ModelProto, signature: dict[str, Any]) -> dict[str, Any]:
    """What the certificate says about the file, and a check that the stated signature is the file's own."""
    stated = [(one["name"], one["dtype"], one["shape"][1:]) for one in signature["inputs"]]
    found = [(v.name, _dtype(v), _shape(v)[1:]) for v in model.graph.input]
    if stated != found:
        raise Refused(f"the model's inputs are {found}, but its signature says {stated}")
    names = [value.name for value in model.graph.output]
    if names != [one["name"] for one in signature["outputs"]]:
        raise Refused(f"the model's outputs are {names}, but its signature says otherwise")
    operators: dict[str, int] = {}
    for graph in graphs(model.graph):
        for node in graph.node:
            name = f"{node.domain}.{node.op_type}" if node.domain == "com.microsoft" else node.op_type
            operators[name] = operators.get(name, 0) + 1
    types = {v.name: _dtype(v) for v in (*inferred.graph.value_info, *inferred.graph.input, *inferred.graph.output)}
    return {
        "ir": model.ir_version,
        "opset": {one.domain or "ai.onnx": one.version for one in model.opset_import},
        "operators": dict(sorted(operators.items())),
        "parameters": sum(_size(t) for graph in graphs(model.graph) for t in graph.initializer),
        "onnx": onnx.__version__,
        "runtime": onnxruntime.__version__,
        "outputs": [_output(value, model.graph, types) for value in model.graph.output],
    }


def _output(value: onnx.ValueInfoProto, graph: onnx.GraphProto, types: dict[str, str]) -> dict[str, Any]:
    """An output's type, the precision of what it is computed from, and the operators before it that jump."""
    maker = {name: node for node in graph.node for name in node.output if name}
    jumps, single, half, waiting, seen = set(), False, False, [value.name], set()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        half |= types.get(name) == "float16"
        single |= types.get(name) == "float32"
        node = maker.get(name)
        if node is not None:
            inner = [n for a in node.attribute for g in ([a.g] if a.HasField("g") else a.graphs) for n in g.node]
            ops = {node.op_type, *(n.op_type for n in inner)}
            jumps |= ops & JUMPS
            single |= bool(ops & SINGLE)
            waiting.extend(n for n in (*node.input, *(i for one in inner for i in one.input)) if n)
    dtype = _dtype(value)
    # Half precision has its wide tolerance only where the model is given half precision: else a conversion that loses
    # precision would loosen its own tolerance.
    half &= any(_dtype(one) == "float16" for one in graph.input)
    precision = "float16" if half else "float32" if single or "float16" in types.values() else "float64"
    return {"name": value.name, "dtype": dtype, "precision": precision, "jumps": sorted(jumps)}


def _dtype(value: onnx.ValueInfoProto) -> str:
    if not value.type.HasField("tensor_type"):
        return "other"
    return DTYPES.get(value.type.tensor_type.elem_type, "other")


def _shape(value: onnx.ValueInfoProto) -> list[int | None]:
    return [d.dim_value if d.HasField("dim_value") else None for d in value.type.tensor_type.shape.dim]


def _size(tensor: TensorProto) -> int:
    size = 1
    for dim in tensor.dims:
        size *= dim
    return size


if __name__ == "__main__":
    main()
