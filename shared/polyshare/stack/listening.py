"""Free ports on this machine, kept from one start to the next where they are still free."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterable

from polyshare.errors import Unavailable
from polyshare.stack.layout import Layout, read_json, write_json

HOST = "127.0.0.1"
_LOW, _HIGH = 17_000, 32_000  # below what Linux gives to outgoing connections
_claimed: dict[int, socket.socket] = {}  # held as long as this process runs


def is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


def choose_port(wanted: int, *, exactly: bool) -> int:
    """The port wanted, or, unless it must be that one, the next free one. Raises Unavailable.

    It is this process's until it ends, though nobody listens yet: two stacks that start at once take different ones.
    """
    for port in range(wanted, wanted + (1 if exactly else 200)):
        if is_free(port) and _claim(port):
            return port
    if exactly:
        raise Unavailable(f"port {wanted} is taken by another program: stop that, or choose another with --port")
    raise Unavailable(f"no port from {wanted} to {wanted + 199} is free: choose one with --port")


def _claim(port: int) -> bool:
    """An abstract Unix socket (unix(7)) is a lock that belongs to the network namespace, as ports do."""
    if port not in _claimed:
        lock = socket.socket(socket.AF_UNIX)
        try:
            lock.bind(f"\0polyshare-port-{port}")
        except OSError:
            lock.close()
            return False
        _claimed[port] = lock
    return True


def remember(layout: Layout, name: str, port: int) -> None:
    """So that the next start takes the same."""
    write_json(layout.ports, {**(read_json(layout.ports) or {}), name: port})


def inner_ports(layout: Layout, names: Iterable[str]) -> dict[str, int]:
    """A free port for each name; those of the last start, where they are free."""
    known = read_json(layout.ports) or {}
    chosen: dict[str, int] = {}
    for name in names:
        port = known.get(name, 0)
        while not port or port in chosen.values() or not is_free(port):
            port = random.randint(_LOW, _HIGH)  # noqa: S311 - no secret
        chosen[name] = port
    write_json(layout.ports, {**known, **chosen})
    return chosen
