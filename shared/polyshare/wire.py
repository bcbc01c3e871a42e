"""HTTP connections that are kept open and lent to one request at a time, on the standard library alone.

http.client rather than a client library: it starts in a tenth of the CPU time of httpx (the CLI is started often), and
gives transfers the socket itself, so that the kernel can send a file without copying it through Python.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import threading
import urllib.parse
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from email.message import Message
from functools import cache
from typing import TypeVar

from polyshare.errors import Invalid, PolyshareError

CONNECT_SECONDS = 10.0
IDLE_SECONDS = 60.0  # longest silence of the other side; longer than the functions' longest long poll
FIRST_PAUSE = 0.25  # seconds before a second try; each later one takes four times as long
_LARGEST_REPLY = 256 * 1024 * 1024  # bytes: an asset document of 100,000 files is some 30 MB


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer whose body was read whole."""

    status: int
    headers: Message
    body: bytes


class Aborted(PolyshareError):
    """Another transfer failed, or the user ended them all."""


_R = TypeVar("_R")


class Connections:
    """Connections of this process, for any of its threads: no more than it ever used at once.

    HTTPS_PROXY and NO_PROXY are followed for https.
    """

    def __init__(
        self,
        *,
        idle: float = IDLE_SECONDS,
        pause: float = FIRST_PAUSE,
        tls: Callable[[], ssl.SSLContext] = ssl.create_default_context,
    ) -> None:
        """`idle` is the longest silence and `pause` the time before a second try, in seconds; `tls` makes what HTTPS
        servers are checked with."""
        self.idle, self.first_pause = idle, pause
        self._tls = cache(tls)
        self._lock = threading.Lock()
        self._free: dict[str, list[http.client.HTTPConnection]] = {}  # by server, last used last
        self._lent: set[http.client.HTTPConnection] = set()
        self._aborted = threading.Event()

    def exchange(self, url: str, action: Callable[[http.client.HTTPConnection], _R]) -> _R:
        """Do one request and its answer on a connection to the URL's server that nobody else has meanwhile.

        A kept connection that the server closed meanwhile is opened anew, once and only if it had been used before.
        """
        if self._aborted.is_set():
            raise Aborted("ended before it was done")
        server = url.partition("://")[0] + "://" + url.partition("://")[2].partition("/")[0]
        connection = self._lend(server, url)
        try:
            try:
                kept = self._connect(connection)
                return action(connection)
            except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
                connection.close()
                if not kept:
                    raise
                self._connect(connection)
                return action(connection)
        except BaseException:
            connection.close()  # half an answer may be left on it
            raise
        finally:
            self._take_back(server, connection)

    def reply(self, connection: http.client.HTTPConnection) -> Reply:
        """Read the answer to what was sent; raises HTTPException when it is unreasonably large."""
        response = connection.getresponse()
        body = response.read(_LARGEST_REPLY + 1)
        if len(body) > _LARGEST_REPLY:
            raise http.client.HTTPException(f"the answer is larger than {_LARGEST_REPLY} bytes")
        return Reply(response.status, response.headers, body)

    @staticmethod
    def target(url: str) -> str:
        """What the request line says: path and query."""
        parts = urllib.parse.urlsplit(url)
        return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")

    def pause(self, seconds: float) -> None:
        """Sleep, but not beyond `abort`."""
        if self._aborted.wait(seconds):
            raise Aborted("ended before it was done")

    def abort(self) -> None:
        """End what other threads do on their connections at once: it raises there."""
        self._aborted.set()
        with self._lock:
            for connection in self._lent:
                if connection.sock is not None:
                    with contextlib.suppress(OSError):
                        connection.sock.shutdown(socket.SHUT_RDWR)

    def resume(self) -> None:
        """Allow new requests after `abort`."""
        self._aborted.clear()

    def close(self) -> None:
        """Close all connections."""
        with self._lock:
            for connection in (*self._lent, *(kept for some in self._free.values() for kept in some)):
                connection.close()
            self._free.clear()

    def _lend(self, server: str, url: str) -> http.client.HTTPConnection:
        with self._lock:
            free = self._free.get(server)
            connection = free.pop() if free else _open(url, self._tls)
            self._lent.add(connection)
            return connection

    def _take_back(self, server: str, connection: http.client.HTTPConnection) -> None:
        with self._lock:
            self._lent.discard(connection)
            if connection.sock is not None:
                self._free.setdefault(server, []).append(connection)

    def _connect(self, connection: http.client.HTTPConnection) -> bool:
        """Whether it was connected already."""
        connected = connection.sock is not None
        if not connected:
            connection.timeout = CONNECT_SECONDS
            connection.connect()
            connection.sock.settimeout(self.idle)
        return connected


def _open(url: str, tls: Callable[[], ssl.SSLContext]) -> http.client.HTTPConnection:
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise Invalid(f"{url[:200]!r} is not an http or https URL")
    if parts.scheme == "http":
        return http.client.HTTPConnection(parts.hostname, parts.port)
    proxy = urllib.request.getproxies().get("https")
    if proxy and not urllib.request.proxy_bypass(parts.hostname):
        through = urllib.parse.urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        connection = http.client.HTTPSConnection(through.hostname or "", through.port, context=tls())
        connection.set_tunnel(parts.hostname, parts.port)
        return connection
    return http.client.HTTPSConnection(parts.hostname, parts.port, context=tls())
