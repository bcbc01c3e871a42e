"""dataset add, model add, model import, inbox credentials."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from polyshare.api import InboxCredentials, Registered
from polyshare.assets import Visibility
from polyshare.cli.output import Output, fields, following, label, when, with_json

_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}
_SIZES = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}

_PATH = click.Path(exists=True, path_type=Path)
_NAME = click.option("--name", help="A name in the organisation, or org/name; again, it makes the next version.")
_ORGANISATION = click.option("--organisation", metavar="ORG", help="Who registers it, if you are in several.")
_META = click.option(
    "--meta", "metadata", multiple=True, metavar="KEY=VALUE", help="Metadata; values are read as JSON where they are."
)
_VISIBILITY = click.option(
    "--visibility", type=click.Choice([v.value for v in Visibility]), default="organisation", show_default=True
)


@click.group()
def dataset() -> None:
    """Register datasets."""


@dataset.command("add")
@click.argument("path", type=_PATH)
@_NAME
@_ORGANISATION
@_META
@_VISIBILITY
@click.option("--split", metavar="0.2|test=GLOB", help="Sort the files under train/ and test/, unless they are.")
@with_json
def add_dataset(
    out: Output,
    path: Path,
    name: str | None,
    organisation: str | None,
    metadata: tuple[str, ...],
    visibility: str,
    split: str | None,
) -> None:
    """Register a file or a folder as a dataset.

    Interrupted, the same command goes on where it stopped. Hidden files are left out; symbolic links are refused.
    """
    fields_given = pairs(metadata, "--meta")
    with out.client() as client:
        registered = client.add_dataset(
            path,
            name=name,
            organisation=organisation,
            metadata=fields_given,
            visibility=Visibility(visibility),
            split=split,
            progress=out.progress,
        )
    shown = label(registered.organisation, registered.name, registered.version, registered.id)
    out.answer(registered, lambda: _say(registered, f"polyshare model add --dataset {shown} --image uv:sklearn"))


@click.group()
def model() -> None:
    """Register models."""


@model.command("add")
@click.option("--dataset", required=True, metavar="REF", help="A registered dataset: UUID, org/name or org/name@3.")
@click.option("--image", required=True, help="What trains it: uv:NAME or oci:IMAGE.")
@click.option("--source", type=_PATH, help="Folder (or file) of training code, if the image takes one.")
@click.option("--program", default="train.py", show_default=True, help="The file of the source that is run.")
@click.option(
    "--param", "parameters", multiple=True, metavar="KEY=VALUE", help="Hyper-parameter, read as JSON where it is."
)
@_NAME
@_ORGANISATION
@_META
@_VISIBILITY
@click.option("--time", "limit", metavar="30m", help="Longest training: a number with s, m, h or d.")
@click.option("--memory", metavar="2G", help="Most memory: a number with K, M, G or T.")
@click.option("--allow-revoked", is_flag=True, help="Train also on a revoked dataset.")
@click.option("--no-translate", is_flag=True, help="Do not translate it to ONNX.")
@click.option("--follow", is_flag=True, help="Follow it until it is trained.")
@with_json
def add_model(
    out: Output,
    dataset: str,
    image: str,
    source: Path | None,
    program: str,
    parameters: tuple[str, ...],
    name: str | None,
    organisation: str | None,
    metadata: tuple[str, ...],
    visibility: str,
    limit: str | None,
    memory: str | None,
    allow_revoked: bool,
    no_translate: bool,
    follow: bool,
) -> int | None:
    """Register a model; its training starts by itself."""
    seconds, most = duration(limit), size(memory)
    given, hyper = pairs(metadata, "--meta"), pairs(parameters, "--param")
    with out.client() as client:
        registered = client.add_model(
            dataset=dataset,
            image=image,
            source=source,
            program=program,
            parameters=hyper,
            name=name,
            organisation=organisation,
            metadata=given,
            visibility=Visibility(visibility),
            seconds=seconds,
            memory=most,
            allow_revoked=allow_revoked,
            translate=not no_translate,
            progress=out.progress,
        )
        if follow:
            from polyshare.cli.follow import follow_asset

            if not out.as_json:
                _say(registered)
            return follow_asset(out, client, registered.id)
    out.answer(registered, lambda: _say(registered, f"polyshare status {registered.id} --follow"))
    return None


@model.command("import")
@click.argument("path", type=_PATH)
@click.option("--trained-on", multiple=True, metavar="REF", help="A registered dataset that it was trained on.")
@_NAME
@_ORGANISATION
@_META
@_VISIBILITY
@with_json
def import_model(
    out: Output,
    path: Path,
    trained_on: tuple[str, ...],
    name: str | None,
    organisation: str | None,
    metadata: tuple[str, ...],
    visibility: str,
) -> None:
    """Register a model that was trained elsewhere; it is called imported wherever it is shown."""
    given = pairs(metadata, "--meta")
    with out.client() as client:
        registered = client.import_model(
            path,
            trained_on=trained_on,
            name=name,
            organisation=organisation,
            metadata=given,
            visibility=Visibility(visibility),
            progress=out.progress,
        )
    out.answer(registered, lambda: _say(registered, f"polyshare show {registered.id}"))


@click.group()
def inbox() -> None:
    """Drop datasets with any S3 client."""


@inbox.command("credentials")
@_ORGANISATION
@click.option(
    "--process", is_flag=True, help="As AWS's tools take it from a `credential_process` of their configuration."
)
@with_json
def credentials(out: Output, organisation: str | None, process: bool) -> None:
    """An S3 key that may put and read below the organisation's prefix of the inbox, and nothing else."""
    with out.client() as client:
        found = client.inbox_credentials(organisation)
    if process:
        click.echo(json.dumps(_for_aws(found)))
    else:
        out.answer(found, lambda: _say_credentials(found))


