"""Canonical form of an ONNX model: the same graph gives the same bytes, whatever its converter named and ordered.

Every value gets a colour from how it is computed (forward) and from how it is used (backward); nodes are put in
topological order with ties broken by colour; values are renamed in that order. Names of inputs and outputs stay, for
they are the model's interface. Documentation, metadata, names, copies of values, and what no output depends on are
dropped.
"""

from __future__ import annotations

import hashlib
import heapq

from identities import resolved
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, numpy_helper


def canonical(model: ModelProto) -> bytes:
    """The one serialisation of `model`."""
    out = ModelProto(ir_version=model.ir_version)
    used = {("" if node.domain == "ai.onnx" else node.domain) for node in _all_nodes(model.graph)} | {""}
    for opset in sorted(model.opset_import, key=lambda one: one.domain):
        domain = "" if opset.domain == "ai.onnx" else opset.domain
        if domain in used:
            out.opset_import.add(domain=domain, version=opset.version)
    taken = {value.name for value in (*model.graph.input, *model.graph.output)}
    out.graph.CopyFrom(_Graph(resolved(model.graph), {}).rewritten({}, _Names(taken), top=True))
    out.graph.name = "model"
    return out.SerializeToString(deterministic=True)


def _all_nodes(graph: GraphProto) -> list[NodeProto]:
    found, waiting = [], [graph]
    while waiting:
        for node in waiting.pop().node:
            found.append(node)
            for attribute in node.attribute:
                waiting.extend([attribute.g] if attribute.HasField("g") else attribute.graphs)
    return found


class _Names:
    """v0, v1, … without those that the interface has."""

    def __init__(self, taken: set[str]) -> None:
        self.taken, self.count = taken, 0

    def next(self) -> str:
        while True:
            name = f"v{self.count}"
            self.count += 1
            if name not in self.taken:
                return name


