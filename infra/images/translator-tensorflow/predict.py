"""Runs the native model on the gate's inputs (harness.predict)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import harness
import loading


def load(folder: Path, file: str) -> harness.Ready:
    loaded = loading.load(folder / file)

    def answer(arrays: harness.Arrays) -> dict[str, Any]:
        return dict(zip(loaded.outputs, loaded.call([arrays[one["name"]] for one in loaded.inputs]), strict=True))

    return lambda signature: answer


if __name__ == "__main__":
    harness.predict(load)
