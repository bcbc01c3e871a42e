"""share, unshare, visibility, grants, revoke, erase, audit."""

from __future__ import annotations

import re
import time
from datetime import datetime

import click

from polyshare.api import Grants
from polyshare.assets import Visibility
from polyshare.cli.output import Output, fields, following, table, when, with_json
from polyshare.errors import Conflict


@click.command()
@click.argument("ref")
@click.argument("organisation")
@click.option("--until", metavar="30d|2027-01-31", help="When the grant ends; by default it does not.")
@with_json
def share(out: Output, ref: str, organisation: str, until: str | None) -> None:
    """Let another organisation read an asset."""
    expires = _moment(until)
    with out.client() as client:
        found = client.share(ref, organisation, expires=expires)
    out.answer(found, lambda: _say(found))


@click.command()
@click.argument("ref")
@click.argument("organisation")
@with_json
def unshare(out: Output, ref: str, organisation: str) -> None:
    """Take a grant back; what was fetched under it is out."""
    with out.client() as client:
        found = client.unshare(ref, organisation)
    out.answer(found, lambda: _say(found))


@click.command()
@click.argument("ref")
@click.argument("to", type=click.Choice([v.value for v in Visibility]))
@with_json
def visibility(out: Output, ref: str, to: str) -> None:
    """Who may read an asset, besides those that it is shared with."""
    with out.client() as client:
        found = client.set_visibility(ref, Visibility(to))
    out.answer(found, lambda: _say(found))


@click.command()
@click.argument("ref")
@with_json
def grants(out: Output, ref: str) -> None:
    """Who may read an asset."""
    with out.client() as client:
        found = client.grants(ref)
    out.answer(found, lambda: _say(found))


@click.command()
@click.argument("ref")
@click.option("--reason", required=True, help="It is told to everybody who fetches or verifies the asset.")
@with_json
def revoke(out: Output, ref: str, reason: str) -> None:
    """Say on the ledger, for good, that an asset should not be used."""
    with out.client() as client:
        found = client.revoke(ref, reason)

    def say() -> None:
        click.echo(f"{click.style('revoked', fg='red', bold=True)} {ref}: {reason}")
        following(f"polyshare show {found.id}")

    out.answer(found, say)


@click.command()
@click.argument("ref")
@click.option("--yes", metavar="UUID", help="The asset's UUID, instead of being asked.")
@with_json
def erase(out: Output, ref: str, yes: str | None) -> None:
    """Delete an asset's bytes and metadata for good; its record on the ledger stays, and then tells nothing."""
    with out.client() as client:
        if yes is None:
            found = client.status(ref)
            try:
                yes = click.prompt(f"This can't be undone. Write {found.id} to erase {ref}", err=True)
            except click.Abort as error:
                raise Conflict(f"nothing was erased: give {found.id} when asked, or by --yes") from error
        answer = client.erase(ref, confirm=yes)
    out.answer(answer, lambda: click.echo(f"{click.style('erased', fg='red', bold=True)} {answer.id}"))


@click.command()
@click.option("--organisation", metavar="ORG", help="Whose; by default your own.")
@click.option("--asset", metavar="REF", help="Of one asset.")
@click.option("--cursor", help="The page after: what the page before ended with.")
@with_json
def audit(out: Output, organisation: str | None, asset: str | None, cursor: str | None) -> None:
    """Who did what to an organisation's assets, newest first."""
    with out.client() as client:
        found = client.audit(organisation=organisation, asset=asset, cursor=cursor)

    def say() -> None:
        rows = [
            (when(e.at), e.subject, e.action, e.asset or "", " ".join(f"{k}={v}" for k, v in (e.detail or {}).items()))
            for e in found.entries
        ]
        table(["TIME", "WHO", "WHAT", "ASSET", ""], rows)
        if found.cursor:
            following(f"polyshare audit --cursor {found.cursor}")

    out.answer(found, say)


def _say(found: Grants) -> None:
    fields([("visibility", found.visibility)])
    if found.grants:
        rows = [
            (g.organisation, g.by, when(g.at), when(g.expires) if g.expires is not None else "never")
            for g in found.grants
        ]
        table(["SHARED WITH", "BY", "SINCE", "UNTIL"], rows)


def _moment(text: str | None) -> float | None:
    if text is None:
        return None
    span = re.fullmatch(r"(\d+)([hd])", text)
    if span:
        return time.time() + int(span[1]) * {"h": 3600, "d": 86_400}[span[2]]
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError as error:
        raise click.BadParameter(f"{text!r} is neither 12h, 30d nor a date", param_hint="--until") from error
