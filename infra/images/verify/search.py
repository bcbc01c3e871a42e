"""A bounded search that climbs the difference: further inputs, bred from the rows that differ most."""

from __future__ import annotations

import numpy as np
from batches import MOST_CELLS, Made
from rows import Columns, Signature, generated

ROWS, DECOYS = 192, 64  # of a round; decoys are fresh random rows, so that the native side can't tell which is which
STEPS = (0.3, 0.1, 0.03)  # of the data's range, round by round


def searched(signature: Signature, worst: list[tuple[float, Columns]], seed: int, number: int) -> Made:
    """The inputs of search round `number` (from 0); without batches if there is nothing to climb."""
    made = Made()
    inner = {one["name"]: tuple(signature.inner(one)) for one in signature.inputs}
    parents = [row for _, row in worst if all(row[name].shape[1:] == inner[name] for name in inner)]
    if not parents:
        return made
    random = np.random.Generator(np.random.PCG64((seed + number + 1) % 2**64))
    count = max(12, min(ROWS, MOST_CELLS // 8 // max(1, signature.width), (signature.batch or ROWS) * 48))
    decoys = generated(signature, count // 3, random)
    children = _children(signature, parents, count, random, STEPS[number])
    origins = ["searched"] * count + ["random"] * (count // 3)
    order = random.permutation(len(origins))
    rows = {name: np.concatenate([children[name], decoys[name]])[order] for name in inner}
    made.cut(signature, rows, [origins[i] for i in order], (256,))
    return made


def _children(
    signature: Signature, parents: list[Columns], count: int, random: np.random.Generator, step: float
) -> Columns:
    """Rows near their parents, the worst parents having the most; a third is moved in
    some numbers only."""
    chosen = (len(parents) * random.random(count) ** 2).astype(int)
    other = generated(signature, count, random)
    children: Columns = {}
    for one in signature.inputs:
        name = one["name"]
        base = np.concatenate([parent[name] for parent in parents])[chosen]
        some = random.random(base.shape) < 0.2
        if "float" not in one["dtype"] or one.get("columns") or one.get("categories"):
            children[name] = np.where(some, other[name], base)
            continue
        low, high = signature.bounds(one)
        moved = base.astype(np.float64) + step * (high - low) * random.standard_normal(base.shape)
        third = count // 3  # a third goes along the line from another row, as far again
        moved[-third:] = base[-third:] + step * (base[-third:].astype(np.float64) - other[name][-third:])
        some[: count // 3] = some[-third:] = True
        within = np.clip(moved, low - (high - low) / 2, high + (high - low) / 2)
        children[name] = signature.typed(one, np.where(some, within, base))
    return children
