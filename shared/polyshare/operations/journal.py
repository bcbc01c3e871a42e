"""The journal: objects in the store from which, with the ledger, an empty catalogue is rebuilt.

`<asset>/registration` is written once, before a registration is acknowledged. Each later change appends
`<asset>/change-<number>-<random>` before it is committed: a change that was written and then not committed was never
acknowledged, and a rebuild may bring it about, as the retry of its caller would.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
import sqlalchemy as sa

from polyshare.bootstrap import Ports
from polyshare.catalogue.tables import assets
from polyshare.ports import Bucket, Put

SCHEMA = "polyshare/journal/1"
_REGISTRATION = "registration"


def register(ports: Ports, asset: str, document: Mapping[str, Any], brought: Mapping[str, bytes]) -> None:
    """Write an asset's registration and the blobs (by their keys) that came with it; again changes nothing.

    The document says which blobs: one that is not there was not acknowledged (see `rebuild`).
    """
    document = {**document, "brought": sorted(brought)}
    ports.store().put_all(
        [
            Put(Bucket.JOURNAL, f"{asset}/{_REGISTRATION}", _encode(document), if_absent=True),
            *(Put(Bucket.BLOBS, key, data) for key, data in brought.items()),
        ]
    )


def append(connection: sa.Connection, ports: Ports, asset: str, change: str, document: Mapping[str, Any]) -> None:
    """Write a change of an asset. In the transaction of the change, so that the numbers are in order.

    Changes that were written and never committed have numbers too: what is acknowledged later comes after them.
    """
    mine = assets.c.id == asset
    connection.execute(assets.update().where(mine).values(journalled=assets.c.journalled + 1))  # locks the row
    number = (connection.scalar(sa.select(assets.c.journalled).where(mine)) or 1) - 1
    prefix = f"{asset}/change-"
    for item in ports.store().list(Bucket.JOURNAL, prefix, after=f"{prefix}{number:06}"):
        number = max(number, int(item.key.removeprefix(prefix)[:6]) + 1)
    connection.execute(assets.update().where(mine).values(journalled=number + 1))
    key = f"{asset}/change-{number:06}-{ports.random.bytes(4).hex()}"
    body = {"change": change, "at": ports.clock.now(), **document}
    ports.store().put(Bucket.JOURNAL, key, _encode(body), if_absent=True)


def bury(ports: Ports, asset: str, document: Mapping[str, Any]) -> None:
    """Replace all that the journal has of an erased asset by what may stay."""
    store = ports.store()
    changes = [item.key for item in store.list(Bucket.JOURNAL, f"{asset}/change-")]
    store.put(Bucket.JOURNAL, f"{asset}/{_REGISTRATION}", _encode(document))
    store.delete(Bucket.JOURNAL, changes)


def replay(ports: Ports) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Each asset's registration and its changes in order."""
    store = ports.store()
    keys: list[str] = []
    for item in store.list(Bucket.JOURNAL):
        if keys and item.key.split("/")[0] != keys[0].split("/")[0]:
            yield from _read(ports, keys)
            keys = []
        keys.append(item.key)
    if keys:
        yield from _read(ports, keys)


def _read(ports: Ports, keys: list[str]) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
    if not keys[-1].endswith(f"/{_REGISTRATION}"):  # sorts after every change
        return
    documents = [msgspec.json.decode(ports.store().get(Bucket.JOURNAL, key)) for key in keys]
    yield documents[-1], documents[:-1]


def _encode(document: Mapping[str, Any]) -> bytes:
    return msgspec.json.encode({"schema": SCHEMA, **document})
