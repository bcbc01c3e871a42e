"""SeaweedFS's webhook turned into the event that the inbox changed. A hint: it comes once or never."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from typing import TYPE_CHECKING

from polyshare import events
from polyshare.auth import is_secret
from polyshare.settings import Settings, read_secret

if TYPE_CHECKING:
    from starlette.routing import Route

PATH = "/store/notifications"
_MARKER = "/dataset.json"  # what completes a dataset in the inbox; other objects change nothing yet
_LARGEST = 1024 * 1024  # bytes


def notification_routes(settings: Settings) -> list[Route]:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

    bus = events.HttpBus(settings.functions_url, lambda: read_secret(settings.event_token_file, "event_token_file"))

    async def notified(request: Request) -> Response:
        if not is_secret(
            request.headers.get("authorization"), read_secret(settings.event_token_file, "event_token_file")
        ):
            return Response(status_code=401)
        if int(request.headers.get("content-length", 0)) > _LARGEST:
            return Response(status_code=413)
        try:
            key = str(json.loads(await request.body())["key"])
        except (ValueError, KeyError, TypeError):
            return Response(status_code=400)
        found = key.removeprefix(f"/buckets/{settings.bucket_inbox}/")
        if found != key and found.endswith(_MARKER):
            event = events.Event(events.INBOX_CHANGED, str(uuid.uuid4()), data={"key": key}, time=time.time())
            await asyncio.get_running_loop().run_in_executor(None, bus.publish, [event])
        return Response(status_code=204)

    return [Route(PATH, notified, methods=["POST"])]
