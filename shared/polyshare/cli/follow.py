"""status, and translate."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

import click

from polyshare.api import Status
from polyshare.cli.output import Output, fields, following, label, when, with_json

if TYPE_CHECKING:
    from polyshare.client import Client

_GOOD = ("registered", "trained", "translated")


@click.command()
@click.argument("ref")
@click.option("--follow", is_flag=True, help="Until nothing more will happen by itself.")
@with_json
def status(out: Output, ref: str, follow: bool) -> int:
    """How far an asset is: a UUID, org/name or org/name@3. Exit code 1 when its job failed."""
    with out.client() as client:
        if follow:
            return follow_asset(out, client, ref)
        found = client.status(ref)
    out.answer(found, lambda: _say(found))
    return _code(found)


@click.command()
@click.argument("model")
@click.option("--opset", type=click.IntRange(9, 26), help="Of the ONNX operators; by default the newest that all take.")
@click.option("--allow-revoked", is_flag=True, help="Translate also a revoked model.")
@click.option("--wait", is_flag=True, help="Follow it until it is translated.")
@with_json
def translate(out: Output, model: str, opset: int | None, allow_revoked: bool, wait: bool) -> int | None:
    """Ask for a trained model's ONNX translation, which carries a certificate of agreement."""
    with out.client() as client:
        registered = client.translate(model, opset=opset, allow_revoked=allow_revoked)
        if wait:
            out.note(f"translation {registered.id}")
            return follow_asset(out, client, registered.id)

    def say() -> None:
        fields([("translation", registered.id), ("contract", registered.address)])
        following(f"polyshare status {registered.id} --follow")

    out.answer(registered, say)
    return None


def follow_asset(out: Output, client: Client, ref: str) -> int:
    """Print stages as they come, and the outcome; the exit code is 1 when it failed."""
    found: Status | None = None
    shown = 0
    with _spinner(out) as spinner:
        for found in client.follow(ref):
            if not out.as_json:
                for stage in found.stages[shown:]:
                    detail = f"  {stage.detail}" if stage.detail else ""
                    click.echo(f"{click.style(when(stage.at)[11:], dim=True)}  {stage.stage}{detail}")
            shown = max(shown, len(found.stages))
            spinner.update(_now(found))
    assert found is not None
    last = found
    out.answer(last, lambda: _say_outcome(last))
    return _code(last)


class _Spinner(Protocol):
    def update(self, text: str) -> None: ...


class _Still:
    def update(self, text: str) -> None:
        pass


@contextmanager
def _spinner(out: Output) -> Iterator[_Spinner]:
    if out.as_json or not sys.stdout.isatty():
        yield _Still()
        return
    from rich.console import Console

    with Console().status("waiting") as spinner:
        yield spinner


def _now(found: Status) -> str:
    from rich.markup import escape

    queue = f", {found.position} in the queue" if found.position else ""
    log = found.log_tail.rstrip().rpartition("\n")[2][:100]
    return f"{found.state}{queue}" + (f"  [dim]{escape(log)}[/dim]" if log else "")


def _say(found: Status) -> None:
    name = label(found.organisation, found.name, found.version, found.id)
    colour = "red" if found.state == "failed" else "green" if found.finished else "yellow"
    click.echo(f"{name}  {found.kind.replace('_', ' ')}  {click.style(found.state, fg=colour, bold=True)}")
    started = found.stages[0].at if found.stages else time.time()
    for stage in found.stages:
        detail = f"  {stage.detail}" if stage.detail else ""
        click.echo(f"  {when(stage.at)}  {f'+{stage.at - started:.1f} s':>10}  {stage.stage}{detail}")
    if found.position:
        click.echo(f"  {found.position} in the queue")
    _say_outcome(found)


def _say_outcome(found: Status) -> None:
    if found.revoked:
        click.echo(click.style("REVOKED", fg="red", bold=True) + f": polyshare show {found.id}")
    if found.erased:
        click.echo("its bytes were erased")
    if found.state == "failed":
        click.echo(f"{click.style('failed', fg='red', bold=True)}: {found.reason}")
    if found.log_tail and (found.state == "failed" or not found.finished):
        click.echo(click.style("the end of its log:", dim=True))
        for line in found.log_tail.rstrip().splitlines()[-20:]:
            click.echo(f"  {line}")
    fields(
        [
            ("id", found.id),
            ("contract", found.address and found.address + ("" if found.anchored else "  (not on the ledger yet)")),
            ("translation", found.translation),
        ]
    )
    if not found.finished:
        following(f"polyshare status {found.id} --follow")
    elif found.report and found.state == "failed":
        following(f"polyshare fetch {found.id} --part report")
    elif found.state in _GOOD and not found.erased:
        following(f"polyshare fetch {label(found.organisation, found.name, found.version, found.id)}")


def _code(found: Status) -> int:
    return 1 if found.state == "failed" else 0
