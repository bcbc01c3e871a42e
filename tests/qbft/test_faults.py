"""The ledger's writer on four validators of which some are gone: it goes on, or halts and resumes; nothing is lost."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import sqlalchemy as sa

from polyshare.assets import Kind
from polyshare.catalogue import Catalogue
from polyshare.catalogue.tables import transactions
from polyshare.errors import Misconfigured, Unavailable
from polyshare.ledger.chain import ChainLedger, wait_for_receipt
from polyshare.ledger.deploy import deploy
from polyshare.ledger.keys import Key, make_key
from polyshare.ledger.read import asset_state, read_registry
from polyshare.ledger.rpc import NodeRefused, Nodes, Rpc, hexadecimal
from polyshare.ledger.signing import sign_transaction
from polyshare.operations.anchor import anchor
from polyshare.ports import Register, SystemClock, TrustRoot
from tests.contract.ledger_world import Assets, ports_for, states
from tests.qbft.network import Network, Validator


@dataclass
class World:
    network: Network
    nodes: Nodes
    writer: Key
    trust_root: TrustRoot
    assets: Assets
    catalogue: Catalogue

    def ledger(self) -> ChainLedger:
        return ChainLedger(self.nodes, self.trust_root, self.writer)

    def want(self, count: int) -> list[Register]:
        entries = [self.assets.record(Kind.MODEL, 2) for _ in range(count)]
        for entry in entries:
            self.assets.want(entry)
        self.assets.fill(self.catalogue)
        return entries

    def anchor(self) -> int:
        return anchor(ports_for(self.ledger(), self.catalogue, SystemClock()))  # type: ignore[arg-type]

    def anchor_whatever_comes(self, patience: float = 180.0) -> float:
        """As events and the timer do, until nothing is pending; seconds it took."""
        start = time.monotonic()
        while True:
            try:
                self.anchor()
                return time.monotonic() - start
            except Unavailable:
                assert time.monotonic() < start + patience
                time.sleep(1)

    def count(self) -> int:
        return read_registry(self.network.urls, self.trust_root.registry).count

    def check(self, entries: list[Register], before: int) -> None:
        """Each is on the ledger once, as every running validator says, and the catalogue knows."""
        assert set(states(self.catalogue).values()) == {"done"}
        assert self.count() == before + len(entries)
        for validator in self.network.validators:
            if validator.process is not None:
                with Rpc(validator.url) as rpc:
                    assert all(asset_state(rpc, self.assets.address(entry)).code for entry in entries[:20])


@pytest.fixture
def world(running: Network, tmp_path: Path) -> Iterator[World]:
    running.start_all()
    owner, writer = make_key(tmp_path / "owner.key"), make_key(tmp_path / "writer.key")
    with Nodes(running.urls) as nodes:
        root = deploy(nodes, owner, [writer.address])
        catalogue = Catalogue(f"sqlite:///{tmp_path}/catalogue.db")
        yield World(running, nodes, writer, root, Assets(root), catalogue)
        catalogue.close()


def test_one_validator_stopped_hinders_nothing(world: World) -> None:
    before = world.count()
    world.network.validators[3].stop()
    entries = world.want(50)
    assert world.anchor() == 50
    world.check(entries, before)


def test_when_the_node_in_use_is_killed_another_is_used(world: World) -> None:
    before = world.count()
    used = next(v for v in world.network.validators if v.url == world.nodes.url)
    entries = world.want(400)
    killer = threading.Timer(1.5, used.kill)
    killer.start()
    world.anchor_whatever_comes()
    killer.join()
    more = world.want(1)
    world.anchor_whatever_comes()
    assert world.nodes.url != used.url
    world.check(entries + more, before)


def test_without_a_quorum_nothing_is_anchored_and_with_it_again_all_is_once(world: World) -> None:
    before = world.count()
    first = world.want(5)
    assert world.anchor() == 5
    for validator in world.network.validators[2:]:
        validator.kill()
    entries = world.want(20)
    with pytest.raises(Unavailable, match="check that enough validators run"):
        world.anchor()
    assert world.count() == before + 5
    world.network.validators[2].start()
    print(f"resumed {world.anchor_whatever_comes():.0f} s after the third validator came back")
    world.check(first + entries, before)
    with world.catalogue.reading() as connection:
        used = connection.execute(sa.select(transactions.c.nonce, transactions.c.state)).all()
    assert [tuple(row) for row in used] == [(0, "mined"), (1, "mined")]


def test_a_node_cut_off_from_the_others_is_left_for_one_that_goes_on(world: World) -> None:
    before, used = world.count(), next(v for v in world.network.validators if v.url == world.nodes.url)
    others = [v for v in world.network.validators if v is not used]
    peers = used.permissioned.read_text()
    used.permissioned.write_text("[]")  # so that they don't find together again
    _tell_peers("admin_removePeer", used, others)
    with Rpc(used.url) as rpc:
        while int(rpc.call("net_peerCount"), 16) > 0:
            time.sleep(0.1)
    height = used.height()
    entries = world.want(3)
    world.anchor_whatever_comes()
    assert used.height() == height
    assert world.nodes.url != used.url
    used.permissioned.write_text(peers)
    _tell_peers("admin_addPeer", used, others)
    world.network.wait_for_blocks(5, by=used)
    world.check(entries, before)


def _tell_peers(method: str, one: Validator, others: list[Validator]) -> None:
    for other in others:
        for node, peer in ((one, other), (other, one)):
            with Rpc(node.url) as rpc:
                rpc.call(method, peer.enode)


def test_bytes_that_a_killed_node_took_along_are_sent_again_elsewhere(world: World) -> None:
    ledger, entry = world.ledger(), world.assets.record()
    signed = ledger.sign([entry], ledger.next_nonce())
    for validator in world.network.validators:
        with Rpc(validator.url) as rpc:
            rpc.call("miner_stop")
    with Rpc(world.network.validators[0].url) as rpc:
        rpc.call("eth_sendRawTransaction", hexadecimal(signed.raw))
    for validator in world.network.validators:
        validator.kill()
        (validator.folder / "geth" / "transactions.rlp").unlink(missing_ok=True)  # what it would remember it by
    world.network.start_all()
    assert ledger.receipt(signed.hash) is None
    ledger.send(signed.raw)
    ledger.send(signed.raw)
    receipt = ledger.receipt(signed.hash, wait=60)
    assert receipt is not None
    assert receipt.succeeded
    assert ledger.asset(world.assets.address(entry)).code


def test_gas_is_free_and_may_not_be_paid_for(world: World) -> None:
    assert int(world.nodes.call("eth_getBalance", hexadecimal(world.writer.address), "latest"), 16) == 0
    from eth_account import Account

    paying = {"nonce": 0, "gasPrice": 1, "gas": 21_000, "to": "0x" + "11" * 20, "value": 0, "chainId": 1337}
    raw = Account.sign_transaction(paying, b"k" * 32).raw_transaction
    with pytest.raises(NodeRefused):
        world.nodes.call("eth_sendRawTransaction", hexadecimal(raw))
    world.want(1)
    assert world.anchor() == 1


def test_who_is_no_writer_writes_nothing(world: World, tmp_path: Path) -> None:
    before, stranger, entry = world.count(), make_key(tmp_path / "stranger.key"), world.assets.record()
    ledger = ChainLedger(world.nodes, world.trust_root, stranger)
    with pytest.raises(Misconfigured, match="its owner must allow"):
        ledger.sign([entry], 0)
    data = ledger._encode([entry])
    raw = sign_transaction(stranger, chain_id=1337, nonce=0, gas=500_000, to=world.trust_root.registry, data=data)
    ledger.send(raw.raw)
    mined = wait_for_receipt(world.nodes, raw.hash, 30)
    assert mined is not None
    assert int(mined["status"], 16) == 0
    assert ledger.receipt(raw.hash) is None
    assert world.count() == before


def test_a_thousand_records(world: World) -> None:
    world.want(1)
    world.anchor()  # what is imported at first use
    entries, before = world.want(1000), world.count()
    start = time.monotonic()
    assert world.anchor() == 1000
    seconds = time.monotonic() - start
    print(f"1,000 records anchored in {seconds:.1f} s: {1000 / seconds:.0f} a second")
    world.check(entries, before)
