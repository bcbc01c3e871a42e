"""What an ONNX file must be before anything runs it. Each check refuses with a sentence that names the thing."""

from __future__ import annotations

import onnx
from onnx import ModelProto, TensorProto, helper

MOST_BYTES = 2**31 - 1  # protobuf's limit; external data, ONNX's way around it, is refused
MOST_MESSAGES = 2_000_000
DEEPEST = 8  # subgraphs or types within each other
NEWEST_IR, NEWEST_OPSET, NEWEST_ML = 13, 26, 5  # what ONNX Runtime 1.31.1 takes
DOMAINS = {"": NEWEST_OPSET, "ai.onnx.ml": NEWEST_ML}
# Outside the standard, but in every build of ONNX Runtime: standard ONNX can't cut text by a regular expression.
RUNTIME_ONLY = {("com.microsoft", "Tokenizer")}
RANDOM = {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli"}

# Which fields of which message hold messages that can nest (onnx.proto); the others are not entered.
_NESTING = {
    "model": {7: "graph", 25: "function"},
    "function": {7: "node"},
    "graph": {1: "node", 11: "value", 12: "value", 13: "value"},
    "node": {5: "attribute"},
    "attribute": {6: "graph", 11: "graph", 14: "type", 15: "type"},
    "value": {2: "type"},
    "type": {4: "element", 5: "map", 9: "element"},
    "element": {1: "type"},
    "map": {2: "type"},
}


class Refused(Exception):
    """The file is not accepted; the message says why and what to do."""


def admit(data: bytes) -> ModelProto:
    """Parse an ONNX file that came from outside, or raise Refused. Runs nothing of it."""
    if len(data) > MOST_BYTES:
        raise Refused(f"the ONNX file has {len(data)} bytes, over the limit of {MOST_BYTES}")
    _check_nesting(data)
    try:
        model = onnx.load_model_from_string(data)
    except Exception as error:
        raise Refused("the file is not ONNX: it does not parse as a protobuf of onnx.ModelProto") from error
    if not model.graph.node and not model.graph.output:
        raise Refused("the file is not ONNX, or an empty model: it has no nodes and no outputs")
    if len(model.training_info):
        raise Refused("the ONNX file carries training information: export the model for inference only")
    if len(model.functions):
        model = onnx.inliner.inline_local_functions(model)
    if not 3 <= model.ir_version <= NEWEST_IR:
        raise Refused(f"the ONNX file has IR version {model.ir_version}: ONNX Runtime takes 3 to {NEWEST_IR}")
    _check_opsets(model)
    for graph in graphs(model.graph):
        _check_graph(graph)
    # The version of the format follows from the operator sets, so that it is the same whichever tool wrote the file.
    model.ir_version = max(8, helper.find_min_ir_version_for(list(model.opset_import), True))
    if model.ir_version > NEWEST_IR:
        raise Refused(f"its operator sets need IR version {model.ir_version}: ask for a lower opset")
    return model


def graphs(graph: onnx.GraphProto) -> list[onnx.GraphProto]:
    """A graph and all graphs within its nodes."""
    found, waiting = [], [graph]
    while waiting:
        one = waiting.pop()
        found.append(one)
        for node in one.node:
            for attribute in node.attribute:
                if attribute.HasField("g"):
                    waiting.append(attribute.g)
                waiting.extend(attribute.graphs)
    return found


def _check_opsets(model: ModelProto) -> None:
    seen: dict[str, int] = {}
    for opset in model.opset_import:
        domain = "" if opset.domain == "ai.onnx" else opset.domain
        if seen.setdefault(domain, opset.version) != opset.version:
            raise Refused(f"the ONNX file imports two versions of the operator set {domain or 'ai.onnx'}")
        if domain in DOMAINS and not 1 <= opset.version <= DOMAINS[domain]:
            raise Refused(
                f"the ONNX file uses opset {opset.version} of {domain or 'ai.onnx'}; ONNX Runtime takes up to "
                f"{DOMAINS[domain]}: ask for a lower one"
            )
    del model.opset_import[:]
    model.opset_import.extend(helper.make_opsetid(domain, seen[domain]) for domain in sorted(seen))
    if "" not in seen:
        raise Refused("the ONNX file does not say which version of ai.onnx's operators it uses")


def _check_graph(graph: onnx.GraphProto) -> None:
    for node in graph.node:
        if node.domain not in ("", "ai.onnx", "ai.onnx.ml") and (node.domain, node.op_type) not in RUNTIME_ONLY:
            raise Refused(
                f"operator {node.op_type!r} is of the domain {node.domain[:100]!r}: only ai.onnx and ai.onnx.ml run "
                "everywhere; convert without custom operators"
            )
        if node.op_type in RANDOM:
            raise Refused(f"operator {node.op_type!r} draws random numbers: its outputs can't be compared")
        for attribute in node.attribute:
            tensors = [attribute.t] if attribute.HasField("t") else []
            sparse = [attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else []
            for one in (*sparse, *attribute.sparse_tensors):
                tensors += [one.values, one.indices]
            for tensor in (*tensors, *attribute.tensors):
                _check_tensor(tensor)
    for tensor in graph.initializer:
        _check_tensor(tensor)
    for one in graph.sparse_initializer:
        _check_tensor(one.values)
        _check_tensor(one.indices)


def _check_tensor(tensor: TensorProto) -> None:
    if tensor.data_location == TensorProto.EXTERNAL or len(tensor.external_data):
        raise Refused(
            f"the tensor {tensor.name[:100]!r} keeps its data in another file: save the model with all data inside"
        )


def _check_nesting(data: bytes) -> None:
    """Walks the wire format without building messages: bounded depth and count, whatever the bytes say."""
    waiting = [(0, len(data), "model", 0)]
    messages = 0
    while waiting:
        at, end, kind, depth = waiting.pop()
        messages += 1
        if messages > MOST_MESSAGES:
            raise Refused(f"the ONNX file has more than {MOST_MESSAGES} nodes, attributes and types")
        if depth > DEEPEST:
            raise Refused(f"the ONNX file nests graphs or types more than {DEEPEST} deep")
        nesting = _NESTING[kind]
        while at < end:
            tag, at = _varint(data, at, end)
            field, wire = tag >> 3, tag & 7
            if wire == 0:
                _, at = _varint(data, at, end)
            elif wire == 2:
                length, at = _varint(data, at, end)
                if length > end - at:
                    raise Refused("the file is not ONNX, or is cut short")
                inner = nesting.get(field)
                if inner:
                    deeper = (kind == "attribute" and inner == "graph") or kind in ("element", "map")
                    waiting.append((at, at + length, inner, depth + deeper))
                at += length
            elif wire in (1, 5):
                at += 8 if wire == 1 else 4
            else:
                raise Refused("the file is not ONNX: it is not a protobuf")
        if at != end:
            raise Refused("the file is not ONNX, or is cut short")


def _varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while at < end and shift < 70:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
    raise Refused("the file is not ONNX: it is not a protobuf")
