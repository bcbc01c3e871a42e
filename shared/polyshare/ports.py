"""The ports through which operations reach the world. Each has a fake with real behaviour and a real side.

| port | fake | real |
| --- | --- | --- |
| Store | store.MemoryStore | store.S3Store |
| Inbox | that of a MemoryStore | that of an S3Store, store.inbox.CloudInbox |
| Ledger | ledger.fake.FakeLedger | ledger.chain.ChainLedger |
| Runner | jobs.fake.FakeRunner | jobs.local.LocalRunner, jobs.argo.ArgoRunner |
| Bus | events.MemoryBus | events.HttpBus, events.BrokerBus |
| Catalogue | catalogue.Catalogue on SQLite in memory | on a file, or PostgreSQL |
| Clock, Random | tests.simulation | SystemClock, SystemRandom |
| Telemetry | Silent | telemetry.OpenTelemetry |
"""

from __future__ import annotations

import enum
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from polyshare.events import Event
    from polyshare.jobs.job import Runner as Runner
    from polyshare.tracing import Trace


class Bucket(enum.StrEnum):
    """What a bucket is for; settings give its name."""

    BLOBS = "blobs"
    JOURNAL = "journal"
    INBOX = "inbox"


@dataclass(frozen=True, slots=True)
class Head:
    """What the store says of an object without its bytes."""

    size: int
    etag: str
    sha256: str | None  # as S3 writes it: base64, with -N when composite; None where the store keeps none


@dataclass(frozen=True, slots=True)
class Listed:
    key: str
    size: int
    etag: str
    modified: float  # Unix seconds


@dataclass(frozen=True, slots=True)
class Signed:
    """A request that its holder may make once or more until it expires, with exactly these headers."""

    url: str
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Put:
    """An object to be stored; see `Store.put`."""

    bucket: Bucket
    key: str
    data: bytes
    if_absent: bool = False


class Store(Protocol):
    """Objects in buckets. Raises errors.Unavailable when the store does not answer."""

    def put(self, bucket: Bucket, key: str, data: bytes, *, if_absent: bool = False) -> bool:
        """Store bytes, their SHA-256 checked by the store. With if_absent: False, nothing done, if the key exists."""
        ...

    def put_all(self, puts: Sequence[Put]) -> None:
        """Store a few objects, in any order or at once. Raises as `put`, when some may be stored and others not."""
        ...

    def get(self, bucket: Bucket, key: str) -> bytes:
        """Raises NotFound."""
        ...

    def get_range(self, bucket: Bucket, key: str, start: int, length: int) -> bytes:
        """Bytes of an object from byte `start`, fewer only at its end. Raises NotFound."""
        ...

    def head(self, bucket: Bucket, key: str) -> Head | None: ...

    def list(self, bucket: Bucket, prefix: str = "", *, after: str = "") -> Iterator[Listed]:
        """Objects below a prefix, those of one folder together, in order of their keys' UTF-8 bytes within a folder."""
        ...

    def delete(self, bucket: Bucket, keys: Iterable[str]) -> None:
        """Delete objects, all versions of them; a missing one is fine. Raises Conflict where retention forbids it."""
        ...

    def sign_get(self, bucket: Bucket, key: str, *, seconds: int, if_match: str | None = None) -> Signed: ...

    def sign_put(self, bucket: Bucket, key: str, *, sha256: bytes, seconds: int) -> Signed:
        """A PUT of exactly the bytes with this SHA-256."""
        ...

    def start_multipart(self, bucket: Bucket, key: str) -> str: ...

    def sign_part(self, bucket: Bucket, key: str, upload: str, part: int, *, sha256: bytes, seconds: int) -> Signed: ...

    def put_part(self, bucket: Bucket, key: str, upload: str, part: int, data: bytes) -> None:
        """Store a part, its SHA-256 checked by the store; raises NotFound if the upload is over."""
        ...

    def list_parts(self, bucket: Bucket, key: str, upload: str) -> dict[int, int]:
        """Sizes of the parts that are there, by their numbers; raises NotFound if the upload is over."""
        ...

    def complete_multipart(self, bucket: Bucket, key: str, upload: str, parts: Sequence[bytes]) -> None:
        """Make the object of parts with these SHA-256 digests. Raises Mismatch naming what does not fit."""
        ...

    def abort_multipart(self, bucket: Bucket, key: str, upload: str) -> None: ...


