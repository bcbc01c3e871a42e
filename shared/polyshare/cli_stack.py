"""The commands of the embedded stack: up, down, doctor, rebuild, login."""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from polyshare.errors import Invalid

if TYPE_CHECKING:
    from polyshare.stack.up import Running

_data = click.option(
    "--data", metavar="DIR", help="The data folder.  [default: $POLYSHARE_DATA, else ~/.local/share/polyshare]"
)
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.command()
@_data
@click.option("--port", type=click.IntRange(1, 65535), help="Of the functions.  [default: 8080, or the next free one]")
@click.option("--detach", is_flag=True, help="Return once it serves; it runs on until polyshare down.")
@_json
def up(data: str | None, port: int | None, detach: bool, as_json: bool) -> None:
    """Run the whole registry on this machine: store, ledger, database, functions and job runner."""
    from polyshare.stack.layout import Layout
    from polyshare.stack.up import up as run
    from polyshare.stack.up import up_detached

    layout = Layout.find(data)
    if detach:
        _announce(up_detached(layout, port), layout.data, as_json, detached=True)
        return
    if not as_json:
        click.echo(f"starting in {layout.data} …", err=True)
    say = _say_nothing if as_json else _say
    run(layout, port, say=say, ready=lambda running: _announce(running, layout.data, as_json, detached=False))
    if not as_json:
        click.echo("ended", err=True)


@click.command()
@_data
@_json
def down(data: str | None, as_json: bool) -> None:
    """End the stack that runs in the background."""
    from polyshare.stack.layout import Layout
    from polyshare.stack.up import down as end

    layout = Layout.find(data)
    ended = end(layout)
    if as_json:
        click.echo(json.dumps({"ended": ended, "data": str(layout.data)}))
    else:
        click.echo(f"{'ended' if ended else 'nothing runs'} in {layout.data}")


@click.command()
@_data
@click.option("--cluster", is_flag=True, help="Look at the platform on the cluster that KUBECONFIG names instead.")
@click.option("--namespace", metavar="NAME", help="Of the functions there.  [default: polyshare]")
@_json
def doctor(data: str | None, cluster: bool, namespace: str | None, as_json: bool) -> None:
    """Say what is wrong with this machine or its stack, and how to mend it. Exit code 1 if something is."""
    from polyshare.stack.doctor import examine
    from polyshare.stack.layout import Layout

    if cluster:
        from polyshare.stack.cluster import examine_cluster
        from polyshare.stack.kube import Cluster

        findings = examine_cluster(lambda: Cluster.of_kubeconfig(namespace or "polyshare"))
    elif namespace is not None:
        raise Invalid("--namespace goes with --cluster")
    else:
        findings = examine(Layout.find(data))
    well = all(finding.well for finding in findings)
    if as_json:
        click.echo(json.dumps({"well": well, "findings": [asdict(finding) for finding in findings]}, indent=2))
    else:
        for finding in findings:
            mark = click.style("ok  ", fg="green") if finding.well else click.style("BAD ", fg="red", bold=True)
            click.echo(f"{mark} {finding.what}: {finding.found}")
            if not finding.well and finding.mend:
                click.echo(f"       → {finding.mend}")
        click.echo("all is well" if well else "something is wrong: see the lines marked BAD")
    sys.exit(0 if well else 1)


@click.command()
@_data
@_json
def rebuild(data: str | None, as_json: bool) -> None:
    """Make the database anew from the store's journal and the ledger. The stack must be down."""
    from polyshare.stack.layout import Layout
    from polyshare.stack.rebuild import rebuild_database

    layout = Layout.find(data)
    counts = rebuild_database(layout, say=_say_nothing if as_json else _say)
    if as_json:
        click.echo(json.dumps(counts))
    else:
        click.echo(", ".join(f"{name}: {count}" for name, count in counts.items()))
        click.echo("the database is whole again: polyshare up")


