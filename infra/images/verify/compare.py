"""Runs the ONNX model on the inputs and measures how far it is from the native model's answers. It does not judge."""

from __future__ import annotations

import os
import re
from typing import Any

import measure
import numpy as np
import onnxruntime
from rows import Columns

MOST_ERRORS = 5
KEPT = 16  # rows with the largest differences, from which a search goes on


class Comparison:
    """All rounds of one translation: `add` each, `report` what they come to so far."""

    def __init__(
        self,
        session: onnxruntime.InferenceSession,
        signature: dict[str, Any],
        facts: dict[str, Any],
        tolerances: dict[str, Any],
    ) -> None:
        self.session = session
        self.outputs = [{**one, **fact} for one, fact in zip(signature["outputs"], facts["outputs"], strict=True)]
        scores = [one["name"] for one in self.outputs if one["role"] == "scores"]
        self.beside = {  # the scores that go with each label
            one["name"]: one.get("scores") or (scores[0] if scores else None)
            for one in self.outputs
            if one["role"] == "label"
        }
        self.measures = {
            one["name"]: measure.Output(
                one,
                tolerances,
                one.get("classes", signature["classes"])
                if one["role"] == "label" or one["name"] in self.beside.values()
                else None,
            )
            for one in self.outputs
        }
        self.answered: dict[str, dict[str, int]] = {}
        self.said: dict[str, list[str]] = {"native": [], "onnx": []}
        self.ratios: list[float] = []  # of each round, the largest difference of a judged row to what is allowed
        self.settled = False  # a row of an output that does not jump is outside: there is nothing more to find
        self.worst: list[tuple[float, Columns]] = []  # rows with the largest differences, the largest first
        self._outside: tuple[list[Columns], list[Columns]] = [], []  # some rows, apart those of the edges

    def add(self, plan: list[dict[str, Any]], given: Any, native: Any, errors: dict[str, str]) -> None:
        """One round: inputs by `batch/input`, and the native answers by `batch/output`. Raises ValueError."""
        batches = [_Batch(one, given, native, errors, self.session, self.outputs) for one in plan]
        by_name = {batch.name: batch for batch in batches}
        for batch in batches:
            batch.count(self.answered, self.said)
        if not self.ratios:
            for name, one in self.measures.items():
                one.scale_from([b.pair(name) for b in batches if b.origins and b.both and not b.uncast_of])
        largest = 0.0
        for batch in batches:
            if batch.uncast_of and batch.native is not None and (cast := by_name[batch.uncast_of]).native is not None:
                rows = [i for i, origin in enumerate(batch.origins) if origin == "uncast"]
                for name, one in self.measures.items():
                    if len(cast.native[name]) == len(batch.native[name]) == len(batch.origins):
                        one.add_cast(cast.native[name][rows], batch.native[name][rows])
            elif batch.origins and batch.both and not batch.uncast_of:
                largest = max(largest, self._add(batch))
        self.ratios.append(largest)

    @property
    def outside(self) -> list[Columns]:
        """Some rows that are outside, those of the edges last, for they tell least."""
        return [*self._outside[0], *self._outside[1]]

    def report(self) -> dict[str, Any]:
        """The measures of all rounds so far."""
        return {
            "answered": self.answered,
            "native_refusals": self.said["native"],
            "onnx_failures": self.said["onnx"],
            "ratios": self.ratios,
            "outputs": [one.report() for one in self.measures.values()],
        }

    def _add(self, batch: _Batch) -> float:
        """Measure a batch, and keep its worst rows; gives its largest ratio in outputs that do not jump."""
        count = len(batch.origins)
        smooth, any_of = np.zeros(count), np.zeros(count)
        judged = np.array([origin in ("test", "random", "edge", "searched") for origin in batch.origins], dtype=bool)
        for name, one in self.measures.items():
            scores = self.beside.get(name)
            beside = batch.native[scores] if scores is not None and batch.native is not None else None
            ratios = one.add(batch.origins, *batch.pair(name), beside)
            any_of = np.maximum(any_of, ratios)
            jumps = one.output["jumps"] and not (scores and not self.measures[scores].output["jumps"])
            self.settled |= bool(not jumps and ((ratios > 1) & judged).any())
            if not one.is_label and not one.output["jumps"]:
                smooth = np.maximum(smooth, np.where(np.isfinite(ratios), ratios, 0.0))
        if not judged.any():
            return 0.0
        for row in np.argsort(-smooth * judged, kind="stable")[:KEPT]:
            if judged[row] and smooth[row] > 0:
                self.worst.append((float(smooth[row]), batch.row(row)))
        self.worst.sort(key=lambda one: -one[0])
        del self.worst[KEPT:]
        for row in np.flatnonzero((any_of > 1) & judged):
            pile = self._outside[batch.origins[row] == "edge"]
            if len(pile) < KEPT:
                pile.append(batch.row(int(row)))
        return float(smooth[judged].max(initial=0.0))