class _Graph:
    """One graph with the colours of its values; `outer` are the colours of what it may take from around it."""

    def __init__(self, graph: GraphProto, outer: dict[str, bytes], depth: int = 0) -> None:
        self.graph, self.depth = graph, depth
        self.constants = {tensor.name: _plain_tensor(tensor) for tensor in graph.initializer}
        self.sparse = {tensor.values.name: tensor for tensor in graph.sparse_initializer}
        self.inputs = [v for v in graph.input if v.name not in self.constants and v.name not in self.sparse]
        self.colours = dict(outer)
        for name, tensor in self.constants.items():
            self.colours[name] = _hash(b"constant", tensor.SerializeToString(deterministic=True))
        for name, sparse in self.sparse.items():
            self.colours[name] = _hash(b"sparse", sparse.SerializeToString(deterministic=True))
        for index, value in enumerate(self.inputs):
            self.colours[value.name] = _hash(b"input", str(depth).encode(), str(index).encode())
        self.inner: dict[int, list[_Graph]] = {}
        self.reads: dict[int, list[str]] = {}
        self.forward: dict[int, bytes] = {}
        self._colour_forward()
        self.backward = self._colour_backward()

    def colour(self) -> bytes:
        """What the graph computes, whatever its names."""
        return _hash(b"graph", *(self.colours[value.name] for value in self.graph.output))

    def _colour_forward(self) -> None:
        maker = {name: i for i, node in enumerate(self.graph.node) for name in node.output if name}
        state: dict[int, int] = {}
        for start in range(len(self.graph.node)):
            waiting = [start]
            while waiting:  # by hand, since graphs are deeper than Python's stack
                index = waiting[-1]
                if state.get(index) == 2:
                    waiting.pop()
                    continue
                reads = self._reads_of(index)
                before = [maker[n] for n in reads if n in maker and state.get(maker[n]) != 2]
                if before and state.get(index) != 1:
                    state[index] = 1
                    waiting.extend(before)
                elif before:
                    raise ValueError("the graph is not acyclic")
                else:
                    self._colour_node(index)
                    state[index] = 2
                    waiting.pop()

    def _reads_of(self, index: int) -> list[str]:
        """All values that a node needs: its inputs, and what its subgraphs capture (their free names)."""
        if index not in self.reads:
            node = self.graph.node[index]
            captured: set[str] = set()
            for attribute in node.attribute:
                for graph in [attribute.g] if attribute.HasField("g") else attribute.graphs:
                    captured |= _free_names(graph)
            self.reads[index] = [*node.input, *sorted(captured)]
        return self.reads[index]

    def _ordered_reads(self, index: int) -> list[tuple[str, str]]:
        """The same once all have colours: inputs by position, captured values by colour, for names say nothing."""
        count = len(self.graph.node[index].input)
        reads = self._reads_of(index)
        captured = sorted(reads[count:], key=lambda name: (self.colours.get(name, b""), name))
        return [(str(i), name) for i, name in enumerate(reads[:count])] + [("captured", name) for name in captured]

    def _colour_node(self, index: int) -> None:
        node = self.graph.node[index]
        parts = [node.domain.replace("ai.onnx.ml", "ml").replace("ai.onnx", "").encode(), node.op_type.encode()]
        parts += [self.colours.get(name, b"") for name in node.input]
        inner = []
        for attribute in sorted(node.attribute, key=lambda one: one.name):
            if attribute.type in (AttributeProto.GRAPH, AttributeProto.GRAPHS):
                for graph in [attribute.g] if attribute.HasField("g") else attribute.graphs:
                    inner.append(_Graph(graph, self.colours, self.depth + 1))
                    parts += [attribute.name.encode(), inner[-1].colour()]
            else:
                parts.append(_plain_attribute(attribute).SerializeToString(deterministic=True))
        self.inner[index] = inner
        self.forward[index] = _hash(b"node", str(len(node.output)).encode(), *parts)
        for position, name in enumerate(node.output):
            if name:
                self.colours[name] = _hash(b"value", str(position).encode(), self.forward[index])

    def _colour_backward(self) -> dict[int, bytes]:
        """Tells apart nodes that compute the same by who uses them. Also finds the nodes that outputs depend on."""
        order = list(self.forward)  # topological: dictionaries keep the order of insertion
        uses: dict[str, list[bytes]] = {}
        for position, value in enumerate(self.graph.output):
            uses.setdefault(value.name, []).append(_hash(b"output", str(position).encode()))
        backward: dict[int, bytes] = {}
        for index in reversed(order):
            node = self.graph.node[index]
            wanted = [b"".join(sorted(uses.get(name, []))) for name in node.output]
            if not any(wanted):
                continue
            backward[index] = _hash(b"uses", self.forward[index], *(_hash(w) for w in wanted))
            for position, name in self._ordered_reads(index):
                if name:
                    uses.setdefault(name, []).append(_hash(position.encode(), backward[index]))
        return backward

    def order(self) -> list[int]:
        """Topological order of the nodes that outputs depend on, ties broken by colour."""
        maker = {name: i for i in self.backward for name in self.graph.node[i].output if name}
        after: dict[int, list[int]] = {}
        missing: dict[int, int] = {}
        for index in self.backward:
            before = {maker[name] for name in self._reads_of(index) if name in maker}
            missing[index] = len(before)
            for one in before:
                after.setdefault(one, []).append(index)
        ready = [(self.forward[i], self.backward[i], i) for i, count in missing.items() if count == 0]
        heapq.heapify(ready)
        ordered = []
        while ready:
            *_, index = heapq.heappop(ready)
            ordered.append(index)
            for one in after.get(index, []):
                missing[one] -= 1
                if missing[one] == 0:
                    heapq.heappush(ready, (self.forward[one], self.backward[one], one))
        return ordered

    def rewritten(self, outer: dict[str, str], names: _Names, *, top: bool) -> GraphProto:
        """The graph in canonical order and names; `outer` maps the names around it."""
        out = GraphProto(name="graph")
        renamed = dict(outer)
        keep = {v.name for v in (*self.inputs, *self.graph.output)} if top else set()
        order = self.order()
        for value in self.inputs:
            renamed[value.name] = value.name if top else names.next()
        constants: list[str] = []
        same: dict[bytes, str] = {}  # equal constants are kept once
        wanted = [name for index in order for _, name in self._ordered_reads(index)]
        for name in [*wanted, *(v.name for v in self.graph.output)]:
            if name not in renamed and (name in self.constants or name in self.sparse):
                if name not in keep and self.colours[name] in same:
                    renamed[name] = same[self.colours[name]]
                    continue
                renamed[name] = name if name in keep else names.next()
                constants.append(name)
                if name not in keep:
                    same[self.colours[name]] = renamed[name]
        for index in order:
            for name in self.graph.node[index].output:
                if name:
                    renamed[name] = name if name in keep else names.next()
        for index in order:
            out.node.append(self._rewritten_node(index, renamed, names))
        for name in constants:
            if name in self.constants:
                tensor = out.initializer.add()
                tensor.CopyFrom(self.constants[name])
                tensor.name = renamed[name]
            else:
                sparse = out.sparse_initializer.add()
                sparse.CopyFrom(self.sparse[name])
                sparse.values.name = renamed[name]
        dims: dict[str, str] = {}
        for values, target in ((self.inputs, out.input), (self.graph.output, out.output)):
            for value in values:
                target.append(_plain_value(value, renamed[value.name], dims))
        return out

    def _rewritten_node(self, index: int, renamed: dict[str, str], names: _Names) -> NodeProto:
        node = self.graph.node[index]
        domain = "" if node.domain == "ai.onnx" else node.domain
        made = NodeProto(op_type=node.op_type, domain=domain)
        made.input.extend(renamed.get(name, "") if name else "" for name in node.input)
        outputs = [renamed.get(name, "") if name else "" for name in node.output]
        made.output.extend(outputs)
        inner = iter(self.inner[index])
        for attribute in sorted(node.attribute, key=lambda one: one.name):
            if attribute.type == AttributeProto.GRAPH:
                graph = next(inner).rewritten(renamed, names, top=False)
                made.attribute.add(name=attribute.name, type=AttributeProto.GRAPH).g.CopyFrom(graph)
            elif attribute.type == AttributeProto.GRAPHS:
                many = made.attribute.add(name=attribute.name, type=AttributeProto.GRAPHS)
                for _ in attribute.graphs:
                    many.graphs.append(next(inner).rewritten(renamed, names, top=False))
            else:
                made.attribute.append(_plain_attribute(attribute))
        return made


