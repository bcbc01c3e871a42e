"""Waiting until the network is shut."""

from __future__ import annotations

import socket
import threading
import time

from polyshare.jobs import shut


def test_it_waits_until_connections_fail() -> None:
    server = socket.create_server(("127.0.0.1", 0))
    address = server.getsockname()
    threading.Timer(0.5, server.close).start()
    started = time.monotonic()
    assert shut.wait(address, 10)
    assert time.monotonic() - started >= 0.5


def test_a_network_that_stays_open_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert not shut.wait(server.getsockname(), 0.5)
