"""Runs the function of JAX or Flax on the gate's inputs (harness.predict)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import harness
import jax
import loading
import numpy as np


def load(folder: Path, file: str) -> harness.Ready:
    return lambda signature: _answer(folder, file, signature)


def _answer(folder: Path, file: str, signature: dict[str, Any]) -> harness.Answer:
    model = jax.jit(loading.load(folder, file, signature["native"]))

    def answer(arrays: harness.Arrays) -> dict[str, Any]:
        given = [arrays[one["name"]].astype(one["dtype"]) for one in signature["inputs"]]
        return {name: np.asarray(value) for name, value in model(*given).items()}

    return answer


if __name__ == "__main__":
    harness.predict(load)
