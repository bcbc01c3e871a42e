"""Shows that canonical form does not depend on names and order, inside the gate's environment.
`translation_canonical.py PROGRAMS [MODEL.onnx …]`
"""

from __future__ import annotations

import random
import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def main() -> None:
    sys.path.insert(0, sys.argv[1])
    from canonical import canonical

    models = [onnx.load(path) for path in sys.argv[2:]] or [_with_subgraphs(), _with_twins(), _with_a_loop()]
    for model in models:
        onnx.checker.check_model(model)
        once = canonical(model)
        again = onnx.load_model_from_string(once)
        onnx.checker.check_model(again, full_check=True)
        assert canonical(again) == once, "not idempotent"
        for seed in range(20):
            assert canonical(_disguised(model, random.Random(seed))) == once, f"seed {seed} gives other bytes"
        assert canonical(_changed(model)) != once, "a changed number is not seen"


def _with_subgraphs() -> onnx.ModelProto:
    value = helper.make_tensor_value_info
    x, y = value("X", TensorProto.FLOAT, ["n", 3]), value("Y", TensorProto.FLOAT, ["n", 3])
    z = value("Z", TensorProto.FLOAT, ["n", 6])
    add = helper.make_node("Add", ["a", "w"], ["t"], name="then")
    then = helper.make_graph([add], "t", [], [value("t", 1, ["n", 3])])
    inner = helper.make_graph([helper.make_node("Neg", ["a"], ["i"])], "i", [], [value("i", 1, ["n", 3])])
    other = helper.make_graph([helper.make_node("Mul", ["b", "u"], ["j"])], "j", [], [value("j", 1, ["n", 3])])
    deeper = helper.make_node("If", ["flag"], ["e"], then_branch=inner, else_branch=other)
    otherwise = helper.make_graph([deeper], "e", [], [value("e", 1, ["n", 3])])
    nodes = [
        helper.make_node("Relu", ["X"], ["a"]), helper.make_node("Sigmoid", ["X"], ["b"]),
        helper.make_node("ReduceSum", ["a"], ["s"], keepdims=0),
        helper.make_node("ReduceSum", ["b"], ["r"], keepdims=0),
        helper.make_node("Greater", ["s", "r"], ["flag"]),
        helper.make_node("If", ["flag"], ["Y"], then_branch=then, else_branch=otherwise),
        helper.make_node("Concat", ["b", "a"], ["Z"], axis=1), helper.make_node("Tanh", ["b"], ["dead"]),
    ]  # fmt: skip
    weights = [numpy_helper.from_array(np.arange(3, dtype=np.float32), name) for name in ("w", "u", "unused")]
    graph = helper.make_graph(nodes, "g", [x], [y, z], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def _with_twins() -> onnx.ModelProto:
    """Nodes that compute the same, told apart by who uses them alone."""
    value = helper.make_tensor_value_info
    nodes = [helper.make_node("Relu", ["X"], [f"twin{i}"]) for i in range(4)]
    nodes += [helper.make_node("Neg" if i % 2 else "Abs", [f"twin{i}"], [f"Y{i}"]) for i in range(4)]
    outputs = [value(f"Y{i}", TensorProto.FLOAT, ["n", 2]) for i in range(4)]
    weights = [numpy_helper.from_array(np.ones(2, dtype=np.float32), "w")]
    nodes.append(helper.make_node("Add", ["twin0", "w"], ["S"]))
    outputs.append(value("S", TensorProto.FLOAT, ["n", 2]))
    graph = helper.make_graph(nodes, "g", [value("X", TensorProto.FLOAT, ["n", 2])], outputs, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def _with_a_loop() -> onnx.ModelProto:
    """A Loop whose body gives one value twice, and passes one on as it is."""
    value = helper.make_tensor_value_info
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["going"], ["on"]),
            helper.make_node("Mul", ["state", "w"], ["next"]),
            helper.make_node("Identity", ["next"], ["shown"]),
            helper.make_node("Identity", ["kept"], ["kept_on"]),
        ],
        "body",
        [
            value("i", TensorProto.INT64, []),
            value("going", TensorProto.BOOL, []),
            value("state", 1, [2]),
            value("kept", 1, [2]),
        ],
        [value("on", TensorProto.BOOL, []), value("next", 1, [2]), value("kept_on", 1, [2]), value("shown", 1, [2])],
    )
    nodes = [
        helper.make_node("Loop", ["three", "", "X", "X"], ["last", "same", "all"], body=body),
        helper.make_node("Add", ["last", "same"], ["Y"]), helper.make_node("Neg", ["all"], ["Z"]),
    ]  # fmt: skip
    weights = [numpy_helper.from_array(np.array(3), "three"), numpy_helper.from_array(np.ones(2, np.float32) * 2, "w")]
    outputs = [value("Y", 1, [2]), value("Z", 1, [3, 2])]
    graph = helper.make_graph(nodes, "g", [value("X", 1, [2])], outputs, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def _disguised(model: onnx.ModelProto, dice: random.Random) -> onnx.ModelProto:
    """The same model as another converter might write it."""
    out = onnx.ModelProto()
    out.CopyFrom(model)
    out.producer_name, out.doc_string, out.graph.name = f"tool{dice.random()}", "made today", "main"
    out.metadata_props.add(key="date", value=str(dice.random()))
    out.opset_import.append(helper.make_opsetid("unused.example", 1))
    keep = {v.name for v in (*model.graph.input, *model.graph.output)}
    _copy_values(out.graph, dice)
    _rename(out.graph, {name: name for name in keep} | {"": ""}, dice)
    nodes, placed = list(out.graph.node), {v.name for v in out.graph.input} | {t.name for t in out.graph.initializer}
    del out.graph.node[:]
    while nodes:
        ready = [n for n in nodes if _reads(n) <= placed | {""}]
        node = dice.choice(ready)
        nodes.remove(node)
        placed |= set(node.output)
        out.graph.node.append(node)
    tensors = list(out.graph.initializer)
    dice.shuffle(tensors)
    del out.graph.initializer[:]
    out.graph.initializer.extend(tensors)
    return out


def _copy_values(graph: onnx.GraphProto, dice: random.Random) -> None:
    """Identities before nodes and after them, where converters put some."""
    nodes = list(graph.node)
    ends = {value.name for value in graph.output}
    del graph.node[:]
    for node in nodes:
        for index, name in enumerate(node.input):
            if name and dice.random() < 0.3:
                node.input[index] = f"copy{dice.getrandbits(60)}"
                graph.node.append(helper.make_node("Identity", [name], [node.input[index]]))
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _copy_values(attribute.g, dice)
        shown = []
        for index, name in enumerate(node.output):
            if name in ends and dice.random() < 0.5:
                node.output[index] = f"made{dice.getrandbits(60)}"
                shown.append(helper.make_node("Identity", [node.output[index]], [name]))
        graph.node.extend([node, *shown])


def _reads(node: onnx.NodeProto) -> set[str]:
    names = set(node.input)
    for attribute in node.attribute:
        if attribute.HasField("g"):
            made = {o for n in attribute.g.node for o in n.output} | {v.name for v in attribute.g.input}
            made |= {t.name for t in attribute.g.initializer}
            names |= {name for n in attribute.g.node for name in _reads(n)} - made
    return names


def _rename(graph: onnx.GraphProto, names: dict[str, str], dice: random.Random) -> None:
    for tensor in graph.initializer:
        tensor.name = names.setdefault(tensor.name, f"n{dice.getrandbits(60)}")
    del graph.value_info[:]
    for node in graph.node:
        node.name, node.doc_string = f"node{dice.getrandbits(60)}", "a note"
        node.input[:] = [names[name] for name in node.input]
        node.output[:] = [names.setdefault(name, f"n{dice.getrandbits(60)}") for name in node.output]
        attributes = list(node.attribute)
        dice.shuffle(attributes)
        del node.attribute[:]
        node.attribute.extend(attributes)
        for attribute in node.attribute:
            if attribute.HasField("g"):
                inner = dict(names)
                for value in attribute.g.input:
                    value.name = inner.setdefault(value.name, f"n{dice.getrandbits(60)}")
                _rename(attribute.g, inner, dice)
                for value in attribute.g.output:
                    value.name = inner[value.name]


def _changed(model: onnx.ModelProto) -> onnx.ModelProto:
    """One used number changed by one step."""
    out = onnx.ModelProto()
    out.CopyFrom(model)
    for tensor in out.graph.initializer:
        used = any(tensor.name in _reads(node) for node in out.graph.node)
        values = numpy_helper.to_array(tensor).copy()
        if used and values.dtype.kind == "f" and values.size:
            values.reshape(-1)[-1] = np.nextafter(values.reshape(-1)[-1], values.dtype.type(np.inf))
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
            return out
    for node in out.graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                attribute.t.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(attribute.t) + 1))
                return out
            if len(attribute.floats):
                attribute.floats[-1] += 1
                return out
    raise AssertionError("nothing to change")


if __name__ == "__main__":
    main()
