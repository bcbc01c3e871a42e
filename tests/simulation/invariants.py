"""What must hold of every history once it is quiet, of the catalogue, journal, store and ledger together."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
import sqlalchemy as sa

from polyshare.assets import Kind, State
from polyshare.catalogue.tables import (
    assets,
    files,
    inbox_drops,
    jobs,
    outbox,
    parents,
    stages,
    transactions,
    uploads,
    writes,
)
from polyshare.errors import PolyshareError
from polyshare.hashing import digest_bytes
from polyshare.jobs.fake import perform
from polyshare.ledger.record import COMPLETED, Record, result_digest, revocation_digest
from polyshare.manifest import Manifest, commitment
from polyshare.metadata import Metadata
from polyshare.operations.access import find
from polyshare.ports import Bucket
from tests.simulation.actors import Told
from tests.simulation.cluster import Cluster
from tests.world import EVERYBODY, file_json

ENDS = {
    Kind.DATASET: {State.REGISTERED},
    Kind.IMPORTED_MODEL: {State.REGISTERED},
    Kind.MODEL: {State.TRAINED, State.FAILED},
    Kind.TRANSLATION: {State.TRANSLATED, State.FAILED},
}
ONCE = ("registered", "anchored", "result anchored", "revoked on ledger", "trained", "translated", "failed", "erased")

Row = sa.Row[Any]


def unrest(connection: sa.Connection) -> list[str]:
    """What is still to be done; empty when the catalogue is quiet."""
    left = {
        "events to be sent": sa.select(outbox.c.type),
        "writes to the ledger": sa.select(writes.c.action).where(writes.c.state.in_(("pending", "sent"))),
        "transactions": sa.select(transactions.c.nonce).where(transactions.c.state == "signed"),
        "jobs": sa.select(jobs.c.action + " " + jobs.c.state).where(jobs.c.state.not_in(("done", "failed"))),
        "assets": sa.select(assets.c.state).where(assets.c.state.in_((State.UPLOADING, State.REGISTERING))),
        "erasures": sa.select(assets.c.id).where(assets.c.erase_again.is_not(None)),
        "uploads": sa.select(uploads.c.id).where(~uploads.c.closed),
    }
    found = {what: list(connection.scalars(query)) for what, query in left.items()}
    return [f"{what}: {rows}" for what, rows in found.items() if rows]


class Checked:
    """The catalogue's rows and the other sides of a history that has come to its end."""

    def __init__(self, cluster: Cluster, told: Told) -> None:
        self.cluster, self.told, self.store, self.ledger = cluster, told, cluster.store, cluster.ledger
        self.was_lost = cluster.database.epoch
        with cluster.database.catalogue.reading() as connection:
            self.rows: dict[str, Row] = {r.id: r for r in connection.execute(sa.select(assets))}
            self.files: dict[str, list[Row]] = defaultdict(list)
            for row in connection.execute(sa.select(files).order_by(files.c.position)):
                self.files[row.asset].append(row)
            self.parents: dict[str, list[Row]] = defaultdict(list)
            for row in connection.execute(sa.select(parents).order_by(parents.c.position)):
                self.parents[row.asset].append(row)
            self.writes = list(connection.execute(sa.select(writes)))
            self.transactions = list(connection.execute(sa.select(transactions)))
            self.stages = list(connection.execute(sa.select(stages)))
            self.drops = list(connection.execute(sa.select(inbox_drops)))
            self.jobs = list(connection.execute(sa.select(jobs)))
        self.journal: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for item in self.store.list(Bucket.JOURNAL):
            self.journal[item.key.split("/")[0]].append(msgspec.json.decode(self.store.get(Bucket.JOURNAL, item.key)))
        self.registered = {i: r for i, r in self.rows.items() if r.record is not None}

    def problems(self) -> Iterator[str]:
        yield from self.cluster.unexpected
        yield from self.told.wrongs
        for check in (
            self._acknowledged,
            self._not_doubled,
            self._versions,
            self._ended,
            self._results,
            self._order_on_ledger,
            self._once,
            self._revocations,
            self._erasures,
            self.access,
            self._nonces,
            self._inbox,
            self._translations,
        ):
            for problem in check():
                yield f"{check.__name__.strip('_')}: {problem}"

    def _acknowledged(self) -> Iterator[str]:
        for known in self.told.assets.values():
            row = self.rows.get(known.id)
            if row is None:
                yield f"{known.kind} {known.id} was acknowledged and is gone"
                continue
            if row.record is None:
                yield f"{known.kind} {known.id} was acknowledged, and never registered"
            if (row.address, row.name, row.version) != (known.address, known.name, known.version):
                yield f"{known.id} is {row.name}@{row.version} at {row.address}, which is not what was acknowledged"
            if row.erased is None and known.contents:
                part = "source" if known.kind == "model" else "content"
                held = {f.path: f for f in self.files[known.id] if f.part == part}
                for path, data in known.contents.items():
                    if path not in held or held[path].digest != str(digest_bytes(data)):
                        yield f"{known.id} has lost {path}"
        for row in self.registered.values():
            if row.erased is not None:
                continue
            for file in self.files[row.id]:
                head = self.store.head(Bucket.BLOBS, file.key)
                if head is None or str(digest_bytes(self.store.get(Bucket.BLOBS, file.key))) != file.digest:
                    yield f"the bytes of {file.path} of {row.id} are not in the store"
            document = self.journal[row.id][-1] if self.journal[row.id] else {}
            if document.get("record") != row.record.hex() or document.get("salt") != row.salt.hex():
                yield f"the journal does not have the registration of {row.id}"

    def _not_doubled(self) -> Iterator[str]:
        requests: Counter[str] = Counter()
        for row in self.registered.values():
            if row.metadata is not None:
                request = Metadata.from_json(row.metadata).values().get("request")
                if request is not None:
                    requests[str(request)] += 1
        for key, count in requests.items():
            first, last = self.told.asked[key]
            lost = (last if last is not None else self.was_lost) - first
            if count > 1 + lost:
                yield f"{key} became {count} assets"

    def _versions(self) -> Iterator[str]:
        named: dict[tuple[str, str], list[Row]] = defaultdict(list)
        for row in self.registered.values():
            if row.name is not None:
                named[row.organisation, row.name].append(row)
        for (organisation, name), rows in named.items():
            rows.sort(key=lambda row: int(row.version))
            if [row.version for row in rows] != list(range(1, len(rows) + 1)):
                yield f"{organisation}/{name} has versions {[row.version for row in rows]}"
            before = None
            for row in rows:
                link = Record.decode(row.kind, row.record).supersedes
                if link != (bytes.fromhex(before.address[2:]) if before is not None else None):
                    yield f"{organisation}/{name}@{row.version} does not supersede the version before"
                before = row

    def _ended(self) -> Iterator[str]:
        for row in self.rows.values():
            if row.record is None:
                if row.state != State.FAILED:
                    yield f"{row.id} is {row.state} for ever"
                continue
            if row.state not in ENDS[Kind(row.kind)]:
                yield f"{Kind(row.kind).label} {row.id} is {row.state} for ever"
            state = self.ledger.asset(bytes.fromhex(row.address[2:]))
            if row.anchored is None or not state.code:
                yield f"{row.id} is not on the ledger"
            elif row.salt is not None:
                record = Record.decode(row.kind, row.record)
                if record.commitment != commitment(row.salt, row.content_root):
                    yield f"the commitment of {row.id} is of another content"
                if record.metadata_root != Metadata.from_json(row.metadata).root:
                    yield f"the metadata of {row.id} is not what its record says"
        for write in self.writes:
            if write.state != "done":
                yield f"the {write.action} of {write.asset} is {write.state}: {write.reason}"

    def _results(self) -> Iterator[str]:
        for row in self.registered.values():
            state = self.ledger.asset(bytes.fromhex(row.address[2:]))
            if row.request is None or row.erased is not None:
                continue
            if row.outcome is None or row.result_anchored is None or not any(state.result):
                yield f"{row.id} has no result on the ledger"
                continue
            told = [change for change in self.journal[row.id] if change.get("change") == "result"]
            digests = {_digest_of(change) for change in told}
            mine = result_digest(
                row.outcome,
                commitment(row.result_salt, row.result_root),
                Metadata.from_json(row.result_metadata).root,
                row.provenance,
            )
            if state.result != mine:
                yield f"the ledger has another result of {row.id} than the catalogue"
            if digests != {mine}:
                yield f"the journal has {len(digests)} results of {row.id}, the catalogue another"
            results = [f for f in self.files[row.id] if f.part == "result"]
            listed = Manifest.from_json([{"path": f.path, "size": f.size, "digest": f.digest} for f in results])
            if listed.content_root != row.result_root:
                yield f"the files of the result of {row.id} are not those of its root"
            if row.outcome == COMPLETED:
                yield from self._outputs(row, results)

    def _outputs(self, row: Row, results: list[Row]) -> Iterator[str]:
        """The fake trainer is a pure function: what it makes of the registered inputs is known."""
        inputs: dict[str, bytes] = {}
        for link in self.parents[row.id]:
            parent = self.rows[link.parent]
            if parent.erased is not None:
                return
            for file in self.files[link.parent]:
                if file.part == "source" or (parent.kind == Kind.MODEL and file.part != "result"):
                    continue
                name = f"{link.role}/{file.path}" if link.role == "model" else _channel(file.path)
                inputs[name] = self.told_bytes(file)
        for file in self.files[row.id]:
            if file.part == "source":
                inputs[f"code/{file.path}"] = self.told_bytes(file)
        action = "train" if row.kind == Kind.MODEL else "translate"
        made = perform(action, row.request.get("parameters", {}), inputs)
        if {f.path: f.digest for f in results} != {p: file_json(p, data)["digest"] for p, data in made.items()}:
            yield f"the result of {row.id} was not made of its registered inputs"

    def told_bytes(self, file: Row) -> bytes:
        return self.store.get(Bucket.BLOBS, file.key)

    def _order_on_ledger(self) -> Iterator[str]:
        order = {address: number for number, (_, address) in enumerate(self.ledger.registrations())}
        if len(order) != self.ledger.count:
            yield "a record is on the ledger twice"
        for kind, address in self.ledger.registrations():
            record = self.ledger.record(address)
            decoded = Record.decode(kind, record)
            above = [*decoded.parents, *([decoded.supersedes] if decoded.supersedes else [])]
            if any(order.get(parent, 1 << 30) > order[address] for parent in above):
                yield f"0x{address.hex()} was anchored before what it links to"
        known = {bytes.fromhex(row.address[2:]) for row in self.registered.values()}
        for address in order:
            if address not in known:
                yield f"0x{address.hex()} is on the ledger, and nobody knows it"

    def _once(self) -> Iterator[str]:
        counted = Counter((stage.asset, stage.stage) for stage in self.stages if stage.stage in ONCE)
        yield from (f"{asset} was {stage} {count} times" for (asset, stage), count in counted.items() if count > 1)
        of_asset = Counter(job.asset for job in self.jobs)
        yield from (f"{asset} has {count} jobs" for asset, count in of_asset.items() if count > 1)

    def _revocations(self) -> Iterator[str]:
        for row in self.registered.values():
            known = self.told.assets.get(row.id)
            held = self.ledger.asset(bytes.fromhex(row.address[2:])).revocation
            if known is not None and known.revoked is not None and row.revocation_reason != known.revoked:
                yield f"the revocation of {row.id} was acknowledged and is gone"
            if row.revoked is not None:
                if held != revocation_digest(row.revocation_reason, int(row.revoked)):
                    yield f"the revocation of {row.id} is not on the ledger as it is in the catalogue"
                if known is not None and not known.revoking:
                    yield f"{row.id} was revoked, and nobody asked for it"

    def _erasures(self) -> Iterator[str]:
        used = {f.key for i, held in self.files.items() for f in held if self.rows[i].erased is None}
        used |= {f"{key}.parts" for key in used}
        for known in self.told.assets.values():
            row = self.rows.get(known.id)
            if row is None:
                continue
            if known.erased and row.erased is None:
                yield f"{known.id} was erased and is back"
            if row.erased is not None and not known.erasing:
                yield f"{known.id} was erased, and nobody asked for it"
        for row in self.registered.values():
            if row.erased is not None:
                if any((row.salt, row.metadata, row.result_salt, row.result_metadata, self.files[row.id])):
                    yield f"{row.id} was erased, and its salts or files are known"
                if any("salt" in document for document in self.journal[row.id]):
                    yield f"{row.id} was erased, and the journal has its salt"
        for item in self.store.list(Bucket.BLOBS):
            owner = self.rows.get(item.key.split("/")[1])
            if item.key not in used and owner is not None and owner.erased is not None:
                yield f"{item.key} is of an erased asset and of no other"

    def access(self) -> Iterator[str]:
        now = self.cluster.clock.now()
        with self.cluster.database.catalogue.reading() as connection:
            for known in self.told.assets.values():
                row = self.rows.get(known.id)
                if row is None or row.erased is not None or known.kind == "translation":
                    continue
                for caller in EVERYBODY:
                    try:
                        find(connection, caller, known.id, now)
                        can = True
                    except PolyshareError:
                        can = False
                    if can not in known.may_read(caller):
                        who = caller.subject or "anybody"
                        yield f"{who} {'can' if can else 'can not'} read {known.id}, against what was acknowledged"

    def _nonces(self) -> Iterator[str]:
        used: dict[int, set[bytes]] = defaultdict(set)
        for raw in self.ledger.sent:
            used[msgspec.json.decode(raw)["nonce"]].add(raw)
        for nonce, raws in used.items():
            if len(raws) > 1 + self.was_lost:
                yield f"nonce {nonce} was signed for {len(raws)} transactions"
        if sorted(used) != list(range(len(used))):
            yield f"the nonces that were sent have gaps: {sorted(used)}"
        for transaction in self.transactions:
            if transaction.state != "mined" and not self.was_lost:
                yield f"the transaction with nonce {transaction.nonce} is {transaction.state}"

    def _inbox(self) -> Iterator[str]:
        for drop in self.told.drops:
            name = drop.prefix.split("/")[1]
            made = [r for r in self.rows.values() if r.owner == "inbox:acme" and r.name == name]
            refused = [d for d in self.drops if d.prefix == drop.prefix and not d.asset]
            good = [row for row in made if row.state == State.REGISTERED]
            if len(made) + len(refused) != 1 and not self.was_lost and not drop.was_changed:
                yield f"{drop.prefix} became {len(made)} datasets and {len(refused)} refusals"
            if drop.is_good and not drop.was_changed and len(good) != 1:
                yield f"{drop.prefix} became {len(good)} registered datasets: {[(r.state, r.reason) for r in made]}"
            if len(good) > 1 or (good and not drop.is_good):
                yield f"{drop.prefix} became {len(good)} registered datasets"
            for row in good:
                held = {f.path: f.digest for f in self.files[row.id]}
                if not drop.was_changed and held != {p: str(digest_bytes(d)) for p, d in drop.contents.items()}:
                    yield f"{drop.prefix} became a dataset of other bytes"

    def _translations(self) -> Iterator[str]:
        of_model: dict[str, list[Row]] = defaultdict(list)
        for row in self.registered.values():
            if row.kind == Kind.TRANSLATION:
                of_model[self.parents[row.id][0].parent].append(row)
        for model, translations in of_model.items():
            alive = [t for t in translations if t.state == State.TRANSLATED and not t.erased and not t.revoked]
            if len(alive) > 1:
                yield f"{model} has {len(alive)} translations that are the same"
        tried = {stage.asset for stage in self.stages if stage.stage in ("not translated", "translation registered")}
        tried |= set(of_model)
        for row in self.registered.values():
            wanted = row.kind == Kind.MODEL and (row.request or {}).get("translate")
            if wanted and row.state == State.TRAINED and row.id not in tried:
                yield f"{row.id} is trained, and was not translated"