class _Batch:
    """One batch with the answers of both sides."""

    def __init__(self, plan: dict, given: Any, native: Any, errors: dict, session: Any, outputs: list[dict]) -> None:
        self.name, self.origins, self.uncast_of = plan["batch"], plan["origins"], plan["uncast_of"]
        self.two_sided = {one["name"] for one in outputs if one["method"] == "decision_function"}
        self.given = {one.name: given[f"{self.name}/{one.name}"] for one in session.get_inputs()}
        self.native: dict[str, np.ndarray] | None = None
        self.onnx: dict[str, np.ndarray] | None = None
        self.error_native = str(errors[self.name])[:300] if self.name in errors else ""
        self.error_onnx = ""
        if not self.error_native:
            self.native = {one["name"]: self._native(native, one["name"]) for one in outputs}
        if not self.origins:
            self.error_onnx = _runs_apart(session, self.given)
            self.onnx = None if self.error_onnx else {}
        elif not self.uncast_of:
            try:
                answers = session.run([one["name"] for one in outputs], fed(self.given))
                self.onnx = {one["name"]: np.asarray(a) for one, a in zip(outputs, answers, strict=True)}
            except Exception as error:  # ONNX Runtime's own errors have no common class
                self.error_onnx = f"{type(error).__name__}: {error}"[:300]

    @property
    def both(self) -> bool:
        return self.native is not None and self.onnx is not None

    def pair(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        native, onnx = self.native[name], self.onnx[name]  # type: ignore[index]
        if name in self.two_sided and native.ndim == 1 and onnx.ndim == 2 and onnx.shape[1] == 2:
            # scikit-learn gives the decision for the second of two classes; ONNX a column for each.
            native = np.stack([-native, native], axis=1)
        return native, onnx

    def row(self, index: int) -> Columns:
        """A row of the inputs, as a batch of one."""
        return {name: array[[index]] for name, array in self.given.items()}

    def count(self, answered: dict[str, dict[str, int]], said: dict[str, list[str]]) -> None:
        if self.uncast_of:
            return
        for origin in self.origins or ["empty"]:
            one = answered.setdefault(origin, {"rows": 0, "both": 0, "native_refused": 0, "onnx_failed": 0})
            one["rows"] += 1
            one["both"] += self.both
            one["native_refused"] += self.native is None
            one["onnx_failed"] += self.native is not None and self.onnx is None
        where = ",".join(sorted(set(self.origins))) or "empty"
        for side, error in (("native", self.error_native), ("onnx", self.error_onnx)):
            if error and len(said[side]) < MOST_ERRORS:
                said[side].append(f"{where}: {_lasting(error)}")

    def _native(self, native: Any, output: str) -> np.ndarray:
        if f"{self.name}/{output}" not in native.files:
            raise ValueError(f"the native model gave no output {output!r}, and no reason")
        array = native[f"{self.name}/{output}"]
        if array.dtype.kind not in "fiubU":
            raise ValueError(f"the native model gave {array.dtype} for the output {output!r}")
        return array


def _lasting(error: str) -> str:
    """What an error says at all times and in all processes: its first line, without the time and addresses."""
    first = error.strip().partition("\n")[0]
    return re.sub(r"0x[0-9a-fA-F]+", "0x…", re.sub(r"\d\d:\d\d:\d\d", "…", first))


def _runs_apart(session: Any, given: Columns) -> str:
    """Run a batch without rows in a process of its own, and give its error: ONNX Runtime 1.31 aborts on some, such as
    an LSTM's."""
    readable, writable = os.pipe()
    child = os.fork()
    if not child:
        try:
            session.run(None, fed(given))
        except Exception as error:
            os.write(writable, f"{type(error).__name__}: {error}"[:300].encode())
        os._exit(0)
    os.close(writable)
    with os.fdopen(readable, "rb") as pipe:
        said = pipe.read().decode("utf-8", "replace")
    _, status = os.waitpid(child, 0)
    return said if os.WIFEXITED(status) else f"ONNX Runtime ended with signal {os.WTERMSIG(status)}"


def fed(columns: Columns) -> dict[str, np.ndarray]:
    """A batch as ONNX Runtime takes it."""
    return {name: array.astype(object) if array.dtype.kind == "U" else array for name, array in columns.items()}
