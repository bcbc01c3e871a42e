"""What rows a model takes, and rows made for it: at random, at the edges, and such as it may refuse."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from admit import Refused

SIZES = (8, 16, 12)  # of dimensions that the signature leaves open, the batch apart; the first is the usual one
PASSAGES = (1, 3, 8, 20)  # words in a generated text
MOST_WIDTH = 1_000_000  # numbers in a row
WHOLE_RANGE = ("int8", "uint8")  # types of which a model without hints is given every value
DTYPES = (
    "float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "bool",
    "string",
)  # fmt: skip

Columns = dict[str, np.ndarray]


@dataclass(frozen=True)
class Signature:
    """A model's inputs with all that is known of their values. Raises Refused on what no rows can be made for."""

    inputs: list[dict[str, Any]]
    sizes: dict[str, tuple[int, ...]]  # of the free dimensions, by name
    test: Columns | None  # registered test rows, not yet cast
    which: int = 0  # of the sizes

    @classmethod
    def of(cls, document: dict[str, Any], test: Columns | None) -> Signature:
        """Read a signature.json."""
        inputs = document["inputs"]
        stated = document.get("sizes") or {}
        sizes: dict[str, tuple[int, ...]] = {}
        for one in inputs:
            if one["dtype"] not in DTYPES:
                raise Refused(f"the input {one['name']!r} has dtype {one['dtype']!r}: taken are {', '.join(DTYPES)}")
            if not one["shape"]:
                raise Refused(f"the input {one['name']!r} is a scalar: give it a first axis, which is the batch")
            for axis, name in _free(one):
                wanted = tuple(int(size) for size in stated.get(name, SIZES))
                if not wanted or min(wanted) < 1:
                    raise Refused(f"the sizes stated for the dimension {name!r} are {wanted}: they must be 1 or more")
                if test is not None:  # its rows are all of one size
                    wanted = (test[one["name"]].shape[axis], *wanted)
                sizes.setdefault(name, tuple(dict.fromkeys(wanted)))
        fixed = {one["shape"][0] for one in inputs if isinstance(one["shape"][0], int)}
        if len(fixed) > 1 or min(fixed, default=1) < 1:
            raise Refused(f"the model's inputs have batches of {sorted(fixed)} rows: they must be of one size")
        signature = cls(inputs, sizes, test)
        widest = max(signature.variant(which).width for which in range(signature.variants))
        if widest > MOST_WIDTH:
            raise Refused(f"a row of the model's inputs has {widest} numbers, over the limit of {MOST_WIDTH}")
        return signature

    @property
    def batch(self) -> int | None:
        """The rows of every batch, where the model fixes it."""
        return next((one["shape"][0] for one in self.inputs if isinstance(one["shape"][0], int)), None)

    @property
    def variants(self) -> int:
        """How many sizes of the free dimensions are tried."""
        return max((len(sizes) for sizes in self.sizes.values()), default=1)

    def variant(self, which: int) -> Signature:
        """The same with other sizes of the free dimensions; only the first fits the test rows."""
        return dataclasses.replace(self, which=which)

    @property
    def width(self) -> int:
        """Numbers in a row of all inputs."""
        return sum(math.prod(self.inner(one)) for one in self.inputs)

    def inner(self, one: dict[str, Any]) -> list[int]:
        """The shape of a row of an input."""
        free = dict(_free(one))
        shape = [self.sizes[free[axis]] if axis in free else size for axis, size in enumerate(one["shape"])]
        return [size[self.which % len(size)] if isinstance(size, tuple) else int(size) for size in shape[1:]]

    def known(self, one: dict[str, Any]) -> np.ndarray | None:
        """The test rows of an input, if they are of these sizes."""
        return None if self.test is None or self.which else self.test[one["name"]]

    def bounds(self, one: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
        """Lowest and highest value of each number of a row: of the test data, else as hinted, else by the type."""
        inner, hinted = self.inner(one), one.get("range")
        known = None if self.test is None else self.test[one["name"]]
        default: tuple[float, float] = (-3.0, 3.0)
        if one["dtype"] in WHOLE_RANGE:
            default = (np.iinfo(one["dtype"]).min, np.iinfo(one["dtype"]).max)
        elif "int" in one["dtype"]:
            default = (0, 9)
        low, high = np.full(inner, default[0], dtype=float), np.full(inner, default[1], dtype=float)
        if known is not None and known.dtype.kind in "fiub":
            numbers = known.astype(np.float64)
            numbers = np.where(np.isfinite(numbers), numbers, 0)
            low, high = numbers.min(axis=0), numbers.max(axis=0)
            if self.which:
                low, high = np.full(inner, low.min()), np.full(inner, high.max())
        elif hinted and [len(hinted)] == inner:
            pairs = np.array(hinted, dtype=np.float64).T
            if np.all(np.isfinite(pairs)) and np.all(pairs[0] <= pairs[1]):
                low, high = pairs
        elif one.get("between"):
            low, high = np.full(inner, one["between"][0], dtype=float), np.full(inner, one["between"][1], dtype=float)
        return kept(one, low), kept(one, high)

    def typed(self, one: dict[str, Any], values: np.ndarray) -> np.ndarray:
        """Generated numbers as values that the input takes: integers stay in the range of what is known."""
        if "int" in one["dtype"]:
            low, high = self.bounds(one)
            values = np.clip(np.rint(values), low, high)
        return cast(kept(one, values), one["dtype"])


def kept(one: dict[str, Any], values: np.ndarray) -> np.ndarray:
    """Numbers within what `between` allows; NaN and infinities stay."""
    between = one.get("between")
    return np.where(np.isfinite(values), np.clip(values, *map(float, between)), values) if between else values


def cast(array: np.ndarray, dtype: str) -> np.ndarray:
    if dtype == "string":
        return array.astype(str)
    with np.errstate(all="ignore"):
        return array.astype(dtype)


def generated(signature: Signature, count: int, random: np.random.Generator) -> Columns:
    """Rows within what is known of the data and around it."""
    return {one["name"]: _random(signature, one, count, random) for one in signature.inputs}


def edges(signature: Signature, random: np.random.Generator) -> Columns:
    """Zeros, ones, the corners of the data's range and just beyond it, denormals: all finite, all of moderate size."""
    out: Columns = {}
    for one in signature.inputs:
        inner = signature.inner(one)
        if one["dtype"] in ("string", "bool") or one.get("columns") or one.get("categories"):
            out[one["name"]] = _random(signature, one, 10, random)
            continue
        low, high = signature.bounds(one)
        tiny = np.full(inner, float(np.finfo(one["dtype"]).smallest_subnormal) if "float" in one["dtype"] else 0)
        corner = np.where(random.random(tuple(inner)) < 0.5, low, high)
        middle, half = (low + high) / 2, (high - low) / 2
        rows = [np.zeros(inner), np.ones(inner), -np.ones(inner), low, high, corner, low + high - corner]
        rows += [middle + 2 * half, tiny, -tiny]
        out[one["name"]] = signature.typed(one, np.stack(rows))
    return out


def refusable(signature: Signature, count: int, random: np.random.Generator) -> list[tuple[str, Columns]]:
    """Rows that a model may refuse: NaN here and there, NaN everywhere, infinities, extremes, unknown words."""
    found: list[tuple[str, Columns]] = []
    floats = [one for one in signature.inputs if one["dtype"].startswith("float")]
    if floats:
        for origin, share, values in (
            ("nan", 0.2, (math.nan,)),
            ("nan", 1.0, (math.nan,)),
            ("infinity", 0.2, (math.inf, -math.inf)),
            ("extreme", 0.5, (1.0, -1.0)),
        ):
            columns = generated(signature, count, random)
            for one in floats:
                array = columns[one["name"]]
                hit = random.random(array.shape) < share
                factor = float(np.finfo(one["dtype"]).max) / 4 if origin == "extreme" else 1.0
                array[hit] = (random.choice(values, array.shape) * factor)[hit]
            found.append((origin, columns))
    words = [one for one in signature.inputs if one["dtype"] == "string"]
    if words:
        columns = generated(signature, count, random)
        odd = ["", "unseen", "ÜBER straße", "x" * 300, "a b\tc\nd", "0", " ", "nan"]
        for one in words:
            inner = signature.inner(one)
            some = np.array([odd[i % len(odd)] for i in range(count)], dtype=str).reshape(count, *[1] * len(inner))
            columns[one["name"]] = np.broadcast_to(some, (count, *inner)).copy()
        found.append(("unknown", columns))
    return found


def _free(one: dict[str, Any]) -> list[tuple[int, str]]:
    """The axes of an input that are free, with the name of each; equal names have equal sizes."""
    axes = list(enumerate(one["shape"]))[1:]
    return [(axis, size or f"{one['name']}/{axis}") for axis, size in axes if not isinstance(size, int)]


def _random(signature: Signature, one: dict[str, Any], count: int, random: np.random.Generator) -> np.ndarray:
    inner, known = signature.inner(one), signature.known(one)
    if one["dtype"] == "string":
        return _texts(one, inner, count, random, known)
    if one["dtype"] == "bool":
        return random.random((count, *inner)) < 0.5
    columns = one.get("columns") or ([one["categories"]] if one.get("categories") else None)
    if columns and len(columns) == math.prod(inner) and all(columns):
        picks = [random.choice(np.array(c, dtype=np.float64), count) for c in columns]
        return cast(np.stack(picks, axis=1).reshape(count, *inner), one["dtype"])
    low, high = signature.bounds(one)
    span = high - low
    values = low + span * random.random((count, *inner))
    if "int" in one["dtype"] and known is None:
        return signature.typed(one, values)
    third = count // 3  # a third spread wider than the data, around its middle
    values[:third] = (low + high) / 2 + span / 2 * random.standard_normal((third, *inner))
    if known is not None and known.dtype.kind in "fiub":  # a third near real rows
        near = known[random.integers(0, len(known), third)].astype(np.float64)
        values[third : 2 * third] = np.where(np.isfinite(near), near, 0) + span * 0.05 * random.standard_normal(
            (third, *inner)
        )
        if np.all(known == np.rint(np.where(np.isfinite(known.astype(float)), known, 0.5))):
            values[-third:] = np.rint(values[-third:])
    return signature.typed(one, values)


def _texts(
    one: dict[str, Any], inner: list[int], count: int, random: np.random.Generator, known: np.ndarray | None
) -> np.ndarray:
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
    if known is not None:
        return known[random.integers(0, len(known), count)].astype(str)
    return np.array([f"word{n}" for n in random.integers(0, 50, count * size)], dtype=str).reshape(count, *inner)
