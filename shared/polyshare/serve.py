"""`python -m polyshare.serve`: the function that FUNCTION_TARGET names, in a process of its own, as its image runs it.

functions-framework's ASGI application under uvicorn, on PORT. Told to end, it takes no new connection, finishes the
requests that are in flight, hands on what they left, and exits with 0; it may be process 1.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import uvicorn

from polyshare import bootstrap, logs
from polyshare.errors import Misconfigured, PolyshareError

_PATIENCE = 25  # seconds for requests in flight: Kubernetes kills after 30, unless it is told another time


def main() -> int:
    logs.configure(as_json=not sys.stdout.isatty())
    log = logging.getLogger("polyshare")
    try:
        function, port = _function(), _port()
    except PolyshareError as error:
        log.error(error.message)
        return 78  # EX_CONFIG
    from functions_framework.aio import create_asgi_app

    make: Callable[[str, str, str], Any] = create_asgi_app
    config = uvicorn.Config(
        make(function, _source(function), "http"),
        host="",  # all addresses, of both versions of IP
        port=port,
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=_PATIENCE,
    )
    for number in (signal.SIGTERM, signal.SIGINT):  # uvicorn raises again, at its end, what it caught
        signal.signal(number, lambda *_: None)
    server = _Server(config)
    server.run()
    with logs.about(function=function):
        bootstrap.close()
        if server.started:
            log.info("ended")
    return 0 if server.started else 1


class _Server(uvicorn.Server):
    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        bootstrap.begin_ending()
        super().handle_exit(sig, frame)


def _function() -> str:
    name = os.environ.get("FUNCTION_TARGET", "")
    if not name.isidentifier() or importlib.util.find_spec(f"functions.{name}") is None:
        raise Misconfigured(
            f"FUNCTION_TARGET is {name!r}, which is no function: set it to a folder's name in functions/"
        )
    return name


def _source(function: str) -> str:
    found = importlib.util.find_spec(f"functions.{function}.handler")
    assert found is not None
    assert found.origin is not None
    return found.origin


def _port() -> int:
    given = os.environ.get("PORT", "8080")
    if not given.isdecimal() or not 0 < int(given) < 65536:
        raise Misconfigured(f"PORT is {given!r}, which is no port: set it to a number from 1 to 65535")
    return int(given)


if __name__ == "__main__":
    sys.exit(main())
