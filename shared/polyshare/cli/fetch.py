"""fetch and verify."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from polyshare.api import AssetDocument
from polyshare.cli.output import Output, fields, following, heading, label, with_json

if TYPE_CHECKING:
    from polyshare.verify import Report

_MARKS = {"established": ("✓", "green"), "failed": ("✗", "red"), "not established": ("–", "yellow")}
_VERDICTS = {
    "verified": ("verified: it is what was registered", "green"),
    "mismatch": ("MISMATCH: it is not what was registered", "red"),
    "undecided": ("can't decide: what is needed to know is missing", "yellow"),
}


@click.command()
@click.argument("ref")
@click.option("-o", "--output", type=click.Path(file_okay=False, path_type=Path), help="Folder; by default its name.")
@click.option("--part", type=click.Choice(["main", "source", "report"]), default="main", show_default=True)
@click.option("--force", is_flag=True, help="Replace other files in their places.")
@with_json
def fetch(out: Output, ref: str, output: Path | None, part: str, force: bool) -> None:
    """Get an asset's files: each is placed only when it verifies. Interrupted, the same command goes on."""
    with out.client() as client:
        document = client.document(ref)
        folder = output or Path((document.name or document.id) + ("" if part == "main" else f"-{part}"))
        fetched = client.fetch(document, folder, part=part, force=force, progress=out.progress)
    answer = {
        "folder": str(fetched.folder),
        "files": fetched.files,
        "bytes": fetched.bytes,
        "kept": fetched.kept,
        "asset": document,
    }

    def say() -> None:
        kept = f", {fetched.kept} of them there already" if fetched.kept else ""
        count = f"{fetched.files} file{'s' * (fetched.files != 1)}"
        click.echo(f"{click.style('fetched', fg='green', bold=True)} {count}, {fetched.bytes:,} bytes{kept}: {folder}/")
        say_document(document)
        if part == "main":  # what verify knows an asset by
            following(f"polyshare verify {folder}")

    out.answer(answer, say)


@click.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--rpc", metavar="URL", help="The ledger node to ask, if not your profile's.")
@with_json
def verify(out: Output, path: Path, rpc: str | None) -> int:
    """Find out what a file or folder is, and whether it is what was registered, trusting no server.

    Exit code 0: verified; 1: it is not what was registered; 2: can't decide.
    """
    with out.client() as client:
        report = client.verify(path, rpc=rpc, progress=out.progress)
    out.answer(report.to_json(), lambda: _say_report(report))
    return report.exit_code


def say_document(document: AssetDocument) -> None:
    """An asset's contract metadata and lineage."""
    if document.revoked is not None:
        click.echo(click.style(f"REVOKED: {document.revoked.reason}", fg="red", bold=True))
    heading("\ncontract")
    fields(
        [
            ("asset", label(document.organisation, document.name, document.version, document.organisation)),
            ("id", document.id),
            ("kind", document.kind.replace("_", " ")),
            ("address", document.address + ("" if document.anchored else "  (not on the ledger yet)")),
            ("ledger", f"chain {document.chain.chain_id}, registry {document.chain.registry}"),
            ("content root", document.content and document.content.root),
            ("environment", document.request and document.request.request.get("environment")),
            ("result root", document.result and document.result.content.root),
        ]
    )
    for title, sealed in (("metadata", document.metadata), ("result", document.result and document.result.metadata)):
        if sealed:
            heading(f"\n{title}")
            fields([(str(f["name"]), f["value"]) for f in sorted(sealed["fields"], key=lambda f: str(f["name"]))])
    if len(document.lineage) > 1:
        from polyshare.cli.look import tree

        heading("\nlineage")
        tree(document.lineage, document.address)


def _say_report(report: Report) -> None:
    document = report.document
    if document is not None:
        name = label(document.organisation, document.name, document.version, document.id)
        click.echo(f"{report.path}  {click.style(name, bold=True)}  {document.kind.replace('_', ' ')}")
    for check in report.checks:
        mark, colour = _MARKS[check.outcome]
        click.echo(f"  {click.style(mark, fg=colour)} {check.name:<11}{check.detail}")
    if report.revoked is not None:
        click.echo(click.style(f"REVOKED {report.revoked.reason}".rstrip(), fg="red", bold=True))
    words, colour = _VERDICTS[report.verdict]
    click.echo(click.style(words, fg=colour, bold=True))