def pairs(given: tuple[str, ...], option: str) -> dict[str, Any]:
    """KEY=VALUE options as a mapping: 3, 0.5, true, null and "text" are JSON, the rest is text as it stands."""
    read: dict[str, Any] = {}
    for pair in given:
        key, equals, text = pair.partition("=")
        if not equals or not key:
            raise click.BadParameter(f"{pair!r} is not KEY=VALUE", param_hint=option)
        if key in read:
            raise click.BadParameter(f"{key!r} is given twice", param_hint=option)
        try:
            read[key] = json.loads(text, parse_constant=lambda word: word)
        except ValueError:
            read[key] = text
    return read


def duration(limit: str | None) -> int | None:
    """What --time says, in seconds."""
    return _measure(limit, _UNITS, "--time")


def size(memory: str | None) -> int | None:
    """What --memory says, in bytes."""
    return _measure(memory, _SIZES, "--memory")


def _measure(text: str | None, units: dict[str, int], option: str) -> int | None:
    if text is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Za-z]?)(?:i?B)?", text)
    unit = (found[2].upper() if "K" in units else found[2].lower()) if found else ""
    if found is None or unit not in units:
        raise click.BadParameter(f"{text!r} is not a number with {', '.join(filter(None, units))}", param_hint=option)
    return int(float(found[1]) * units[unit])


def _say(registered: Registered, then: str | None = None) -> None:
    name = label(registered.organisation, registered.name, registered.version, registered.organisation)
    click.echo(f"{click.style('registered', fg='green', bold=True)} {registered.kind.replace('_', ' ')} {name}")
    fields(
        [
            ("id", registered.id),
            ("contract", registered.address + ("" if registered.anchored else "  (on its way to the ledger)")),
        ]
    )
    if then is not None:
        following(then)


def _say_credentials(found: InboxCredentials) -> None:
    fields(
        [
            ("endpoint", found.endpoint),
            ("region", found.region),
            ("bucket", found.bucket),
            ("prefix", found.prefix),
            ("access key", found.access_key),
            ("secret key", found.secret_key),
            *([("session token", found.session_token), ("ends", when(found.expires))] if found.expires else []),
        ]
    )
    token = "AWS_SESSION_TOKEN=… " if found.session_token else ""
    click.echo(
        f"\nPut files under {found.prefix}NAME/ and, last, a dataset.json there (it may be just {{}}):\n"
        f"  AWS_ACCESS_KEY_ID=… AWS_SECRET_ACCESS_KEY=… {token}aws --endpoint-url {found.endpoint} "
        f"s3 cp --recursive DIR s3://{found.bucket}/{found.prefix}NAME/"
    )


def _for_aws(found: InboxCredentials) -> dict[str, Any]:
    """https://docs.aws.amazon.com/sdkref/latest/guide/feature-process-credentials.html"""
    answer: dict[str, Any] = {"Version": 1, "AccessKeyId": found.access_key, "SecretAccessKey": found.secret_key}
    if found.expires is not None:
        ends = datetime.fromtimestamp(found.expires, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        answer |= {"SessionToken": found.session_token, "Expiration": ends}
    return answer
