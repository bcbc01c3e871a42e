"""Names that only the platform's DNS would know, for clients here. NAMES, as JSON: name or .suffix → host:port.

Imported by every Python that has this folder on PYTHONPATH.
"""

from __future__ import annotations

import json
import os
import socket
from typing import Any

_found = socket.getaddrinfo


def install(names: dict[str, str]) -> None:
    """Resolve these from now on, whatever port was asked for."""

    def getaddrinfo(host: Any, port: Any, *more: Any, **named: Any) -> Any:
        for name, at in names.items():
            if host == name or (name.startswith(".") and str(host).endswith(name)):
                host, _, port = at.rpartition(":")
                break
        return _found(host, int(port) if str(port).isdigit() else port, *more, **named)

    socket.getaddrinfo = getaddrinfo


if "NAMES" in os.environ:
    install(json.loads(os.environ["NAMES"]))
