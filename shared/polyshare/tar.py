"""Files as one tar archive, made while it is sent: the same files give the same bytes."""

from __future__ import annotations

import tarfile
from collections.abc import Iterable, Iterator, Sequence

_BLOCK = 512


def size_of(files: Sequence[tuple[str, int]]) -> int:
    """Bytes of the archive of files (path, size)."""
    return sum(len(_header(path, size)) + size + -size % _BLOCK for path, size in files) + 2 * _BLOCK


def pieces(files: Iterable[tuple[str, int, Iterator[bytes]]]) -> Iterator[bytes]:
    """The archive of files (path, size, content)."""
    for path, size, content in files:
        yield _header(path, size)
        yield from content
        if size % _BLOCK:
            yield bytes(-size % _BLOCK)
    yield bytes(2 * _BLOCK)


def _header(path: str, size: int) -> bytes:
    """A pax header (POSIX.1-2001); times, owners and modes are of nobody."""
    info = tarfile.TarInfo(path)
    info.size, info.mode = size, 0o644
    return info.tobuf(tarfile.PAX_FORMAT)