class Inbox(Protocol):
    """Where files are dropped for us. Raises errors.Unavailable when it does not answer."""

    def list(self, prefix: str = "") -> Iterator[Listed]:
        """Objects below a prefix of whole folders, those of one folder together."""
        ...

    def get(self, key: str) -> bytes:
        """Raises NotFound."""
        ...

    def put(self, key: str, data: bytes) -> None: ...

    def sign_get(self, key: str, *, seconds: int, if_match: str | None = None) -> Signed: ...


class Clock(Protocol):
    def now(self) -> float:
        """Unix seconds."""
        ...


class SystemClock:
    def now(self) -> float:
        return time.time()


class Random(Protocol):
    def bytes(self, count: int) -> bytes:
        """Random bytes that nobody can guess."""
        ...


class SystemRandom:
    def bytes(self, count: int) -> bytes:
        return os.urandom(count)


class Bus(Protocol):
    """Carries events to the functions that the routing table names, at least once and in any order."""

    def publish(self, sent: Sequence[Event]) -> list[bool]:
        """For each event, whether every route took it (or refused it for good); if not, it is sent again later."""
        ...


class Telemetry(Protocol):
    """Where traces and metrics go. Attributes of OpenTelemetry's names are written with __ for a point."""

    def begin(self, parent: Trace | None) -> Trace:
        """A new span's trace, below another or the first of its own."""
        ...

    def span(
        self,
        name: str,
        trace: Trace,
        parent: Trace | None,
        began: float,
        ended: float,
        *,
        kind: str = "internal",
        failed: bool = False,
        **attributes: str | float,
    ) -> None:
        """Tell a span that is over; times in Unix seconds."""
        ...

    def measure(self, name: str, value: float, **attributes: str | float) -> None:
        """Tell a value of one of `telemetry.METRICS`."""
        ...

    def close(self) -> None: ...


class Silent:
    """Nobody listens."""

    def begin(self, parent: Trace | None) -> Trace:
        from polyshare.tracing import child_of

        return child_of(parent)

    def span(self, *_: object, **__: object) -> None:
        pass

    def measure(self, *_: object, **__: object) -> None:
        pass

    def close(self) -> None:
        pass


# --- ledger -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Register:
    """One registration: the kind and the packed record (ledger.record)."""

    id: bytes  # 16
    kind: int
    record: bytes


@dataclass(frozen=True, slots=True)
class Result:
    """One result: outcome 1 completed, 2 failed; the other values 32 bytes each."""

    id: bytes
    outcome: int
    commitment: bytes
    metadata_root: bytes
    provenance: bytes


@dataclass(frozen=True, slots=True)
class Revocation:
    """One revocation: 32 bytes, the digest of (reason, time)."""

    id: bytes
    digest: bytes


@dataclass(frozen=True, slots=True)
class SignedTransaction:
    hash: bytes
    raw: bytes = field(repr=False)
    nonce: int
    sender: bytes  # 20


@dataclass(frozen=True, slots=True)
class Receipt:
    """A mined transaction that is final on its chain."""

    succeeded: bool
    block: int
    time: float  # Unix seconds, of the block
    rejected: Mapping[bytes, str]  # asset id → reason, of the entries that the registry set aside


@dataclass(frozen=True, slots=True)
class TrustRoot:
    """What a verifier pins: the chain, the registry and its definitions by kind. Addresses are 20 bytes."""

    chain_id: int
    registry: bytes
    definitions: Mapping[int, bytes]


@dataclass(frozen=True, slots=True)
class AssetState:
    """What the node says of an asset's contract; code is empty when there is none."""

    code: bytes
    result: bytes  # 32, zero when there is none
    revocation: bytes
    block: int


class Ledger(Protocol):
    """A chain with the registry on it. Raises errors.Unavailable when the node does not answer."""

    def trust_root(self) -> TrustRoot: ...

    def writer(self) -> bytes:
        """The account that signs (20 bytes)."""
        ...

    def sign(
        self, entries: Sequence[Register] | Sequence[Result] | Sequence[Revocation], nonce: int
    ) -> SignedTransaction:
        """Sign one transaction for entries of one type. Sends nothing."""
        ...

    def send(self, raw: bytes) -> None:
        """Hand signed bytes to the node; sending them again is fine."""
        ...

    def receipt(self, transaction: bytes, *, wait: float = 0) -> Receipt | None:
        """The receipt once it is final, or None after `wait` seconds.

        None too where the registry refused the transaction whole, since its sender was no writer then.
        """
        ...

    def next_nonce(self, sender: bytes | None = None) -> int:
        """An account's next nonce by the mined state; by default the writer's."""
        ...

    def capacity(self) -> int:
        """Gas that one transaction may use: 60% of the block's limit."""
        ...

    def asset(self, address: bytes) -> AssetState: ...
