"""Fetching an asset's files: in parallel, resumed, each part verified as it streams, placed when they verify.

What is being fetched lies in `<folder>/.polyshare-partial/`. When a fetch is taken up again, the parts there are hashed
and those that verify are kept, so nothing has to be believed about how the one before ended.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from polyshare.api import AskDownloadUrls, AssetDocument, DownloadUrl, DownloadUrls, FileDocument
from polyshare.client.endpoint import Endpoint, segment
from polyshare.client.flight import STREAMS, Flight, pages
from polyshare.client.progress import Progress
from polyshare.errors import Conflict, Erased, Unavailable
from polyshare.hashing import Digest, hash_files, part_range
from polyshare.manifest import Entry, Manifest
from polyshare.transfer import Expired, expected_parts, get_part

DOCUMENT = "polyshare.json"
PARTIAL = ".polyshare-partial"
_MOST = 500
_WEIGHT = 256 * 1024 * 1024
_PATIENCE = 30.0


@dataclass(frozen=True, slots=True)
class Fetched:
    """What is in the folder now. `kept` files were there already."""

    folder: Path
    files: int
    bytes: int
    kept: int


def files_of(document: AssetDocument, part: str = "main") -> list[FileDocument]:
    """The files of an asset: its main ones, those of its training `source`, or of its `report`."""
    if part == "source":
        return document.source
    if part == "report":
        return document.report
    content = document.result.content if document.result is not None else document.content
    return content.files if content is not None else []


def manifest_of(files: Sequence[FileDocument]) -> Manifest:
    """Raises Invalid on paths that could lie outside a folder, and on what is not a digest."""
    return Manifest.of(Entry(file.path, Digest.parse(file.digest, file.size)) for file in files)


def fetch(
    endpoint: Endpoint, document: AssetDocument, folder: Path, *, part: str, force: bool, progress: Progress
) -> Fetched:
    """Bring the files of an asset into a folder, and its document beside them.

    Raises Conflict, before anything is fetched, if other files are in their places, unless `force`.
    """
    if document.erased:
        raise Erased(f"the files of {document.id} were erased; its record stays: polyshare show {document.id}")
    manifest = manifest_of(files_of(document, part))
    if not manifest.entries:
        raise Conflict(_nothing(document, part))
    folder.mkdir(parents=True, exist_ok=True)
    _check_owner(folder, document, force)
    kept = _kept(folder, manifest, force, progress)
    wanted = [entry for entry in manifest.entries if entry.path not in kept]
    free = shutil.disk_usage(folder).free
    if sum(entry.size for entry in wanted) > free:
        size = sum(entry.size for entry in wanted)
        raise Unavailable(f"{folder} has {free:,} bytes free, but {size:,} are to be fetched: make room")
    _Fetch(endpoint, document.id, part, folder, progress).run(wanted)
    if part == "main":
        _write(folder / DOCUMENT, msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n")
    shutil.rmtree(folder / PARTIAL, ignore_errors=True)
    return Fetched(folder, len(manifest.entries), manifest.size, len(kept))


class _Fetch:
    def __init__(self, endpoint: Endpoint, asset: str, part: str, folder: Path, progress: Progress) -> None:
        self.endpoint, self.asset, self.part, self.folder, self.progress = endpoint, asset, part, folder, progress
        self.partial = folder / PARTIAL

    def run(self, wanted: Sequence[Entry]) -> None:
        self.progress.begin("fetching", sum(entry.size for entry in wanted))
        if wanted:
            self.partial.mkdir(exist_ok=True)
        made: set[Path] = set()
        with Flight(self.endpoint.connections) as flight:
            for page in pages(wanted, lambda entry: entry.size, most=_MOST, weight=_WEIGHT):
                for entry, signed in zip(page, self.ask([entry.path for entry in page]), strict=True):
                    target = self.folder / entry.path
                    if target.parent not in made:
                        _make_folder(self.folder, target.parent)
                        made.add(target.parent)
                    file = _File(self, entry, target, signed)
                    for number in range(1, entry.digest.parts + 1):
                        flight.submit(file.bring(number))
                flight.drain(2 * STREAMS)
        self.progress.end()

    def ask(self, paths: list[str]) -> list[DownloadUrl]:
        body = AskDownloadUrls(paths=paths, part=self.part)
        path = segment(self.asset) + "/urls"
        answer = self.endpoint.call("POST", "fetch_asset", path, DownloadUrls, body, patience=_PATIENCE)
        if len(answer.urls) != len(paths):
            raise Unavailable(f"fetch_asset answered {len(answer.urls)} URLs for {len(paths)} files")
        return answer.urls


class _File:
    """A file on its way: its parts in any order, its place when the last one is there."""

    def __init__(self, fetch: _Fetch, entry: Entry, target: Path, signed: DownloadUrl) -> None:
        self.fetch, self.entry, self.target, self.signed = fetch, entry, target, signed
        self.expected = expected_parts(entry.digest, [bytes.fromhex(part) for part in signed.parts])
        name = hashlib.sha256(f"{entry.digest}/{entry.size}/{entry.path}".encode()).hexdigest()[:32]
        self.partial = fetch.partial / name
        self.begun = self.partial.exists()
        self.left = entry.digest.parts
        self.lock = threading.Lock()

    def bring(self, number: int) -> Callable[[], None]:
        def bring() -> None:
            sha256 = self.expected[number - 1]
            fd = os.open(self.partial, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
            try:
                if self.begun and _holds(fd, self.entry.size, number, sha256):
                    self.fetch.progress.advance(part_range(self.entry.size, number)[1])
                else:
                    self.receive(fd, number, sha256)
                with self.lock:
                    self.left -= 1
                    last = self.left == 0
                if last:
                    os.ftruncate(fd, self.entry.size)
                    self.partial.replace(self.target)
            finally:
                os.close(fd)

        return bring

    def receive(self, fd: int, number: int, sha256: bytes) -> None:
        for attempt in range(3):
            try:
                get_part(
                    self.fetch.endpoint.connections,
                    self.signed.url,
                    self.signed.headers,
                    fd,
                    self.entry.size,
                    number,
                    sha256,
                    self.entry.path,
                    self.fetch.progress.advance,
                )
                return
            except Expired:
                if attempt == 2:
                    raise
                self.signed = self.fetch.ask([self.entry.path])[0]


def _holds(fd: int, size: int, number: int, sha256: bytes) -> bool:
    """Whether a part that an earlier fetch left is right."""
    start, length = part_range(size, number)
    if os.fstat(fd).st_size < start + length:
        return False
    state = hashlib.sha256()
    while length:
        block = os.pread(fd, min(length, 1024 * 1024), start)
        if not block:
            return False
        state.update(block)
        start, length = start + len(block), length - len(block)
    return state.digest() == sha256


def _kept(folder: Path, manifest: Manifest, force: bool, progress: Progress) -> set[str]:
    """Paths whose files are in place already; raises Conflict on others in their places, unless `force`."""
    there = [entry for entry in manifest.entries if os.path.lexists(folder / entry.path)]
    regular = [e for e in there if (folder / e.path).is_file() and not (folder / e.path).is_symlink()]
    candidates = [entry for entry in regular if (folder / entry.path).stat().st_size == entry.size]
    progress.begin("checking what is there", sum(entry.size for entry in candidates))
    hashed = hash_files([folder / entry.path for entry in candidates], on_bytes=progress.advance)
    same = {e.path for e, found in zip(candidates, hashed, strict=True) if found.digest == e.digest}
    progress.end()
    other = [entry.path for entry in there if entry.path not in same]
    if other and not force:
        shown = ", ".join(other[:3]) + (", …" if len(other) > 3 else "")
        raise Conflict(
            f"{folder} holds other files in the places of {shown}: fetch elsewhere (-o), or replace (--force)"
        )
    return same


def _check_owner(folder: Path, document: AssetDocument, force: bool) -> None:
    try:
        other = json.loads((folder / DOCUMENT).read_bytes())["id"]
    except (OSError, ValueError, KeyError, TypeError):
        return
    if other != document.id and not force:
        raise Conflict(f"{folder} holds asset {other}: fetch elsewhere (-o), or replace its files (--force)")


def _make_folder(root: Path, folder: Path) -> None:
    """Make a folder below root; raises Conflict if a link would lead the files elsewhere."""
    if not folder.resolve().is_relative_to(root.resolve()):
        raise Conflict(f"{folder} leads out of {root} by a symbolic link: fetch elsewhere (-o)")
    folder.mkdir(parents=True, exist_ok=True)


def _nothing(document: AssetDocument, part: str) -> str:
    if part != "main":
        return f"{document.id} has no {part} files"
    if document.state == "failed":
        report = f"; its report: polyshare fetch {document.id} --part report" if document.report else ""
        return f"{document.id} failed, so there is nothing to fetch: {document.reason}{report}"
    return (
        f"{document.id} is {document.state}, so there is nothing to fetch yet: polyshare status {document.id} --follow"
    )


def _write(path: Path, data: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(data)
    temporary.replace(path)
