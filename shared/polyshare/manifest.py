"""Manifest of an asset: which files it has, and the one hash that stands for all of them.

`content_root` = sha256 of the RFC 8785 form of the list of {path, size, digest}, sorted by the paths' UTF-8 bytes.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field

import rfc8785

from polyshare.errors import Invalid
from polyshare.hashing import Digest

MOST_FILES = 100_000
LONGEST_PATH = 1024  # bytes of UTF-8, S3's limit for a key less our prefix
_RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(\..*)?", re.IGNORECASE)
_OWN = "polyshare.json"  # what fetch writes beside the files


def check_path(path: str) -> str:
    """The path itself, if it names a file below any folder on any system; raises Invalid saying why not."""

    def refuse(why: str) -> Invalid:
        return Invalid(f"path {path[:200]!r} can't be registered: {why}", path=path[:200])

    if not path:
        raise refuse("it is empty")
    try:
        encoded = path.encode()
    except UnicodeEncodeError as error:
        raise refuse("it is not valid Unicode") from error
    if len(encoded) > LONGEST_PATH:
        raise refuse(f"it is longer than {LONGEST_PATH} bytes")
    if unicodedata.normalize("NFC", path) != path:
        raise refuse("it is not in Unicode's NFC form; rename the file")
    if path.startswith("/") or "\\" in path:
        raise refuse("paths are relative, with / between folders")
    if path.casefold() == _OWN:
        raise refuse("polyshare writes a file of that name itself")
    for name in path.split("/"):
        if name in ("", ".", ".."):
            raise refuse("it has an empty, '.' or '..' part")
        if len(name.encode()) > 255:
            raise refuse("a part of it is longer than 255 bytes")
        if any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") or c in '<>:"|?*' for c in name):
            raise refuse('it has a control character or one of < > : " | ? *, which not every system can store')
        if name[-1] in ". " or _RESERVED.fullmatch(name):
            raise refuse("a part of it is reserved on some systems (ends in a dot or space, or is a device's name)")
    return path


def check_together(paths: Iterable[str]) -> None:
    """Raises Invalid unless these paths can all be files of one folder, on any system."""
    folded: dict[str, str] = {}
    for path in paths:
        key = _fold(path)
        if key in folded:
            raise Invalid(f"paths {folded[key]!r} and {path!r} are one file on a system that ignores case")
        folded[key] = path
    for key, path in folded.items():
        for above in _folders(key):
            if above in folded:
                raise Invalid(f"{folded[above]!r} is a file, so {path!r} can't be below it")


@dataclass(frozen=True, slots=True)
class Entry:
    """One file: its path in the asset, its digest, and its part digests where it has more than one part."""

    path: str
    digest: Digest
    parts: tuple[bytes, ...] = field(default=(), compare=False)

    def __post_init__(self) -> None:
        check_path(self.path)
        if self.parts:
            self.digest.check_parts(self.parts)

    @property
    def size(self) -> int:
        return self.digest.size

    @classmethod
    def from_json(cls, item: dict[str, object]) -> Entry:
        """Read {path, size, digest, parts?}; raises Invalid or Mismatch naming the path."""
        path, size, digest, parts = item.get("path"), item.get("size"), item.get("digest"), item.get("parts") or []
        if (
            not isinstance(path, str)
            or not isinstance(digest, str)
            or type(size) is not int
            or not isinstance(parts, list)
        ):
            raise Invalid(f"a file is {{path, size, digest, parts?}}, not {str(item)[:200]}")
        try:
            raw = tuple(bytes.fromhex(part) for part in parts)
        except (TypeError, ValueError) as error:
            raise Invalid(f"the parts of {path[:200]!r} are not hexadecimal SHA-256 digests") from error
        value = Digest.parse(digest, size)
        if value.parts > 1 and not raw:
            raise Invalid(f"{path[:200]!r} has {value.parts} parts: give their digests in parts")
        return cls(path, value, raw if value.parts > 1 else ())

    def to_json(self) -> dict[str, object]:
        """{path, size, digest, parts?}, as clients and the journal write it."""
        item: dict[str, object] = {"path": self.path, "size": self.size, "digest": str(self.digest)}
        if self.parts:
            item["parts"] = [part.hex() for part in self.parts]
        return item


@dataclass(frozen=True, slots=True)
class Manifest:
    """The files of an asset, sorted by path; no two paths are the same on a system that ignores case."""

    entries: tuple[Entry, ...]

    def __post_init__(self) -> None:
        if len(self.entries) > MOST_FILES:
            raise Invalid(f"an asset has at most {MOST_FILES} files, not {len(self.entries)}: pack them in archives")
        object.__setattr__(self, "entries", tuple(sorted(self.entries, key=lambda entry: entry.path.encode())))
        check_together(entry.path for entry in self.entries)

    @classmethod
    def of(cls, entries: Iterable[Entry]) -> Manifest:
        return cls(tuple(entries))

    @classmethod
    def from_json(cls, items: Iterable[dict[str, object]]) -> Manifest:
        """Read a list of {path, size, digest, parts?}; raises Invalid or Mismatch."""
        return cls(tuple(Entry.from_json(item) for item in items))

    def to_json(self) -> list[dict[str, object]]:
        return [entry.to_json() for entry in self.entries]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(entry.size for entry in self.entries)

    @property
    def content_root(self) -> bytes:
        """32 bytes that stand for the paths, sizes and digests of all files."""
        listed = [{"path": e.path, "size": e.size, "digest": str(e.digest)} for e in self.entries]
        return hashlib.sha256(rfc8785.dumps(listed)).digest()  # type: ignore[arg-type]


def commitment(salt: bytes, content_root: bytes) -> bytes:
    """What the ledger holds of a content: 32 bytes that tell nothing to who lacks the 32-byte salt."""
    if len(salt) != 32 or len(content_root) != 32:
        raise Invalid("a salt and a content root have 32 bytes each")
    return hashlib.sha256(b"polyshare/content/1" + salt + content_root).digest()


def _fold(path: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", path).casefold())


def _folders(path: str) -> Iterable[str]:
    while "/" in path:
        path = path.rpartition("/")[0]
        yield path
