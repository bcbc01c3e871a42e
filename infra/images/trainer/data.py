"""What trainers share: parameters, rows of data, how a refusal is told. Needs numpy alone.

A trainer's train.py ends in `data.main(train)`.
"""

from __future__ import annotations

import csv
import json
import math
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path("/opt/ml")


class Refused(Exception):
    """Something is wrong with the data or the parameters; the message says what, and what to do."""


def main(train: Callable[[], None]) -> None:
    """Train; a refusal is told in /opt/ml/output/failure."""
    os.umask(0o022)
    try:
        train()
    except Refused as error:
        (ROOT / "output" / "failure").write_text(str(error), "utf-8")
        sys.exit(str(error))


def parameters(path: Path) -> dict[str, Any]:
    """hyperparameters.json: all values are strings, as SageMaker writes them; JSON in them is read."""
    found = {}
    for name, text in json.loads(path.read_text("utf-8")).items():
        try:
            found[name] = json.loads(text) if isinstance(text, str) else text
        except ValueError:
            found[name] = text
    return found


def write(path: Path, document: dict[str, Any]) -> None:
    path.write_text(json.dumps(document, sort_keys=True, indent=1) + "\n", "utf-8")


class Data:
    """Rows of numbers and what they are labelled with."""

    def __init__(self, x: np.ndarray, y: list[Any], names: list[str] | None, target: str | None) -> None:
        self.x, self.y, self.names, self.target = x, y, names, target

    def labels(self, *, classifies: bool) -> np.ndarray:
        """Integers where all are; numbers for a regressor; else strings."""
        texts = [str(label) for label in self.y]
        try:
            numbers = np.array([float(text) for text in texts])
        except ValueError:
            if not classifies:
                raise Refused("a regressor needs a target of numbers; choose a classifier, or another target") from None
            return np.array(texts)
        if classifies and np.all(numbers == np.floor(numbers)) and np.all(np.abs(numbers) < 2**53):
            return numbers.astype(np.int64)
        return np.array(texts) if classifies else numbers

    @classmethod
    def read(cls, folder: Path, target: Any) -> Data:
        """All files of a channel together. Raises Refused naming the file that can't be read."""
        files = (
            sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "dataset.json")
            if folder.is_dir()
            else []
        )
        parts = []
        for path in files:
            kind = path.suffix.lower()
            label = path.parent.name if path.parent != folder else None
            try:
                if kind == ".npz":
                    parts.append(_from_npz(path))
                elif kind == ".npy" and label is not None:
                    parts.append((np.load(path, allow_pickle=False).reshape(1, -1), [label], None, None))
                elif kind == ".csv" and label is not None:
                    parts.append((_numbers(_rows(path)).reshape(1, -1), [label], None, None))
                elif kind == ".csv":
                    parts.append(_from_csv(path, target))
            except (OSError, ValueError) as error:
                raise Refused(f"{path.relative_to(folder)} can't be read: {error}") from error
        if not parts:
            raise Refused(
                f"channel {folder.name} has no data this trainer reads: .csv with a target column, .npz with X, y or "
                "<label>/<file>.npy or .csv. Give a --source for other data"
            )
        widths = {part[0].shape[1] for part in parts}
        if len(widths) > 1:
            raise Refused(f"the files have different numbers of features: {sorted(widths)}")
        x = np.concatenate([part[0] for part in parts]).astype(np.float64)
        return cls(x, [label for part in parts for label in part[1]], parts[0][2], parts[0][3])


def _from_npz(path: Path) -> tuple[np.ndarray, list[Any], None, None]:
    with np.load(path, allow_pickle=False) as arrays:
        if "X" not in arrays or "y" not in arrays:
            raise Refused(f"{path.name} has {', '.join(arrays.files)}: it needs X and y")
        x, y = arrays["X"], arrays["y"]
    if len(x) != len(y) or not len(x):
        raise Refused(f"{path.name}: X has {len(x)} rows and y {len(y)}")
    return x.reshape(len(x), -1), y.tolist(), None, None


def _from_csv(path: Path, target: Any) -> tuple[np.ndarray, list[Any], list[str] | None, str | None]:
    rows = _rows(path)
    headed = not all(_is_number(cell) for cell in rows[0])
    header = [cell.strip() for cell in rows.pop(0)] if headed else [str(i) for i in range(len(rows[0]))]
    if not rows:
        raise Refused(f"{path.name} has a header and no rows")
    column = header.index(str(target)) if target is not None and str(target) in header else len(header) - 1
    if target is not None and str(target) not in header:
        raise Refused(f"{path.name} has no column {target!r}; it has {', '.join(header)[:500]}")
    if any(len(row) != len(header) for row in rows):
        raise Refused(f"{path.name}: not all rows have {len(header)} cells")
    x = _numbers([[cell for i, cell in enumerate(row) if i != column] for row in rows])
    names = [name for i, name in enumerate(header) if i != column] if headed else None
    return x, [row[column].strip() for row in rows], names, header[column] if headed else None


def _rows(path: Path) -> list[list[str]]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = [row for row in csv.reader(file) if row]
    if not rows:
        raise Refused(f"{path.name} is empty")
    return rows


def _numbers(rows: list[list[str]]) -> np.ndarray:
    return np.array([[float(cell) if cell.strip() else math.nan for cell in row] for row in rows])


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return not cell.strip()
    return True
