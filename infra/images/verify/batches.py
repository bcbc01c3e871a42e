"""Makes the inputs that both sides answer: registered test data, and inputs generated from the signature.

Rows of all origins are shuffled together and cut in batches, so that the native side can't tell test rows from others.
Inputs that a model may rightly refuse (NaN, infinities, unknown words) are in batches of their own.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

ROWS = 1024  # random rows, unless the options say otherwise
TEST_ROWS = 2048  # test rows at most, drawn evenly
MOST_CELLS = 8_000_000  # numbers in all batches together
SIZES = (1, 1, 2, 3, 256)  # of the first batches; the last repeats
FREE_DIMENSION = 8  # size of dimensions that the signature leaves open, the batch apart
PASSAGES = (1, 3, 8, 20)  # words in a generated text

Columns = dict[str, np.ndarray]


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


def make(inputs: list[dict[str, Any]], test: Columns | None, seed: int, rows: int | None) -> Made:
    """All batches for a model with these inputs. `test` holds the test rows as they are registered, not yet cast."""
    random = np.random.Generator(np.random.PCG64(seed))
    width = sum(math.prod(_inner(one)) for one in inputs)
    most = max(4, MOST_CELLS // max(1, width))
    pieces: list[tuple[str, Columns]] = []
    uncast: Columns | None = None
    if test is not None and len(next(iter(test.values()))):
        total = len(next(iter(test.values())))
        count = min(total, TEST_ROWS, most // 2)
        chosen = np.linspace(0, total - 1, count).astype(int)
        uncast = {name: array[chosen] for name, array in test.items()}
        pieces.append(("test", {one["name"]: _cast(uncast[one["name"]], one["dtype"]) for one in inputs}))
    count = min(rows or ROWS, most // 2)
    pieces.append(("random", {one["name"]: _random(one, count, random, _of(test, one)) for one in inputs}))
    pieces.append(("edge", _edges(inputs, test, random)))

    made = Made()
    origins = [origin for origin, columns in pieces for _ in next(iter(columns.values()))]
    pool = {name: _stack([columns[name] for _, columns in pieces]) for name in (one["name"] for one in inputs)}
    order = random.permutation(len(origins))
    at = step = 0
    tests = np.cumsum([origin == "test" for origin in origins]) - 1
    while at < len(order):
        some = order[at : at + SIZES[min(step, len(SIZES) - 1)]]
        at, step = at + len(some), step + 1
        name = made.add({k: pool[k][some] for k in pool}, [origins[i] for i in some])
        if uncast is not None and step > len(SIZES) - 1:
            _add_uncast(made, name, inputs, {k: pool[k][some] for k in pool}, uncast, origins, some, tests)
    for origin, columns in _refusable(inputs, test, random):
        made.add(columns, [origin] * len(next(iter(columns.values()))))
    made.add({k: pool[k][:0] for k in pool}, [])
    return made


def _add_uncast(
    made: Made,
    name: str,
    inputs: list[dict[str, Any]],
    cast: Columns,
    uncast: Columns,
    origins: list[str],
    some: np.ndarray,
    tests: np.ndarray,
) -> None:
    """The same batch with its test rows as they were registered, if the cast changed any number."""
    where = [i for i, row in enumerate(some) if origins[row] == "test"]
    rows = tests[some[where]]
    changed = False
    twin: Columns = {}
    for one in inputs:
        key = one["name"]
        twin[key] = cast[key]
        if one["dtype"] != "string" and where and uncast[key].dtype.kind in "fiub":
            twin[key] = cast[key].astype(np.float64) if cast[key].dtype.kind == "f" else cast[key].copy()
            before = uncast[key][rows]
            if before.dtype.kind == "f" and twin[key].dtype.kind != "f":
                twin[key] = twin[key].astype(np.float64)
            twin[key][where] = before
            changed |= not np.array_equal(twin[key][where], cast[key][where], equal_nan=twin[key].dtype.kind == "f")
    if changed:
        made.add(twin, ["uncast" if i in set(where) else "filler" for i in range(len(some))], uncast_of=name)


def _inner(one: dict[str, Any]) -> list[int]:
    return [FREE_DIMENSION if size is None else int(size) for size in one["shape"][1:]]


def _of(test: Columns | None, one: dict[str, Any]) -> np.ndarray | None:
    return None if test is None or not len(test[one["name"]]) else test[one["name"]]


def _cast(array: np.ndarray, dtype: str) -> np.ndarray:
    if dtype == "string":
        return array.astype(str)
    with np.errstate(all="ignore"):
        return array.astype(dtype)


def _stack(arrays: list[np.ndarray]) -> np.ndarray:
    return np.concatenate(arrays)


def _bounds(one: dict[str, Any], test: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest value of each number of a row: of the test data, else as the model hints, else ±3."""
    inner = _inner(one)
    if test is not None and test.dtype.kind in "fiub":
        numbers = test.astype(np.float64)
        numbers = np.where(np.isfinite(numbers), numbers, 0)
        return numbers.min(axis=0), numbers.max(axis=0)
    hinted = one.get("range")
    if hinted and [len(hinted)] == inner:
        low, high = np.array(hinted, dtype=np.float64).T
        if np.all(np.isfinite(low)) and np.all(np.isfinite(high)) and np.all(low <= high):
            return low, high
    return np.full(inner, -3.0), np.full(inner, 3.0)


