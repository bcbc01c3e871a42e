"""What the tests of the ledger share: a chain of their own, ports around a ledger, and entries to write."""

from __future__ import annotations

import hashlib
import itertools
import os
import socket
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import sqlalchemy as sa

from polyshare.assets import Kind
from polyshare.auth import Authenticator
from polyshare.bootstrap import Ports
from polyshare.catalogue import Catalogue
from polyshare.catalogue.tables import assets, outbox, stages, writes
from polyshare.events import HttpBus
from polyshare.ledger import node
from polyshare.ledger.chain import ChainLedger
from polyshare.ledger.deploy import deploy
from polyshare.ledger.keys import Key, make_key
from polyshare.ledger.node import NodeFolder
from polyshare.ledger.record import Record, asset_address
from polyshare.ledger.rpc import Nodes, Rpc
from polyshare.ports import Ledger, Register, Result, Revocation, TrustRoot
from polyshare.settings import Settings

_SETTINGS = Settings(
    database="sqlite://",
    s3_endpoint="",
    s3_access_key_file="",
    s3_secret_key_file="",
    functions_url="http://127.0.0.1:1/{function}",
    event_token_file="",
    jwt_issuer="",
    jwks_file="",
)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


QBFT = os.environ.get("POLYSHARE_TEST_QBFT", "")  # nodes of a network to test on too, their URLs comma separated
CHAINS = ["chain", *(["qbft"] if QBFT else [])]  # as fixtures are named


@dataclass
class Deployed:
    """The registry on some chain, with the keys of its owner and its writer."""

    rpc: Rpc
    owner: Key
    writer: Key
    trust_root: TrustRoot

    def ledger(self) -> ChainLedger:
        return ChainLedger(self.rpc, self.trust_root, self.writer)

    def pause(self) -> None:
        """Nothing is mined from here on."""
        for url in QBFT.split(","):
            with Rpc(url) as node:
                node.call("miner_stop")

    def mine(self) -> None:
        """All that was sent, and what is sent from here on."""
        for url in QBFT.split(","):
            with Rpc(url) as node:
                node.call("miner_start", 1)


@contextmanager
def qbft(path: Path) -> Iterator[Deployed]:
    """A registry of its own on the network that is there, by new keys: gas is free."""
    owner, writer = make_key(path / "owner.key"), make_key(path / "writer.key")
    with Nodes(QBFT) as rpc:
        yield Deployed(rpc, owner, writer, deploy(rpc, owner, [writer.address]))


@dataclass
class Chain(Deployed):
    """An anvil in a folder, with the registry on it."""

    folder: NodeFolder
    port: int
    process: subprocess.Popen[bytes]

    def ledger(self) -> ChainLedger:
        return ChainLedger(self.rpc, self.trust_root, self.writer, journal=self.folder.journal)

    def pause(self) -> None:
        self.rpc.call("evm_setAutomine", False)

    def mine(self) -> None:
        self.rpc.call("evm_mine")
        self.rpc.call("evm_setAutomine", True)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(timeout=10)

    def restart(self) -> None:
        self.process = node.start(self.folder, self.port)


@contextmanager
def chain(path: Path) -> Iterator[Chain]:
    folder, port = NodeFolder(path), free_port()
    process = node.start(folder, port)
    rpc = Rpc(node.url(port))
    owner, writer = make_key(folder.owner_key), make_key(folder.writer_key)
    running = Chain(rpc, owner, writer, TrustRoot(0, b"", {}), folder, port, process)
    try:
        running.trust_root = deploy(rpc, owner, [writer.address], journal=folder.journal)
        yield running
    finally:
        running.kill()
        rpc.close()


class Hand:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.time = 1_700_000_000.0

    def now(self) -> float:
        return self.time


