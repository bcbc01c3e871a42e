"""The first step of a verification: what is on disk, and which asset's document it is to be held against."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from polyshare.api import AssetDocument
from polyshare.client.fetch import DOCUMENT, PARTIAL, files_of, manifest_of
from polyshare.client.folder import scan
from polyshare.client.progress import Progress, Silent
from polyshare.errors import Invalid, PolyshareError
from polyshare.hashing import Hashed, hash_files
from polyshare.manifest import Entry, Manifest
from polyshare.verify.report import Check, Outcome

if TYPE_CHECKING:
    from polyshare.client import Client


@dataclass(frozen=True, slots=True)
class Found:
    """What there is. `content_root` is of the files as hashed; None when only some of an asset's were looked at."""

    document: AssetDocument | None
    checks: Sequence[Check]
    content_root: bytes | None = None


def look(path: Path, client: Client | None, progress: Progress | None) -> Found:
    """Hash what is at `path` and find its document: polyshare.json beside or above it, else in the registry.

    Raises Invalid when there is nothing to look at.
    """
    progress = progress or Silent()
    if not path.exists():
        raise Invalid(f"{path} does not exist")
    if path.name == DOCUMENT and path.is_file():
        path = path.parent
    if path.is_dir() and (path / DOCUMENT).exists():
        return _folder(path, progress)
    above = next((p for p in path.resolve().parents if (p / DOCUMENT).is_file()), None)
    if above is not None:
        return _part(above, path.resolve().relative_to(above).as_posix(), progress)
    return _unnamed(path, client, progress)


def _folder(folder: Path, progress: Progress) -> Found:
    """A fetched folder: every file of the document, and no others."""
    document = _read(folder / DOCUMENT)
    if isinstance(document, Check):
        return Found(None, [document])
    try:
        expected = manifest_of(files_of(document))
    except PolyshareError as error:
        return Found(document, [Check("files", Outcome.FAILED, f"the document's list of files: {error}")])
    there, others = _below(folder)
    hashed = _hash([(e.path, there[e.path]) for e in expected.entries if e.path in there], progress)
    wrong = _compare(expected.entries, hashed)
    known = {entry.path for entry in expected.entries} | {DOCUMENT}
    extra = sorted({*there, *others} - known)
    if extra:
        told = f"not part of the asset: {_few(extra)}; move it away, or verify the files one by one"
        wrong.append(Check("files", Outcome.FAILED, told))
    if wrong:
        return Found(document, wrong)
    root = Manifest.of(Entry(path, h.digest) for path, h in hashed.items()).content_root
    count = len(expected.entries)
    told = f"{count} file{'s' * (count != 1)}, {expected.size:,} bytes: all as listed, none missing, none besides"
    return Found(document, [Check("files", Outcome.ESTABLISHED, told)], root)


def _part(folder: Path, inner: str, progress: Progress) -> Found:
    """One file, or a folder, inside a fetched folder."""
    document = _read(folder / DOCUMENT)
    if isinstance(document, Check):
        return Found(None, [document])
    try:
        expected = manifest_of(files_of(document))
    except PolyshareError as error:
        return Found(document, [Check("files", Outcome.FAILED, f"the document's list of files: {error}")])
    entries = [e for e in expected.entries if e.path == inner or e.path.startswith(inner + "/")]
    there, others = _below(folder)
    inside = {name for name in (*there, *others) if name == inner or name.startswith(inner + "/")}
    extra = sorted(inside - {e.path for e in entries})
    hashed = _hash([(e.path, there[e.path]) for e in entries if e.path in there], progress)
    wrong = _compare(entries, hashed)
    if extra or not entries:
        wrong.append(Check("files", Outcome.FAILED, f"not part of the asset: {_few(extra or [inner])}"))
    if wrong:
        return Found(document, wrong)
    told = f"{inner} is as listed; {len(expected.entries) - len(entries)} other files of the asset were not looked at"
    return Found(document, [Check("files", Outcome.ESTABLISHED, told)])


def _unnamed(path: Path, client: Client | None, progress: Progress) -> Found:
    """A file or folder that nothing says the asset of: the registry is asked for its content."""
    found, hidden = scan(path)
    hashed = _hash(found, progress)
    manifest = Manifest.of(Entry(name, h.digest) for name, h in hashed.items())
    root = manifest.content_root
    if client is None:
        return Found(None, [Check("files", Outcome.OPEN, f"there is no {DOCUMENT} to say what it is")])
    try:
        listed = client.by_content(root).assets
        if not listed:
            told = f"the registry shows you no asset with this content (root {root.hex()[:16]}…, names included)"
            return Found(None, [Check("files", Outcome.OPEN, told)])
        document = client.document(listed[0].id)
        expected = manifest_of(files_of(document))
    except PolyshareError as error:
        return Found(None, [Check("files", Outcome.OPEN, f"the registry can't be asked what it is: {error}")])
    if expected.content_root != root:
        told = "the registry named an asset with other files"
        return Found(document, [Check("files", Outcome.FAILED, told)])
    others = f"; so have {len(listed) - 1} more assets" if len(listed) > 1 else ""
    besides = f"; {len(hidden)} hidden not looked at" if hidden else ""
    told = f"{len(hashed)} file{'s' * (len(hashed) != 1)}, found in the registry by content{others}{besides}"
    return Found(document, [Check("files", Outcome.ESTABLISHED, told)], root)


def _read(path: Path) -> AssetDocument | Check:
    try:
        return msgspec.json.decode(path.read_bytes(), type=AssetDocument)
    except (OSError, msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        return Check(
            "files", Outcome.OPEN, f"{path} can't be read, so there is nothing to hold the files against: {error}"
        )


def _hash(files: Sequence[tuple[str, Path]], progress: Progress) -> dict[str, Hashed]:
    progress.begin("hashing", sum(file.stat().st_size for _, file in files))
    hashed = dict(
        zip((name for name, _ in files), hash_files([f for _, f in files], on_bytes=progress.advance), strict=True)
    )
    progress.end()
    return hashed


def _compare(expected: Iterable[Entry], hashed: dict[str, Hashed]) -> list[Check]:
    missing = [e.path for e in expected if e.path not in hashed]
    changed = [e.path for e in expected if e.path in hashed and hashed[e.path].digest != e.digest]
    checks = []
    if changed:
        checks.append(Check("files", Outcome.FAILED, f"not the bytes that were registered: {_few(changed)}"))
    if missing:
        checks.append(Check("files", Outcome.FAILED, f"missing, or not a regular file: {_few(missing)}"))
    return checks


def _below(folder: Path) -> tuple[dict[str, Path], list[str]]:
    """The regular files below a folder, and what else is there (links, pipes); not what is still being fetched."""
    regular: dict[str, Path] = {}
    others: list[str] = []
    for base, folders, names in os.walk(folder):
        if Path(base) == folder and PARTIAL in folders:
            folders.remove(PARTIAL)
        for name in [*names, *(name for name in folders if os.path.islink(os.path.join(base, name)))]:
            file = Path(base, name)
            if stat.S_ISREG(file.lstat().st_mode):
                regular[file.relative_to(folder).as_posix()] = file
            else:
                others.append(file.relative_to(folder).as_posix())
    return regular, others


def _few(paths: Sequence[str]) -> str:
    return ", ".join(paths[:5]) + (f" and {len(paths) - 5} more" if len(paths) > 5 else "")
