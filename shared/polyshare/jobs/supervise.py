"""Holding a sandboxed job to its limits as a whole, by sampling: memory and tasks over all its processes, disk over all
its scratch folders. Whatever goes over is killed as one, by the first process of its PID namespace.

Scratch is on disk, not in a size-limited tmpfs: outputs must outlive the namespace and may be larger than memory. What
sampling can't see in time is bounded by rlimits inside (bubblewrap.py) and, where it can be had, by a cgroup.
"""

from __future__ import annotations

import os
import select
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from polyshare.errors import Unavailable
from polyshare.jobs import scratch
from polyshare.jobs.job import Limits
from polyshare.jobs.log import Log
from polyshare.jobs.processes import Sample, sample, shared_memory
from polyshare.jobs.sandbox import Finished, Status

_TICK = 0.1  # seconds between samples of processes
_GRACE = 20.0  # seconds that killing everything may take


@dataclass(frozen=True, slots=True)
class Watched:
    """A started job: the process we wait for, where its output comes from, and how to find and kill what it started."""

    process: subprocess.Popen[bytes]
    output: int  # readable descriptor; closed here
    first: Callable[[], int | None]  # PID, here, of the first process of its namespace; None while it has none
    kill: Callable[[], None]
    folders: tuple[Path, ...]  # all that it can write


def supervise(
    watched: Watched, limits: Limits, log: Path, *, cancelled: Callable[[], bool], on_log: Callable[[str], None]
) -> Finished:
    """Wait for a job and hold it to its limits; returns when none of its processes is left."""
    started = time.monotonic()
    verdict: tuple[Status, str] | None = None
    seen = Sample()
    disk = scratch.Meter(watched.folders, limits)
    killed_at = next_disk = next_tail = 0.0
    with Log(log, limits.log_bytes) as kept:
        while not _ended(watched.process):
            now = time.monotonic() - started
            kept.read(watched.output, min(_TICK, max(0.01, now / 2)), keep=verdict is None)
            first = watched.first()
            seen = seen.then(sample(first) if first else Sample())
            if verdict is None:
                verdict = _over(seen, first, limits, now, cancelled)
                if verdict is None and now >= next_disk:
                    verdict = disk.check(first)
                    next_disk = (time.monotonic() - started) + max(_TICK, 5 * disk.cost)
                if now >= next_tail and kept.news:
                    on_log(kept.tail())
                    next_tail = now + 1
            if verdict is not None:
                killed_at = killed_at or now
                watched.kill()
                if now - killed_at > _GRACE:
                    raise Unavailable(
                        f"a job (PID {watched.process.pid}) did not die within {_GRACE:.0f} s of being killed: "
                        "it may hang in the kernel; look at the machine's log"
                    )
        kept.drain(watched.output)
        os.close(watched.output)
        seconds = time.monotonic() - started
        verdict = verdict or disk.check(None)
        code = watched.process.returncode
        last = kept.last_line()
    if verdict is None and code != 0:
        verdict = ("failed", f"it ended with {_ending(code)}" + (f": {last}" if last else "; it printed nothing"))
    status, reason = verdict or ("done", "")
    return Finished(status, reason, code, seconds, seen.cpu_seconds, seen.peak)


def _ended(process: subprocess.Popen[bytes]) -> bool:
    return process.poll() is not None


def _over(
    seen: Sample, first: int | None, limits: Limits, now: float, cancelled: Callable[[], bool]
) -> tuple[Status, str] | None:
    if cancelled():
        return "cancelled", "it was cancelled"
    if now > limits.wall_seconds:
        return (
            "time",
            f"it ran longer than its limit of {limits.wall_seconds:.0f} s: give it less to do or a higher limit",
        )
    if seen.tasks > limits.processes:
        return "processes", f"it had {seen.tasks} processes and threads; the limit is {limits.processes}"
    memory = seen.memory + shared_memory(first)
    if memory > limits.memory_bytes and seen.confirm() + shared_memory(first) > limits.memory_bytes:
        return "memory", f"it used {_size(memory)} of memory; the limit is {_size(limits.memory_bytes)}"
    if _machine_is_short(limits):
        return "memory", f"the machine's memory ran out while it used {_size(memory)}; try again when less is running"
    return None


def _machine_is_short(limits: Limits) -> bool:
    """Whether memory is nearly gone, for whatever reason: then jobs go before anything else does."""
    values = {}
    with open("/proc/meminfo", encoding="ascii") as file:
        for line in file:
            name, _, rest = line.partition(":")
            values[name] = int(rest.split()[0]) * 1024
            if name == "MemAvailable":
                break
    return values.get("MemAvailable", limits.memory_bytes) < min(256 * 1024**2, values["MemTotal"] // 50)


def _size(count: int) -> str:
    return f"{count / 1024**3:.1f} GiB" if count >= 1024**3 else f"{count / 1024**2:.0f} MiB"


def _ending(code: int) -> str:
    number = -code if code < 0 else code - 128  # bubblewrap and the engines tell a signal as 128 + its number
    return f"signal {number}" if code < 0 or 128 < code < 160 else f"exit code {code}"


def readable(fd: int, seconds: float) -> bool:
    """Whether there is something to read, waiting up to `seconds`."""
    poller = select.poll()
    poller.register(fd, select.POLLIN)
    return bool(poller.poll(seconds * 1000))