class Counted:
    """Bytes that never repeat, and are the same in every run."""

    def __init__(self, seed: object = 0) -> None:
        self._seed, self._count = seed, itertools.count()

    def bytes(self, count: int) -> bytes:
        return hashlib.shake_128(f"{self._seed}/{next(self._count)}".encode()).digest(count)


def _not_here(*_: object) -> NoReturn:
    raise AssertionError("anchoring has no business with this port")


def ports_for(ledger: Ledger, catalogue: Any, clock: Hand, *, random: Counted | None = None) -> Ports:
    """Ports of one process; its holder is its own."""
    return Ports(
        settings=_SETTINGS,
        authenticator=Authenticator(""),
        catalogue=catalogue,
        bus=HttpBus(_SETTINGS.functions_url, lambda: ""),
        store=_not_here,
        runner=_not_here,
        ledger=lambda: ledger,
        inbox_credentials=_not_here,
        clock=clock,
        random=random or Counted(uuid.uuid4()),
    )


class Assets:
    """Registers, results and revocations of new assets, as entries and as rows of a catalogue."""

    def __init__(self, trust_root: TrustRoot, seed: object = None) -> None:
        self._trust_root, self._random = trust_root, Counted(seed if seed is not None else uuid.uuid4())
        self.rows: list[dict[str, Any]] = []

    def record(self, kind: Kind = Kind.DATASET, parents: int = 1, *, supersedes: bool = False) -> Register:
        some = self._random.bytes
        made = Record(
            id=some(16),
            kind=kind,
            commitment=some(32),
            metadata_root=some(32),
            supersedes=some(20) if supersedes else None,
            parents=tuple(some(20) for _ in range(parents)),
            environment=some(32) if kind in (Kind.MODEL, Kind.TRANSLATION) else None,
            opset=18 if kind == Kind.TRANSLATION else None,
        )
        return Register(made.id, int(kind), made.encode())

    def result(self, entry: Register, outcome: int = 1) -> Result:
        some = self._random.bytes
        return Result(entry.id, outcome, some(32), some(32), some(32))

    def revocation(self, entry: Register) -> Revocation:
        return Revocation(entry.id, self._random.bytes(32))

    def address(self, entry: Register) -> bytes:
        return asset_address(self._trust_root, entry.kind, entry.record)

    def want(self, entry: Register | Result | Revocation, after: list[Register] | None = None) -> None:
        """Note a write that `fill` puts into a catalogue."""
        action = {Register: "register", Result: "result", Revocation: "revoke"}[type(entry)]
        fields = {
            name: value.hex() if isinstance(value := getattr(entry, name), bytes) else value
            for name in entry.__dataclass_fields__
        }
        self.rows.append(
            {
                "asset": str(uuid.UUID(bytes=entry.id)),
                "action": action,
                "entry": fields,
                "after": [str(uuid.UUID(bytes=a.id)) for a in after or []],
                "state": "pending",
                "created": 0.0,
            }
        )

    def fill(self, catalogue: Catalogue) -> None:
        """Put the rows into a catalogue and forget them."""
        with catalogue.transaction() as connection:
            for row in self.rows:
                if row["action"] == "register":
                    connection.execute(
                        assets.insert().values(
                            id=row["asset"],
                            kind=row["entry"]["kind"],
                            organisation="org",
                            owner="me",
                            visibility="private",
                            state="registered",
                            created=0.0,
                            fields={},
                        )
                    )
                connection.execute(writes.insert().values(**row))
        self.rows = []


def states(catalogue: Catalogue) -> dict[tuple[str, str], str]:
    """State of each write, by asset and action."""
    with catalogue.reading() as connection:
        return {(r.asset, r.action): r.state for r in connection.execute(sa.select(writes))}


def told(catalogue: Catalogue) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Stages and events, each with its asset, sorted."""
    with catalogue.reading() as connection:
        return (
            sorted((r.asset, r.stage) for r in connection.execute(sa.select(stages))),
            sorted((r.subject, r.type) for r in connection.execute(sa.select(outbox))),
        )
