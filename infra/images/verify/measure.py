"""How far two sets of answers are apart: counts and largest differences, by origin of the inputs."""

from __future__ import annotations

from typing import Any

import numpy as np

ULPS = {"float16": np.int16, "float32": np.int32, "float64": np.int64}
MOST_ULPS = 2**53 - 1  # the largest integer that JSON carries exactly


class Output:
    """The measures of one output. Feed it `scale_from` once, then `add` batch by batch, then `report`.

    `classes` are those of a label; with None, an output of scores counts its own largest score as its class.
    """

    def __init__(self, output: dict[str, Any], tolerances: dict[str, Any], classes: list[Any] | None) -> None:
        self.output, self.classes = output, None if classes is None else [str(c) for c in classes]
        self.is_label = output["role"] == "label" or output["dtype"] == "string"
        self.has_classes = self.is_label
        exact = {"absolute": 0.0, "relative": 0.0}
        self.tolerance = tolerances[output["precision"]] if "float" in output["dtype"] else exact
        self.margin = tolerances[output["precision"]]  # within which two scores are tied
        self.scale = 0.0
        self.by_origin: dict[str, dict[str, Any]] = {}
        self.cast: dict[str, Any] | None = None

    def scale_from(self, pairs: list[tuple[np.ndarray, np.ndarray]]) -> None:
        """The size of ordinary answers: the median over batches of their root mean square, natively."""
        if self.is_label:
            return
        sizes = []
        for native, _ in pairs:
            numbers = native.astype(np.float64).ravel() if native.dtype.kind in "fiub" else np.zeros(0)
            numbers = numbers[np.isfinite(numbers)]
            if len(numbers):
                with np.errstate(over="ignore"):
                    sizes.append(float(np.sqrt(np.mean(numbers**2))))
        finite = [size for size in sizes if np.isfinite(size)]
        self.scale = float(np.median(finite)) if finite else 0.0

    def add(self, origins: list[str], native: np.ndarray, onnx: np.ndarray, scores: np.ndarray | None) -> np.ndarray:
        """Compare the answers to one batch; `scores` are the native scores beside a label.

        Gives each row's largest difference as a multiple of what is allowed: above 1 it is outside, infinite where
        the difference is none of numbers. An output without a row for each of the inputs is compared as a whole.
        """
        count = len(origins)
        ratios = np.full(count, np.inf)
        by_row = native.ndim > 0 and native.shape[0] == count
        alike = _squeezed(native) == _squeezed(onnx) and (self.is_label or not (_is_text(native) or _is_text(onnx)))
        for origin in sorted(set(origins)):
            rows = np.array([i for i, one in enumerate(origins) if one == origin])
            into = self.by_origin.setdefault(origin, _nothing())
            into["rows"] += len(rows)
            if not alike:
                into["rows_outside"] += len(rows)
                into["shape_differs"] += len(rows)
                continue
            a, b = native, onnx.reshape(native.shape)
            taken = origin != "nan"  # a model that answers NaN with NaN does not take missing values
            if by_row:
                beside = scores[rows] if scores is not None and scores.shape[:1] == (count,) else None
                ratios[rows] = self._compare(into, a[rows], b[rows], beside, taken=taken)
            else:
                ratios[rows] = self._compare(into, a[np.newaxis], b[np.newaxis], None, each=len(rows), taken=taken)
        return ratios

    def add_cast(self, cast: np.ndarray, uncast: np.ndarray) -> None:
        """Compare the native model with itself: on the cast inputs and on those that were registered."""
        self.cast = self.cast or _nothing()
        self.cast["rows"] += len(cast)
        self._compare(self.cast, uncast, cast, None)

    def report(self) -> dict[str, Any]:
        keys = ("name", "role", "method", "dtype", "precision", "jumps", "nan_open")
        stated = self.classes if self.output["role"] == "label" else None
        return {
            **{key: self.output[key] for key in keys},
            "classes": stated or [],
            "has_classes": self.has_classes,
            "scale": self.scale,
            "by_origin": self.by_origin,
            "cast": self.cast,
        }

    def _compare(
        self,
        into: dict[str, Any],
        native: np.ndarray,
        onnx: np.ndarray,
        scores: np.ndarray | None,
        *,
        each: int = 1,
        taken: bool = True,
    ) -> np.ndarray:
        """Compare row by row; `each` is how many rows of inputs one of these stands for. Unless `taken`, what is NaN
        natively is never outside."""
        if self.is_label:
            if not taken and scores is not None and scores.dtype.kind == "f":
                lost = np.isnan(scores).reshape(len(scores), -1).any(axis=1)
                onnx = np.where(lost.reshape(-1, *[1] * (onnx.ndim - 1)), native, onnx)
            return self._compare_labels(into, native, onnx, scores, each)
        a = native.astype(np.float64).reshape(len(native), -1)
        b = onnx.astype(np.float64).reshape(len(onnx), -1)
        with np.errstate(all="ignore"):
            same = (a == b) | (np.isnan(a) & np.isnan(b))
            finite = np.isfinite(a) & np.isfinite(b)
            gap = np.where(same, 0.0, np.abs(a - b))
            allowed = self.tolerance["absolute"] * self.scale + self.tolerance["relative"] * np.abs(a)
            ratios = np.where(same, 0.0, np.where(finite, gap / allowed, np.inf))
            relative = np.where(finite & (gap > 0), gap / np.abs(a), 0.0)
            if not taken:
                ratios[np.isnan(a)] = 0.0
        worst = ratios.max(axis=1, initial=0.0)
        into["rows_outside"] += int((worst > 1).sum()) * each
        into["nonfinite_differs"] += int((~same & ~finite).any(axis=1).sum()) * each
        into["max_absolute"] = max(into["max_absolute"], _largest(gap[finite]))
        # Relative differences and ULP say nothing near zero: they are taken where the answer is above the absolute
        # tolerance.
        ordinary = finite & (np.abs(a) > self.tolerance["absolute"] * self.scale)
        into["max_relative"] = max(into["max_relative"], _largest(relative[ordinary]))
        into["max_ulp"] = max(into["max_ulp"], _ulps(a[ordinary], onnx.reshape(a.shape)[ordinary]))
        if self.classes is None and self.output["role"] == "scores" and native.ndim > 1 and native.shape[-1] > 1:
            self.has_classes = True
            differ, tied = self._largest_scores(native, onnx)
            into["labels_differ"] += differ * each
            into["labels_tied"] += tied * each
        return worst

    def _compare_labels(
        self, into: dict[str, Any], native: np.ndarray, onnx: np.ndarray, scores: np.ndarray | None, each: int
    ) -> np.ndarray:
        differ = (_texts(native) != _texts(onnx)).reshape(len(native), -1).any(axis=1)
        tied = self._tied(differ, onnx, scores)
        into["labels_differ"] += int(differ.sum()) * each
        into["labels_tied"] += int(tied.sum()) * each
        into["rows_outside"] += int((differ & ~tied).sum()) * each
        return np.where(differ & ~tied, np.inf, 0.0)

    def _tied(self, differ: np.ndarray, onnx: np.ndarray, scores: np.ndarray | None) -> np.ndarray:
        """Differing labels for which the native scores themselves are tied, as far as the tolerance can tell."""
        tied = np.zeros(len(differ), dtype=bool)
        classes = self.classes or []
        if scores is None or scores.ndim != 2 or scores.shape[1] != len(classes) or onnx.size != len(onnx):
            return tied
        index = {label: i for i, label in enumerate(classes)}
        for row in np.flatnonzero(differ):
            chosen = index.get(str(_texts(onnx)[row].item()))
            best = float(scores[row].max())
            if chosen is not None and np.isfinite(best):
                tied[row] = best - float(scores[row][chosen]) <= self._gap_of_tie(best)
        return tied

    def _largest_scores(self, native: np.ndarray, onnx: np.ndarray) -> tuple[int, int]:
        """Rows whose largest score is of another class, at any position; and those of them that are tied."""
        a = native.astype(np.float64).reshape(len(native), -1, native.shape[-1])
        b = onnx.astype(np.float64).reshape(a.shape)
        chosen = b.argmax(axis=-1)
        differ = a.argmax(axis=-1) != chosen
        best = a.max(axis=-1)
        with np.errstate(all="ignore"):
            tied = best - np.take_along_axis(a, chosen[..., np.newaxis], axis=-1)[..., 0] <= self._gap_of_tie(best)
        rows = differ.any(axis=1)
        return int(rows.sum()), int((rows & (tied | ~differ).all(axis=1)).sum())

    def _gap_of_tie(self, best: Any) -> Any:
        return 2 * (self.margin["relative"] + self.margin["absolute"]) * abs(best)


