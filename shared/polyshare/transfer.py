"""Bytes between a file and presigned URLs: one part a request, checked as it streams, tried again when that may help.

A part is sent straight from the file by the kernel (sendfile) and received into one small buffer, so memory stays the
same whatever the size. A transfer that stands still for a minute, or crawls below 8 KiB/s as a whole, is given up.
"""

from __future__ import annotations

import errno
import hashlib
import http.client
import os
import re
import select
import socket
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from polyshare.errors import Mismatch, Unavailable
from polyshare.hashing import Digest, part_range
from polyshare.wire import Connections, Reply

ATTEMPTS = 5
SLOWEST = 8 * 1024  # bytes a second
_BLOCK = 256 * 1024  # bytes received at once: they are still in the core's cache when they are hashed
_SENT_AT_ONCE = 4 * 1024 * 1024  # bytes between two looks at the clock
_LATER = frozenset({408, 429, 500, 502, 503, 504})

OnBytes = Callable[[int], None]  # told how many bytes were moved; negative when a part begins again


class Expired(Unavailable):
    """The store takes this URL no more: ask for another."""

    slug = "url-expired"


def download(
    url: str,
    file: Path,
    digest: Digest,
    parts: Sequence[bytes] = (),
    *,
    headers: Mapping[str, str] | None = None,
    connections: Connections | None = None,
    on_bytes: OnBytes = lambda n: None,
) -> None:
    """Download one file, each part verified while it streams; what is wrong or incomplete is removed.

    `parts` are the part digests of a file of more than one part, checked against `digest` before they are used.
    Raises Mismatch on wrong bytes, Expired or Unavailable when the store does not give them.
    """
    expected = expected_parts(digest, parts)
    own = connections or Connections()
    try:
        with file.open("wb") as target:
            for number, sha256 in enumerate(expected, 1):
                get_part(own, url, headers or {}, target.fileno(), digest.size, number, sha256, str(file), on_bytes)
    except BaseException:
        file.unlink(missing_ok=True)
        raise
    finally:
        if connections is None:
            own.close()


def expected_parts(digest: Digest, parts: Sequence[bytes]) -> Sequence[bytes]:
    """The digest of each part of a file; raises Mismatch unless they hash to the file's digest."""
    if digest.parts == 1:
        return (digest.sha256,)
    if len(parts) != digest.parts:
        raise Mismatch(f"{digest} has {digest.parts} parts, but the server gave digests of {len(parts)}")
    digest.check_parts(parts)
    return parts


def put_part(
    connections: Connections,
    url: str,
    headers: Mapping[str, str],
    path: Path,
    size: int,
    part: int,
    on_bytes: OnBytes = lambda n: None,
) -> None:
    """Send part `part` of a file of `size` bytes with exactly these headers; the store checks the bytes it gets.

    Raises Mismatch when it refuses them (the file changed since it was hashed), Expired or Unavailable.
    """
    start, length = part_range(size, part)
    moved = 0

    def send(connection: http.client.HTTPConnection) -> Reply:
        nonlocal moved
        on_bytes(-moved)
        moved, deadline = 0, time.monotonic() + 60 + length / SLOWEST
        with path.open("rb", buffering=0) as file:
            connection.putrequest("PUT", connections.target(url), skip_accept_encoding=True)
            for name, value in headers.items():
                if name.lower() not in ("host", "content-length"):
                    connection.putheader(name, value)
            connection.putheader("Content-Length", str(length))
            connection.endheaders()
            try:
                _send_range(connection.sock, connections.idle, file.fileno(), start, length, deadline, path, sent)
            except (BrokenPipeError, ConnectionResetError):
                reply = connections.reply(connection)  # a store that refuses answers before it has read all
                connection.close()
                return reply
            return connections.reply(connection)

    def sent(count: int) -> None:
        nonlocal moved
        moved += count
        on_bytes(count)

    for attempt in range(ATTEMPTS):
        try:
            reply = connections.exchange(url, send)
            if reply.status in (200, 201, 204):
                return
            if reply.status == 400 and _code(reply) != "RequestTimeout":
                raise Mismatch(
                    f"the store refused part {part} of {path} ({_code(reply)}): did it change since it was hashed?"
                )
            _raise_for(connections, reply, f"part {part} of {path}", attempt)
        except (OSError, http.client.HTTPException) as error:
            _give_up_or_wait(connections, attempt, f"sending part {part} of {path}", error)


