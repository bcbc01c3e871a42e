"""Records anchored a second through `anchor`, against one web3 transaction a record that is as durable.

Both commit the rows first, store the signed bytes before they are sent, journal them for the embedded chain, and note
each record as done only when its receipt is read. Same machine, same anvil, same SQLite, the same run.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from polyshare import events
from polyshare.assets import Kind
from polyshare.bootstrap import Ports
from polyshare.catalogue import Catalogue, outbox
from polyshare.catalogue.tables import assets, stages, transactions, writes
from polyshare.ledger import artifacts
from polyshare.operations.anchor import anchor
from polyshare.ports import SystemClock
from tests.contract.ledger_world import Assets, Chain, chain, ports_for

BATCH, SINGLE = 3000, 200  # records
FEW, MANY, SAMPLES = 100, 10_000, 25


def run() -> list[dict[str, object]]:
    """Rows of the table: what, ours, peer, ratio, goal."""
    with tempfile.TemporaryDirectory() as folder:
        return _measure(Path(folder))


def _measure(folder: Path) -> list[dict[str, object]]:
    with chain(folder / "ledger") as running:
        catalogue = Catalogue(f"sqlite:///{folder}/catalogue.db")
        ports = ports_for(running.ledger(), catalogue, SystemClock())  # type: ignore[arg-type]
        source = Assets(running.trust_root)
        _fill(source, catalogue, 50)  # what is imported at first use
        anchor(ports)
        _fill(source, catalogue, 20)
        _one_by_one(running, ports)

        _fill(source, catalogue, FEW - 70)
        anchor(ports)
        few = _latency(source, ports)

        _fill(source, catalogue, SINGLE)
        started = time.perf_counter()
        _one_by_one(running, ports)
        peer = SINGLE / (time.perf_counter() - started)

        _fill(source, catalogue, BATCH)
        started = time.perf_counter()
        assert anchor(ports) == BATCH
        ours = BATCH / (time.perf_counter() - started)

        _fill(source, catalogue, MANY - BATCH - SINGLE - FEW - SAMPLES)
        anchor(ports)
        many = _latency(source, ports)
        catalogue.close()
    return [
        {
            "what": f"records anchored a second, {BATCH} pending (peer: one web3 transaction a record)",
            "ours": round(ours),
            "peer": round(peer),
            "ratio": round(ours / peer, 1),
            "goal": ">= 10",
        },
        {
            "what": f"anchoring one record, ms, with {MANY} on the ledger (peer: with {FEW})",
            "ours": round(many * 1000, 1),
            "peer": round(few * 1000, 1),
            "ratio": round(many / few, 2),
            "goal": "reported",
        },
    ]


def _fill(source: Assets, catalogue: Catalogue, count: int) -> None:
    for _ in range(count):
        source.want(source.record(Kind.MODEL, 2))
    source.fill(catalogue)


def _latency(source: Assets, ports: Ports) -> float:
    """Median seconds from a committed row until it is anchored."""
    taken = []
    for _ in range(SAMPLES):
        _fill(source, ports.catalogue, 1)
        started = time.perf_counter()
        assert anchor(ports) == 1
        taken.append(time.perf_counter() - started)
    return statistics.median(taken)


def _one_by_one(running: Chain, ports: Ports) -> None:
    """What one writes with web3 by its documentation, made as durable as ours."""
    from eth_account import Account
    from web3 import HTTPProvider, Web3

    client = Web3(HTTPProvider(running.rpc.url, request_kwargs={"timeout": 10}))
    account = Account.from_key(running.folder.writer_key.read_text().strip())
    registry = client.eth.contract(
        address=client.to_checksum_address(running.trust_root.registry), abi=artifacts.load(artifacts.REGISTRY).abi
    )
    journal = running.folder.journal
    with ports.catalogue.reading() as connection:
        pending = connection.execute(sa.select(writes).where(writes.c.state == "pending").order_by(writes.c.row)).all()
    nonce = client.eth.get_transaction_count(account.address)
    for write in pending:
        entry: dict[str, Any] = write.entry
        call = registry.functions.registerMany([(entry["kind"], bytes.fromhex(entry["record"]))])
        transaction = call.build_transaction(
            {"from": account.address, "nonce": nonce, "gas": 300_000, "gasPrice": 0, "chainId": 1337}
        )
        signed = account.sign_transaction(transaction)
        raw = bytes(signed.raw_transaction)
        with ports.catalogue.transaction() as connection:
            connection.execute(
                transactions.insert().values(
                    hash=bytes(signed.hash), nonce=nonce, raw=raw, state="signed", fence=0, created=time.time()
                )
            )
            connection.execute(
                writes.update().where(writes.c.row == write.row).values(state="sent", transaction=bytes(signed.hash))
            )
        with journal.noting(bytes.fromhex(account.address[2:]), nonce, raw):
            client.eth.send_raw_transaction(raw)
        receipt = client.eth.wait_for_transaction_receipt(signed.hash, timeout=30, poll_latency=0.005)
        assert receipt["status"] == 1
        at = client.eth.get_block(receipt["blockNumber"])["timestamp"]
        with ports.catalogue.transaction() as connection:
            connection.execute(writes.update().where(writes.c.row == write.row).values(state="done"))
            connection.execute(assets.update().where(assets.c.id == write.asset).values(anchored=float(at)))
            connection.execute(stages.insert().values(asset=write.asset, stage="anchored", at=time.time()))
            outbox.append(connection, events.ASSET_ANCHORED, subject=write.asset, ports=ports)
            connection.execute(
                transactions.update().where(transactions.c.hash == bytes(signed.hash)).values(state="mined")
            )
        nonce += 1


if __name__ == "__main__":
    print(json.dumps(run(), indent=1))
