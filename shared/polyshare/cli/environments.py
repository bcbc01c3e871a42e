"""env list and env install."""

from __future__ import annotations

import click

from polyshare.cli.output import Output, following, table, with_json


@click.group()
def env() -> None:
    """The environments in which jobs and models run; each is installed when it is first needed."""


@env.command("list")
@with_json
def list_(out: Output) -> None:
    """Which there are, what for, and the disk space of those that are installed."""
    from polyshare.jobs.installed import environments
    from polyshare.stack.layout import Layout

    found = environments(Layout.find().environments)

    def say() -> None:
        rows = [
            (f"uv:{e.name}", "-" if e.size is None else f"{e.size / 2**20:,.0f} MiB", _digest(e.reference), e.purpose)
            for e in found
        ]
        table(["NAME", "INSTALLED", "DIGEST", "PURPOSE"], rows)
        missing = [e.name for e in found if e.size is None]
        if missing:
            following(f"polyshare env install {missing[0]}")

    out.answer({"environments": found}, say)


@env.command("install")
@click.argument("names", nargs=-1, required=True, metavar="NAME…")
@with_json
def install(out: Output, names: tuple[str, ...]) -> None:
    """Install environments now, so that the first job does not wait for it."""
    from polyshare.jobs.environment import prepare, resolve
    from polyshare.jobs.installed import environments
    from polyshare.stack.layout import Layout

    cache = Layout.find().environments
    pinned = [resolve(f"uv:{name.removeprefix('uv:')}") for name in names]  # all names first
    with out.steps() as tell:
        for reference in pinned:
            prepare(reference, cache, tell)
    found = [e for e in environments(cache) if e.reference in pinned]

    def say() -> None:
        for e in found:
            done = click.style("installed", fg="green", bold=True)
            click.echo(f"{done} uv:{e.name}, {(e.size or 0) / 2**20:,.0f} MiB, {_digest(e.reference)}")

    out.answer({"environments": found}, say)


def _digest(reference: str) -> str:
    return reference.rpartition("@")[2][:19]
