"""Those who use the registry in a history, and what they remember of what they were told."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from polyshare.api import Registered, Uploading
from polyshare.assets import Caller, Visibility
from polyshare.catalogue.tables import assets, files
from polyshare.errors import Conflict, PolyshareError, Unavailable
from polyshare.events import INBOX_CHANGED, Event
from polyshare.hashing import digest_bytes
from polyshare.ports import Bucket, Signed
from tests.simulation.cluster import Cluster, Lost
from tests.world import ADMIN, ALICE, BOB, CAROL, IMAGE, Files

CONTENTS = tuple(b"%d,%d\n" % (n, n * n) for n in range(6))  # few, so that assets share bytes
NAMES = ("digits", "iris", None)
OTHERS = ("other", "third")


@dataclass
class Known:
    """What a client was told of an asset of its own, and what it may have changed since."""

    id: str
    kind: str
    owner: Caller
    organisation: str
    address: str
    name: str | None
    version: int | None
    contents: Mapping[str, bytes]
    visibility: set[str]  # one of them: more than one while a change has not been answered
    grants: dict[str, set[bool]] = field(default_factory=dict)  # organisation → whether it is shared with it
    revoked: str | None = None  # the reason that was acknowledged
    revoking: bool = False  # asked, perhaps done
    erased: bool = False
    erasing: bool = False
    governed: bool = False  # whether anything about it was ever asked to be changed

    def may_read(self, caller: Caller) -> set[bool]:
        """Whether a caller may read it; both, where that is not known."""
        if caller.subject == self.owner.subject:
            return {True}
        answers = {True} if any(True in self.grants.get(o, ()) for o in caller.organisations) else {False}
        if any(self.grants.get(o) == {True} for o in caller.organisations):
            return {True}
        if True in answers:
            answers.add(False)
        of = {
            v == Visibility.PUBLIC or (v == "organisation" and self.organisation in caller.organisations)
            for v in self.visibility
        }
        return {a or b for a in answers for b in of}


@dataclass
class Drop:
    """A dataset put in the inbox."""

    prefix: str
    contents: Mapping[str, bytes]
    is_good: bool
    was_changed: bool


class Told:
    """All that was acknowledged in a history, and what was seen that must not be."""

    def __init__(self) -> None:
        self.assets: dict[str, Known] = {}
        self.keys: dict[tuple[str, str], dict[int, str]] = {}  # (subject, key) → epoch → asset
        self.asked: dict[str, tuple[int, int | None]] = {}  # key → epochs of the first request and the acknowledgement
        self.drops: list[Drop] = []
        self.wrongs: list[str] = []


class Client:
    """Somebody with a list of random intentions, who retries what gets no answer."""

    def __init__(self, cluster: Cluster, told: Told, caller: Caller, number: int) -> None:
        self._cluster, self._told, self._caller, self._number = cluster, told, caller, number
        self._random = cluster.random
        self._keys = 0
        self._organisation = next(iter(caller.organisations))

    def run(self) -> None:
        intentions: tuple[Callable[[], None], ...] = (
            self._register_dataset,
            self._register_dataset,
            self._register_model,
            self._register_model,
            self._import_model,
            self._translate,
            self._share,
            self._set_visibility,
            self._revoke,
            self._erase,
        )
        self._register_dataset()
        for _ in range(self._random.randint(1, 4)):
            self._cluster.scheduler.sleep(self._random.choice((0.0, 0.5, 5.0)))
            wanted = [i for i in intentions if i.__name__ in self._cluster.wanted] or intentions
            self._random.choice(wanted)()

    # --- registering ----------------------------------------------------------------------------------------------

    def _register_dataset(self) -> None:
        contents = self._contents("train/a.csv", "test/b.csv")
        self._register("register_dataset", "/", {}, contents)

    def _import_model(self) -> None:
        linked = [d.id for d in self._mine("dataset")[:1]]
        metadata = {"framework": "sklearn"} if self._random.random() < 0.7 else {}
        self._register(
            "register_model", "/imported", {"trained_on": linked, "metadata": metadata}, self._contents("model.bin")
        )

    def _register_model(self) -> None:
        datasets = self._mine("dataset")
        if not datasets:
            return
        body: dict[str, Any] = {
            "dataset": self._random.choice(datasets).id,
            "image": IMAGE,
            "parameters": {"rate": self._random.randint(1, 3), "framework": "sklearn"},
            "allow_revoked": self._random.random() < 0.5,
            "translate": self._random.random() < 0.7,
        }
        if self._random.random() < 0.2:
            body["parameters"]["fail"] = "it did not converge"
        source = {"train.py": b"print()"} if self._random.random() < 0.3 else {}
        self._register("register_model", "/", body, source, listed="source")

    def _translate(self) -> None:
        models = [m for m in self._told.assets.values() if m.kind in ("model", "imported_model")]
        models = [m for m in models if self._organisation == m.organisation]
        if not models:
            return
        model = self._random.choice(models)
        try:
            answer = self._cluster.ask("translate", "/", self._caller, {"model": model.id})
        except (Lost, PolyshareError):
            return
        self._note(answer, {}, model.visibility)

    def _register(
        self, name: str, path: str, more: Mapping[str, Any], contents: Mapping[str, bytes], *, listed: str = "files"
    ) -> None:
        self._keys += 1
        key = f"key-{self._number}-{self._keys}" if self._random.random() < 0.85 else None
        given = Files(contents)
        visibility = self._random.choice(("private", "private", "organisation", "public"))
        body = {
            "name": self._random.choice(NAMES),
            "visibility": visibility,
            listed: given.listed(brought=self._random.random() < 0.4),
            **more,
            "metadata": {**more.get("metadata", {}), **({"request": key} if key else {})},
        }
        if key:
            self._told.asked[key] = self._cluster.database.epoch, None
        answer = self._until_registered(name, path, body, given, key)
        if answer is None:
            return
        self._note(answer, contents, {visibility}, key)
        if key and self._random.random() < 0.2:  # a client that forgot that it was answered
            again = self._until_registered(name, path, body, given, key)
            if again is not None:
                self._note(again, contents, {visibility}, key)

    def _until_registered(
        self, name: str, path: str, body: Mapping[str, Any], given: Files, key: str | None
    ) -> Registered | None:
        scheduler = self._cluster.scheduler
        for _ in range(8):
            try:
                answer = self._cluster.ask(name, path, self._caller, body, key=key)
                self._check_missing(answer.id, answer.missing if isinstance(answer, Uploading) else [], given)
                if isinstance(answer, Uploading):
                    self._upload(name, answer, given)
                    if self._random.random() < 0.05:
                        return None  # the client gives up, its upload expires
                    answer = self._cluster.ask(name, f"/{answer.id}/confirm", self._caller, {})
                return answer  # type: ignore[no-any-return]
            except (Lost, Unavailable):
                if key is None:
                    return None
            except Conflict as error:
                if "uploaded" not in error.message:
                    return None
            except PolyshareError:
                return None
            scheduler.sleep(self._random.choice((0.5, 3.0, 15.0)))
        return None

    def _upload(self, name: str, answer: Uploading, given: Files) -> None:
        for path in answer.missing:
            data = given.contents[path]
            asked = {"path": path, "part": 1, "sha256": hashlib.sha256(data).hexdigest()}
            signed = self._cluster.ask(name, f"/{answer.id}/urls", self._caller, {"parts": [asked]}).urls[0]
            if signed is not None:
                self._cluster.scheduler.pause()
                self._cluster.store.request("PUT", Signed(signed.url, signed.headers), data)

    def _check_missing(self, asset: str, missing: Sequence[str], given: Files) -> None:
        """What need not be uploaded must be bytes that the caller may read, or that this upload put there."""
        epoch = self._cluster.database.epoch
        for path, data in given.contents.items():
            if path in missing:
                continue
            digest = digest_bytes(data)
            key = f"{self._organisation}/{asset}/"
            if list(self._cluster.store.list(Bucket.BLOBS, key)):
                continue
            with self._cluster.database.held(), self._cluster.database.catalogue.reading() as connection:
                holders = connection.execute(
                    sa.select(assets)
                    .join(files, files.c.asset == assets.c.id)
                    .where(files.c.digest == str(digest), assets.c.organisation == self._organisation)
                    .where(assets.c.id != asset)
                ).all()
            # What was governed may have been readable a moment ago.
            holding = [known for known in self._told.assets.values() if data in known.contents.values()]
            if epoch != self._cluster.database.epoch or any(known.governed for known in holding):
                continue
            if not any(self._may_read(row) for row in holders):
                self._told.wrongs.append(f"{self._caller.subject} learns that somebody has the bytes of {path}")

    def _may_read(self, row: sa.Row[Any]) -> bool:
        known = self._told.assets.get(row.id)
        if row.owner == self._caller.subject or row.visibility != "private":
            return True
        return known is not None and True in known.may_read(self._caller)

    def _note(self, answer: Any, contents: Mapping[str, bytes], visibility: set[str], key: str | None = None) -> None:
        if not isinstance(answer, Registered):
            return
        epoch = self._cluster.database.epoch
        self._cluster.trace(f"{self._caller.subject} was told {answer.kind} {answer.id} {answer.name}@{answer.version}")
        if key:
            before = self._told.keys.setdefault((self._caller.subject, key), {})
            if before.setdefault(epoch, answer.id) != answer.id:
                self._told.wrongs.append(f"one key, two assets: {before[epoch]} and {answer.id}")
            first, _ = self._told.asked[key]
            self._told.asked[key] = first, epoch
        known = self._told.assets.get(answer.id)
        if known is None:
            owner = self._caller if answer.kind != "translation" else Caller("?", {})
            self._told.assets[answer.id] = Known(
                answer.id,
                answer.kind,
                owner,
                answer.organisation,
                answer.address,
                answer.name,
                answer.version,
                dict(contents),
                set(visibility),
            )
        elif (known.address, known.name, known.version) != (answer.address, answer.name, answer.version):
            self._told.wrongs.append(f"{answer.id} was answered otherwise before")

    # --- governing ------------------------------------------------------------------------------------------------

    def _share(self) -> None:
        for asset in self._some_of_mine():
            other = self._random.choice(OTHERS)
            states = asset.grants.setdefault(other, {False})
            if self._random.random() < 0.6:
                states.add(True)
                if self._govern(asset, "share", {"organisation": other}):
                    asset.grants[other] = {True}
            else:
                states.add(False)
                if self._govern(asset, "unshare", {"organisation": other}):
                    asset.grants[other] = {False}

    def _set_visibility(self) -> None:
        for asset in self._some_of_mine():
            for _ in range(4):
                wanted = self._random.choice(("private", "private", "organisation", "public"))
                asset.visibility.add(wanted)
                if self._govern(asset, "visibility", {"visibility": wanted}):
                    asset.visibility = {wanted}

    def _revoke(self) -> None:
        for asset in self._some_of_mine():
            reason = self._random.choice(("mislabelled", "withdrawn"))
            asset.revoking = True
            if self._govern(asset, "revoke", {"reason": reason}):
                asset.revoked = reason

    def _erase(self) -> None:
        for asset in self._some_of_mine():
            asset.erasing = True
            if self._govern(asset, "erase", {"confirm": asset.id}):
                asset.erased = True

    def _govern(self, asset: Known, what: str, body: Mapping[str, Any]) -> bool:
        asset.governed = True
        for _ in range(3):
            try:
                self._cluster.ask("govern", f"/{asset.id}/{what}", self._caller, body, once=True)
            except (Lost, Unavailable):
                if self._random.random() < 0.5:
                    return False
                self._cluster.scheduler.sleep(self._random.choice((0.5, 5.0)))
                continue
            except PolyshareError:
                return False
            self._cluster.trace(f"{self._caller.subject} was told {what} {body} of {asset.id}")
            return True
        return False

    def _mine(self, kind: str) -> list[Known]:
        return [a for a in self._told.assets.values() if a.owner.subject == self._caller.subject and a.kind == kind]

    def _some_of_mine(self) -> list[Known]:
        mine = [a for a in self._told.assets.values() if a.owner.subject == self._caller.subject]
        return [self._random.choice(mine)] if mine else []

    def _contents(self, *paths: str) -> dict[str, bytes]:
        chosen = paths[: self._random.randint(1, len(paths))]
        return {path: self._random.choice(CONTENTS) for path in chosen}


class Dropper:
    """Puts datasets in the inbox with a plain S3 client; whether anybody is notified is a matter of luck."""

    def __init__(self, cluster: Cluster, told: Told) -> None:
        self._cluster, self._told = cluster, told

    def run(self) -> None:
        random, cluster = self._cluster.random, self._cluster
        for number in range(random.randint(0, 2)):
            cluster.scheduler.sleep(random.choice((0.0, 3.0, 20.0)))
            prefix = f"acme/drop-{number}/"
            contents = {path: random.choice(CONTENTS) for path in ("train/x.csv", "notes.txt")}
            drop = Drop(prefix, contents, random.random() < 0.85, random.random() < 0.2)
            for path, data in contents.items():
                cluster.store.put(Bucket.INBOX, prefix + path, data)
                cluster.scheduler.pause()
            cluster.scheduler.sleep(1.0)
            cluster.store.put(Bucket.INBOX, f"{prefix}dataset.json", b"{}" if drop.is_good else b'{"colour": 1}')
            self._told.drops.append(drop)
            for _ in range(random.choice((0, 1, 1, 3))):
                event = Event(INBOX_CHANGED, f"drop-{number}", data={"key": f"/buckets/inbox/{prefix}dataset.json"})
                cluster.hint(event)
            if drop.was_changed:
                cluster.scheduler.sleep(random.random() * 3)
                cluster.store.put(Bucket.INBOX, f"{prefix}notes.txt", b"other notes")


def actors(cluster: Cluster, told: Told) -> list[Callable[[], None]]:
    """Who takes part in a history."""
    callers = (ALICE, BOB, CAROL, ADMIN)[: cluster.random.choice((1, 1, 2, 2, 3, 4))]
    clients = [Client(cluster, told, caller, number).run for number, caller in enumerate(callers)]
    return [*clients, Dropper(cluster, told).run]