def _free_names(graph: GraphProto) -> set[str]:
    """Names that a graph takes from around it, without colouring it."""
    made = {o for node in graph.node for o in node.output} | {v.name for v in graph.input}
    made |= {t.name for t in graph.initializer} | {t.values.name for t in graph.sparse_initializer}
    wanted = {v.name for v in graph.output}
    for node in graph.node:
        wanted |= set(node.input)
        for attribute in node.attribute:
            for inner in [attribute.g] if attribute.HasField("g") else attribute.graphs:
                wanted |= _free_names(inner)
    return wanted - made - {""}


def _plain_tensor(tensor: TensorProto) -> TensorProto:
    """The tensor without name and documentation, numbers as raw little-endian bytes."""
    out = numpy_helper.from_array(numpy_helper.to_array(tensor)) if tensor.data_type != TensorProto.STRING else None
    if out is None or out.data_type != tensor.data_type:
        out = TensorProto()
        out.CopyFrom(tensor)
    out.ClearField("name")
    out.ClearField("doc_string")
    del out.metadata_props[:]
    return out


def _plain_attribute(attribute: AttributeProto) -> AttributeProto:
    out = AttributeProto()
    out.CopyFrom(attribute)
    out.ClearField("doc_string")
    if attribute.HasField("t"):
        out.t.CopyFrom(_plain_tensor(attribute.t))
    for index, tensor in enumerate(attribute.tensors):
        out.tensors[index].CopyFrom(_plain_tensor(tensor))
    return out


def _plain_value(value: ValueInfoProto, name: str, dims: dict[str, str]) -> ValueInfoProto:
    """Type and shape alone; unknown dimensions are named in order of appearance."""
    out = ValueInfoProto(name=name)
    out.type.CopyFrom(value.type)
    if out.type.HasField("tensor_type") and out.type.tensor_type.HasField("shape"):
        for dim in out.type.tensor_type.shape.dim:
            dim.ClearField("denotation")
            if dim.HasField("dim_param"):
                dim.dim_param = dims.setdefault(dim.dim_param, f"d{len(dims)}")
    out.type.ClearField("denotation")
    return out


def _hash(*parts: bytes) -> bytes:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.digest()
