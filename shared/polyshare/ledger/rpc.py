"""JSON-RPC to a node of the chain, over HTTP, every call with a time limit."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Any, ClassVar

import httpx

from polyshare.errors import PolyshareError, Unavailable


class NodeRefused(PolyshareError):
    """The node answered with an error of its own."""

    slug: ClassVar[str] = "ledger-refused"
    status: ClassVar[int] = 502


class Rpc:
    """Calls to one node. Raises Unavailable when it does not answer, NodeRefused when it answers with an error."""

    def __init__(self, url: str, *, timeout: float = 10.0) -> None:
        self.url = url
        # Loading certificates takes longer than many calls, and plain HTTP, as on one machine, has no use for them.
        self._client = httpx.Client(timeout=timeout, trust_env=False, verify=not url.startswith("http://"))

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
        body = [{"jsonrpc": "2.0", "id": i, "method": m, "params": list(p)} for i, (m, p) in enumerate(calls)]
        answers = self._post(body if len(body) > 1 else body[0])
        if isinstance(answers, dict):
            answers = [answers]
        try:
            by_id = {answer["id"]: answer for answer in answers}
            ordered = [by_id[i] for i in range(len(body))]
        except (KeyError, TypeError) as error:
            raise Unavailable(f"what answers at {self.url} is not an Ethereum node") from error
        for (method, _), answer in zip(calls, ordered, strict=True):
            if answer.get("error"):
                raise NodeRefused(f"the ledger node refused {method}: {answer['error'].get('message')}")
        return [answer.get("result") for answer in ordered]

    def _post(self, body: object) -> Any:
        try:
            response = self._client.post(self.url, json=body)
            response.raise_for_status()
            return response.json()
        except httpx.HTTPStatusError as error:
            status = error.response.status_code
            raise Unavailable(f"the ledger node at {self.url} answered HTTP {status}") from error
        except (httpx.TransportError, ValueError) as error:
            raise Unavailable(
                f"the ledger node at {self.url} does not answer: {error or type(error).__name__}"
            ) from error


def quantity(number: int) -> str:
    """A number as JSON-RPC writes it."""
    return hex(number)


def hexadecimal(data: bytes) -> str:
    """Bytes as JSON-RPC writes them."""
    return "0x" + data.hex()


def octets(text: str) -> bytes:
    """Bytes from JSON-RPC."""
    return bytes.fromhex(text.removeprefix("0x"))
