"""`python -m polyshare.catalogue upgrade [--database URL]`: migrate the catalogue's database, before a release."""

from __future__ import annotations

import argparse
import os
import sys

from polyshare.errors import PolyshareError


def main(arguments: list[str]) -> int:
    """0 when the database is at the newest revision; 1 with the reason when it is not; 64 on a wrong call."""
    from polyshare.catalogue.migrate import upgrade

    parser = argparse.ArgumentParser(prog="python -m polyshare.catalogue", description=__doc__)
    parser.add_argument("command", choices=["upgrade"])
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
        before, after = upgrade(given.database)
    except PolyshareError as error:
        print(error.message, file=sys.stderr)
        return 1
    print(f"revision {after}" if before == after else f"revision {before or 'none'} -> {after}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