def _nothing() -> dict[str, Any]:
    counts = ("rows", "rows_outside", "nonfinite_differs", "shape_differs", "labels_differ", "labels_tied", "max_ulp")
    return {**dict.fromkeys(counts, 0), "max_absolute": 0.0, "max_relative": 0.0}


def _squeezed(array: np.ndarray) -> tuple[int, ...]:
    """The shape without axes of size 1: converters add and drop them."""
    return tuple(size for size in array.shape if size != 1)


def _is_text(array: np.ndarray) -> bool:
    return array.dtype.kind in "OSUT"


def _texts(labels: np.ndarray) -> np.ndarray:
    """Labels as text, so that 3, 3.0 and "3" are one label."""
    if labels.dtype.kind == "b":
        return labels.astype(np.int64).astype(str)
    if labels.dtype.kind == "f" and np.all(np.isfinite(labels)) and np.all(labels == np.rint(labels)):
        return labels.astype(np.int64).astype(str)
    return labels.astype(str)


def _largest(values: np.ndarray) -> float:
    values = values[np.isfinite(values)]
    return float(values.max()) if len(values) else 0.0


def _ulps(native: np.ndarray, onnx: np.ndarray) -> int:
    """The most representable numbers between two answers, in the type of the ONNX output."""
    kind = ULPS.get(onnx.dtype.name)
    if kind is None or not len(onnx):
        return 0
    with np.errstate(all="ignore"):
        narrow = native.astype(onnx.dtype)
    keep = np.isfinite(narrow) & np.isfinite(onnx)
    if not keep.any():
        return 0
    x, y = (_ordered(array[keep], kind) for array in (narrow, onnx))
    apart = np.maximum(x, y).view(np.uint64) - np.minimum(x, y).view(np.uint64)  # wraps to the right difference
    return min(int(apart.max()), MOST_ULPS)


def _ordered(array: np.ndarray, kind: type) -> np.ndarray:
    """Floats as integers in the same order, so that neighbours differ by one."""
    bits = np.ascontiguousarray(array).view(kind).astype(np.int64)
    return np.where(bits < 0, np.int64(np.iinfo(kind).min) - bits, bits)
