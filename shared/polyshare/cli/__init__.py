"""The command line. Exit codes: 0 done or verified, 1 mismatch or failed, 2 can't decide or unavailable, 64 usage.

Commands are imported when they are called, so that each starts as fast as what it needs itself.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from importlib import import_module

import click

from polyshare.errors import Misconfigured, PolyshareError, Unavailable, Undecided

USAGE = 64
INTERRUPTED = 130

_COMMANDS: dict[str, dict[str, tuple[str, str]]] = {
    "The stack": {
        "up": ("cli_stack:up", "run the whole stack on this machine"),
        "down": ("cli_stack:down", "stop it"),
        "login": ("cli_stack:login", "get a token, and pin the ledger to believe"),
        "doctor": ("cli_stack:doctor", "what is wrong with this machine or stack, and how to mend it"),
        "rebuild": ("cli_stack:rebuild", "make the database anew from store and ledger"),
        "env": ("cli.environments:env", "the environments of jobs: which there are, and installing them"),
    },
    "Assets": {
        "dataset": ("cli.register:dataset", "register datasets"),
        "model": ("cli.register:model", "register models: to be trained, or brought along"),
        "inbox": ("cli.register:inbox", "drop datasets with any S3 client"),
        "status": ("cli.follow:status", "how far an asset is"),
        "fetch": ("cli.fetch:fetch", "get an asset's files, verified"),
        "translate": ("cli.follow:translate", "get a trained model as ONNX"),
        "verify": ("cli.fetch:verify", "what is this file, and is it what was registered?"),
    },
    "Hardware": {
        "run": ("cli.hardware:run", "run an ONNX model, and say which node ran where"),
        "conform": ("cli.hardware:conform", "does a translation answer on this hardware as certified?"),
    },
    "Look": {
        "list": ("cli.look:list_", "assets that you may read"),
        "show": ("cli.look:show", "what an asset is, and what its contract says"),
        "lineage": ("cli.look:lineage", "what an asset was made from, and what from it"),
    },
    "Govern": {
        "share": ("cli.govern:share", "let another organisation read an asset"),
        "unshare": ("cli.govern:unshare", "take that back"),
        "visibility": ("cli.govern:visibility", "private, organisation or public"),
        "grants": ("cli.govern:grants", "who may read an asset"),
        "revoke": ("cli.govern:revoke", "say for good that an asset should not be used"),
        "erase": ("cli.govern:erase", "delete an asset's bytes for good"),
        "audit": ("cli.govern:audit", "who did what"),
    },
    "Operate": {
        "ledger": ("cli.ledger:ledger", "deploy the contracts; who may write, who owns them"),
    },
}


class _Commands(click.Group):
    """A group that knows its commands' names and imports one when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for section in _COMMANDS.values() for name in section]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        for section in _COMMANDS.values():
            if cmd_name in section:
                module, _, attribute = section[cmd_name][0].partition(":")
                command: click.Command = getattr(import_module(f"polyshare.{module}"), attribute)
                return command
        return None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, section in _COMMANDS.items():
            with formatter.section(title):
                formatter.write_dl([(name, text) for name, (_, text) in section.items()])


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 done or verified, 1 mismatch or failed, 2 can't decide or unavailable, 64 usage.",
)
@click.version_option(package_name="polyshare")
def polyshare() -> None:
    """Share datasets and models so that anyone can check what they are, without trusting the server."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    as_json = "--json" in arguments
    try:
        returned = polyshare.main(arguments, prog_name="polyshare", standalone_mode=False)
        sys.stdout.flush()
        return returned if isinstance(returned, int) else 0
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.UsageError as error:
        if as_json:
            _say_json("usage", error.format_message())
        error.show()
        return USAGE
    except click.ClickException as error:
        return _fail(as_json, "invalid", error.format_message(), 1)
    except (KeyboardInterrupt, click.Abort):
        click.echo("\ninterrupted; what was begun is kept: the same command again goes on where it stopped", err=True)
        return INTERRUPTED
    except (Unavailable, Undecided, Misconfigured) as error:
        return _fail(as_json, error.slug, error.message, 2)
    except PolyshareError as error:
        return _fail(as_json, error.slug, error.message, 1)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # who reads our output has seen enough
        return 1
    except OSError as error:
        if os.environ.get("POLYSHARE_DEBUG"):
            raise
        where = f"{error.filename}: " if error.filename else ""
        return _fail(as_json, "system", f"{where}{error.strerror or error}", 1)
    except Exception as error:
        if os.environ.get("POLYSHARE_DEBUG"):
            raise
        told = f"something unexpected happened ({type(error).__name__}: {error}); POLYSHARE_DEBUG=1 shows where"
        return _fail(as_json, "internal", told, 1)


def _fail(as_json: bool, slug: str, message: str, code: int) -> int:
    if as_json:
        _say_json(slug, message)
    click.echo(f"{click.style('error', fg='red', bold=True)}: {message}", err=True)
    return code


def _say_json(slug: str, message: str) -> None:
    click.echo(json.dumps({"error": {"type": slug, "detail": message}}, ensure_ascii=False))
