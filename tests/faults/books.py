"""The books after the last round: what was acknowledged is there once, in its end state, and on the ledger."""

from __future__ import annotations

import shutil
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from polyshare import Client
from polyshare.api import Listed
from polyshare.errors import Unavailable
from polyshare.ledger.read import read_asset, read_contract_of, read_registry
from polyshare.ledger.record import revocation_digest
from tests.e2e.machine import Machine
from tests.faults.load import Ledger

_QUIET = 300.0  # seconds until all that was begun has come to its end
_OPEN = {
    "outbox": "SELECT count(*) FROM outbox",
    "ledger writes": "SELECT count(*) FROM writes WHERE state != 'done'",
    "transactions": "SELECT count(*) FROM transactions WHERE state = 'signed'",
    "jobs": "SELECT count(*) FROM jobs WHERE state NOT IN ('done', 'failed')",
    "registrations": "SELECT count(*) FROM assets WHERE state NOT IN ('registered', 'trained', 'translated', 'failed')",
}


def check(machine: Machine, ledger: Ledger, folder: Path, say: Callable[[str], None]) -> None:
    """Raises AssertionError naming the asset and what is wrong with it."""
    with machine.client() as client:
        _wait_until_quiet(machine, ledger, client)
        listed = list(_all(client))
        say(f"quiet; {len(listed)} assets are listed")
        _none_doubled(listed)
        by_name = {asset.name: asset for asset in listed}
        for name, content in ledger.drops.items():
            assert name in by_name, f"{name} was dropped in the inbox, and is no dataset"
            ledger.datasets[by_name[name].id] = content
            ledger.names[by_name[name].id] = name
        for asset in listed:
            assert asset.id in ledger.names, f"{asset.name} ({asset.id}) is there, but nobody was told so"
        for asset, name in ledger.names.items():
            assert name in by_name, f"{name} ({asset}) was acknowledged and is not there any more"
            assert by_name[name].id == asset, f"{name} was acknowledged as {asset} and is {by_name[name].id}"
            _is_whole(client, ledger, asset, name, folder / "fetched")
        _is_what_the_ledger_has(client, ledger, listed)
    machine.polyshare("doctor", "--json")


def _wait_until_quiet(machine: Machine, ledger: Ledger, client: Client) -> None:
    deadline = time.monotonic() + _QUIET
    while True:
        unfinished = _unfinished(machine, ledger, client)
        if not unfinished:
            return
        assert time.monotonic() < deadline, f"after {_QUIET:.0f} s there is still work: {unfinished}"
        time.sleep(0.5)


def _unfinished(machine: Machine, ledger: Ledger, client: Client) -> dict[str, int]:
    database = sqlite3.connect(f"file:{machine.layout.database}?mode=ro", uri=True, timeout=30)
    try:
        counts = {what: database.execute(query).fetchone()[0] for what, query in _OPEN.items()}
    finally:
        database.close()
    try:
        named = {asset.name for asset in _all(client)}
    except Unavailable:
        named = set()
    counts["drops"] = len(set(ledger.drops) - named)
    return {what: count for what, count in counts.items() if count}


def _none_doubled(listed: list[Listed]) -> None:
    names = Counter(asset.name for asset in listed)
    assert max(names.values(), default=1) == 1, f"registered twice: {[n for n, c in names.items() if c > 1]}"
    assert len({asset.id for asset in listed}) == len(listed)
    assert len({asset.address for asset in listed}) == len(listed)
    versions = {asset.name: asset.version for asset in listed if asset.version != 1}
    assert not versions, f"these should have one version: {versions}"


def _is_whole(client: Client, ledger: Ledger, asset: str, name: str, folder: Path) -> None:
    """Its state, its bytes, and what the ledger says of them."""
    status = client.status(asset)
    told = f"{name} ({asset}) is {status.state}"
    assert status.anchored, f"{told} and not on the ledger"
    assert status.finished, f"{told}, not in an end state"
    if asset in ledger.models:
        assert status.state == ledger.models[asset], f"{told}, not {ledger.models[asset]}: {status.reason}"
    assert status.revoked == (asset in ledger.revoked), f"{told}, revoked: {status.revoked}"
    if ledger.models.get(asset) != "failed":
        client.fetch(asset, folder)
        report = client.verify(folder)
        assert report.verdict == "verified", f"{told} and does not verify: {report.checks}"
        for path, data in ledger.datasets.get(asset, {}).items():
            assert (folder / path).read_bytes() == data, f"{path} of {told} has other bytes"
        shutil.rmtree(folder)
    if asset in ledger.grants:
        granted = {grant.organisation for grant in client.grants(asset).grants}
        assert granted == ledger.grants[asset], f"{told} and shared with {granted}, not {ledger.grants[asset]}"


def _is_what_the_ledger_has(client: Client, ledger: Ledger, listed: list[Listed]) -> None:
    chain = client.chain()
    assert chain.rpc is not None
    registry = bytes.fromhex(chain.registry[2:])
    count = read_registry(chain.rpc, registry).count
    assert count == len(listed), f"the ledger has {count} assets, the catalogue {len(listed)}"
    for asset in listed:
        assert asset.address is not None
        address = bytes.fromhex(asset.address[2:])
        assert read_contract_of(chain.rpc, registry, bytes.fromhex(asset.id.replace("-", ""))) == address
        state = read_asset(chain.rpc, address)
        told = f"{asset.name} ({asset.id})"
        assert any(state.result) == (asset.id in ledger.models), f"{told}: result on the ledger: {any(state.result)}"
        assert any(state.revocation) == (asset.id in ledger.revoked), f"{told}: revocation on the ledger is wrong"
        if asset.id in ledger.revoked:
            revoked = client.document(asset.id).revoked
            assert revoked is not None
            assert revoked.reason == ledger.revoked[asset.id]
            assert state.revocation == revocation_digest(revoked.reason, revoked.at), f"{told}: other revocation"


def _all(client: Client) -> Iterator[Listed]:
    cursor: str | None = None
    while True:
        page = client.list(cursor=cursor, limit=100)
        yield from page.assets
        cursor = page.cursor
        if cursor is None:
            return
