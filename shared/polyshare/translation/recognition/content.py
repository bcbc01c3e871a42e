"""What recognition may look at: the beginning of a file, the directory of a zip archive."""

from __future__ import annotations

import bz2
import lzma
import zipfile
import zlib
from pathlib import Path

_HEAD = 256 * 1024
_TAIL = 1024 * 1024
_BROKEN = (OSError, ValueError, zipfile.BadZipFile)


def head(path: Path) -> bytes:
    """The first 256 KiB of a file; nothing of what is not a file."""
    if not is_file(path):
        return b""
    with path.open("rb") as file:
        return file.read(_HEAD)


def is_file(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


def is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def member(path: Path, name: str, most: int) -> bytes | None:
    """The first `most` bytes of a member of a zip archive, in bounded memory; None if there is no such."""
    if not _is_archive(path):
        return None
    try:
        with zipfile.ZipFile(path) as archive, archive.open(name) as opened:
            return opened.read(most)
    except (KeyError, NotImplementedError, RuntimeError, zlib.error, EOFError, *_BROKEN):
        return None


def members(path: Path) -> frozenset[str]:
    """The last parts of the names in the directory of a zip archive; none if it is no archive."""
    if not _is_archive(path):
        return frozenset()
    try:
        with zipfile.ZipFile(path) as archive:
            return frozenset(name.rsplit("/", 1)[-1] for name in archive.namelist())
    except _BROKEN:
        return frozenset()


def _is_archive(path: Path) -> bool:
    """Whether it is a zip archive whose directory, at its end, is small: Python reads all of it."""
    if not head(path).startswith(b"PK\x03\x04"):
        return False
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _TAIL))
        tail = file.read(_TAIL)
    end = tail.rfind(b"PK\x05\x06")
    return end >= 0 and len(tail) >= end + 22 and int.from_bytes(tail[end + 12 : end + 16], "little") <= end


def is_pickle(data: bytes) -> bool:
    return data[:1] == b"\x80" and data[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05")


def unpacked(data: bytes) -> bytes:
    """The first bytes of what joblib compressed, in bounded memory; the bytes themselves if they are not compressed."""
    try:
        if data[:1] == b"\x78":
            return zlib.decompressobj().decompress(data, _HEAD)
        if data[:2] == b"\x1f\x8b":
            return zlib.decompressobj(wbits=31).decompress(data, _HEAD)
        if data[:3] == b"BZh":
            return bz2.BZ2Decompressor().decompress(data, _HEAD)
        if data[:6] == b"\xfd7zXZ\x00" or data[:3] == b"\x5d\x00\x00":
            return lzma.LZMADecompressor(memlimit=128 * 1024 * 1024).decompress(data, _HEAD)
    except (zlib.error, OSError, lzma.LZMAError, EOFError):
        return b""
    return data
