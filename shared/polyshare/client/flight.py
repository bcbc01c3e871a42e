"""Many transfers at once, on a few threads; the first failure, or Ctrl-C, ends them all."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from types import TracebackType
from typing import TypeVar

from polyshare.wire import Connections

STREAMS = 8
_T = TypeVar("_T")


class Flight:
    """A context in which `submit` starts transfers; leaving it waits for all, or ends them when it fails."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._pool = ThreadPoolExecutor(STREAMS, thread_name_prefix="transfer")
        self._done: SimpleQueue[Future[None]] = SimpleQueue()
        self._out = 0

    def submit(self, transfer: Callable[[], None]) -> None:
        self._out += 1
        self._pool.submit(transfer).add_done_callback(self._done.put)

    def drain(self, left: int = 0) -> None:
        """Wait until at most `left` transfers are not done; raises the first failure."""
        while self._out > left:
            self._out -= 1
            self._done.get().result()

    def __enter__(self) -> Flight:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            if error is None:
                self.drain()
        except BaseException:
            self._end()
            raise
        if error is not None:
            self._end()
        self._pool.shutdown()

    def _end(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._connections.abort()
        self._pool.shutdown()
        self._connections.resume()


def pages(items: Iterable[_T], weigh: Callable[[_T], int], *, most: int, weight: int) -> Iterator[list[_T]]:
    """Items in groups of at most `most` and about `weight`: what is transferred before a signed URL expires."""
    page: list[_T] = []
    total = 0
    for item in items:
        page.append(item)
        total += weigh(item)
        if len(page) >= most or total >= weight:
            yield page
            page, total = [], 0
    if page:
        yield page