def _random(one: dict[str, Any], count: int, random: np.random.Generator, test: np.ndarray | None) -> np.ndarray:
    inner = _inner(one)
    if one["dtype"] == "string":
        return _texts(one, count, random, test)
    if one["dtype"] == "bool":
        return random.random((count, *inner)) < 0.5
    columns = one.get("columns") or ([one["categories"]] if one.get("categories") else None)
    if columns and len(columns) == math.prod(inner) and all(columns):
        picks = [random.choice(np.array(c, dtype=np.float64), count) for c in columns]
        return _cast(np.stack(picks, axis=1).reshape(count, *inner), one["dtype"])
    low, high = _bounds(one, test)
    span = high - low
    values = low + span * random.random((count, *inner))
    third = count // 3  # a third spread wider than the data, around its middle
    values[:third] = (low + high) / 2 + span / 2 * random.standard_normal((third, *inner))
    if test is not None and test.dtype.kind in "fiub":  # a third near real rows
        near = test[random.integers(0, len(test), third)].astype(np.float64)
        values[third : 2 * third] = np.where(np.isfinite(near), near, 0) + span * 0.05 * random.standard_normal(
            (third, *inner)
        )
        if np.all(test == np.rint(np.where(np.isfinite(test.astype(float)), test, 0.5))):
            values[-third:] = np.rint(values[-third:])
    if one["dtype"].startswith(("int", "uint")):
        values = np.rint(values)
        if one["dtype"].startswith("uint"):
            values = np.abs(values)
    return _cast(values, one["dtype"])


def _texts(one: dict[str, Any], count: int, random: np.random.Generator, test: np.ndarray | None) -> np.ndarray:
    inner = _inner(one)
    size = math.prod(inner)
    if one.get("text"):
        words = [str(w) for w in one["text"]]
        lengths = random.choice(PASSAGES, count * size)
        texts = [" ".join(random.choice(words, length)) for length in lengths]
        return np.array(texts, dtype=str).reshape(count, *inner)
    columns = one.get("columns") or [one.get("categories")] * size
    if len(columns) == size and all(columns):
        picks = [random.choice(np.array([str(v) for v in c]), count) for c in columns]
        return np.stack(picks, axis=1).reshape(count, *inner)
    if test is not None:
        return test[random.integers(0, len(test), count)].astype(str)
    return np.array([f"word{n}" for n in random.integers(0, 50, count * size)], dtype=str).reshape(count, *inner)


def _edges(inputs: list[dict[str, Any]], test: Columns | None, random: np.random.Generator) -> Columns:
    """Zeros, ones, the corners of the data's range and just beyond it, denormals: all finite, all of moderate size."""
    out: Columns = {}
    for one in inputs:
        inner = _inner(one)
        if one["dtype"] in ("string", "bool") or one.get("columns") or one.get("categories"):
            out[one["name"]] = _random(one, 10, random, _of(test, one))
            continue
        low, high = _bounds(one, _of(test, one))
        tiny = np.full(inner, float(np.finfo(one["dtype"]).smallest_subnormal) if "float" in one["dtype"] else 0)
        corner = np.where(random.random(tuple(inner)) < 0.5, low, high)
        middle, half = (low + high) / 2, (high - low) / 2
        rows = [np.zeros(inner), np.ones(inner), -np.ones(inner), low, high, corner, low + high - corner]
        rows += [middle + 2 * half, tiny, -tiny]
        values = np.stack(rows)
        out[one["name"]] = _cast(np.abs(values) if one["dtype"].startswith("uint") else values, one["dtype"])
    return out


def _refusable(
    inputs: list[dict[str, Any]], test: Columns | None, random: np.random.Generator
) -> list[tuple[str, Columns]]:
    """Batches that a model may refuse: NaN here and there, NaN everywhere, infinities, extremes, unknown words."""
    found: list[tuple[str, Columns]] = []
    floats = [one for one in inputs if one["dtype"].startswith("float")]
    if floats:
        for origin, share, values in (
            ("nan", 0.2, (math.nan,)),
            ("nan", 1.0, (math.nan,)),
            ("infinity", 0.2, (math.inf, -math.inf)),
            ("extreme", 0.5, (1.0, -1.0)),
        ):
            columns = {one["name"]: _random(one, 16, random, _of(test, one)) for one in inputs}
            for one in floats:
                array = columns[one["name"]]
                hit = random.random(array.shape) < share
                factor = float(np.finfo(one["dtype"]).max) / 4 if origin == "extreme" else 1.0
                array[hit] = (random.choice(values, array.shape) * factor)[hit]
            found.append((origin, columns))
    words = [one for one in inputs if one["dtype"] == "string"]
    if words:
        columns = {one["name"]: _random(one, 8, random, _of(test, one)) for one in inputs}
        for one in words:
            odd = np.array(["", "unseen", "ÜBER straße", "x" * 300, "a b\tc\nd", "0", " ", "nan"], dtype=str)
            columns[one["name"]] = np.broadcast_to(odd.reshape(8, *[1] * len(_inner(one))), (8, *_inner(one))).copy()
        found.append(("unknown", columns))
    return found
