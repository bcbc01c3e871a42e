"""Graphs without Identity nodes, but for those that outputs need: converters put them here or there."""

from __future__ import annotations

from onnx import AttributeProto, GraphProto, NodeProto


def resolved(graph: GraphProto, outer: dict[str, str] | None = None) -> GraphProto:
    """A copy in which values are used as what they are copies of. Of outputs that are one value, the first is the value
    itself and the others are Identities of it. Nodes must be in topological order; `outer` renames values around it."""
    out = GraphProto()
    out.CopyFrom(graph)
    del out.node[:]
    source: dict[str, str] = {}  # of an Identity's output
    for node in graph.node:
        if _is_identity(node):
            source[node.output[0]] = source.get(node.input[0], node.input[0])
    made = {name for node in graph.node if not _is_identity(node) for name in node.output if name}
    renamed = dict(outer or {})
    copies: list[tuple[str, str]] = []
    seen: set[str] = set()
    for position, value in enumerate(graph.output):
        origin = source.get(value.name, value.name)
        if origin in made and origin not in seen:
            seen.add(origin)
            renamed[origin] = value.name
        elif origin in made or value.name in source:
            out.output[position].name = f"{value.name}/{position}" if outer is not None else value.name
            copies.append((origin, out.output[position].name))
    for name, origin in source.items():
        renamed[name] = renamed.get(origin, origin)
    for node in graph.node:
        if not _is_identity(node):
            out.node.append(_renamed(node, renamed))
    for origin, name in copies:
        out.node.add(op_type="Identity", input=[renamed.get(origin, origin)], output=[name])
    return out


def _is_identity(node: NodeProto) -> bool:
    return node.op_type == "Identity" and node.domain in ("", "ai.onnx")


def _renamed(node: NodeProto, renamed: dict[str, str]) -> NodeProto:
    made = NodeProto()
    made.CopyFrom(node)
    made.input[:] = [renamed.get(name, name) for name in node.input]
    made.output[:] = [renamed.get(name, name) for name in node.output]
    for attribute in made.attribute:
        if attribute.type == AttributeProto.GRAPH:
            attribute.g.CopyFrom(resolved(attribute.g, renamed))
        for inner in attribute.graphs:
            inner.CopyFrom(resolved(inner, renamed))
    return made