def essence(cluster: Cluster) -> dict[str, Mapping[str, Any]]:
    """What a rebuild must bring back, by asset; who may read it is checked by `Checked.access`."""
    left_out = (
        "fields",
        "visibility",
        "anchored",
        "result_anchored",
        "revocation_anchored",
        "journalled",
        "erase_again",
    )
    kept = [column for column in assets.c if column.name not in left_out]
    found: dict[str, dict[str, Any]] = {}
    with cluster.database.catalogue.reading() as connection:
        for row in connection.execute(sa.select(*kept).where(assets.c.record.is_not(None))):
            found[row.id] = dict(row._mapping)
            if row.erased is not None:  # of a result that was erased nothing stays
                for name in ("reason", "run", "provenance", "request"):
                    found[row.id].pop(name)
        for asset in found:
            held = connection.execute(sa.select(files).where(files.c.asset == asset))
            found[asset]["files"] = sorted((f.part, f.path, f.digest, f.key) for f in held)
            links = connection.execute(sa.select(parents).where(parents.c.asset == asset))
            found[asset]["parents"] = sorted((p.position, p.parent, p.role) for p in links)
    return found


def _channel(path: str) -> str:
    """Where a trainer sees a file of a dataset: as our contents are, `train/…` and `test/…` or all of them in train."""
    return path if path.split("/")[0] in ("train", "test") else f"train/{path}"


def _digest_of(change: Mapping[str, Any]) -> bytes:
    return result_digest(
        change["outcome"],
        commitment(bytes.fromhex(change["salt"]), bytes.fromhex(change["content_root"])),
        Metadata.from_json(change["metadata"]).root,
        bytes.fromhex(change["provenance"]),
    )
