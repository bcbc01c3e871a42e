"""The ledger port: the same on the fake and on real nodes with the real contracts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import pytest

from polyshare.assets import Kind
from polyshare.ledger.fake import FakeLedger
from polyshare.ledger.gas import TRANSACTION, gas_of
from polyshare.ledger.read import read_registry
from polyshare.ledger.record import clone_code, record_of, result_digest
from polyshare.metadata import keccak256
from polyshare.ports import Ledger, Receipt, Register
from tests.contract.ledger_world import CHAINS, Assets, Deployed, chain, qbft

ZERO = bytes(32)


@dataclass
class World:
    ledger: Ledger
    assets: Assets
    pause: Callable[[], None]  # mining
    mine: Callable[[], None]
    registry: Callable[[], tuple[int, bytes]]  # count and head

    def write(self, *entries: object) -> Receipt:
        signed = self.ledger.sign(entries, self.ledger.next_nonce())  # type: ignore[arg-type]
        self.ledger.send(signed.raw)
        receipt = self.ledger.receipt(signed.hash, wait=30)
        assert receipt is not None
        assert receipt.succeeded
        return receipt


@pytest.fixture(scope="module")
def on_chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    with chain(tmp_path_factory.mktemp("chain")) as started:
        yield started


@pytest.fixture(scope="module")
def on_qbft(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    with qbft(tmp_path_factory.mktemp("qbft")) as deployed:
        yield deployed


@pytest.fixture(params=["fake", *CHAINS])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    if request.param == "fake":
        fake = FakeLedger()

        def mine() -> None:
            fake.mine()
            fake.mining = True

        yield World(
            fake,
            Assets(fake.trust_root()),
            pause=lambda: setattr(fake, "mining", False),
            mine=mine,
            registry=lambda: (fake.count, fake.head),
        )
    else:
        started: Deployed = request.getfixturevalue(f"on_{request.param}")

        def registry() -> tuple[int, bytes]:
            state = read_registry(started.rpc.url, started.trust_root.registry)
            return state.count, state.head

        yield World(
            started.ledger(),
            Assets(started.trust_root),
            pause=started.pause,
            mine=started.mine,
            registry=registry,
        )


def test_a_registered_record_is_the_code_at_its_address(world: World) -> None:
    root = world.ledger.trust_root()
    entries = [
        world.assets.record(Kind.DATASET, 0),
        world.assets.record(Kind.MODEL, 2),
        world.assets.record(Kind.IMPORTED_MODEL, 1, supersedes=True),
        world.assets.record(Kind.TRANSLATION, 1),
        world.assets.record(Kind.MODEL, 64, supersedes=True),
    ]
    before = [world.ledger.asset(world.assets.address(e)) for e in entries]
    assert [(s.code, s.result, s.revocation) for s in before] == [(b"", ZERO, ZERO)] * 5
    count, head = world.registry()
    receipt = world.write(*entries)
    assert receipt.rejected == {}
    for entry in entries:
        state = world.ledger.asset(world.assets.address(entry))
        assert state.code == clone_code(root.definitions[entry.kind], entry.record)
        assert record_of(state.code)[1] == entry.record
        assert (state.result, state.revocation) == (ZERO, ZERO)
        assert state.block >= receipt.block
        head = keccak256(head + bytes(12) + world.assets.address(entry))
    assert world.registry() == (count + 5, head)


def test_registering_again_changes_nothing_and_another_record_under_the_id_is_set_aside(world: World) -> None:
    entry = world.assets.record()
    world.write(entry)
    before = world.registry()
    assert world.write(entry, entry).rejected == {}
    other = Register(entry.id, entry.kind, entry.record[:17] + bytes(32) + entry.record[49:])
    fine = world.assets.record()
    assert world.write(other, fine).rejected == {entry.id: "another record is registered under this id"}
    assert world.ledger.asset(world.assets.address(other)).code == b""
    assert world.ledger.asset(world.assets.address(fine)).code
    assert world.registry()[0] == before[0] + 1


@pytest.mark.parametrize(
    ("flaw", "reason"),
    [
        (lambda e: replace(e, kind=9), "no definition"),
        (lambda e: replace(e, record=b"\x02" + e.record[1:]), "schema"),
        (lambda e: replace(e, record=e.record + b"\0"), "length"),
        (lambda e: replace(e, record=e.record[:-1]), "length"),
        (lambda e: replace(e, record=e.record[:81] + b"\x02" + e.record[82:]), "length"),
        (lambda e: replace(e, record=e.record[:81] + b"\x41" + e.record[82:]), "parents"),
        (lambda e: replace(e, record=e.record[:81] + b"\x00" + e.record[82:]), "parents"),
        (lambda e: replace(e, record=b"\x01" + bytes(16) + e.record[17:], id=bytes(16)), "zero"),
    ],
)
def test_a_malformed_record_is_set_aside_by_its_reason(
    world: World, flaw: Callable[[Register], Register], reason: str
) -> None:
    bad = flaw(world.assets.record(Kind.MODEL, 1))
    fine = world.assets.record()
    rejected = world.write(bad, fine).rejected
    assert list(rejected) == [bad.id]
    assert reason in rejected[bad.id]
    assert world.ledger.asset(world.assets.address(fine)).code


def test_a_result_is_written_once(world: World) -> None:
    entry = world.assets.record(Kind.MODEL, 1)
    result = world.assets.result(entry)
    assert "nothing is registered" in world.write(result).rejected[entry.id]
    world.write(entry)
    assert world.write(result).rejected == {}
    digest = result_digest(result.outcome, result.commitment, result.metadata_root, result.provenance)
    assert world.ledger.asset(world.assets.address(entry)).result == digest
    assert world.write(result).rejected == {}
    assert "another result" in world.write(world.assets.result(entry)).rejected[entry.id]
    assert world.ledger.asset(world.assets.address(entry)).result == digest


def test_a_result_needs_a_kind_that_has_one_and_a_known_outcome(world: World) -> None:
    dataset, model = world.assets.record(), world.assets.record(Kind.MODEL, 1)
    world.write(dataset, model)
    rejected = world.write(world.assets.result(dataset), world.assets.result(model, outcome=3)).rejected
    assert "has no result" in rejected[dataset.id]
    assert "outcome" in rejected[model.id]


def test_a_revocation_is_written_once(world: World) -> None:
    entry = world.assets.record()
    revocation = world.assets.revocation(entry)
    assert "nothing is registered" in world.write(revocation).rejected[entry.id]
    world.write(entry)
    assert "zero" in world.write(replace(revocation, digest=ZERO)).rejected[entry.id]
    assert world.write(revocation, revocation).rejected == {}
    assert world.ledger.asset(world.assets.address(entry)).revocation == revocation.digest
    assert "another revocation" in world.write(world.assets.revocation(entry)).rejected[entry.id]
    assert world.ledger.asset(world.assets.address(entry)).revocation == revocation.digest


def test_what_is_not_mined_has_no_receipt_and_no_effect(world: World) -> None:
    entry = world.assets.record()
    nonce = world.ledger.next_nonce()
    signed = world.ledger.sign([entry], nonce)
    assert signed.nonce == nonce
    assert signed.hash == keccak256(signed.raw)
    assert world.ledger.receipt(signed.hash) is None
    world.pause()
    world.ledger.send(signed.raw)
    assert world.ledger.receipt(signed.hash, wait=0.2) is None
    assert world.ledger.next_nonce() == nonce
    assert world.ledger.asset(world.assets.address(entry)).code == b""
    world.mine()
    receipt = world.ledger.receipt(signed.hash, wait=30)
    assert receipt is not None
    assert receipt.succeeded
    assert receipt.time == int(receipt.time) > 1_600_000_000
    assert world.ledger.next_nonce() == nonce + 1


def test_sending_again_is_fine_before_and_after_it_is_mined(world: World) -> None:
    signed = world.ledger.sign([world.assets.record()], world.ledger.next_nonce())
    world.pause()
    world.ledger.send(signed.raw)
    world.ledger.send(signed.raw)
    world.mine()
    receipt = world.ledger.receipt(signed.hash, wait=30)
    count = world.registry()[0]
    world.ledger.send(signed.raw)
    assert world.ledger.receipt(signed.hash, wait=30) == receipt
    assert world.registry()[0] == count


def test_of_two_transactions_of_one_nonce_the_first_is_mined(world: World) -> None:
    nonce = world.ledger.next_nonce()
    first, second = world.assets.record(), world.assets.record()
    mined, signed = (world.ledger.sign([entry], nonce) for entry in (first, second))
    world.ledger.send(mined.raw)
    world.ledger.send(signed.raw)
    assert world.ledger.receipt(mined.hash, wait=30)
    assert world.ledger.asset(world.assets.address(first)).code
    assert world.ledger.asset(world.assets.address(second)).code == b""
    assert world.ledger.receipt(signed.hash) is None
    assert world.ledger.next_nonce() == nonce + 1


def test_transactions_sent_out_of_order_are_mined_in_order_of_their_nonces(world: World) -> None:
    entry = world.assets.record(Kind.MODEL, 1)
    nonce = world.ledger.next_nonce()
    register = world.ledger.sign([entry], nonce)
    result = world.ledger.sign([world.assets.result(entry)], nonce + 1)
    world.ledger.send(result.raw)
    assert world.ledger.next_nonce() == nonce
    world.ledger.send(register.raw)
    receipt = world.ledger.receipt(result.hash, wait=10)
    assert receipt is not None
    assert receipt.rejected == {}
    assert world.ledger.next_nonce() == nonce + 2


def test_a_batch_that_fills_the_capacity_is_mined_whole(world: World) -> None:
    entries, gas = [], TRANSACTION
    while gas < world.ledger.capacity() * 63 // 64:
        entries.append(world.assets.record(Kind.MODEL, 1))
        gas += gas_of(entries[-1])
    assert world.write(*entries[:-1]).rejected == {}
