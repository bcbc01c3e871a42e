"""list, show and lineage."""

from __future__ import annotations

from collections.abc import Sequence

import click

from polyshare.api import Relative
from polyshare.cli.output import Output, fields, following, heading, label, table, when, with_json


@click.command("list")
@click.argument("words", required=False)
@click.option("--kind", type=click.Choice(["dataset", "model", "imported_model", "translation"]))
@click.option("--organisation", metavar="ORG")
@click.option("--name")
@click.option("--limit", type=click.IntRange(1, 100), default=50, show_default=True)
@click.option("--cursor", help="The page after: what the page before ended with.")
@with_json
def list_(
    out: Output,
    words: str | None,
    kind: str | None,
    organisation: str | None,
    name: str | None,
    limit: int,
    cursor: str | None,
) -> None:
    """Assets that you may read, newest first; WORDS are looked for in their names."""
    with out.client() as client:
        found = client.list(q=words, kind=kind, organisation=organisation, name=name, limit=limit, cursor=cursor)

    def say() -> None:
        if not found.assets:
            click.echo("none")
            return
        rows = [
            (
                label(a.organisation, a.name, a.version, a.organisation),
                a.kind.replace("_", " "),
                "revoked" if a.revoked else "erased" if a.erased else a.state,
                a.visibility,
                when(a.created),
                a.id,
            )
            for a in found.assets
        ]
        table(["NAME", "KIND", "STATE", "VISIBILITY", "REGISTERED", "ID"], rows)
        if found.cursor:
            following(f"polyshare list --limit {limit} --cursor {found.cursor}")

    out.answer(found, say)


@click.command()
@click.argument("ref")
@with_json
def show(out: Output, ref: str) -> None:
    """What an asset is, what its contract on the ledger says now, and on which hardware it was found to conform."""
    from polyshare.cli.fetch import say_document
    from polyshare.cli.hardware import say_conformance

    with out.client() as client:
        document = client.document(ref)
        contract = client.contract(document.id)
        found = client.conformance(document.id)

    def say() -> None:
        say_document(document)
        heading("\non the ledger")
        fields(
            [
                ("anchored", f"yes, at block {contract.block}" if contract.anchored else "not yet"),
                ("commitment", contract.commitment),
                ("metadata root", contract.metadata_root),
                ("parents", ", ".join(contract.parents) or None),
                ("supersedes", contract.supersedes),
                ("environment", contract.environment),
                ("opset", contract.opset),
                ("result", contract.result),
                ("revocation", contract.revocation),
            ]
        )
        files = document.result.content.files if document.result else document.content.files if document.content else []
        if files:
            heading("\nfiles")
            table(["SIZE", "DIGEST", "PATH"], [(f.size, f.digest[:23] + "…", f.path) for f in files[:50]])
            if len(files) > 50:
                click.echo(f"and {len(files) - 50} more: --json lists all")
        if found.conformances:
            say_conformance(found)
        if document.state != "failed" and files:
            following(f"polyshare fetch {document.id}")

    out.answer({"asset": document, "contract": contract, "conformance": found}, say)


@click.command()
@click.argument("ref")
@with_json
def lineage(out: Output, ref: str) -> None:
    """What an asset was made from, and what was made from it."""
    with out.client() as client:
        found = client.lineage(ref)

    def say() -> None:
        tree(found.assets, found.address)
        if found.children:
            heading("\nmade from it")
            for child in found.children:
                click.echo(f"  {_say(child)}")

    out.answer(found, say)


def tree(relatives: Sequence[Relative], address: str) -> None:
    """An asset and below it what it was made from."""
    known = {relative.address: relative for relative in relatives}
    seen: set[str] = set()

    def branch(at: str, first: str, rest: str) -> None:
        relative = known.get(at)
        again = at in seen and relative is not None and relative.parents
        seen.add(at)
        click.echo(first + (_say(relative) if relative is not None else at) + ("  (as above)" if again else ""))
        if relative is None or again:
            return
        for number, parent in enumerate(relative.parents, 1):
            last = number == len(relative.parents)
            branch(parent, rest + ("└─ " if last else "├─ "), rest + ("   " if last else "│  "))

    branch(address, "", "")


def _say(relative: Relative) -> str:
    if relative.withheld:
        return f"{relative.kind.replace('_', ' ')} {relative.address}  (withheld from you)"
    name = label(relative.organisation, relative.name, relative.version, relative.id or relative.address)
    revoked = click.style("  REVOKED", fg="red", bold=True) if relative.revoked else ""
    state = f"  {relative.state}" if relative.state == "failed" else ""
    return f"{relative.kind.replace('_', ' ')} {click.style(name, bold=True)}  {relative.address}{state}{revoked}"
