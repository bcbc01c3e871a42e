"""Several nodes that stand in for each other: which one is asked, and what each must be for that."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from polyshare.errors import Misconfigured, Mismatch, Unavailable
from polyshare.ledger.rpc import NodeRefused, Nodes, Rpc


class Node(ThreadingHTTPServer):
    """Answers each call with its name, and its height as a chain's node does."""

    daemon_threads = True

    def __init__(self, name: str) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.name, self.block, self.chain = name, 100, 1
        self.asked: list[str] = []
        self.instead: bytes | None = None  # what it answers with
        self.status, self.delay = 200, 0.0
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def end(self) -> None:
        self.shutdown()
        self.server_close()

    def result(self, call: dict[str, Any]) -> dict[str, Any]:
        self.asked.append(call["method"])
        known = {"eth_blockNumber": hex(self.block), "eth_chainId": hex(self.chain)}
        if call["method"] == "moving" and self.asked.count("moving") < 3:
            message = "BlockOutOfRangeError: block height is 37 but requested was 36"
            return {"id": call["id"], "error": {"code": -32602, "message": message}}
        if call["method"] == "wrong":
            return {"id": call["id"], "error": {"code": -32000, "message": "nonce too low"}}
        return {"id": call["id"], "result": known.get(call["method"], self.name)}


class _Answers(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        node: Node = self.server  # type: ignore[assignment]
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        time.sleep(node.delay)
        answer = [node.result(call) for call in asked] if isinstance(asked, list) else node.result(asked)
        body = json.dumps(answer).encode() if node.instead is None else node.instead
        self.send_response(node.status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None: ...


@pytest.fixture
def nodes() -> Iterator[tuple[Node, Node, Node]]:
    with ExitStack() as stack:
        made = Node("first"), Node("second"), Node("third")
        for node in made:
            stack.callback(node.end)
        yield made


@pytest.fixture
def rpc(nodes: tuple[Node, Node, Node]) -> Iterator[Nodes]:
    with Nodes(" , ".join(node.url for node in nodes)) as opened:
        yield opened  # type: ignore[misc]


Three = tuple[Node, Node, Node]


def test_the_first_node_is_asked_as_long_as_it_will_do(nodes: Three, rpc: Nodes) -> None:
    assert [rpc.call("who") for _ in range(3)] == ["first"] * 3
    assert rpc.url == nodes[0].url
    assert rpc.batch([("who", ()), ("who", ())]) == ["first"] * 2
    assert nodes[1].asked == ["eth_blockNumber"]


def test_one_node_alone_is_asked_nothing_besides(nodes: Three) -> None:
    with Nodes(nodes[0].url) as alone:
        assert alone.call("who") == "first"
    assert nodes[0].asked == ["who"]


def test_a_node_that_ends_in_the_middle_is_passed_over(nodes: Three, rpc: Nodes) -> None:
    assert rpc.call("who") == "first"
    nodes[0].end()
    assert rpc.call("who") == "second"
    assert rpc.url == nodes[1].url
    nodes[1].end()
    assert rpc.call("who") == "third"
    nodes[2].end()
    with pytest.raises(Unavailable, match="no ledger node will do") as caught:
        rpc.call("who")
    assert all(node.url in caught.value.message for node in nodes)


@pytest.mark.parametrize(
    "answer",
    [b"<html>", b"[]", b"null", b"7", b'"x"', b'{"id": 0, "result": "banana"}', b'{"id": 9}', b'{"id":0,"error":"x"}'],
)
def test_a_node_that_answers_nonsense_is_passed_over(nodes: Three, rpc: Nodes, answer: bytes) -> None:
    nodes[0].instead = answer
    assert rpc.call("who") == "second"


def test_a_gateway_that_has_no_node_behind_it_is_passed_over(nodes: Three, rpc: Nodes) -> None:
    assert rpc.call("who") == "first"
    nodes[0].status = 502
    assert rpc.call("who") == "second"


def test_a_node_that_hangs_is_passed_over(nodes: Three) -> None:
    nodes[0].delay = 3.5
    with Nodes(f"{nodes[0].url},{nodes[1].url}", timeout=0.5) as rpc:
        assert rpc.call("who") == "second"
    with Nodes(f"{nodes[1].url},{nodes[2].url}", timeout=0.5) as rpc:
        assert rpc.call("who") == "second"
        nodes[1].delay = 3.5
        assert rpc.call("who") == "third"


def test_what_a_node_refuses_no_other_is_asked(nodes: Three, rpc: Nodes) -> None:
    with pytest.raises(NodeRefused, match="nonce too low"):
        rpc.call("wrong")
    assert "wrong" not in nodes[1].asked


def test_a_node_whose_chain_moved_on_while_it_looked_is_asked_again(nodes: Three) -> None:
    with Rpc(nodes[0].url) as rpc:
        assert rpc.call("moving") == "first"
        assert nodes[0].asked == ["moving"] * 3


def test_every_node_is_admitted_before_it_is_used(nodes: Three) -> None:
    nodes[1].chain = 2

    def admit(node: Rpc) -> None:
        if int(node.call("eth_chainId"), 16) != 1:
            raise Mismatch(f"{node.url} is on another chain")

    with Nodes(",".join(node.url for node in nodes), admit=admit) as rpc:
        assert rpc.call("who") == "first"
        nodes[0].end()
        assert rpc.call("who") == "third"
        assert "who" not in nodes[1].asked
        nodes[2].end()
        with pytest.raises(Unavailable, match="is on another chain"):
            rpc.call("who")
    with Nodes(nodes[1].url, admit=admit) as alone, pytest.raises(Mismatch, match="another chain"):
        alone.call("who")


def test_a_node_that_came_back_is_admitted_anew(nodes: Three) -> None:
    admitted = []
    with Nodes(nodes[0].url, admit=lambda node: admitted.append(node.url)) as rpc:
        rpc.call("who")
        nodes[0].status = 500
        with pytest.raises(Unavailable):
            rpc.call("who")
        nodes[0].status = 200
        rpc.call("who")
    assert len(admitted) == 2


def test_a_node_behind_the_others_is_passed_over(nodes: Three, rpc: Nodes) -> None:
    nodes[0].block = 96
    assert rpc.call("who") == "second"
    nodes[1].end()
    nodes[2].block = 97  # the first may not be used for being ahead of those that are left
    assert rpc.call("who") == "third"
    nodes[2].end()
    with pytest.raises(Unavailable, match="is behind: at block 96 of 100"):
        rpc.call("who")


def test_a_node_that_stands_still_is_left_for_one_that_goes_on(nodes: Three, rpc: Nodes) -> None:
    assert rpc.call("who") == "first"
    nodes[1].block = 120
    assert rpc.call("who") == "first"
    rpc._looked -= 60  # time goes by
    assert rpc.call("who") == "second"


def test_when_no_node_goes_on_one_is_asked_still(nodes: Three, rpc: Nodes) -> None:
    for _ in range(3):
        assert rpc.call("who") == "first"
        rpc._looked -= 60


def test_no_node_at_all_is_told() -> None:
    with pytest.raises(Misconfigured, match="no ledger node is named"):
        Nodes(" , ")
