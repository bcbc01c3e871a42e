"""Running a command on mounted folders only: the port, its values, and the choice by probing.

Inside, a command sees the machine's /usr, its environment, what is mounted, and scratch folders of its own; no network,
no credentials, no other process. Its working folder is its home.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from polyshare.jobs.job import Limits

ENVIRONMENT = "/opt/polyshare/environment"  # the Python environment, inside
PROGRAMS = "/opt/polyshare/programs"  # the files of the environment's folder, inside: train.py, translate.py, …
HOME = "/home/job"

Status = Literal["done", "failed", "time", "memory", "disk", "files", "processes", "cancelled"]


@dataclass(frozen=True, slots=True)
class Mount:
    """A folder or file of the host at an absolute path inside. Writable ones count against the disk limit."""

    host: Path
    inside: str
    writable: bool = False


@dataclass(frozen=True, slots=True)
class Wheel:
    """An installed distribution; the hash is over the hashes of its files, as the wheel's RECORD lists them."""

    name: str
    version: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Prepared:
    """An environment that is ready on this machine.

    With `image` None it is a Python environment: a command that starts with `python` runs its interpreter, and the
    files of its folder are at PROGRAMS. Else it is a container image, and the command is what its entry point is given.
    """

    reference: str  # uv:<name>@sha256:… or oci:<image>@sha256:…
    mounts: tuple[Mount, ...] = ()
    python: str = ENVIRONMENT + "/bin/python"
    programs: Path | None = None  # the same files as at PROGRAMS, on the host
    wheels: tuple[Wheel, ...] = ()
    image: str | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """One command in a sandbox. `log` gets head and tail of what it prints; scratch folders are made beside it."""

    environment: Prepared
    command: tuple[str, ...]
    mounts: tuple[Mount, ...] = ()
    environ: Mapping[str, str] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)
    log: Path = Path("run.log")
    cores: frozenset[int] = frozenset()  # which cores it may use; empty: any
    devices: tuple[Path, ...] = ()  # device files, and folders of them, that it may use besides /dev's harmless ones


@dataclass(frozen=True, slots=True)
class Finished:
    """How a run ended. By then none of its processes is alive."""

    status: Status
    reason: str  # a sentence for the developer; empty when done
    exit_code: int | None
    seconds: float
    cpu_seconds: float
    peak_memory: int  # bytes, as sampled; a page that processes share counts for each


def never() -> bool:
    return False


def unheard(_tail: str) -> None:
    pass


class Sandbox(Protocol):
    """Runs untrusted commands. Raises errors.Unavailable when the sandbox itself can't start."""

    @property
    def name(self) -> str:
        """Which sandbox, with its version, for the run record."""
        ...

    @property
    def gaps(self) -> tuple[str, ...]:
        """What it does not contain, in words, for the run record."""
        ...

    def run(
        self, run: Run, *, cancelled: Callable[[], bool] = never, on_log: Callable[[str], None] = unheard
    ) -> Finished:
        """Run to the end. `on_log` gets the log's last 16 KiB about once a second, when there is more of it."""
        ...


def choose(reference: str) -> Sandbox:
    """The sandbox for an environment (`uv:…` or `oci:…`) that a probe shows to work on this machine.

    Raises errors.Unavailable saying what was tried, why it failed and how to get one.
    """
    if reference.startswith("oci:"):
        from polyshare.jobs import container

        return container.probe()
    from polyshare.jobs import bubblewrap

    return bubblewrap.probe()
