"""What bench functions serves: one function with an asset in a database, and an application that answers its bytes."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any


class Bare:
    """An ASGI application that does nothing but answer. Its bytes come from the environment."""

    def __init__(self) -> None:
        self._answer = os.environ["BARE_ANSWER"].encode()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(self._answer)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": self._answer})


def function() -> Any:
    """query_status as its container runs it."""
    from functions_framework.aio import create_asgi_app

    return create_asgi_app("query_status", "functions/query_status/handler.py", "http")


def prepare(folder: Path) -> dict[str, Any]:
    """A database with an anchored dataset, and how the function is reached with it."""
    import time

    from tests.unit.http_world import ISSUER, HttpWorld

    http = HttpWorld(folder)
    http.clock.time = time.time()
    dataset = http.world.dataset(name="digits")
    http.world.settle()
    answer = http.call("query_status", "GET", f"/{dataset.id}")
    named = {
        "database": f"sqlite:///{folder / 'catalogue.db'}",
        **dict.fromkeys(("s3_endpoint", "s3_access_key_file", "s3_secret_key_file", "functions_url"), "unused"),
        "event_token_file": str(folder / "event.token"),
        "jwt_issuer": ISSUER,
        "jwks_file": str(folder / "jwks.json"),
    }
    return {
        "environ": {f"POLYSHARE_{name.upper()}": value for name, value in named.items()},
        "path": f"/{dataset.id}",
        "token": http.token(),
        "answer": answer.body.decode(),
    }


if __name__ == "__main__":
    print(json.dumps(prepare(Path(sys.argv[1]))))
