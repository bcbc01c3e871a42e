"""What registering each kind asks: a dataset, a model to be trained, a model brought along, a translation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from polyshare.api import (
    RegisterDataset,
    Registered,
    RegisterImportedModel,
    RegisterModel,
    Registration,
    Translate,
    Uploading,
)
from polyshare.assets import Caller, Kind, Role, State
from polyshare.bootstrap import Ports
from polyshare.catalogue.locks import lock_asset
from polyshare.catalogue.tables import assets, jobs, parents, stages
from polyshare.errors import Conflict, Erased, Invalid, PolyshareError
from polyshare.manifest import Manifest
from polyshare.metadata import Metadata, check_fields
from polyshare.operations.access import Asset, find
from polyshare.operations.register import Declaration, brought_of, declare, manifest_of, progress
from polyshare.tracing import going_on

REGISTERED_STATES = (State.REGISTERED, State.QUEUED, State.RUNNING, State.PUBLISHING, State.TRAINED, State.TRANSLATED)
_MOST_PARAMETERS = 200


def register_dataset(ports: Ports, caller: Caller, body: RegisterDataset, key: str | None) -> Registered | Uploading:
    """Raises Invalid, Forbidden, Conflict, TooLarge."""
    manifest = _content(manifest_of(body.files))
    return declare(ports, caller, Declaration(Kind.DATASET, body, manifest, brought=brought_of(body.files)), key)


def register_imported(
    ports: Ports,
    caller: Caller,
    body: RegisterImportedModel,
    key: str | None,
    *,
    reserved: str | None = None,
    fields: Mapping[str, Any] = {},
) -> Registered | Uploading:
    """A model trained elsewhere: the platform vouches for its bytes, not for how they came to be."""
    manifest = _content(manifest_of(body.files))
    with ports.catalogue.reading() as connection:
        linked = [_parent(connection, caller, ref, Kind.DATASET, ports.clock.now(), True) for ref in body.trained_on]
    declaration = Declaration(
        Kind.IMPORTED_MODEL,
        body,
        manifest,
        parents=[(parent.id, "dataset") for parent in linked],
        fields={"trained_by_platform": False, **fields},
        reserved=reserved,
        brought=brought_of(body.files),
    )
    return declare(ports, caller, declaration, key)


def register_model(
    ports: Ports, caller: Caller, body: RegisterModel, key: str | None, *, reserved: str | None = None
) -> Registered | Uploading:
    """A model to be trained: raises NotFound for its dataset, Conflict if that is revoked or not registered."""
    from polyshare.jobs.environment import resolve

    parameters = _parameters(body.parameters)
    source = manifest_of(body.source)
    if source.entries and body.program not in {entry.path for entry in source.entries}:
        raise Invalid(f"the source has no file {body.program!r}: name its entry with program")
    with ports.catalogue.reading() as connection:
        dataset = _parent(connection, caller, body.dataset, Kind.DATASET, ports.clock.now(), body.allow_revoked)
    environment = resolve(body.image, ports.settings.image_registries)
    request = {
        "schema": "polyshare/training/1",
        "environment": environment,
        "program": body.program if source.entries else None,
        "parameters": parameters,
        "inputs": {"dataset": dataset.content_root.hex()},
        "limits": {
            **({"wall_seconds": body.seconds} if body.seconds else {"wall_seconds": ports.settings.job_seconds}),
            **({"memory_bytes": body.memory} if body.memory else {}),
        },
        "translate": body.translate,
        "allow_revoked": body.allow_revoked,
    }
    fields = {"environment": environment}
    linked = [(dataset.id, "dataset")]
    declaration = Declaration(
        Kind.MODEL,
        body,
        source,
        linked,
        request,
        job="train",
        fields=fields,
        reserved=reserved,
        brought=brought_of(body.source),
    )
    return declare(ports, caller, declaration, key)


def translate(ports: Ports, caller: Caller, body: Translate) -> tuple[Registered | Uploading, bool]:
    """The translation of a model to ONNX, and whether it is new: asked twice, the same one is answered.

    One that failed is tried anew. Raises NotFound, Conflict if the model is not trained yet, Invalid if no translator
    takes its framework, or writes this opset.
    """
    from polyshare.jobs.environment import resolve
    from polyshare.translation.translators import VERIFIER, named

    now = ports.clock.now()
    with ports.catalogue.reading() as connection:
        model = _parent(connection, caller, body.model, None, now, body.allow_revoked)
        if model.kind not in (Kind.MODEL, Kind.IMPORTED_MODEL):
            raise Invalid(f"{body.model} is a {Kind(model.kind).label}: only models are translated")
        if model.kind == Kind.MODEL and model.state != State.TRAINED:
            raise Conflict(f"{body.model} is {model.state}: it can be translated when it is trained")
        dataset = connection.execute(
            sa.select(assets)
            .join(parents, parents.c.parent == assets.c.id)
            .where(parents.c.asset == model.id, parents.c.role == "dataset")
            .order_by(parents.c.position)
        ).first()
    translator = named(_framework(model))
    if body.opset is not None and body.opset > translator.opset:
        most = f"{translator.frameworks[0]} models are translated to {translator.opset} at most"
        raise Invalid(f"opset {body.opset} can't be asked for: {most}")
    environment, opset = resolve(translator.environment), body.opset or translator.opset
    request: dict[str, Any] = {
        "schema": "polyshare/translation/1",
        "environment": environment,
        "verifier": resolve(VERIFIER),
        "opset": opset,
        "inputs": {
            "model": (model.result_root or model.content_root).hex(),
            **({"dataset": dataset.content_root.hex()} if dataset is not None and dataset.erased is None else {}),
        },
        "limits": {"wall_seconds": ports.settings.job_seconds},
        "allow_revoked": body.allow_revoked,
    }
    with ports.catalogue.reading() as connection:
        others = connection.execute(
            sa.select(assets)
            .join(parents, parents.c.asset == assets.c.id)
            .where(parents.c.parent == model.id, assets.c.kind == Kind.TRANSLATION)
        ).all()
    same = [other for other in others if {**other.request, "source": None} == {**request, "source": None}]
    over = [other for other in same if other.state == State.FAILED or other.erased or other.revoked]
    alive = [other for other in same if other not in over]
    if alive:
        return progress(ports, alive[0].id), False
    linked = [(model.id, "model")]
    if dataset is not None and "dataset" in request["inputs"]:
        linked.append((dataset.id, "dataset"))
    registration = Registration(organisation=model.organisation, visibility=model.visibility)
    declaration = Declaration(
        Kind.TRANSLATION,
        registration,
        Manifest(()),
        linked,
        request,
        job="translate",
        fields={"format": "onnx", "opset": opset, "environment": environment},
        once=f"translate:{model.id}:{environment}:{opset}:{len(over)}",  # two who ask at once get one asset
    )
    return declare(ports, caller, declaration, None), True


def translate_trained(ports: Ports, asset: str) -> None:
    """Translation follows training by itself, for whoever registered the model; it never fails the training."""
    with ports.catalogue.reading() as connection:
        model = connection.execute(sa.select(assets).where(assets.c.id == asset)).first()
        if model is None or model.kind != Kind.MODEL or model.state != State.TRAINED:
            return
        if model.erased is not None or not (model.request or {}).get("translate"):
            return
        if was_translated(connection, model.id):
            return
        trace = connection.scalar(sa.select(jobs.c.traceparent).where(jobs.c.asset == model.id))
    caller = Caller(model.owner, {model.organisation: Role.PUBLISHER})
    try:
        with going_on(trace):  # one event may tell of models of many traces
            answer, _ = translate(ports, caller, Translate(model=model.id, allow_revoked=True))
        stage, detail = "translation registered", answer.id
    except (Invalid, Conflict, Erased) as error:
        stage, detail = "not translated", error.message
    with ports.catalogue.transaction() as connection:
        lock_asset(connection, model.id)
        if not _is_told(connection, model.id):
            connection.execute(stages.insert().values(asset=model.id, stage=stage, at=ports.clock.now(), detail=detail))


def was_translated(connection: sa.Connection, model: str) -> bool:
    """Whether a model has a translation, of whatever end, or was found to have none."""
    registered = sa.select(assets.c.id).join(parents, parents.c.asset == assets.c.id)
    registered = registered.where(parents.c.parent == model, assets.c.kind == Kind.TRANSLATION)
    first = connection.execute(registered.where(assets.c.record.is_not(None)).limit(1)).first()
    return first is not None or _is_told(connection, model)


def _is_told(connection: sa.Connection, model: str) -> bool:
    told = sa.select(stages.c.row).where(
        stages.c.asset == model, stages.c.stage.in_(("translation registered", "not translated"))
    )
    return connection.execute(told.limit(1)).first() is not None


def _content(manifest: Manifest) -> Manifest:
    if not manifest.entries:
        raise Invalid("there are no files: an asset has at least one")
    return manifest


def _parent(
    connection: sa.Connection, caller: Caller, reference: str, kind: Kind | None, now: float, allow_revoked: bool
) -> Asset:
    parent = find(connection, caller, reference, now)
    if kind is not None and parent.kind != kind:
        raise Invalid(f"{reference} is a {Kind(parent.kind).label}, not a {kind.label}")
    if parent.erased is not None:
        raise Erased(f"{reference} was erased: its bytes can't be used any more")
    if parent.revoked is not None and not allow_revoked:
        raise Conflict(f"{reference} is revoked ({parent.revocation_reason}): use another, or say allow_revoked")
    if parent.state not in REGISTERED_STATES:
        raise Conflict(f"{reference} is {parent.state}: it can be used when it is registered")
    return parent


def _parameters(given: dict[str, Any]) -> dict[str, Any]:
    if len(given) > _MOST_PARAMETERS:
        raise Invalid(f"a training has at most {_MOST_PARAMETERS} parameters, not {len(given)}")
    try:
        return dict(check_fields(given))
    except PolyshareError as error:
        raise Invalid(error.message.replace("metadata field", "parameter")) from error


def _framework(model: Asset) -> str | None:
    """What the model's trainer, or who brought it along, says it was made with."""
    document = model.result_metadata or model.metadata
    return str(Metadata.from_json(document).values().get("framework") or "") or None
