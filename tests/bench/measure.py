"""Measuring child processes: wall time, and the CPU time of the process with all that it started."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 600.0

Row = dict[str, object]


@dataclass(frozen=True, slots=True)
class Cost:
    """Seconds, what the process wrote to its standard output, and the most memory of one of its processes in bytes."""

    wall: float
    cpu: float
    output: str
    peak: int


def cost(command: Sequence[str | Path], environ: Mapping[str, str] | None = None) -> Cost:
    """Run a command to its end. Raises RuntimeError with what it said if it fails."""
    started = time.perf_counter()
    with subprocess.Popen(
        [str(word) for word in command],
        cwd=ROOT,
        env={**os.environ, **(environ or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        output = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    wall = time.perf_counter() - started
    if process.returncode:
        raise RuntimeError(f"{command} ended with {process.returncode}: {output[-3000:]}")
    return Cost(wall, usage.ru_utime + usage.ru_stime, output, usage.ru_maxrss * 1024)


def python(*arguments: str | Path) -> list[str | Path]:
    """A command of this interpreter."""
    return [sys.executable, *arguments]


def reported(found: Cost) -> Any:
    """The JSON in the last line that a process wrote."""
    return json.loads(found.output.strip().splitlines()[-1])


def median(values: Iterable[float]) -> float:
    return statistics.median(values)


def percentile(values: Iterable[float], share: float) -> float:
    """The smallest value that at least this share of them does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, -(-int(share * 100) * len(ordered) // 100) - 1))]


def row(what: str, ours: float, peer: float | None, goal: str, *, digits: int = 3) -> Row:
    """A row of the table; its ratio is ours to the peer's."""
    ratio = None if peer is None else ours / peer
    return {
        "what": what,
        "ours": _short(ours, digits),
        "peer": None if peer is None else _short(peer, digits),
        "ratio": None if ratio is None else _short(ratio, 3),
        "goal": goal,
    }


def _short(value: float, digits: int) -> float:
    return float(f"{value:.{digits}g}")
