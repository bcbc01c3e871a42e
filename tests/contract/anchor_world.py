"""What the tests of anchoring share: a family of assets, and processes that die at a call of a port."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa

from polyshare.assets import Kind
from polyshare.catalogue import Catalogue
from polyshare.catalogue.tables import assets as asset_rows
from polyshare.catalogue.tables import stages, transactions, writes
from polyshare.ledger.record import result_digest
from polyshare.ports import Ledger
from tests.contract.ledger_world import Assets, states, told


class Family:
    """Two versions of a dataset, a model of the second, its translation; results, and one revocation."""

    size = 7

    def __init__(self, ledger: Ledger, seed: object = None) -> None:
        self.assets = Assets(ledger.trust_root(), seed)
        self.first, self.second = (self.assets.record(parents=0) for _ in range(2))
        self.model = self.assets.record(Kind.MODEL, 1)
        self.translation = self.assets.record(Kind.TRANSLATION, 1)
        self.result = self.assets.result(self.model)
        self.bad = self.assets.result(self.first)  # a dataset has none
        self.revocation = self.assets.revocation(self.first)

    def fill(self, catalogue: Catalogue) -> None:
        # The wrong way round: the order comes from what must be anchored before.
        self.assets.want(self.result, [self.model])
        self.assets.want(self.translation, [self.model])
        self.assets.want(self.revocation)
        self.assets.want(self.model, [self.second])
        self.assets.want(self.second, [self.first])
        self.assets.want(self.bad, [self.first])
        self.assets.want(self.first)
        rows = self.assets.rows
        self.assets.rows = sorted(rows, key=lambda row: row["action"] != "register")  # their assets must be there
        self.assets.fill(catalogue)

    def check(self, ledger: Ledger, catalogue: Catalogue) -> None:
        """All is on the ledger, and the catalogue says so once."""
        states_ = states(catalogue)
        assert len(states_) == self.size
        rejected = [key for key, state in states_.items() if state != "done"]
        assert [(bytes.fromhex(a.replace("-", "")), action) for a, action in rejected] == [(self.first.id, "result")]
        assert states_[rejected[0]] == "rejected"
        for entry in (self.first, self.second, self.model, self.translation):
            assert ledger.asset(self.assets.address(entry)).code
        r = self.result
        digest = result_digest(r.outcome, r.commitment, r.metadata_root, r.provenance)
        assert ledger.asset(self.assets.address(self.model)).result == digest
        assert ledger.asset(self.assets.address(self.first)).revocation == self.revocation.digest
        stages_, events = told(catalogue)
        assert len(stages_) == len(set(stages_)) == self.size
        assert len(events) == len(set(events)) == self.size - 1
        assert {stage for _, stage in stages_} == {
            "anchored",
            "result anchored",
            "revoked on ledger",
            "rejected by the ledger",
        }
        with catalogue.reading() as connection:
            rows = connection.execute(sa.select(asset_rows)).all()
            used = sa.select(transactions.c.sender, transactions.c.nonce).where(transactions.c.state == "mined")
            mined = [tuple(row) for row in connection.execute(used)]
            reasons = list(connection.scalars(sa.select(writes.c.reason).where(writes.c.state == "rejected")))
            details = list(connection.scalars(sa.select(stages.c.detail).where(stages.c.detail.is_not(None))))
        assert all(row.anchored is not None for row in rows)
        assert len(mined) == len(set(mined))
        assert reasons == details == ["an asset of this kind has no result"]


class Killed(BaseException):
    """The process is gone. Nothing that it does afterwards has any effect."""


class Fuse:
    """Burns down with every call of a port, before and after its effect."""

    def __init__(self, length: int) -> None:
        self.left = length

    def burn(self) -> None:
        self.left -= 1
        if self.left <= 0:
            raise Killed


class MortalLedger:
    def __init__(self, ledger: Ledger, fuse: Fuse) -> None:
        self._ledger, self._fuse = ledger, fuse

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._ledger, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            self._fuse.burn()
            result = method(*args, **kwargs)
            self._fuse.burn()
            return result

        return call


class MortalCatalogue:
    def __init__(self, catalogue: Catalogue, fuse: Fuse) -> None:
        self._catalogue, self._fuse = catalogue, fuse

    @contextmanager
    def transaction(self, *, flushed: bool = True) -> Iterator[sa.Connection]:
        self._fuse.burn()
        with self._catalogue.transaction(flushed=flushed) as connection:
            yield connection
            self._fuse.burn()
        self._fuse.burn()

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        self._fuse.burn()
        with self._catalogue.reading() as connection:
            yield connection
