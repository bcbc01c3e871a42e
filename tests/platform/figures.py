"""What a run measured: JSON in the file that POLYSHARE_TEST_FIGURES names, and a table for docs/deploy.md."""

from __future__ import annotations

import json
import os
from pathlib import Path


class Figures:
    def __init__(self) -> None:
        self._told: dict[str, str] = {}

    def tell(self, what: str, value: str) -> None:
        self._told[what] = value
        print(f"\n{what}: {value}", flush=True)
        if path := os.environ.get("POLYSHARE_TEST_FIGURES"):
            Path(path).write_text(json.dumps(self._told, indent=2) + "\n")

    def table(self) -> str:
        return "\n".join(("| | |", "| --- | --- |", *(f"| {what} | {value} |" for what, value in self._told.items())))
