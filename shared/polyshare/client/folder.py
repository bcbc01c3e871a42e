"""From a file or a folder on disk to the files of an asset.

Symbolic links and what is not a regular file are refused, since what they stand for is not in the folder. Hidden files
(a name that begins with a dot, or below such a folder) are left out, and the user is told.
"""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from polyshare.client.progress import Progress
from polyshare.errors import Invalid, Mismatch
from polyshare.hashing import Hashed, digest_bytes, hash_files
from polyshare.manifest import Entry, Manifest, check_path


@dataclass(frozen=True, slots=True)
class Source:
    """A file on disk, its path in the asset, and what it was hashed to."""

    path: str
    file: Path
    hashed: Hashed

    @property
    def size(self) -> int:
        return self.hashed.digest.size

    @property
    def entry(self) -> Entry:
        parts = self.hashed.parts if self.hashed.digest.parts > 1 else ()
        return Entry(self.path, self.hashed.digest, parts)

    def read(self) -> bytes:
        """Its bytes, of a small file. Raises Invalid if it is not there any more, Mismatch if it changed."""
        try:
            data = self.file.read_bytes()
        except OSError as error:
            raise Invalid(f"{self.file} can't be read: {error.strerror}") from error
        if digest_bytes(data) != self.hashed.digest:
            raise Mismatch(f"{self.file} changed while it was registered: register it again")
        return data


def scan(path: Path) -> tuple[list[tuple[str, Path]], list[str]]:
    """The files of a file or a folder as (path in the asset, file), and the hidden ones left out.

    Raises Invalid on links, special files, names that can't be registered, and when there is nothing.
    """
    try:
        mode = path.lstat().st_mode
    except OSError as error:
        raise Invalid(f"{path} can't be read: {error.strerror}") from error
    if stat.S_ISREG(mode):
        return [(check_path(path.name), path)], []
    if not stat.S_ISDIR(path.stat().st_mode):
        raise Invalid(f"{path} is neither a file nor a folder")
    found: list[tuple[str, Path]] = []
    hidden: list[str] = []
    _walk(path, "", found, hidden)
    if not found:
        raise Invalid(f"{path} has no files to register" + (", only hidden ones" if hidden else ""))
    return sorted(found), sorted(hidden)


def hash_sources(path: Path, progress: Progress) -> list[Source]:
    """Scan and hash, on all cores; raises Invalid, or Mismatch if a file changes meanwhile."""
    found, hidden = scan(path)
    if hidden:
        shown = ", ".join(hidden[:3]) + (", …" if len(hidden) > 3 else "")
        progress.note(f"left out {len(hidden)} hidden {'file' if len(hidden) == 1 else 'files or folders'}: {shown}")
    progress.begin("hashing", sum(file.stat().st_size for _, file in found))
    hashed = hash_files([file for _, file in found], on_bytes=progress.advance)
    sources = [Source(name, file, digest) for (name, file), digest in zip(found, hashed, strict=True)]
    progress.end()
    return sources


def manifest_of(sources: Sequence[Source]) -> Manifest:
    return Manifest.of(source.entry for source in sources)


def split(sources: Sequence[Source], rule: str) -> list[Source]:
    """Sort files under train/ and test/ by a rule: a fraction for test such as 0.2, or test=GLOB on their paths.

    By fraction, the files with the smallest digests become the test data: nobody chooses, and it is always the same.
    """
    if any(source.path.startswith(("train/", "test/")) for source in sources):
        raise Invalid("the folder has train/ or test/ already: leave out --split, or register a folder without them")
    name, equals, glob = rule.partition("=")
    if equals:
        if name != "test" or not glob:
            raise Invalid(f"split {rule!r} is not test=GLOB, such as test=*_test.csv")
        test = {s.path for s in sources if fnmatchcase(s.path, glob)}
    else:
        try:
            fraction = float(rule)
        except ValueError as error:
            raise Invalid(f"split {rule!r} is neither a fraction such as 0.2 nor test=GLOB") from error
        if not 0 < fraction < 1:
            raise Invalid(f"split {rule!r} is not between 0 and 1")
        ordered = sorted(sources, key=lambda s: (s.hashed.digest.sha256, s.path))
        test = {s.path for s in ordered[: math.floor(fraction * len(sources) + 0.5)]}
    if not test or len(test) == len(sources):
        raise Invalid(
            f"split {rule!r} leaves {'no file for test' if not test else 'no file for training'} "
            f"of {len(sources)}: it goes by whole files"
        )
    return [Source(("test/" if s.path in test else "train/") + s.path, s.file, s.hashed) for s in sources]


def _walk(folder: Path, prefix: str, found: list[tuple[str, Path]], hidden: list[str]) -> None:
    try:
        entries = list(os.scandir(folder))
    except OSError as error:
        raise Invalid(f"{folder} can't be read: {error.strerror}") from error
    for entry in entries:
        name = prefix + entry.name
        if entry.name.startswith("."):
            hidden.append(name)
        elif entry.is_symlink():
            raise Invalid(f"{entry.path} is a symbolic link: put the file itself in its place, or leave it out")
        elif entry.is_dir(follow_symlinks=False):
            _walk(Path(entry.path), name + "/", found, hidden)
        elif entry.is_file(follow_symlinks=False):
            found.append((check_path(name), Path(entry.path)))
        else:
            raise Invalid(f"{entry.path} is not a regular file: leave it out")
