"""Anchoring, on the fake ledger and on a real one: in order, once, whatever dies at whichever call."""

from __future__ import annotations

import random
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from polyshare.assets import Kind
from polyshare.catalogue import Catalogue
from polyshare.catalogue.tables import transactions, writes
from polyshare.errors import Unavailable
from polyshare.ledger.fake import FakeLedger
from polyshare.ledger.read import read_registry
from polyshare.ledger.rpc import Nodes
from polyshare.operations.anchor import anchor
from polyshare.ports import Ledger, Register
from tests.contract.anchor_world import Family, Fuse, Killed, MortalCatalogue, MortalLedger
from tests.contract.ledger_world import CHAINS, Assets, Deployed, Hand, chain, ports_for, qbft, states


@pytest.fixture(scope="module")
def on_chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    with chain(tmp_path_factory.mktemp("chain")) as started:
        yield started


@pytest.fixture(scope="module")
def on_qbft(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    with qbft(tmp_path_factory.mktemp("qbft")) as deployed:
        yield deployed


@pytest.fixture(params=["fake", *CHAINS])
def ledger(request: pytest.FixtureRequest) -> Ledger:
    return FakeLedger() if request.param == "fake" else request.getfixturevalue(f"on_{request.param}").ledger()


@pytest.fixture
def fake() -> FakeLedger:
    return FakeLedger()


@pytest.fixture
def catalogue() -> Iterator[Catalogue]:
    made = Catalogue("sqlite://")
    yield made
    made.close()


def count_of(ledger: Ledger) -> int:
    if isinstance(ledger, FakeLedger):
        return ledger.count
    return read_registry(ledger._rpc.url, ledger.trust_root().registry).count  # type: ignore[attr-defined]


def test_everything_is_anchored_parents_before_children(ledger: Ledger, catalogue: Catalogue) -> None:
    family = Family(ledger)
    family.fill(catalogue)
    before = count_of(ledger)
    assert anchor(ports_for(ledger, catalogue, Hand())) == family.size
    family.check(ledger, catalogue)
    assert count_of(ledger) == before + 4
    with catalogue.reading() as connection:
        blocks = dict(
            connection.execute(
                sa.select(writes.c.asset, transactions.c.nonce)
                .join(transactions, transactions.c.hash == writes.c.transaction)
                .where(writes.c.action == "register")
            ).all()
        )
    nonces = [blocks[str_id(entry)] for entry in (family.first, family.second, family.model, family.translation)]
    assert nonces == sorted(set(nonces))
    assert anchor(ports_for(ledger, catalogue, Hand())) == 0


def str_id(entry: Register) -> str:
    return str(uuid.UUID(bytes=entry.id))


def test_nothing_pending_touches_the_ledger_not_at_all(catalogue: Catalogue) -> None:
    class Untouched(FakeLedger):
        def __getattribute__(self, name: str) -> Any:
            raise AssertionError(name)

    ledger = Untouched.__new__(Untouched)
    assert anchor(ports_for(ledger, catalogue, Hand())) == 0


def test_what_lacks_a_parent_waits_and_hinders_nothing(fake: FakeLedger, catalogue: Catalogue) -> None:
    assets = Assets(fake.trust_root())
    absent = assets.record()
    waiting = [assets.record() for _ in range(1200)]
    for entry in waiting:
        assets.want(entry, [absent])
    late = assets.record()
    assets.want(late)
    assets.fill(catalogue)
    ports = ports_for(fake, catalogue, Hand())
    assert anchor(ports) == 1
    assets.want(absent)
    assets.fill(catalogue)
    assert anchor(ports) == 1201
    assert set(states(catalogue).values()) == {"done"}


def test_a_thousand_records_go_into_few_transactions_that_fit(fake: FakeLedger, catalogue: Catalogue) -> None:
    assets = Assets(fake.trust_root())
    for _ in range(1000):
        assets.want(assets.record(Kind.MODEL, 1))
    big = [assets.record(Kind.MODEL, 64, supersedes=True) for _ in range(60)]
    for entry in big:
        assets.want(entry)
    assets.fill(catalogue)
    assert anchor(ports_for(fake, catalogue, Hand())) == 1060
    assert fake.count == 1060
    with catalogue.reading() as connection:
        used = connection.scalar(sa.select(sa.func.count()).select_from(transactions))
    assert used is not None
    assert 5 <= used <= 12


@pytest.mark.parametrize("culprits", [[0], [37], [99], [3, 4, 80]])
def test_of_a_batch_that_reverts_the_culprit_alone_is_set_aside(
    fake: FakeLedger, catalogue: Catalogue, culprits: list[int]
) -> None:
    assets = Assets(fake.trust_root())
    entries = [assets.record() for _ in range(100)]
    for entry in entries:
        assets.want(entry)
    assets.fill(catalogue)
    fake.poisoned = {entries[i].id for i in culprits}
    assert anchor(ports_for(fake, catalogue, Hand())) == 100
    rejected = {asset for (asset, _), state in states(catalogue).items() if state == "rejected"}
    assert rejected == {str_id(entries[i]) for i in culprits}
    assert fake.count == 100 - len(culprits)
    assert anchor(ports_for(fake, catalogue, Hand())) == 0


def test_a_ledger_that_does_not_mine_is_told_and_the_same_bytes_are_sent_again(
    fake: FakeLedger, catalogue: Catalogue
) -> None:
    family = Family(fake)
    family.fill(catalogue)
    fake.mining = False
    ports = ports_for(fake, catalogue, Hand())
    for _ in range(3):
        with pytest.raises(Unavailable, match="has not mined transaction 0x"):
            anchor(ports)
    with catalogue.reading() as connection:
        assert len(connection.execute(sa.select(transactions)).all()) == 1
    fake.mining = True
    assert anchor(ports) == family.size
    family.check(fake, catalogue)


def test_a_second_catalogue_of_one_chain_takes_up_where_the_chain_is(ledger: Ledger, catalogue: Catalogue) -> None:
    family = Family(ledger, seed="lost")
    family.fill(catalogue)
    anchor(ports_for(ledger, catalogue, Hand()))
    before = count_of(ledger)
    rebuilt = Catalogue("sqlite://")
    again = Family(ledger, seed="lost")  # the same entries, as rebuilt from the journal
    again.fill(rebuilt)
    assert anchor(ports_for(ledger, rebuilt, Hand())) == again.size
    again.check(ledger, rebuilt)
    assert count_of(ledger) == before
    rebuilt.close()


def test_a_chain_that_forgot_gets_the_stored_transactions_again(fake: FakeLedger, catalogue: Catalogue) -> None:
    family = Family(fake)
    family.fill(catalogue)
    anchor(ports_for(fake, catalogue, Hand()))
    empty = FakeLedger()
    another = family.assets.record()
    family.assets.want(another)
    family.assets.fill(catalogue)
    assert anchor(ports_for(empty, catalogue, Hand())) == 1
    assert (empty.count, fake.count) == (5, 4)
    for entry in (family.first, family.second, family.model, family.translation):
        again, before = (ledger.asset(family.assets.address(entry)) for ledger in (empty, fake))
        assert (again.code, again.result, again.revocation) == (before.code, before.result, before.revocation)


def test_a_nonce_taken_by_another_transaction_does_not_lose_what_was_signed(
    ledger: Ledger, catalogue: Catalogue
) -> None:
    """As when the catalogue was lost while a transaction that it had stored was on its way."""
    family = Family(ledger)
    family.fill(catalogue)
    stranger = family.assets.record()

    class Overtaken:
        def __init__(self) -> None:
            self.overtaken = False

        def __getattr__(self, name: str) -> Any:
            return getattr(ledger, name)

        def send(self, raw: bytes) -> None:
            if not self.overtaken:
                self.overtaken = True
                other = ledger.sign([stranger], ledger.next_nonce())
                ledger.send(other.raw)
                assert ledger.receipt(other.hash, wait=30)
            ledger.send(raw)

    assert anchor(ports_for(Overtaken(), catalogue, Hand())) == family.size
    family.check(ledger, catalogue)
    with catalogue.reading() as connection:
        lost = connection.scalars(sa.select(transactions.c.state).where(transactions.c.state == "lost")).all()
    assert len(lost) == 1


# --- one at a time ----------------------------------------------------------------------------------------------------


def test_a_second_call_while_one_is_at_it_returns_at_once(fake: FakeLedger, catalogue: Catalogue) -> None:
    family = Family(fake)
    family.fill(catalogue)
    clock = Hand()
    seen: list[int] = []

    class Watched(FakeLedger):
        def send(self, raw: bytes) -> None:
            seen.append(anchor(ports_for(fake, catalogue, clock)))
            super().send(raw)

    watched = Watched()
    assert anchor(ports_for(watched, catalogue, clock)) == family.size
    assert seen
    assert set(seen) == {0}
    assert fake.count == 0
    family.check(watched, catalogue)


def test_a_holder_that_slept_past_its_lease_changes_nothing_more(fake: FakeLedger, catalogue: Catalogue) -> None:
    family = Family(fake)
    family.fill(catalogue)
    clock = Hand()
    other = ports_for(fake, catalogue, clock)

    class Asleep:
        asleep = False
        taken = 0

        def __getattr__(self, name: str) -> Any:
            return getattr(fake, name)

        def receipt(self, transaction: bytes, *, wait: float = 0) -> Any:
            found = fake.receipt(transaction, wait=wait)
            if not self.asleep:
                self.asleep = True
                clock.time += 60
                self.taken = anchor(other)
            return found

    sleeper = Asleep()
    assert anchor(ports_for(sleeper, catalogue, clock)) == 0
    assert sleeper.taken == family.size
    family.check(fake, catalogue)


def test_no_wake_up_is_lost_when_many_call_at_once(fake: FakeLedger, tmp_path: Path) -> None:
    catalogue = Catalogue(f"sqlite:///{tmp_path}/catalogue.db")
    clock = Hand()
    problems: list[BaseException] = []

    def work(seed: int) -> None:
        assets = Assets(fake.trust_root(), seed)
        ports = ports_for(fake, catalogue, clock)
        try:
            for _ in range(15):
                assets.want(assets.record())
                assets.fill(catalogue)
                anchor(ports)
        except BaseException as error:
            problems.append(error)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    found = states(catalogue)
    assert len(found) == 90
    assert set(found.values()) == {"done"}
    assert fake.count == 90
    catalogue.close()


# --- dying at every call ----------------------------------------------------------------------------------------------


def live_through(ledger: Ledger, catalogue: Catalogue, fuses: list[int]) -> bool:
    """Run anchor in processes that die as their fuses say, then in one that doesn't; whether any died."""
    clock, died = Hand(), False
    for length in fuses:
        fuse = Fuse(length)
        try:
            mortal = MortalLedger(ledger, fuse)
            anchor(ports_for(mortal, MortalCatalogue(catalogue, fuse), clock))  # type: ignore[arg-type]
        except Killed:
            died = True
        clock.time += 11  # the lease runs out
    anchor(ports_for(ledger, catalogue, clock))
    return died


def test_dying_at_any_call_loses_and_doubles_nothing(ledger: Ledger) -> None:
    """At every call on the fake; elsewhere at some, and on a network, where a block takes a second, at fewer."""
    step = 1 if isinstance(ledger, FakeLedger) else 23 if isinstance(ledger._rpc, Nodes) else 5  # type: ignore[attr-defined]
    length = 0
    while True:
        length += step
        catalogue = Catalogue("sqlite://")
        family = Family(ledger)
        family.fill(catalogue)
        before = count_of(ledger)
        died = live_through(ledger, catalogue, [length])
        family.check(ledger, catalogue)
        assert count_of(ledger) == before + 4
        catalogue.close()
        if not died:
            break
    assert length > 50


@pytest.mark.parametrize("seed", range(40))
def test_dying_again_and_again_with_a_ledger_that_stalls_loses_nothing(seed: int) -> None:
    dice = random.Random(seed)
    ledger = FakeLedger()
    family = Family(ledger)
    catalogue = Catalogue("sqlite://")
    family.fill(catalogue)
    clock = Hand()
    for _ in range(8):
        ledger.mining = dice.random() < 0.5
        fuse = Fuse(dice.randint(1, 60))
        try:
            mortal = MortalLedger(ledger, fuse)
            anchor(ports_for(mortal, MortalCatalogue(catalogue, fuse), clock))  # type: ignore[arg-type]
        except (Killed, Unavailable):
            pass
        clock.time += 11
        if dice.random() < 0.2:  # the catalogue is lost, and rebuilt from what the store's journal holds
            catalogue.close()
            catalogue = Catalogue("sqlite://")
            rebuilt = Family(ledger, seed="x")
            rebuilt.__dict__.update({k: v for k, v in family.__dict__.items() if k != "assets"})
            rebuilt.fill(catalogue)
    ledger.mining = True
    ledger.mine()
    anchor(ports_for(ledger, catalogue, clock))
    family.check(ledger, catalogue)
    assert ledger.count == 4
    catalogue.close()
