"""Notifications of object stores, each in its own shape, read for one thing: which object changed.

A notification is a hint and may be forged, lost or repeated: it only decides where `operations.inbox` looks first. So
nothing here raises, whatever the shape; what is not understood names no object, and the whole inbox is looked through.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import unquote, unquote_plus, urlsplit

_DEEPEST = 4  # envelopes: S3 in SNS in SQS in the list of a receiver
_MOST = 1000  # records that are read of one notification
_FOLDER = re.compile(r"([a-z0-9][a-z0-9._-]{0,63})/([a-z0-9][a-z0-9._-]{0,63})/.", re.DOTALL)


def folder_of(subject: str, body: object) -> str:
    """The `<organisation>/<name>/` that a notification is about; "" if that is not one folder, or not understood."""
    found = {f"{match[1]}/{match[2]}/" if (match := _FOLDER.match(key)) else "" for key in keys(subject, body)}
    return found.pop() if len(found) == 1 else ""


def keys(subject: str, body: object, *, depth: int = 0) -> Iterator[str]:
    """Keys of the objects that a notification names; `subject` is that of the CloudEvent that it came as, or ""."""
    if isinstance(body, list):
        for item in body[:_MOST] if depth < _DEEPEST else ():
            yield from keys("", item, depth=depth + 1)
    elif isinstance(body, dict):
        for adapter in ADAPTERS:
            yield from adapter(subject, body)
        for inner in _enclosed(body) if depth < _DEEPEST else ():
            yield from keys("", inner, depth=depth + 1)


def handshake(body: object) -> dict[str, str] | None:
    """What Azure Event Grid wants back before it sends anything; None if this is no such request.

    https://learn.microsoft.com/azure/event-grid/end-point-validation-event-grid-events-schema
    """
    for item in body[:_MOST] if isinstance(body, list) else [body]:
        if _at(item, "eventType") == "Microsoft.EventGrid.SubscriptionValidationEvent":
            code = _at(item, "data", "validationCode")
            if code is not None and len(code) <= 512:
                return {"validationResponse": code}
    return None


def _s3_records(subject: str, body: dict[str, Any]) -> Iterator[str]:
    """AWS S3, MinIO's webhook and Ceph's RGW: {"Records": [{"s3": {"object": {"key": URL-encoded}}}]}.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html
    """
    records = body.get("Records")
    for record in records[:_MOST] if isinstance(records, list) else ():
        if (key := _at(record, "s3", "object", "key")) is not None:
            yield unquote_plus(key)


def _event_bridge(subject: str, body: dict[str, Any]) -> Iterator[str]:
    """AWS EventBridge, whole or the `detail` that a CloudEvents source makes of it; its key is not URL-encoded.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/ev-events.html
    """
    for path in (("detail", "object", "key"), ("object", "key")):
        if (key := _at(body, *path)) is not None:
            yield key


def _google(subject: str, body: dict[str, Any]) -> Iterator[str]:
    """Google Cloud Storage: Pub/Sub's push ({"message": {"attributes": {"objectId"}}}), and Eventarc's CloudEvent.

    https://cloud.google.com/storage/docs/pubsub-notifications and …/eventarc/docs/cloudevents
    """
    key = _at(body, "message", "attributes", "objectId")
    if key is None and _at(body, "kind") == "storage#object":
        key = _at(body, "name")
    if key is not None:
        yield key
    elif subject.startswith("objects/"):
        yield subject.removeprefix("objects/")


def _azure(subject: str, body: dict[str, Any]) -> Iterator[str]:
    """Azure Event Grid, in its own schema and as a CloudEvent: subject /blobServices/default/containers/C/blobs/KEY.

    https://learn.microsoft.com/azure/event-grid/event-schema-blob-storage
    """
    named = subject or _at(body, "subject") or ""
    url = _at(body, "url") or _at(body, "data", "url") or ""
    if named.startswith("/blobServices/") and "/blobs/" in named:
        yield named.partition("/blobs/")[2]
    elif (_at(body, "api") or _at(body, "data", "api")) is not None and url:
        yield unquote(_path(url).removeprefix("/").partition("/")[2])


def _seaweedfs(subject: str, body: dict[str, Any]) -> Iterator[str]:
    """The webhook of SeaweedFS's filer: {"key": "/buckets/BUCKET/KEY", "event_type", "message"}."""
    key = _at(body, "key")
    if key is not None and key.startswith("/buckets/"):
        yield key.removeprefix("/buckets/").partition("/")[2]


ADAPTERS: tuple[Callable[[str, dict[str, Any]], Iterator[str]], ...] = (
    _s3_records,
    _event_bridge,
    _google,
    _azure,
    _seaweedfs,
)


def _enclosed(body: dict[str, Any]) -> Iterator[object]:
    """What envelopes carry: SNS's Message, an SQS message's body, each message of a batch, Pub/Sub's data."""
    for name in ("Message", "Body", "body"):
        if isinstance(text := body.get(name), str):
            yield _json(text)
    for name in ("Messages", "Records"):
        messages = body.get(name)
        for item in messages[:_MOST] if isinstance(messages, list) else ():
            if isinstance(item, dict) and "s3" not in item:
                yield item
    data = _at(body, "message", "data")
    if data is not None and _at(body, "message", "attributes", "objectId") is None:
        try:
            yield _json(base64.b64decode(data, validate=True))
        except ValueError:
            return


def _json(text: str | bytes) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _path(url: str) -> str:
    try:
        return urlsplit(url).path
    except ValueError:
        return ""


def _at(value: object, *names: str) -> str | None:
    """The text at a path of fields, if there is one."""
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value if isinstance(value, str) else None
