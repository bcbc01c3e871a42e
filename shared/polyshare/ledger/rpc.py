"""JSON-RPC to the nodes of a chain, over HTTP, every call with a time limit."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, ClassVar

import httpx

from polyshare.errors import Misconfigured, PolyshareError, Unavailable

_LOOK_SECONDS = 3.0  # a node that takes longer to say where it is is passed over
_LOOK_EVERY = 10.0  # seconds until a node must have moved on
_BEHIND = 3  # blocks that a node may be behind the others
_MOVED = "BlockOutOfRange"  # anvil, where a block came while it looked for the newest: asked again, it knows
_MOVES = 10  # of those, in a row, that are put up with


class NodeRefused(PolyshareError):
    """The node answered with an error of its own."""

    slug: ClassVar[str] = "ledger-refused"
    status: ClassVar[int] = 502


class Rpc:
    """Calls to one node. Raises Unavailable when it does not answer, NodeRefused when it answers with an error."""

    def __init__(self, url: str, *, timeout: float = 10.0) -> None:
        self.url = url
        limits = httpx.Timeout(timeout, connect=min(timeout, _LOOK_SECONDS))
        # Loading certificates takes longer than many calls, and plain HTTP, as on one machine, has no use for them.
        self._client = httpx.Client(timeout=limits, trust_env=False, verify=not url.startswith("http://"))

    def __enter__(self) -> Rpc:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._client.close()

    def call(self, method: str, *params: object) -> Any:
        """The result of one call."""
        return self.batch([(method, params)])[0]

    def batch(self, calls: Sequence[tuple[str, Sequence[object]]]) -> list[Any]:
        """The results of several calls in one request, in their order; the first error is raised."""
        return self._ask(calls)

    def height(self) -> int:
        """The number of the newest block, asked for with little patience."""
        (answer,) = self._ask([("eth_blockNumber", ())], timeout=_LOOK_SECONDS)
        try:
            return int(answer, 16)
        except (TypeError, ValueError) as error:
            raise self._nonsense() from error

    def _ask(self, calls: Sequence[tuple[str, Sequence[object]]], **limits: float) -> list[Any]:
        for _ in range(_MOVES):
            try:
                return self._ask_once(calls, **limits)
            except NodeRefused as error:
                if _MOVED not in error.message:
                    raise
        return self._ask_once(calls, **limits)

    def _ask_once(self, calls: Sequence[tuple[str, Sequence[object]]], **limits: float) -> list[Any]:
        body = [{"jsonrpc": "2.0", "id": i, "method": m, "params": list(p)} for i, (m, p) in enumerate(calls)]
        answers = self._post(body if len(body) > 1 else body[0], **limits)
        try:
            by_id = {answer["id"]: answer for answer in ([answers] if isinstance(answers, dict) else answers)}
            ordered: list[Mapping[str, Any]] = [by_id[i] for i in range(len(body))]
            refused = [
                (m, answer["error"]["message"])
                for (m, _), answer in zip(calls, ordered, strict=True)
                if answer.get("error")
            ]
        except (KeyError, TypeError) as error:
            raise self._nonsense() from error
        for method, message in refused:
            raise NodeRefused(f"the ledger node at {self.url} refused {method}: {message}")
        return [answer.get("result") for answer in ordered]

    def _post(self, body: object, **limits: float) -> Any:
        try:
            response = self._client.post(self.url, json=body, **limits)  # type: ignore[arg-type]
            response.raise_for_status()
            return response.json()
        except httpx.HTTPStatusError as error:
            status = error.response.status_code
            raise Unavailable(f"the ledger node at {self.url} answered HTTP {status}") from error
        except (httpx.TransportError, ValueError) as error:
            raise Unavailable(
                f"the ledger node at {self.url} does not answer: {error or type(error).__name__}"
            ) from error

    def _nonsense(self) -> Unavailable:
        return Unavailable(f"what answers at {self.url} is not an Ethereum node")


class Nodes(Rpc):
    """Calls to whichever of several nodes will do: the first, until it fails, then the next; URLs comma separated.

    A node is passed over that does not answer, answers nonsense, stands still while others go on, or that `admit`
    refuses by raising: it is called with every node before that is used. `url` is of the node in use.
    """

    def __init__(self, urls: str, *, timeout: float = 10.0, admit: Callable[[Rpc], object] | None = None) -> None:
        self._all = [Rpc(url.strip(), timeout=timeout) for url in urls.split(",") if url.strip()]
        if not self._all:
            raise Misconfigured("no ledger node is named: give the URL of one, or of several with commas between")
        self.url = ",".join(node.url for node in self._all)
        self._admit = admit
        self._using: Rpc | None = None
        self._height = 0  # of the chain, as far as it was seen
        self._looked = 0.0

    def close(self) -> None:
        for node in self._all:
            node.close()

    def _ask(self, calls: Sequence[tuple[str, Sequence[object]]], **limits: float) -> list[Any]:
        problems: dict[Rpc, PolyshareError] = {}
        while True:
            node = self._choose(problems)
            try:
                return node._ask(calls, **limits)
            except Unavailable as error:
                problems[node], self._using = error, None

    def _choose(self, problems: dict[Rpc, PolyshareError]) -> Rpc:
        """The node in use, or the first that will do of those without a problem yet."""
        if self._using is not None and self._goes_on(self._using):
            return self._using
        heights = {}
        for node in self._all:
            if node not in problems:
                try:
                    heights[node] = self._look_at(node)
                except PolyshareError as error:
                    problems[node] = error
        self._height = max([self._height, *heights.values()])
        for node, height in heights.items():
            if len(self._all) == 1 or height + _BEHIND >= self._height:
                self._using, self.url, self._looked = node, node.url, time.monotonic()
                return node
            problems[node] = Unavailable(
                f"the ledger node at {node.url} is behind: at block {height} of {self._height}"
            )
        if len(problems) == 1:
            raise next(iter(problems.values()))
        raise Unavailable("no ledger node will do: " + "; ".join(error.message for error in problems.values()))

    def _look_at(self, node: Rpc) -> int:
        """Its height, if it is one to be used."""
        if self._admit is not None:
            try:
                self._admit(node)
            except (TypeError, ValueError) as error:
                raise node._nonsense() from error
        return node.height() if len(self._all) > 1 else 0

    def _goes_on(self, node: Rpc) -> bool:
        """Whether it got further since it was last looked at, which is not long ago."""
        if len(self._all) == 1 or time.monotonic() - self._looked < _LOOK_EVERY:
            return True
        try:
            height = node.height()
        except PolyshareError:
            return False
        before, self._height, self._looked = self._height, max(self._height, height), time.monotonic()
        return height > before


def hexadecimal(data: bytes) -> str:
    """Bytes as JSON-RPC writes them."""
    return "0x" + data.hex()


def octets(text: str) -> bytes:
    """Bytes from JSON-RPC."""
    return bytes.fromhex(text.removeprefix("0x"))
