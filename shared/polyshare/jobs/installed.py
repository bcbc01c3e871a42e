"""The `uv:` environments that there are, what each is for, and which are installed here."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from pathlib import Path

from polyshare.jobs.environment import WHEELS, environment_folder, home_of, names, resolve


@dataclass(frozen=True, slots=True)
class Environment:
    """One that this installation has; `size` is its bytes on disk, None where it is not installed."""

    name: str
    purpose: str
    reference: str  # pinned
    size: int | None


def environments(cache: Path) -> list[Environment]:
    """All of them, by name."""
    return [_look(name, cache) for name in names()]


def _look(name: str, cache: Path) -> Environment:
    reference = resolve(f"uv:{name}")
    home = home_of(cache, name, reference[-64:])
    size = _size(home) if (home / WHEELS).is_file() else None
    return Environment(name, _purpose(environment_folder(name)), reference, size)


def _purpose(folder: Path) -> str:
    """The first sentence of the comment that requirements.in begins with."""
    lines = (folder / "requirements.in").read_text(encoding="utf-8").splitlines()
    comment = " ".join(line[1:].strip() for line in itertools.takewhile(lambda line: line.startswith("#"), lines))
    return re.split(r"[.:](?: |$)", comment)[0]


def _size(folder: Path) -> int:
    return sum(path.lstat().st_blocks * 512 for path in folder.rglob("*"))
