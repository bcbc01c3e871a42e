"""Runs the native model on the gate's inputs (harness.predict)."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import harness
import loading


def load(folder: Path, file: str) -> harness.Ready:
    model, _ = loading.load(folder / file)

    def answer(signature: dict[str, Any], arrays: harness.Arrays) -> dict[str, Any]:
        data = loading.native_batch(model, signature["inputs"], arrays)
        return {one["name"]: getattr(model, one["method"])(data) for one in signature["outputs"]}

    return lambda signature: partial(answer, signature)


def stages(folder: Path, file: str) -> harness.Ready:
    """What each step of a pipeline gives, the scores of the last one included."""
    model, _ = loading.load(folder / file)
    *before, last = loading.steps(model)

    def answer(signature: dict[str, Any], arrays: harness.Arrays) -> dict[str, Any]:
        data = loading.native_batch(model, signature["inputs"], arrays)
        found = {}
        for position, step in enumerate(before, 1):
            data = found[f"{position} {type(step).__name__}"] = step.transform(data)
        for method in ("transform", "decision_function", "predict_proba", "predict"):
            if hasattr(last, method):
                found[f"{len(before) + 1} {type(last).__name__}.{method}"] = getattr(last, method)(data)
        return found

    return lambda signature: partial(answer, signature)


if __name__ == "__main__":
    harness.predict(load, stages)
