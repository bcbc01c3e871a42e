"""The original platform's actions, each made of this one's: ids are reserved first, and registered by a later call."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from hashlib import sha256
from typing import Any, BinaryIO

import sqlalchemy as sa

from polyshare import mlaas
from polyshare.api import AssetDocument, File, RegisterImportedModel, RegisterModel
from polyshare.assets import Caller, Kind, State, Visibility
from polyshare.bootstrap import Ports
from polyshare.catalogue.tables import assets, files, multiparts, uploads
from polyshare.errors import Conflict, Invalid, Mismatch, NotFound
from polyshare.hashing import Digest, part_count, part_range
from polyshare.manifest import Entry, Manifest, check_path
from polyshare.operations import fetch
from polyshare.operations.access import Asset, find, note, readable
from polyshare.operations.models import register_imported, register_model
from polyshare.operations.register import confirm, uploading
from polyshare.operations.reserve import asked_of, is_reserved, reserve
from polyshare.operations.uploads import key_of, missing, sign
from polyshare.ports import Bucket

KINDS: dict[mlaas.Type, Kind] = {
    "dataset": Kind.DATASET,
    "model": Kind.MODEL,
    "model_unverified": Kind.IMPORTED_MODEL,
}
_PIECE = 8 * 1024 * 1024  # bytes sent at once
_HASH = re.compile(r"(?:(sha256(?:-[1-9][0-9]{0,4})?):)?([0-9a-fA-F]{64})")


def reserve_dataset(ports: Ports, caller: Caller, body: mlaas.ReserveDataset) -> mlaas.DatasetReserved:
    """Raises Invalid, Forbidden."""
    organisation = str(body.organization_id)
    asked: dict[str, Any] = {}
    if body.size_bytes is not None:
        asked["size_bytes"] = body.size_bytes
    if body.hash is not None:
        asked["hash"] = hash_of(body.hash)
    fields = {"samples_dimension": _flat(body.samples_dimension)}
    asset = reserve(ports, caller, Kind.DATASET, organisation, asked, fields)
    return mlaas.DatasetReserved(asset, f"{organisation}/{asset}/")


def reserve_model(ports: Ports, caller: Caller, body: mlaas.ReserveModel) -> mlaas.ModelReserved:
    """Raises NotFound for its dataset, Invalid for an image that can't be pinned, Forbidden."""
    from polyshare.jobs.environment import resolve

    given, dataset = body.model_params, body.data_params.dataset_id
    _organisation_first(caller, str(given.organization_id))
    with ports.catalogue.reading() as connection:
        found = find(connection, caller, dataset, ports.clock.now())
    if found.kind != Kind.DATASET:
        raise Invalid(f"{dataset} is a {Kind(found.kind).label}, not a dataset")
    image = given.train_image if given.train_image.startswith(("uv:", "oci:")) else f"oci:{given.train_image}"
    asked = {"dataset": found.id, "image": resolve(image, ports.settings.image_registries)}
    fields: dict[str, Any] = {"developer_id": given.developer_id}
    if given.res_hash is not None:
        fields["res_hash"] = hash_of(given.res_hash)
    return mlaas.ModelReserved(reserve(ports, caller, Kind.MODEL, str(given.organization_id), asked, fields))


def reserve_unverified(ports: Ports, caller: Caller, body: mlaas.ReserveUnverified) -> mlaas.ModelReserved:
    """Raises Invalid, Forbidden."""
    asked = {} if body.hash is None else {"hash": hash_of(body.hash)}
    fields = {"developer_id": body.developer_id}
    return mlaas.ModelReserved(reserve(ports, caller, Kind.IMPORTED_MODEL, str(body.organization_id), asked, fields))


def train(ports: Ports, caller: Caller, model: str, parameters: dict[str, Any]) -> mlaas.ModelAccepted:
    """Register a reserved model with these parameters, and so start its training. Again is the same.

    Raises NotFound, Invalid, and Conflict if it was started with other parameters or its dataset is not registered.
    """
    row = _own(ports, caller, model, Kind.MODEL)
    if not is_reserved(row):
        if (row.request or {}).get("parameters") != parameters:
            raise Conflict(f"{model} was started with other parameters: make another model for these")
        confirm(ports, model)
    else:
        asked = asked_of(row)
        body = RegisterModel(
            organisation=row.organisation,
            metadata=row.fields,
            dataset=asked["dataset"],
            image=asked["image"],
            parameters=parameters,
        )
        register_model(ports, caller, body, None, reserved=model)
    return _accepted(ports, caller, model)