def get_part(
    connections: Connections,
    url: str,
    headers: Mapping[str, str],
    target: int,
    size: int,
    part: int,
    sha256: bytes,
    what: str,
    on_bytes: OnBytes = lambda n: None,
) -> None:
    """Receive part `part` of an object of `size` bytes into the open file `target`, at its place.

    Raises Mismatch when the bytes received have another SHA-256 (also on a second try), Expired or Unavailable.
    """
    start, length = part_range(size, part)
    whole = length == size
    moved, state = 0, hashlib.sha256()

    def receive(connection: http.client.HTTPConnection) -> Reply:
        nonlocal moved, state
        on_bytes(-moved)
        moved, state, deadline = 0, hashlib.sha256(), time.monotonic() + 60 + length / SLOWEST
        extra = {} if whole else {"Range": f"bytes={start}-{start + length - 1}"}
        connection.request("GET", connections.target(url), headers={**headers, **extra})
        response = connection.getresponse()
        if response.status != (200 if whole else 206):
            if response.status in (200, 206):
                raise http.client.HTTPException(f"the store answered {response.status} to a range of bytes")
            reply = Reply(response.status, response.headers, response.read(65_536))
            connection.close()
            return reply
        _receive_range(response, target, start, length, state, deadline, received)
        return Reply(200, response.headers, b"")

    def received(count: int) -> None:
        nonlocal moved
        moved += count
        on_bytes(count)

    for attempt in range(ATTEMPTS):
        try:
            reply = connections.exchange(url, receive)
            if reply.status == 200:
                if state.digest() == sha256:
                    return
                if attempt:
                    raise Mismatch(f"the store sent other bytes for part {part} of {what} than are registered")
            elif reply.status in (404, 416):
                raise Mismatch(f"the store does not have part {part} of {what} (HTTP {reply.status})")
            else:
                _raise_for(connections, reply, f"part {part} of {what}", attempt)
        except (OSError, http.client.HTTPException) as error:
            _give_up_or_wait(connections, attempt, f"receiving part {part} of {what}", error)


def _send_range(
    sock: socket.socket,
    idle: float,
    file: int,
    start: int,
    length: int,
    deadline: float,
    path: Path,
    on_bytes: OnBytes,
) -> None:
    tls = memoryview(bytearray(min(_BLOCK, length))) if isinstance(sock, ssl.SSLSocket) else None
    writable = select.poll()
    writable.register(sock, select.POLLOUT)
    while length:
        try:
            if tls is None:
                count = os.sendfile(sock.fileno(), file, start, min(length, _SENT_AT_ONCE))
            else:
                count = os.preadv(file, [tls[: min(length, len(tls))]], start)
                sock.sendall(tls[:count])
        except BlockingIOError:
            if not writable.poll(idle * 1000):
                raise TimeoutError("the store takes no more bytes") from None
            _check_pace(deadline)
            continue
        if not count:
            raise Mismatch(f"{path} became shorter since it was hashed: try again when nothing writes to it")
        start, length = start + count, length - count
        on_bytes(count)


def _receive_range(
    response: http.client.HTTPResponse,
    target: int,
    start: int,
    length: int,
    state: hashlib._Hash,
    deadline: float,
    on_bytes: OnBytes,
) -> None:
    while length:
        block = response.read1(min(_BLOCK, length))
        if not block:
            raise http.client.IncompleteRead(b"", length)
        state.update(block)
        if os.pwrite(target, block, start) != len(block):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        start, length = start + len(block), length - len(block)
        on_bytes(len(block))
        _check_pace(deadline)
    if response.read(1):
        raise http.client.HTTPException("the store sent more bytes than the file has")


def _check_pace(deadline: float) -> None:
    if time.monotonic() > deadline:
        raise TimeoutError(f"slower than {SLOWEST} bytes a second")


def _raise_for(connections: Connections, reply: Reply, what: str, attempt: int) -> None:
    """Return, after a pause, when another try may help; raise when not."""
    if reply.status in (401, 403):
        raise Expired(f"the store's URL for {what} is not valid any more")
    problem = http.client.HTTPException(f"the store answered HTTP {reply.status} {_code(reply)}".rstrip())
    if reply.status not in _LATER and reply.status != 400:
        raise Unavailable(f"{what} could not be moved: {problem}")
    _give_up_or_wait(connections, attempt, what, problem)


def _code(reply: Reply) -> str:
    """The error code in S3's XML."""
    found = re.search(rb"<Code>(\w+)</Code>", reply.body)
    return found[1].decode() if found else ""


def _give_up_or_wait(connections: Connections, attempt: int, what: str, error: Exception) -> None:
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        raise Unavailable(f"{what} failed: {error.strerror}; make room and run the same command again") from error
    if isinstance(error, OSError) and error.filename is not None:
        raise error  # the file on this machine, not the store
    if attempt + 1 >= ATTEMPTS:
        raise Unavailable(
            f"the object store does not serve: {what} failed {ATTEMPTS} times, at last by:"
            f" {error or type(error).__name__}. The same command again goes on where it stopped"
        ) from error
    connections.pause(min(8.0, connections.first_pause * 4**attempt))
