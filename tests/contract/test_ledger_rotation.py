"""The writer gets another key: nothing that the old one signed is lost, or waited for in vain."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from polyshare.catalogue import Catalogue
from polyshare.catalogue.tables import transactions
from polyshare.errors import Misconfigured
from polyshare.ledger.chain import ChainLedger
from polyshare.ledger.deploy import deploy, send
from polyshare.ledger.keys import make_key
from polyshare.ledger.rights import allowing
from polyshare.operations.anchor import anchor
from tests.contract.anchor_world import Family, Fuse, Killed, MortalLedger
from tests.contract.ledger_world import CHAINS, Assets, Deployed, Hand, chain, ports_for, qbft, states


@pytest.fixture(params=CHAINS, scope="module")
def deployed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    started = chain if request.param == "chain" else qbft
    with started(tmp_path_factory.mktemp("ledger")) as running:
        yield running


@pytest.fixture
def catalogue() -> Iterator[Catalogue]:
    made = Catalogue("sqlite://")
    yield made
    made.close()


def test_the_writers_key_is_rotated_with_transactions_of_the_old_one_under_way(
    deployed: Deployed, catalogue: Catalogue, tmp_path: Path
) -> None:
    old, new = make_key(tmp_path / "old.key"), make_key(tmp_path / "new.key")
    deploy(deployed.rpc, deployed.owner, [old.address, new.address], known=deployed.trust_root)
    before, after = (ChainLedger(deployed.rpc, deployed.trust_root, key) for key in (old, new))
    first = Family(before)
    first.fill(catalogue)
    fuse = Fuse(9)  # dies with transactions stored and not sent
    with pytest.raises(Killed):
        anchor(ports_for(MortalLedger(before, fuse), catalogue, Hand()))  # type: ignore[arg-type]
    with catalogue.reading() as connection:
        assert connection.scalars(sa.select(transactions.c.sender)).all() == [old.address]
    clock = Hand()
    clock.time += 60
    assert anchor(ports_for(after, catalogue, clock)) == first.size
    first.check(after, catalogue)
    assert after.next_nonce() > 0


@pytest.mark.parametrize("alone", [True, False])
def test_what_a_key_sent_that_is_no_writer_any_more_is_written_by_the_new_one(
    deployed: Deployed, catalogue: Catalogue, tmp_path: Path, alone: bool
) -> None:
    old, new = make_key(tmp_path / "old.key"), make_key(tmp_path / "new.key")
    deploy(deployed.rpc, deployed.owner, [old.address, new.address], known=deployed.trust_root)
    before, after = (ChainLedger(deployed.rpc, deployed.trust_root, key) for key in (old, new))
    assets = Assets(deployed.trust_root)
    entries = [assets.record() for _ in range(1 if alone else 4)]
    for entry in entries:
        assets.want(entry)
    assets.fill(catalogue)

    class Forbidden:
        """Between signing and sending."""

        def __getattr__(self, name: str) -> Any:
            return getattr(before, name)

        def send(self, raw: bytes) -> None:
            for step in allowing(deployed.rpc, root.registry, deployed.owner.address, [old.address], False):
                send(deployed.rpc, deployed.owner, root.chain_id, step)
            before.send(raw)

    root = deployed.trust_root
    with pytest.raises(Misconfigured, match="does not let"):
        anchor(ports_for(Forbidden(), catalogue, Hand()))  # type: ignore[arg-type]
    assert set(states(catalogue).values()) == {"pending"}
    assert anchor(ports_for(after, catalogue, Hand())) == len(entries)
    assert set(states(catalogue).values()) == {"done"}
    assert all(after.asset(assets.address(entry)).code for entry in entries)