def put_model(ports: Ports, caller: Caller, model: str, name: str, content: BinaryIO) -> mlaas.ModelAccepted:
    """Store the bytes of a reserved unverified model and register it. The same bytes again are the same.

    Raises NotFound, Mismatch if they are not what was announced, Conflict if others were put before.
    """
    row = _own(ports, caller, model, Kind.IMPORTED_MODEL)
    entry, whole = _hashed(_file_name(name), content)
    if is_reserved(row):
        announced = asked_of(row).get("hash")
        if announced not in (None, str(entry.digest), whole):
            raise Mismatch(f"the file is {entry.digest} ({whole} in one pass), but {announced} was announced")
        listed = File(
            path=entry.path, size=entry.size, digest=str(entry.digest), parts=[part.hex() for part in entry.parts]
        )
        body = RegisterImportedModel(organisation=row.organisation, metadata=row.fields, files=[listed])
        register_imported(ports, caller, body, None, reserved=model, fields={"checked_hash": whole})
        row = _own(ports, caller, model, Kind.IMPORTED_MODEL)
    if row.state == State.UPLOADING:
        _upload(ports, row, entry, content)
        confirm(ports, model)
    elif row.content_root != Manifest((entry,)).content_root:
        raise Conflict(f"{model} has other bytes already: reserve another id for these")
    return _accepted(ports, caller, model)


def describe(ports: Ports, caller: Caller, model: str) -> mlaas.ModelDescription:
    """Raises NotFound; Erased where nothing is left to tell."""
    row = _readable(ports, caller, model, Kind.MODEL, Kind.IMPORTED_MODEL)
    document = fetch.document(ports, caller, row.id) if row.record is not None else None
    listed = _content(document) if document is not None else []
    request = row.request or {}
    asked = asked_of(row) if is_reserved(row) else {}
    dataset = next((r.id for r in document.lineage if r.kind == "dataset" and r.id), None) if document else None
    return mlaas.ModelDescription(
        model_id=row.id,
        type=type_of(row),
        state=row.state,
        organization_id=row.organisation,
        developer_id=row.fields.get("developer_id"),
        dataset_id=asked.get("dataset") or dataset,
        train_image=asked.get("image") or request.get("environment"),
        params=request.get("parameters", {}),
        contract=row.address,
        anchored=row.anchored is not None,
        reason=row.reason,
        files=[{"path": e.path, "size": e.size, "digest": str(e.digest)} for e in listed],
        metadata=dict(row.fields),
    )


def open_content(ports: Ports, caller: Caller, asset: str, *kinds: Kind) -> tuple[Asset, list[tuple[Entry, str]]]:
    """The asset's files and the keys of their blobs; the read is in the audit log as any other.

    Raises NotFound, Erased, and Conflict while there are none.
    """
    row = _readable(ports, caller, asset, *kinds)
    document = fetch.document(ports, caller, row.id)
    entries = {entry.path: entry for entry in _content(document)}
    part = "result" if row.request is not None else "content"
    with ports.catalogue.reading() as connection:
        held = connection.execute(
            sa.select(files).where(files.c.asset == row.id, files.c.part == part).order_by(files.c.position)
        ).all()
    if not held:
        raise Conflict(f"{asset} is {row.state}: it has no bytes" + (f" ({row.reason})" if row.reason else " yet"))
    if row.visibility != Visibility.PUBLIC:
        with ports.catalogue.transaction() as connection:
            detail = {"files": len(held), "part": part}
            note(connection, caller, "read", row, ports.clock.now(), detail=detail)
    return row, [(entries[item.path], item.key) for item in held]