@click.command()
@_data
@click.option("--user", help="Whom the token is for, on an embedded stack.  [default: me]")
@click.option("--organisation", help="The organisation that is the user's.  [default: local]")
@click.option("--role", type=click.Choice(["reader", "publisher", "admin"]), help="In it.  [default: admin]")
@click.option("--days", type=click.FloatRange(0, 3650, min_open=True), default=90.0, help="How long the token lives.")
@click.option("--url", help="Of a registry elsewhere: a template with {function}.")
@click.option("--token", help="For that registry, from its issuer.  [default: asked for]")
@click.option("--rpc", metavar="URL[,URL…]", help="Nodes of that registry's ledger, to verify by.")
@click.option(
    "--trust-root",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="That ledger's contracts, from its operator: what is pinned and verified against.",
)
@click.option(
    "--save", type=click.Path(dir_okay=False, path_type=Path), help="Save the profile here, not as the CLI's own."
)
@_json
def login(
    data: str | None,
    user: str | None,
    organisation: str | None,
    role: str | None,
    days: float,
    url: str | None,
    token: str | None,
    rpc: str | None,
    trust_root: Path | None,
    save: Path | None,
    as_json: bool,
) -> None:
    """Save who you are and where the registry is, for all other commands."""
    from polyshare.client.profile import Profile, profile_path
    from polyshare.stack.layout import Layout
    from polyshare.stack.profile import ORGANISATION, ROLE, USER, make_profile, save_profile

    if url is not None:
        if user or role:
            raise Invalid(
                "--user and --role make a token of an embedded stack: a registry elsewhere has its own issuer"
            )
        Profile(url)  # raises if it is no template
        profile: dict[str, Any] = _remote(url, token, organisation, save or profile_path(os.environ), rpc, trust_root)
    elif token is not None or rpc is not None or trust_root is not None:
        raise Invalid("--token, --rpc and --trust-root go with --url: of an embedded stack they are known")
    else:
        organisations = {organisation or ORGANISATION: role or ROLE}
        profile = make_profile(Layout.find(data), user or USER, organisations, days * 86_400)
    path = save or profile_path(os.environ)
    save_profile(path, profile)
    if as_json:
        click.echo(json.dumps({"profile": str(path), "url": profile["url"], "organisation": profile["organisation"]}))
    elif save is not None:
        click.echo(f"saved; use it with  export POLYSHARE_CONFIG={path}")
    else:
        click.echo(f"logged in at {profile['url']} ({path})")


def _remote(
    url: str, token: str | None, organisation: str | None, path: Path, rpc: str | None, trust_root: Path | None
) -> dict[str, Any]:
    """A profile of a registry elsewhere; what was pinned of its ledger before stays pinned, if no other is named."""
    from polyshare.ledger import record
    from polyshare.stack.layout import read_json

    known = read_json(path)
    pinned = known.get("ledger", {}) if isinstance(known, dict) and known.get("url") == url else {}
    if trust_root is not None:
        pinned = {**pinned, **record.trust_root_document(record.trust_root(read_json(trust_root) or {}))}
    if rpc is not None:
        pinned = {**pinned, "rpc": rpc}
    given = token if token is not None else click.prompt("token", hide_input=True, err=True)
    return {"url": url, "token": given, "organisation": organisation, "ledger": pinned}


def _announce(running: Running, data: Path, as_json: bool, *, detached: bool) -> None:
    if as_json:
        click.echo(json.dumps({"url": running.url, "profile": running.profile, "data": str(data), "pid": running.pid}))
        return
    chosen = "" if data == _default_data() else f" --data {data}"
    click.echo(click.style(f"polyshare is up at {running.url}", fg="green", bold=True))
    if running.current:
        click.echo(f"  you are {running.user}, admin of {running.organisation} (in {running.profile})")
    else:
        click.echo("  the CLI's profile is of a registry elsewhere and was left alone; to use this one:")
        click.echo(f"    export POLYSHARE_CONFIG={running.profile}")
    click.echo("  another user:  polyshare login --user NAME --organisation ORG --role publisher" + chosen)
    click.echo(f"  begin with:    polyshare dataset add FOLDER --name NAME     logs: {data / 'log'}")
    click.echo(f"  end it with:   {'polyshare down' + chosen if detached else 'Ctrl-C'}")


def _default_data() -> Path:
    from polyshare.stack.layout import Layout

    return Layout.find().data


def _say(text: str) -> None:
    click.echo(f"{time.strftime('%H:%M:%S')} {text}", err=True)


def _say_nothing(text: str) -> None:
    pass
