"""Registering with files: hash, declare, send what is missing to the store, confirm. Interrupted, it can go on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import msgspec

from polyshare.api import AskUploadUrls, Part, Registered, SignedUrl, Uploading, UploadUrls
from polyshare.client import pending
from polyshare.client.endpoint import Endpoint, segment
from polyshare.client.flight import STREAMS, Flight, pages
from polyshare.client.folder import Source
from polyshare.client.progress import Progress
from polyshare.errors import Conflict, Erased, Mismatch, NotFound, PolyshareError, Unauthenticated, Unavailable
from polyshare.hashing import part_range
from polyshare.transfer import Expired, put_part

_MOST = 500  # URLs asked for at once
_WEIGHT = 256 * 1024 * 1024  # bytes whose URLs are asked for at once: sent before they expire on most lines
_T = TypeVar("_T")
_PATIENCE = 30.0  # seconds that a registration, once begun, waits for a server that restarts
_FIRST_PATIENCE = 10.0  # and before: it may not be there at all


@dataclass(frozen=True, slots=True)
class _Piece:
    source: Source
    part: int

    @property
    def length(self) -> int:
        return part_range(self.source.size, self.part)[1]

    def asked(self) -> Part:
        return Part(path=self.source.path, part=self.part, sha256=self.source.hashed.parts[self.part - 1].hex())


def register(
    endpoint: Endpoint, function: str, path: str, request: object, sources: Sequence[Source], progress: Progress
) -> Registered:
    """Declare `request`, upload those of `sources` that the registry lacks, and confirm.

    The same request again, after it was interrupted, goes on with what was begun.
    """
    asked = f"{endpoint.profile.url}\n{function}{path}\n".encode() + msgspec.json.encode(request)
    begun = pending.begin(asked)
    endpoint = endpoint.traced()
    try:
        registered = _register(endpoint, function, path, request, sources, progress, begun.key)
    except (Unavailable, Unauthenticated, Mismatch):
        raise  # the same command may go on later
    except PolyshareError as error:
        begun.forget()
        if not begun.resumed or not isinstance(error, (Conflict, NotFound, Erased)):
            raise
        begun = pending.begin(asked, fresh=True)
        registered = _register(endpoint, function, path, request, sources, progress, begun.key)
    begun.forget()
    return registered


def _register(
    endpoint: Endpoint,
    function: str,
    path: str,
    request: object,
    sources: Sequence[Source],
    progress: Progress,
    key: str,
) -> Registered:
    for attempt in range(3):
        reply = endpoint.reply("POST", function, path, request, key=key, patience=_FIRST_PATIENCE)
        if reply.status != 202:
            return _decode(reply.body, Registered)
        uploading = _decode(reply.body, Uploading)
        try:
            _send(endpoint, function, uploading, sources, progress)
            return endpoint.call(
                "POST", function, segment(uploading.id) + "/confirm", Registered, key=key, patience=_PATIENCE
            )
        except (Conflict, NotFound):  # something is missing, or the registry forgot an upload that was under way
            if attempt == 2:
                raise
    raise AssertionError("the loop returns or raises")


def _send(
    endpoint: Endpoint, function: str, uploading: Uploading, sources: Sequence[Source], progress: Progress
) -> None:
    missing = set(uploading.missing)
    wanted = [source for source in sources if source.path in missing]
    if len(wanted) < len(sources):
        progress.note(f"{len(sources) - len(wanted)} of {len(sources)} files are there already")
    progress.begin("uploading", sum(source.size for source in wanted))

    def ask(pieces: Sequence[_Piece]) -> list[SignedUrl | None]:
        body = AskUploadUrls(parts=[piece.asked() for piece in pieces])
        answer = endpoint.call("POST", function, segment(uploading.id) + "/urls", UploadUrls, body, patience=_PATIENCE)
        if len(answer.urls) != len(pieces):
            raise Unavailable(f"{function} answered {len(answer.urls)} URLs for {len(pieces)} parts")
        return answer.urls

    def send(piece: _Piece, signed: SignedUrl) -> None:
        flight.submit(_put(endpoint, ask, piece, signed, progress))

    with Flight(endpoint.connections) as flight:
        first = [source for source in wanted if source.path in uploading.urls and source.hashed.digest.parts == 1]
        for source in first:
            send(_Piece(source, 1), uploading.urls[source.path])
        given = {source.path for source in first}
        left = [source for source in wanted if source.path not in given]
        for page in pages(_pieces(left), lambda piece: piece.length, most=_MOST, weight=_WEIGHT):
            for piece, signed in zip(page, ask(page), strict=True):
                if signed is None:
                    progress.advance(piece.length)
                else:
                    send(piece, signed)
            flight.drain(2 * STREAMS)
    progress.end()


def _put(
    endpoint: Endpoint,
    ask: Callable[[Sequence[_Piece]], list[SignedUrl | None]],
    piece: _Piece,
    first: SignedUrl,
    progress: Progress,
) -> Callable[[], None]:
    def put() -> None:
        signed: SignedUrl | None = first
        for attempt in range(3):
            if signed is None:
                return
            source = piece.source
            try:
                put_part(
                    endpoint.connections,
                    signed.url,
                    signed.headers,
                    source.file,
                    source.size,
                    piece.part,
                    progress.advance,
                )
                return
            except Expired:
                if attempt == 2:
                    raise
                signed = ask([piece])[0]

    return put


def _pieces(sources: Sequence[Source]) -> Iterator[_Piece]:
    for source in sources:
        for part in range(1, source.hashed.digest.parts + 1):
            yield _Piece(source, part)


def _decode(body: bytes, kind: type[_T]) -> _T:
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.MsgspecError as error:
        raise Unavailable(f"the registry answered what this polyshare does not understand: {error}") from error
