"""Reads the registered test data as trainers do: CSV with a target column, .npz with X, folders <label>/<file>."""

from __future__ import annotations

import csv
import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np

MOST_ROWS = 200_000
MOST_BYTES = 512 * 1024 * 1024  # of one file


def read(folder: Path, signature: dict[str, Any]) -> tuple[dict[str, np.ndarray] | None, str]:
    """The rows for each input, as registered (not cast), and a sentence on what was read. (None, why) if unreadable."""
    inputs = signature["inputs"]
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    pieces: list[dict[str, np.ndarray]] = []
    ignored: list[str] = []
    count = 0
    for path in files:
        if count >= MOST_ROWS:
            break
        try:
            if path.stat().st_size > MOST_BYTES:
                raise ValueError(f"over {MOST_BYTES} bytes")
            piece = _read_file(path, inputs, signature.get("target"), labelled=path.parent != folder)
            if len({len(rows) for rows in piece.values()}) != 1:
                raise ValueError("has not the same number of rows for each input")
            if pieces and any(piece[name].shape[1:] != rows.shape[1:] for name, rows in pieces[0].items()):
                raise ValueError("has rows of another size than the files before it")
        except Exception as error:  # a file that is no test data, or not of this model, is reported and not used
            ignored.append(f"{path.relative_to(folder)}: {error}"[:200])
            continue
        pieces.append(piece)
        count += len(next(iter(piece.values())))
    if not count:
        return None, f"unreadable: {ignored[0]}" if ignored else "none: the test channel has no files"
    rows = {one["name"]: np.concatenate([piece[one["name"]] for piece in pieces]) for one in inputs}
    said = f"{count} rows of {len(pieces)} files"
    return rows, said + (f"; {len(ignored)} files not used, first {ignored[0]}" if ignored else "")


def _read_file(path: Path, inputs: list[dict[str, Any]], target: Any, *, labelled: bool) -> dict[str, np.ndarray]:
    kind = path.suffix.lower()
    if kind == ".csv":
        return _read_csv(path, inputs, target, labelled=labelled)
    if kind == ".npy":
        return _split(np.load(path, allow_pickle=False), inputs)
    if kind == ".npz":
        with np.load(path, allow_pickle=False) as arrays:
            if all(one["name"] in arrays.files for one in inputs):
                return {one["name"]: _shaped(arrays[one["name"]], one) for one in inputs}
            if "X" in arrays.files:
                return _split(arrays["X"], inputs)
        raise ValueError("has neither X nor arrays named as the model's inputs")
    raise ValueError("is not .csv, .npy or .npz")


def _read_csv(path: Path, inputs: list[dict[str, Any]], target: Any, *, labelled: bool) -> dict[str, np.ndarray]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        table = [row for row in itertools.islice(csv.reader(file), MOST_ROWS + 1) if row]
    if not table:
        raise ValueError("is empty")
    wide = max(len(row) for row in table)
    if any(len(row) != wide for row in table):
        raise ValueError("its rows are not all of one length")
    header = None if labelled or all(_is_number(cell) for cell in table[0]) else [c.strip() for c in table.pop(0)]
    names = [one["name"] for one in inputs]
    if header and all(name in header for name in names):
        return {
            one["name"]: _column([row[header.index(one["name"])] for row in table], one).reshape(-1, 1)
            for one in inputs
        }
    wanted = sum(math.prod(_inner(one, wide)) for one in inputs)
    keep = list(range(wide))
    if labelled and wide != wanted:  # one sample spread over lines, such as an image
        return _split(np.array([[float(cell) for cell in row] for row in table]).reshape(1, -1), inputs)
    if wide == wanted + 1:
        position = header.index(str(target)) if header and target is not None and str(target) in header else wide - 1
        keep.pop(position)
    elif wide != wanted:
        raise ValueError(f"has {wide} columns where the model takes {wanted} (and a target)")
    read: dict[str, np.ndarray] = {}
    at = 0
    for one in inputs:  # each takes as many columns as a row of it has numbers
        some = keep[at : at + math.prod(_inner(one, wide))]
        flat = _column([row[i] for row in table for i in some], one)
        read[one["name"]] = _shaped(flat.reshape(len(table), -1), one)
        at += len(some)
    return read


def _column(cells: list[str], one: dict[str, Any]) -> np.ndarray:
    if one["dtype"] == "string":
        return np.array(cells, dtype=str)
    return np.array([float(cell) if cell.strip() else math.nan for cell in cells])


def _split(array: np.ndarray, inputs: list[dict[str, Any]]) -> dict[str, np.ndarray]:
    if len(inputs) == 1:
        return {inputs[0]["name"]: _shaped(array, inputs[0])}
    if array.ndim != 2 or array.shape[1] != len(inputs):
        raise ValueError(f"has shape {array.shape} where the model takes {len(inputs)} columns")
    return {one["name"]: _shaped(array[:, [i]], one) for i, one in enumerate(inputs)}


def _shaped(array: np.ndarray, one: dict[str, Any]) -> np.ndarray:
    """The array with a batch axis and the input's inner shape; a single sample becomes a batch of one."""
    if array.dtype.kind not in "fiubU":
        raise ValueError(f"has dtype {array.dtype}, which is neither numbers nor text")
    if (array.dtype.kind == "U") != (one["dtype"] == "string"):
        raise ValueError(f"has dtype {array.dtype} where the model takes {one['dtype']}")
    wanted = one["shape"][1:]
    for whole in (array, array[np.newaxis]):  # several samples, or one
        if whole.ndim == len(wanted) + 1 and all(
            size == found or not isinstance(size, int) for size, found in zip(wanted, whole.shape[1:], strict=True)
        ):
            return whole
    inner = _inner(one, array.shape[-1] if array.ndim else 1)
    size = math.prod(inner)
    if array.size == size:
        return array.reshape(1, *inner)
    if array.ndim and array.size == array.shape[0] * size:
        return array.reshape(array.shape[0], *inner)
    raise ValueError(f"has shape {array.shape} where the model takes rows of {inner}")


def _inner(one: dict[str, Any], free: int) -> list[int]:
    return [size if isinstance(size, int) else free for size in one["shape"][1:]]


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return cell.strip() == ""
    return True