def read(ports: Ports, key: str, size: int) -> Iterator[bytes]:
    """A blob piece by piece. Raises NotFound if it was erased meanwhile."""
    store, start = ports.store(), 0
    while start < size:
        piece = store.get_range(Bucket.BLOBS, key, start, min(_PIECE, size - start))
        if not piece:
            raise NotFound(f"the store has fewer than {size} bytes at {key}")
        start += len(piece)
        yield piece


def contract_of(ports: Ports, caller: Caller, type: str, body: mlaas.FindContract) -> mlaas.ContractFound:
    """The contract that registering the asset made. Raises NotFound, and Conflict before it is registered."""
    named = [value for value in (body.id, body.model_id, body.dataset_id) if value]
    if len(named) != 1:
        raise Invalid("name one asset, with model_id, dataset_id or id: its contract was made when it was registered")
    row = _readable(ports, caller, named[0], kind_of(type))
    if row.address is None:
        raise Conflict(f"{named[0]} has no contract yet: it is made when its bytes are put, or its training is started")
    return mlaas.ContractFound(type_of(row), row.id, row.address, row.anchored is not None)


def at_address(ports: Ports, caller: Caller, address: str, type: str | None = None) -> Asset:
    """The asset whose contract is at an address; raises NotFound as for one that the caller may not read."""
    kinds = [kind_of(type)] if type else list(KINDS.values())
    with ports.catalogue.reading() as connection:
        row = connection.execute(
            sa.select(assets).where(
                assets.c.address == address.lower(), assets.c.kind.in_(kinds), readable(caller, ports.clock.now())
            )
        ).first()
    if row is None:
        raise NotFound(f"there is no contract {address[:100]!r} of a {type or 'dataset or model'} that you may read")
    return row


def verify(ports: Ports, caller: Caller, address: str, res_hash: str, type: str | None) -> mlaas.ContractVerified:
    """Whether the asset at an address is one file with this hash (or has this content root), by the ledger's word.

    Raises NotFound, Erased, Invalid.
    """
    from polyshare.ledger.record import trust_root
    from polyshare.verify import Report
    from polyshare.verify.steps import Steps

    wanted = hash_of(res_hash)
    row = at_address(ports, caller, address, type)
    document = fetch.document(ports, caller, row.id)
    entries, held = _content(document), document.result.content if document.result else document.content
    hashes = {f"sha256:{held.root}"} if held is not None else set()
    if len(entries) == 1:
        hashes |= {str(entries[0].digest), str(row.fields.get("checked_hash", ""))}
    steps = Steps(document, [], trust_root(ports.settings.trust_root), None)
    steps.run(ports.ledger().asset)
    report = Report(address, tuple(steps.checks))
    return mlaas.ContractVerified(
        address=row.address,
        id=row.id,
        type=type_of(row),
        res_hash=wanted,
        verified=wanted in hashes and report.verdict == "verified",
        revoked=row.revoked is not None,
        checks=[
            mlaas.Checked("res_hash", "established" if wanted in hashes else "failed", _told(wanted, hashes, entries)),
            *(mlaas.Checked(check.name, check.outcome, check.detail) for check in steps.checks),
        ],
    )


def hash_of(text: str) -> str:
    """`sha256:<hex>` of what a client wrote as 64 hex digits, or with a prefix; raises Invalid."""
    form = _HASH.fullmatch(text)
    if form is None:
        raise Invalid(f"{text[:100]!r} is not a hash: write the 64 hex digits of a SHA-256, or a digest of polyshare")
    return f"{form[1] or 'sha256'}:{form[2].lower()}"


def kind_of(type: str) -> Kind:
    for known, kind in KINDS.items():
        if known == type:
            return kind
    raise NotFound(f"there is no type {type[:50]!r} of contract: there are {', '.join(KINDS)}")


def type_of(row: Asset) -> mlaas.Type:
    return next(name for name, kind in KINDS.items() if kind == row.kind)


def _readable(ports: Ports, caller: Caller, asset: str, *kinds: Kind) -> Asset:
    with ports.catalogue.reading() as connection:
        row = find(connection, caller, asset, ports.clock.now())
    if row.kind not in kinds:
        raise NotFound(f"{asset} is a {Kind(row.kind).label}")
    return row


