"""Reads the inputs that a user gives: .npy, .npz, JSON and CSV, shaped and typed as the model takes them."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from admit import Refused

DTYPES = {
    "tensor(float)": "float32", "tensor(double)": "float64", "tensor(float16)": "float16", "tensor(int64)": "int64",
    "tensor(int32)": "int32", "tensor(int16)": "int16", "tensor(int8)": "int8", "tensor(uint64)": "uint64",
    "tensor(uint32)": "uint32", "tensor(uint16)": "uint16", "tensor(uint8)": "uint8", "tensor(bool)": "bool",
    "tensor(string)": "string",
}  # fmt: skip


def read(files: list[dict[str, str]], inputs: list[Any]) -> dict[str, np.ndarray]:
    """Arrays by input of the model. `files` have an input's name, or "" for all that they hold. Raises Refused."""
    wanted = {one.name: one for one in inputs}
    found: dict[str, np.ndarray] = {}
    for file in files:
        path, name = Path(file["path"]), file["name"]
        if name and name not in wanted:
            raise Refused(f"the model has no input {name!r}: {describe(inputs)}")
        try:
            arrays = _read(path, {name: wanted[name]} if name else wanted)
        except (ValueError, OSError, KeyError, RecursionError) as error:
            raise Refused(f"{file['said']} can't be read: {error}") from error
        for key, array in arrays.items():
            if key in found:
                raise Refused(f"input {key!r} is given twice")
            found[key] = _shaped(array, wanted[key])
    missing = [name for name in wanted if name not in found]
    if missing:
        raise Refused(f"nothing is given for input {', '.join(missing)}: {describe(inputs)}")
    return found


def describe(inputs: list[Any]) -> str:
    """The model's inputs in a sentence."""
    shown = (f"{i.name} {DTYPES.get(i.type, i.type)}[{', '.join(str(s or '?') for s in i.shape)}]" for i in inputs)
    return f"it takes {'; '.join(shown)} (--input NAME=FILE)"


def _read(path: Path, wanted: dict[str, Any]) -> dict[str, np.ndarray]:
    match path.suffix.lower():
        case ".npy":
            return {_only(wanted): np.load(path, allow_pickle=False)}
        case ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                return _named(dict(arrays), wanted)
        case ".json":
            return _of_json(json.loads(path.read_text("utf-8")), wanted)
        case ".csv":
            with path.open(newline="", encoding="utf-8-sig") as file:
                return _of_table([row for row in csv.reader(file) if row], wanted)
    raise ValueError("it is not .npy, .npz, .json or .csv")


def _named(arrays: dict[str, np.ndarray], wanted: dict[str, Any]) -> dict[str, np.ndarray]:
    if len(arrays) == len(wanted) == 1:
        return {_only(wanted): next(iter(arrays.values()))}
    other = sorted(set(arrays) - set(wanted))
    if other:
        raise ValueError(f"it has {', '.join(other[:5])}, where the inputs are {', '.join(wanted)}")
    return arrays


def _of_json(value: Any, wanted: dict[str, Any]) -> dict[str, np.ndarray]:
    """An object of arrays, a list of objects (rows), or an array for the only input."""
    if isinstance(value, list) and value and all(isinstance(row, dict) for row in value):
        if any(row.keys() != value[0].keys() for row in value):
            raise ValueError("its rows have not all the same fields")
        value = {name: [row[name] for row in value] for name in value[0]}
    if not isinstance(value, dict):
        return {_only(wanted): np.array(value)}
    return _named({name: np.array(column) for name, column in value.items()}, wanted)


def _of_table(rows: list[list[str]], wanted: dict[str, Any]) -> dict[str, np.ndarray]:
    """Columns by the inputs' names, others left out; or, for one input, all columns in their order."""
    if not rows or any(len(row) != len(rows[0]) for row in rows):
        raise ValueError("it is empty, or its rows are not all of one length")
    header = [cell.strip() for cell in rows[0]]
    if set(wanted) <= set(header):
        at = {name: header.index(name) for name in wanted}
        return {name: _column([row[at[name]] for row in rows[1:]], one) for name, one in wanted.items()}
    one = wanted[_only(wanted)]
    if not all(map(_is_number, rows[0])) and one.type != "tensor(string)":
        rows = rows[1:]
    cells = _column([cell for row in rows for cell in row], one)
    return {_only(wanted): cells.reshape(len(rows), -1)}


def _column(cells: list[str], one: Any) -> np.ndarray:
    if one.type == "tensor(string)":
        return np.array(cells, dtype=str)
    return np.array([float(cell) if cell.strip() else math.nan for cell in cells])


def _only(wanted: dict[str, Any]) -> str:
    if len(wanted) > 1:
        raise ValueError(f"say of which input it is, NAME=FILE: {', '.join(wanted)}")
    return next(iter(wanted))


def _shaped(array: np.ndarray, one: Any) -> np.ndarray:
    """The array as the model's input has it: its type, and its rank where the sizes leave one way to it."""
    dtype = DTYPES.get(one.type)
    if dtype is None:
        raise Refused(f"input {one.name!r} is a {one.type}: only tensors can be given")
    if (array.dtype.kind in "US") != (dtype == "string") or array.dtype.kind not in "USfiub":
        raise Refused(f"input {one.name!r} takes {dtype}, not {array.dtype}")
    array = array.astype(object) if dtype == "string" else _cast(array, dtype, one.name)
    inner = [size for size in one.shape[1:] if isinstance(size, int)]
    if array.ndim == len(one.shape) or len(inner) < len(one.shape) - 1:
        return array
    row = math.prod(inner)
    if array.ndim and (array.size == row or array.size == len(array) * row):
        return array.reshape(-1, *inner)
    raise Refused(f"input {one.name!r} takes rows of {inner}; an array of {list(array.shape)} was given")


def _cast(array: np.ndarray, dtype: str, name: str) -> np.ndarray:
    with np.errstate(all="ignore"):
        cast = array.astype(dtype)
    if np.dtype(dtype).kind in "iub" and not np.array_equal(cast.astype(array.dtype), array):
        raise Refused(f"input {name!r} takes {dtype}, and some of the numbers given are none")
    return cast


def _is_number(cell: str) -> bool:
    try:
        float(cell or "nan")
    except ValueError:
        return False
    return True
