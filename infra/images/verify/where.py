"""Where a translation comes apart from its model: the native model's intermediate values, stage by stage, against all
values of the ONNX graph.

Converters fuse, split and rename, so a stage is found in the graph by its values, within the tolerance, not by a name.
What is wrong from some node on is found nowhere: the first such node is where to look.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from batches import Made
from compare import fed
from facts import dtype_of
from gate import open_session
from rows import Columns, Signature

ROWS = 2  # one row tells less: axes may be exchanged, or the row be alike everywhere
MOST_VALUES = 20_000


def asked(signature: Signature, outside: list[Columns]) -> Made:
    """The batch whose stages are asked for: rows that are outside, of one shape, as often as the batch takes."""
    shape = [array.shape for array in outside[0].values()]
    alike = [row for row in outside if [array.shape for array in row.values()] == shape]
    count = signature.batch or ROWS
    made = Made()
    columns = {name: np.concatenate([alike[i % len(alike)][name] for i in range(count)]) for name in outside[0]}
    made.add(columns, ["test"] * count)
    return made


def first_disagreement(data: bytes, made: Made, stages: Any, tolerances: dict[str, Any]) -> dict[str, Any] | None:
    """The first node of the graph that computes something else, and the native stage from there on that is found
    nowhere, as far as there are such. None if there are neither."""
    batch = made.plan[0]["batch"]
    native = {key.split("/", 1)[1]: stages[key] for key in stages.files if key.startswith(f"{batch}/")}
    native = {name: array.astype(np.float64) for name, array in native.items() if _tells(array)}
    given = {key.split("/", 1)[1]: array for key, array in made.arrays.items() if key.startswith(f"{batch}/")}
    model = onnx.load_model_from_string(data)
    values = _all_values(model, given)
    found: dict[str, int] = {}  # the last stage that each value of the graph equals
    missed: list[int] = []
    for index, stage in enumerate(native.values()):
        names = [name for name, value in values.items() if _gap(stage, value, tolerances) == 0.0]
        found.update(dict.fromkeys(names, index))
        if not names:
            missed.append(index)
    node = _first_wrong(model.graph, {*found, *given})
    above = _above(model.graph, node) if node is not None else found
    last = max((found[name] for name in above if name in found), default=-1)
    lost = next((index for index in missed if index > last), None)
    if node is None and lost is None:
        return None
    names, stage = list(native), list(native.values())[lost] if lost is not None else None
    gaps = [_gap(stage, value, tolerances) for value in values.values()] if stage is not None else []
    return {
        "stage": names[lost][:200] if lost is not None else "",
        "after": names[last][:200] if last >= 0 else "",
        "difference": min((gap for gap in gaps if gap is not None), default=None),
        "scale": _size(stage) if stage is not None else None,
        "node": next(name for name in node.output if name) if node is not None else "",
        "operator": node.op_type if node is not None else "",
    }


def _first_wrong(graph: onnx.GraphProto, right: set[str]) -> onnx.NodeProto | None:
    """The first node that gives what is wrong from what is not. Wrong is what is not found to be right, and is used
    for what is wrong up to the outputs: what is not found but leads to what is, is only computed in other steps."""
    wrong = {value.name for value in graph.output} - right
    for node in reversed(graph.node):  # the canonical order is topological
        if any(name in wrong for name in node.output):
            wrong |= {name for name in node.input if name and name not in right}
    constants = {tensor.name for tensor in graph.initializer}
    for node in graph.node:
        if any(name in wrong for name in node.output) and not any(
            name in wrong and name not in constants for name in node.input
        ):
            return node
    return None


def _above(graph: onnx.GraphProto, last: onnx.NodeProto) -> set[str]:
    """All values that a node's inputs are computed from, with them."""
    makers = {name: node for node in graph.node for name in node.output}
    seen: set[str] = set()
    waiting = list(last.input)
    while waiting:
        name = waiting.pop()
        if name and name not in seen:
            seen.add(name)
            waiting.extend(makers[name].input if name in makers else ())
    return seen


def _tells(stage: np.ndarray) -> bool:
    """Whether a stage can be recognised by its values: numbers, finite, and not all the same."""
    return stage.dtype.kind in "fiu" and stage.size > 1 and bool(np.all(np.isfinite(stage))) and bool(np.ptp(stage) > 0)


def _all_values(model: onnx.ModelProto, given: Columns) -> dict[str, np.ndarray]:
    """All numbers that the model computes for one batch, and its inputs."""
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
    known = {value.name: value for value in inferred.graph.value_info}
    outputs = [value.name for value in model.graph.output]
    made = [name for node in model.graph.node for name in node.output if name in known and name not in outputs]
    shown = [name for name in made if dtype_of(known[name]).startswith(("float", "int", "uint"))][:MOST_VALUES]
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    watched.graph.output.extend(known[name] for name in shown)
    names = [*shown, *outputs]
    answers = open_session(watched.SerializeToString()).run(names, fed(given))
    everything = {**given, **dict(zip(names, map(np.asarray, answers), strict=True))}
    return {name: array.astype(np.float64) for name, array in everything.items() if array.dtype.kind in "fiu"}


def _gap(stage: np.ndarray, value: np.ndarray, tolerances: dict[str, Any]) -> float | None:
    """How far a value of the graph is from a stage: 0 within the tolerance of float32; None if it is of another size.

    Converters keep channels where they are, or put them last, or first.
    """
    if value.size != stage.size:
        return None
    orders = [stage]
    if stage.ndim > 2:
        orders += [np.moveaxis(stage, 1, -1), np.moveaxis(stage, -1, 1)]
    tolerance = tolerances["float32"]
    allowed = tolerance["absolute"] * _size(stage)
    best: float | None = None
    for turned in orders:
        with np.errstate(all="ignore"):
            gap = np.abs(turned.ravel() - value.ravel())
        if np.all(gap <= allowed + tolerance["relative"] * np.abs(turned.ravel())):
            return 0.0
        if np.all(np.isfinite(gap)):
            best = float(gap.max()) if best is None else min(best, float(gap.max()))
    return best


def _size(stage: np.ndarray) -> float:
    return float(np.sqrt(np.mean(stage**2)))
