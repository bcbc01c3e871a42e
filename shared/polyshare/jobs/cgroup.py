"""A cgroup v2 of a job's own, where one is delegated to us (systemd does so for services and users' sessions).

It caps memory and tasks as a whole, kernel memory included, and shares the CPU fairly between jobs. Where there is
none, the supervisor's sampling holds the limits alone. Rules: the kernel's Documentation/admin-guide/cgroup-v2.rst.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from polyshare.jobs.job import Limits

_NEEDED = ("memory", "pids")


@dataclass(frozen=True, slots=True)
class Cgroup:
    """A job's group; with no folder it does nothing."""

    folder: Path | None

    @property
    def entry(self) -> str:
        """The file into which a process writes 0 to enter; empty when there is none."""
        return str(self.folder / "cgroup.procs") if self.folder else ""

    def kill(self) -> None:
        """Kill all that is in it (kernel 5.14 and later)."""
        if self.folder and (self.folder / "cgroup.kill").exists():
            (self.folder / "cgroup.kill").write_text("1")

    @staticmethod
    def available(mount: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> Path | None:
        """The folder below which we may make groups with memory and pids controllers, beside our own; None if none."""
        for line in own.read_text().splitlines():
            if not line.startswith("0::/"):
                continue
            parent = (mount / line[4:]).parent if line[4:] else mount
            try:
                enabled = (parent / "cgroup.subtree_control").read_text().split()
            except OSError:
                return None
            # moving ourselves needs write access to the common ancestor's cgroup.procs, which is this one's
            allowed = os.access(parent, os.W_OK) and os.access(parent / "cgroup.procs", os.W_OK)
            return parent if allowed and all(name in enabled for name in _NEEDED) else None
        return None

    @staticmethod
    def usable() -> Path | None:
        """What is available, if a process can really enter a group there; None if not."""
        parent = Cgroup.available()
        if parent is None:
            return None
        folder = parent / f"polyshare-{secrets.token_hex(8)}"
        try:
            folder.mkdir()
            enter = ["sh", "-c", 'echo 0 > "$0"', str(folder / "cgroup.procs")]
            entered = subprocess.run(enter, stderr=subprocess.DEVNULL, timeout=10, check=False).returncode == 0
        except (OSError, subprocess.TimeoutExpired):
            entered = False
        _remove(folder)
        return parent if entered else None

    @staticmethod
    @contextmanager
    def make(limits: Limits, parent: Path | None = None) -> Iterator[Cgroup]:
        """A group with these limits, removed at the end; one that does nothing where none can be had."""
        parent = parent or Cgroup.usable()
        if parent is None:
            yield Cgroup(None)
            return
        folder = parent / f"polyshare-{secrets.token_hex(8)}"
        try:
            folder.mkdir()
            # above what the supervisor allows, so that it is the one to tell the reason
            (folder / "memory.max").write_text(str(limits.memory_bytes + limits.memory_bytes // 8))
            (folder / "pids.max").write_text(str(limits.most_tasks))
        except OSError:
            _remove(folder)
            yield Cgroup(None)
            return
        for name, value in (
            ("memory.swap.max", "0"),
            ("memory.oom.group", "1"),
            ("cpu.max", f"{limits.cpus * 100_000} 100000"),
        ):
            if (folder / name).exists():
                (folder / name).write_text(value)
        try:
            yield Cgroup(folder)
        finally:
            _remove(folder)


def _remove(folder: Path) -> None:
    for _ in range(50):  # a killed process leaves its group a moment after it is waited for
        try:
            folder.rmdir()
        except FileNotFoundError:
            return
        except OSError:
            time.sleep(0.02)
        else:
            return
