"""Where a translation comes apart from its model: the native model's intermediate values, stage by stage, against all
values of the ONNX graph.

Converters fuse, split and rename, so stages are matched by value, not by name: a stage is found again where some value
of the graph equals it within the tolerance. Stages before the last one that is found are taken for fused away.
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

ROWS = 2  # of the batch that is looked at; one row tells less of axes that are exchanged
MOST_VALUES = 20_000


def asked(signature: Signature, row: Columns) -> Made:
    """The batch whose stages are asked for: the row that is outside, repeated."""
    made = Made()
    count = signature.batch or ROWS
    made.add({name: np.concatenate([array] * count) for name, array in row.items()}, ["test"] * count)
    return made


def first_disagreement(data: bytes, made: Made, stages: Any, tolerances: dict[str, Any]) -> dict[str, Any] | None:
    """The first stage from which on none is found in the ONNX graph, and the graph's node there; None if all are found
    or there are none."""
    batch = made.plan[0]["batch"]
    native = [(key.split("/", 1)[1], stages[key]) for key in stages.files if key.startswith(f"{batch}/")]
    native = [(name, array.astype(np.float64)) for name, array in native if _tells(array)]
    given = {key.split("/", 1)[1]: array for key, array in made.arrays.items() if key.startswith(f"{batch}/")}
    model, values = _all_values(data, given)
    nodes = {name: node for node in model.graph.node for name in node.output}
    last, seen = -1, ""
    nearest: list[float | None] = []
    for index, (_, stage) in enumerate(native):
        match, gap = _nearest(stage, values, tolerances)
        nearest.append(gap)
        if match:
            last, seen = index, match
    if last == len(native) - 1:
        return None
    name, stage = native[last + 1]
    after = next((node for node in model.graph.node if (seen or next(iter(given))) in node.input), None)
    shown = after or nodes.get(model.graph.output[0].name)
    return {
        "stage": name[:200],
        "after": native[last][0][:200] if last >= 0 else "",
        "difference": nearest[last + 1],
        "scale": float(np.sqrt(np.mean(stage**2))),
        "node": shown.output[0] if shown is not None else "",
        "operator": shown.op_type if shown is not None else "",
    }


def _tells(stage: np.ndarray) -> bool:
    """Whether a stage can be recognised by its values: floating, finite, and not all the same."""
    return stage.dtype.kind == "f" and stage.size > 1 and bool(np.all(np.isfinite(stage))) and bool(np.ptp(stage) > 0)


def _all_values(data: bytes, given: Columns) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    """The model with its floating values for one batch, in the order they are computed."""
    model = onnx.load_model_from_string(data)
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
    known = {value.name: value for value in inferred.graph.value_info}
    outputs = {value.name for value in model.graph.output}
    made = [name for node in model.graph.node for name in node.output if name in known and name not in outputs]
    floating = [name for name in made if dtype_of(known[name]).startswith("float")][:MOST_VALUES]
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    watched.graph.output.extend(known[name] for name in floating)
    session = open_session(watched.SerializeToString())
    names = [*floating, *(value.name for value in model.graph.output)]
    answers = dict(zip(names, map(np.asarray, session.run(names, fed(given))), strict=True))
    everything = {**given, **answers}
    return model, {name: array.astype(np.float64) for name, array in everything.items() if array.dtype.kind == "f"}


def _nearest(stage: np.ndarray, values: dict[str, np.ndarray], tolerances: dict[str, Any]) -> tuple[str, float | None]:
    """The value that equals a stage, if there is one, and how far the nearest of its size is."""
    tolerance = tolerances["float32"]
    scale = float(np.sqrt(np.mean(stage**2)))
    best: float | None = None
    for name, value in values.items():
        if value.size != stage.size:
            continue
        for turned in _turned(stage):
            gap = np.abs(turned - value.ravel())
            if np.all(gap <= tolerance["absolute"] * scale + tolerance["relative"] * np.abs(turned)):
                return name, 0.0
            if np.all(np.isfinite(gap)):
                best = min(float(gap.max()), best) if best is not None else float(gap.max())
    return "", best


def _turned(stage: np.ndarray) -> list[np.ndarray]:
    """The numbers of a stage in the orders that converters keep them in: channels where they are, last, or first."""
    if stage.ndim < 3:
        return [stage.ravel()]
    return [stage.ravel(), np.moveaxis(stage, 1, -1).ravel(), np.moveaxis(stage, -1, 1).ravel()]
