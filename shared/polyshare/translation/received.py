"""Takes files out of a folder that hostile code writes to, whether its processes are gone or not.

Only regular files with one link are opened, without following links and without waiting on a FIFO, up to a size.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TypeVar

import msgspec

from polyshare.errors import Invalid

T = TypeVar("T")


def copy(source: Path, target: Path, most: int) -> Path:
    """Copy a received file to a fresh one of ours. Raises Invalid naming what is wrong with it."""
    with _opened(source, most) as file, target.open("xb") as out:
        left = os.fstat(file.fileno()).st_size  # what is written to it from now on does not count
        while left and (data := file.read(min(left, 1024 * 1024))):
            left -= out.write(data)
    return target


def decode(path: Path, most: int, kind: type[T]) -> T:
    """Read a received JSON file as `kind`. Raises Invalid."""
    with _opened(path, most) as file:
        data = file.read(most)
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Invalid(f"{path.name} is not what was expected: {error}") from error


def text(path: Path, most: int) -> str:
    """A received sentence, made printable; empty if there is none that can be read."""
    try:
        with _opened(path, most) as file:
            return _printable(file.read(most))
    except Invalid:
        return ""


def tail(log: Path, most: int) -> str:
    """The end of a log, made printable; empty if there is none."""
    if not log.is_file():
        return ""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - most))
        return _printable(file.read(most))


def _printable(data: bytes) -> str:
    words = data.decode("utf-8", "replace").split()
    return "".join(c if c.isprintable() else "�" for c in " ".join(words))


@contextmanager
def _opened(path: Path, most: int) -> Iterator[BinaryIO]:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise Invalid(f"{path.name} was not written") from error
    except OSError as error:
        raise Invalid(f"{path.name} can't be read: {error.strerror}") from error
    about = os.fstat(handle)
    if not stat.S_ISREG(about.st_mode) or about.st_nlink != 1 or about.st_size > most:
        os.close(handle)
        if stat.S_ISREG(about.st_mode) and about.st_nlink == 1:
            raise Invalid(f"{path.name} has {about.st_size} bytes, over the limit of {most}")
        raise Invalid(f"{path.name} is not a regular file of its own")
    with os.fdopen(handle, "rb") as file:
        yield file
