"""What a runner is handed, and the runner's port."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

from polyshare.errors import Invalid

Action = Literal["ingest", "train", "translate"]
_GIB = 1024**3


@dataclass(frozen=True, slots=True)
class Limits:
    """What a job may use, all its processes together."""

    memory_bytes: int = 2 * _GIB
    processes: int = 256  # threads count too
    cpus: int = 1  # cores, and what thread pools are pinned to
    wall_seconds: float = 3600
    disk_bytes: int = 4 * _GIB  # model, output, temporary files and home together
    files: int = 10_000  # folders count too
    log_bytes: int = 1024 * 1024  # head and tail, half each

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if not getattr(self, name) > 0:
                raise Invalid(f"limit {name} must be above zero, not {getattr(self, name)}")

    @classmethod
    def from_json(cls, document: Mapping[str, object]) -> Limits:
        """Read a job document's limits; what is left out has its default. Raises Invalid."""
        known = {}
        for name, value in document.items():
            if name not in cls.__slots__ or isinstance(value, bool) or not isinstance(value, int | float):
                raise Invalid(f"limit {name[:50]!r} = {str(value)[:50]} is not one of {', '.join(cls.__slots__)}")
            known[name] = value if name == "wall_seconds" else int(value)
        return cls(**known)  # type: ignore[arg-type]

    @property
    def most_tasks(self) -> int:
        """Where the kernel refuses more: above the limit, so that sampling sees it passed and can tell the reason."""
        return 2 * self.processes + 16

    def to_json(self) -> dict[str, float]:
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class Job:
    """One attempt at a job. The token is good for this job and attempt only, until the deadline."""

    id: str
    attempt: int
    action: Action
    endpoint: str  # URL of the function complete_job
    token: str = field(repr=False)
    deadline: float  # Unix seconds
    requires: Mapping[str, str] = field(default_factory=dict)  # environment, gpu: what a machine must offer


class RunState(enum.StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    GONE = "gone"  # the runner has finished with it, whatever came of it


@dataclass(frozen=True, slots=True)
class RunnerState:
    """Where a runner is with a job. `position` is 1 for the next to run, None unless queued."""

    state: RunState
    position: int | None = None
    detail: str = ""  # what it says of one that is gone


class Runner(Protocol):
    """Runs jobs at least once each. Raises errors.Unavailable when it can't be reached."""

    def submit(self, job: Job) -> None:
        """Take a job, once for each (id, attempt); returns when it will not be forgotten."""
        ...

    def cancel(self, job_id: str) -> None:
        """Stop all attempts at a job, soon; nothing happens if there are none."""
        ...

    def state(self, job_id: str) -> RunnerState | None:
        """Where the newest attempt is; None if the runner does not know the job."""
        ...