def _own(ports: Ports, caller: Caller, model: str, kind: Kind) -> Asset:
    with ports.catalogue.reading() as connection:
        row = uploading(connection, caller, model)
    if row.kind != kind:
        made = "is trained by the platform" if row.kind == Kind.MODEL else f"is a {Kind(row.kind).label}"
        raise Invalid(f"{model} {made}: this is for another kind of asset")
    if row.state == State.FAILED and row.record is None:
        raise Conflict(f"{model} is over ({row.reason}): reserve another id")
    return row


def _accepted(ports: Ports, caller: Caller, model: str) -> mlaas.ModelAccepted:
    with ports.catalogue.reading() as connection:
        row = uploading(connection, caller, model)
    return mlaas.ModelAccepted(row.id, row.state, row.address)


def _organisation_first(caller: Caller, organisation: str) -> None:
    """Before anything is looked up for who may not register anyway."""
    from polyshare.operations.access import organisation_of

    organisation_of(caller, organisation)


def _content(document: AssetDocument) -> list[Entry]:
    held = document.result.content if document.result is not None else document.content
    listed = held.files if held is not None else []
    return [Entry(file.path, Digest.parse(file.digest, file.size)) for file in listed]


def _told(wanted: str, hashes: set[str], entries: list[Entry]) -> str:
    if wanted in hashes:
        return f"{wanted} is that of the registered bytes"
    if len(entries) != 1:
        return f"the asset has {len(entries)} files, so no file's hash stands for it: give its content root"
    return f"the registered file is {entries[0].digest}, not {wanted}"


def _flat(value: Any) -> Any:
    """Metadata has no nested values: a list of dimensions is written as its JSON."""
    return value if isinstance(value, str | int | float | bool) or value is None else json.dumps(value)


def _file_name(name: str) -> str:
    """The name that the client gave the file, if it can be one here."""
    try:
        return check_path(name.replace("\\", "/").rpartition("/")[2])
    except Invalid:
        return "model"


def _hashed(path: str, content: BinaryIO) -> tuple[Entry, str]:
    """The file's entry, and the SHA-256 of all its bytes."""
    size, whole, parts = content.seek(0, 2), sha256(), list[bytes]()
    content.seek(0)
    if size == 0:
        raise Invalid("the file is empty")
    for number in range(1, part_count(size) + 1):
        state, left = sha256(), part_range(size, number)[1]
        while left:
            piece = content.read(min(1024 * 1024, left))
            if not piece:
                raise Mismatch("the file became shorter while it was read")
            state.update(piece)
            whole.update(piece)
            left -= len(piece)
        parts.append(state.digest())
    digest = Digest.of_parts(size, parts)
    return Entry(path, digest, tuple(parts) if len(parts) > 1 else ()), f"sha256:{whole.hexdigest()}"


def _upload(ports: Ports, row: Asset, entry: Entry, content: BinaryIO) -> None:
    """Put what the store lacks of a declared file. Raises Conflict if other bytes were declared."""
    with ports.catalogue.reading() as connection:
        declared = connection.execute(sa.select(uploads).where(uploads.c.id == row.id)).one()
        absent = missing(connection, ports, row.id)
    if Manifest.from_json(declared.files).content_root != Manifest((entry,)).content_root:
        raise Conflict(f"{row.id} is being put with other bytes: reserve another id for these")
    if not absent:
        return
    digests = entry.parts or (entry.digest.sha256,)
    key = key_of(row.organisation, row.id, entry.path, entry.size, entry.digest.sha256.hex())
    for number, digest in enumerate(digests, 1):
        if sign(ports, row.id, [(entry.path, number, digest)]) == [None]:
            continue
        start, length = part_range(entry.size, number)
        content.seek(start)
        data = content.read(length)
        if len(digests) == 1:
            ports.store().put(Bucket.BLOBS, key, data)
            continue
        with ports.catalogue.reading() as connection:
            upload = connection.scalar(sa.select(multiparts.c.multipart).where(multiparts.c.key == key))
        ports.store().put_part(Bucket.BLOBS, key, str(upload), number, data)
