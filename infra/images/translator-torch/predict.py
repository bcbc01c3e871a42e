"""Runs the native model on the gate's inputs (harness.predict)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import harness
import loading


def load(folder: Path, file: str) -> harness.Ready:
    early = loading.load(folder, file, {}) if loading.kind_of(folder / file) in loading.WHOLE else None

    def ready(signature: dict[str, Any]) -> harness.Answer:
        loaded = early or loading.load(folder, file, signature["native"])
        return lambda arrays: dict(
            zip(loaded.outputs, loaded.call([arrays[one["name"]] for one in loaded.inputs]), strict=True)
        )

    return ready


if __name__ == "__main__":
    harness.predict(load)
