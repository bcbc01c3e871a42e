"""Runs the native model on the gate's inputs (harness.predict)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import harness
import loading


def load(folder: Path, file: str, signature: dict[str, Any]) -> harness.Answer:
    model, _ = loading.load(folder / file)

    def answer(arrays: harness.Arrays) -> dict[str, Any]:
        data = loading.native_batch(model, signature["inputs"], arrays)
        return {one["name"]: getattr(model, one["method"])(data) for one in signature["outputs"]}

    return answer


if __name__ == "__main__":
    harness.predict(load)
