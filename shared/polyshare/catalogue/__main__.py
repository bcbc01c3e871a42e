"""`python -m polyshare.catalogue upgrade | rebuild`: the catalogue's database, migrated before a release, or made anew.

`upgrade` needs the database's URL only. `rebuild` fills an empty, migrated one from journal and ledger, with the
settings of the functions (POLYSHARE_…): it needs the store and a node of the ledger, and no function may run meanwhile.
"""

from __future__ import annotations

import argparse
import os
import sys

from polyshare.errors import PolyshareError


def main(arguments: list[str]) -> int:
    """0 when it is done; 1 with the reason when it is not; 64 on a wrong call."""
    parser = argparse.ArgumentParser(
        prog="python -m polyshare.catalogue", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=["upgrade", "rebuild"])
    parser.add_argument(
        "--database",
        default=os.environ.get("POLYSHARE_DATABASE"),
        help="SQLAlchemy URL, without its password (?password_file= names its file); else POLYSHARE_DATABASE",
    )
    try:
        given = parser.parse_args(arguments)
        if not given.database:
            parser.error("name the database with --database or POLYSHARE_DATABASE")
    except SystemExit as ending:
        return 64 if ending.code else 0
    try:
        print(_upgrade(given.database) if given.command == "upgrade" else _rebuild(given.database))
    except PolyshareError as error:
        print(error.message, file=sys.stderr)
        return 1
    return 0


def _upgrade(database: str) -> str:
    from polyshare.catalogue.migrate import upgrade

    before, after = upgrade(database)
    return f"revision {after}" if before == after else f"revision {before or 'none'} -> {after}"


def _rebuild(database: str) -> str:
    from dataclasses import replace

    from polyshare.bootstrap import build
    from polyshare.operations.rebuild import rebuild
    from polyshare.settings import Settings

    ports = build(replace(Settings.read({**os.environ, "POLYSHARE_DATABASE": database}), database=database))
    try:
        found = rebuild(ports)
    finally:
        ports.catalogue.close()
    return (
        f"{found.assets} assets, {found.anchored} of them on the ledger;"
        f" {found.requeued} writes to the ledger and {found.rerun} jobs are to be done again"
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
