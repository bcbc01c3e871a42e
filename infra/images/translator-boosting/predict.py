"""Runs the native model on the gate's inputs (harness.predict)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import boosters
import harness
import loading
import numpy as np


def load(folder: Path, file: str) -> harness.Ready:
    found = boosters.load(folder / file)
    return lambda signature: _answer(found, signature)


def _answer(found: boosters.Booster, signature: dict[str, Any]) -> harness.Answer:
    if hasattr(found.module, "answer") and found.is_file:
        from_file = found.module.answer(found.last, signature["native"]["classes"])
        return lambda arrays: from_file(loading.native_batch(None, signature["inputs"], arrays))

    def answer(arrays: harness.Arrays) -> dict[str, Any]:
        data = loading.native_batch(found.model, signature["inputs"], arrays)
        answers = {one["name"]: getattr(found.model, one["method"])(data) for one in signature["outputs"]}
        return {name: _flat(name, value) for name, value in answers.items()}

    return answer


def _flat(name: str, value: Any) -> Any:
    """CatBoost gives labels of several classes as a column, in an array of objects."""
    array = np.asarray(value)
    if name == "label" and array.dtype == object:
        array = np.array(array.ravel().tolist())
    return array.reshape(-1) if name == "label" else array


if __name__ == "__main__":
    harness.predict(load)
