"""What recognition may look at: the beginning of a file, the directory of a zip archive."""

from __future__ import annotations

import bz2
import lzma
import zipfile
import zlib
from pathlib import Path

_HEAD = 256 * 1024
_TAIL = 1024 * 1024


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
    if not head(path).startswith(b"PK\x03\x04"):
        return None
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _TAIL))
        tail = file.read(_TAIL)
    # The directory of an archive is at its end. Python reads all of it: so only a small one is given to Python.
    end = tail.rfind(b"PK\x05\x06")
    if end < 0 or len(tail) < end + 22:
        return None
    size = int.from_bytes(tail[end + 12 : end + 16], "little")
    if size > end:
        return None
    try:
        with zipfile.ZipFile(path) as archive, archive.open(name) as opened:
            return opened.read(most)
    except (KeyError, OSError, ValueError, RuntimeError, NotImplementedError, zipfile.BadZipFile, zlib.error, EOFError):
        return None


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
