"""What clients do meanwhile, each in a thread: register, drop, train, share, revoke; told "unavailable", they retry.

Every registration has a name of its own, so that one registered twice shows as a second version.
"""

from __future__ import annotations

import json
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from polyshare import Client
from polyshare.errors import Conflict, Unavailable
from tests.e2e.machine import Machine

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

T = TypeVar("T")
_MIB = 1024 * 1024
_PATIENCE = 600.0  # seconds that a client asks again: longer than any outage here
_TRAINING = "import json, os\nopen('/opt/ml/model/weights', 'w').write(open('/opt/ml/input/data/train/a').read()[::-1])"
_FAILING = "raise SystemExit('this one fails by its own fault')"


@dataclass
class Ledger:
    """What was acknowledged, and must be found again."""

    datasets: dict[str, dict[str, bytes]] = field(default_factory=dict)  # id → path → bytes
    models: dict[str, str] = field(default_factory=dict)  # id → its end state
    names: dict[str, str] = field(default_factory=dict)  # id → name
    drops: dict[str, dict[str, bytes]] = field(default_factory=dict)  # name → path → bytes
    revoked: dict[str, str] = field(default_factory=dict)  # id → reason
    grants: dict[str, set[str]] = field(default_factory=dict)  # id → organisations

    def counts(self) -> Counter[str]:
        return Counter(
            datasets=len(self.datasets), models=len(self.models), drops=len(self.drops), revoked=len(self.revoked)
        )


class Load:
    """Clients at work while the context is open."""

    def __init__(self, machine: Machine, seed: int) -> None:
        self.ledger = Ledger()
        self.surprises: list[BaseException] = []
        self._machine = machine
        self._waited = 0
        self._over = threading.Event()
        self._failed = False  # the round itself: nobody waits for anything any more
        self._source = machine.home / "source"
        self._failing = machine.home / "failing"
        for folder, program in ((self._source, _TRAINING), (self._failing, _FAILING)):
            folder.mkdir()
            (folder / "train.py").write_text(program)
        os.environ["XDG_STATE_HOME"] = str(machine.home / "state")  # where the client keeps its idempotency keys
        works = (self._register, self._register, self._train, self._drop)
        self._threads = [
            threading.Thread(target=self._guard, args=(work, number, random.Random(seed * 31 + number)))
            for number, work in enumerate(works)
        ]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._over.set()
        self._failed = kind is not None
        for thread in self._threads:
            thread.join(timeout=_PATIENCE + 60)

    def finish(self) -> None:
        """Let each client end what it does."""
        self._over.set()
        for thread in self._threads:
            thread.join(timeout=_PATIENCE + 60)
            assert not thread.is_alive(), f"a client hangs: {self.told()}"
        self.raise_surprises()

    def raise_surprises(self) -> None:
        if self.surprises:
            raise AssertionError(f"a client was told what it should not: {self.surprises[0]!r}") from self.surprises[0]

    def told(self) -> str:
        counts = ", ".join(f"{name} {count}" for name, count in self.ledger.counts().items())
        return f"acknowledged: {counts}; told to wait {self._waited} times"

    def _guard(
        self, work: Callable[[Client, random.Random, str, int], None], number: int, chance: random.Random
    ) -> None:
        try:
            with self._machine.client() as client:
                step = 0
                while not self._over.is_set():
                    work(client, chance, f"w{number}-{step}", step)
                    step += 1
                    time.sleep(chance.uniform(0.05, 0.4))
        except BaseException as error:
            self.surprises.append(error)
            raise

    def _again(self, act: Callable[[], T]) -> T:
        """A client that takes "unavailable" for "later", and nothing else."""
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                return act()
            except Unavailable:
                if time.monotonic() > deadline or self._failed:
                    raise
                self._waited += 1
                time.sleep(0.3)

    def _register(self, client: Client, chance: random.Random, name: str, step: int) -> None:
        """A dataset, now and then one with a file of two parts; then it may be shared, or revoked."""
        content = _files(chance, large=step % 12 == 5)
        folder = self._machine.home / "datasets" / name
        _write(folder, content)
        asset = self._again(lambda: client.add_dataset(folder, name=name)).id
        self.ledger.names[asset], self.ledger.datasets[asset] = name, content
        match chance.randrange(5):
            case 0:
                self._share(client, asset, "friends", take_back=chance.random() < 0.4)
            case 1:
                self._again(lambda: client.revoke(asset, f"wrong: {name}"))
                self.ledger.revoked[asset] = f"wrong: {name}"

    def _share(self, client: Client, asset: str, organisation: str, *, take_back: bool) -> None:
        self._again(lambda: client.share(asset, organisation))
        self.ledger.grants[asset] = {organisation}
        if take_back:
            tries = 0

            def unshare() -> None:
                nonlocal tries
                tries += 1
                try:
                    client.unshare(asset, organisation)
                except Conflict:  # done by the try before, whose answer was lost
                    if tries == 1:
                        raise

            self._again(unshare)
            self.ledger.grants[asset] = set()

    def _train(self, client: Client, chance: random.Random, name: str, step: int) -> None:
        usable = [asset for asset in list(self.ledger.datasets) if asset not in self.ledger.revoked]
        if not usable:
            return
        dataset, fails = usable[0], chance.random() < 0.25
        asset = self._again(
            lambda: client.add_model(
                dataset=dataset,
                image="uv:sklearn",
                source=self._failing if fails else self._source,
                name=name,
                allow_revoked=True,
                translate=False,
            )
        ).id
        self.ledger.names[asset] = name
        self.ledger.models[asset] = "failed" if fails else "trained"
        time.sleep(chance.uniform(0.5, 2))  # trainings queue up otherwise

    def _drop(self, client: Client, chance: random.Random, name: str, step: int) -> None:
        key = self._again(client.inbox_credentials)
        content = _files(chance, large=False)
        store = s3(key)
        try:
            for path, data in content.items():
                _put(store, key.bucket, f"{key.prefix}{name}/{path}", data)
            _put(store, key.bucket, f"{key.prefix}{name}/dataset.json", json.dumps({"metadata": {"of": name}}).encode())
        finally:
            store.close()
        self.ledger.drops[name] = content
        time.sleep(chance.uniform(0.5, 2))


def s3(key: Any) -> S3Client:
    """boto3 with an organisation's inbox key, which sees nothing of this machine's own AWS settings."""
    import boto3
    from botocore.config import Config

    return boto3.client(
        "s3",
        endpoint_url=key.endpoint,
        region_name=key.region,
        aws_access_key_id=key.access_key,
        aws_secret_access_key=key.secret_key,
        aws_session_token=key.session_token or None,
        config=Config(retries={"total_max_attempts": 2}, connect_timeout=5, read_timeout=30, proxies={}),
    )


def _put(store: S3Client, bucket: str, key: str, data: bytes) -> None:
    from botocore.exceptions import BotoCoreError, ClientError

    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            store.put_object(Bucket=bucket, Key=key, Body=data)
            return
        except (BotoCoreError, ClientError) as error:
            if time.monotonic() > deadline:
                raise Unavailable(f"the inbox takes nothing: {error}") from error
            time.sleep(0.3)


def _files(chance: random.Random, *, large: bool) -> dict[str, bytes]:
    names = ("a", "b/c", "d")[: chance.randint(1, 3)]
    content = {name: chance.randbytes(chance.randint(1, 2000)).hex().encode() for name in names}
    if large:
        content["large"] = chance.randbytes(1000) * (17 * _MIB // 1000)
    return content


def _write(folder: Path, content: dict[str, bytes]) -> None:
    for path, data in content.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
