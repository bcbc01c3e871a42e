"""Makes the inputs that both sides answer: registered test data, and inputs generated from the signature.

Rows of all origins are shuffled together and cut in batches, so that the native side can't tell test rows from others.
Inputs that a model may rightly refuse (NaN, infinities, unknown words) are in batches of their own.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from rows import Columns, Signature, cast, edges, generated, refusable

ROWS = 1024  # random rows, unless the options say otherwise
TEST_ROWS = 2048  # test rows at most, drawn evenly
MOST_CELLS = 8_000_000  # numbers in all batches together, unless FEWEST rows have more
FEWEST = 96
MOST_FIXED = 512  # batches of a model that fixes its batch
SIZES = (1, 1, 2, 3, 256)  # of the first batches; the last repeats
ODD_ROWS = 16  # of each kind that a model may refuse


class Made:
    """Batches: `arrays` keyed `batch/input`; `plan` says what is in each and is not shown to the native side."""

    def __init__(self) -> None:
        self.arrays: Columns = {}
        self.plan: list[dict[str, Any]] = []

    def add(self, columns: Columns, origins: list[str], *, uncast_of: str | None = None) -> str:
        name = f"b{len(self.plan):05d}"
        for key, array in columns.items():
            self.arrays[f"{name}/{key}"] = array
        self.plan.append({"batch": name, "origins": origins, "uncast_of": uncast_of})
        return name

    def cut(self, signature: Signature, columns: Columns, origins: list[str], sizes: tuple[int, ...]) -> list[slice]:
        """Add rows in batches of these sizes, the last repeating; of the model's own where it fixes its batch, the last
        filled up with the first rows. Returns which rows each batch has."""
        sizes = (signature.batch,) if signature.batch else sizes
        count, at, found = len(origins), 0, []
        while at < count:
            size = sizes[min(len(found), len(sizes) - 1)]
            some = np.arange(at, at + size) % count if signature.batch else np.arange(at, min(at + size, count))
            self.add({key: array[some] for key, array in columns.items()}, [origins[i] for i in some])
            found.append(slice(at, min(at + size, count)))
            at += size
        return found


def make(signature: Signature, test: Columns | None, seed: int, rows: int | None) -> Made:
    """All batches. `test` holds the test rows as they are registered, not yet cast."""
    random = np.random.Generator(np.random.PCG64(seed))
    most = max(FEWEST, MOST_CELLS // max(1, signature.width))
    if signature.batch:
        most = max(FEWEST, min(most, MOST_FIXED * signature.batch))
    pieces: list[tuple[str, Columns]] = []
    uncast: Columns | None = None
    tested = 0
    if test is not None:
        total = len(next(iter(test.values())))
        tested = min(total, TEST_ROWS, most // 2)
        chosen = np.linspace(0, total - 1, tested).astype(int)
        uncast = {name: array[chosen] for name, array in test.items()}
        pieces.append(("test", {one["name"]: cast(uncast[one["name"]], one["dtype"]) for one in signature.inputs}))
    count = min(rows or ROWS, most - tested)
    pieces.append(("random", generated(signature, count, random)))
    pieces.append(("edge", edges(signature, random)))

    made = Made()
    origins = [origin for origin, columns in pieces for _ in next(iter(columns.values()))]
    order = random.permutation(len(origins))
    names = [one["name"] for one in signature.inputs]
    pool = {name: np.concatenate([columns[name] for _, columns in pieces])[order] for name in names}
    shuffled = [origins[i] for i in order]
    positions = (np.cumsum([origin == "test" for origin in origins]) - 1)[order]
    cut = made.cut(signature, pool, shuffled, SIZES)
    if uncast is not None:
        for plan, some in list(zip(made.plan, cut, strict=True))[0 if signature.batch else len(SIZES) - 1 :]:
            _add_uncast(made, signature, plan, uncast, positions[some])
    for variant in range(1, signature.variants):
        other = signature.variant(variant)
        some = max(ODD_ROWS, count // 8)
        made.cut(other, generated(other, some, random), ["random"] * some, (1, 64))
    for origin, columns in refusable(signature, signature.batch or ODD_ROWS, random):
        count = len(next(iter(columns.values())))
        made.cut(signature, columns, [origin] * count, (count,))
    if not signature.batch:
        made.add({name: pool[name][:0] for name in names}, [])
    return made


def _add_uncast(made: Made, signature: Signature, plan: dict[str, Any], uncast: Columns, positions: np.ndarray) -> None:
    """The same batch with its test rows as they were registered, if the cast changed any number."""
    where = [i for i, origin in enumerate(plan["origins"][: len(positions)]) if origin == "test"]
    rows = positions[where]
    changed = False
    twin: Columns = {}
    for one in signature.inputs:
        key = one["name"]
        now = made.arrays[f"{plan['batch']}/{key}"]
        twin[key] = now
        if one["dtype"] != "string" and where and uncast[key].dtype.kind in "fiub":
            before = uncast[key][rows]
            floating = "f" in (before.dtype.kind, now.dtype.kind)
            twin[key] = now.astype(np.float64) if floating else now.copy()
            twin[key][where] = before
            changed |= not np.array_equal(twin[key][where], now[where], equal_nan=floating)
    if changed:
        origins = ["uncast" if i in set(where) else "filler" for i in range(len(plan["origins"]))]
        made.add(twin, origins, uncast_of=plan["batch"])
