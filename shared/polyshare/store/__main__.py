"""`python -m polyshare.store buckets …`: make the buckets of a store that are not there yet."""

from __future__ import annotations

import argparse
import sys

from polyshare.errors import PolyshareError
from polyshare.settings import read_secret


def main(arguments: list[str]) -> int:
    """0 when all buckets are there; 1 with the reason when they are not; 64 on a wrong call."""
    parser = argparse.ArgumentParser(prog="python -m polyshare.store", description=__doc__)
    parser.add_argument("command", choices=["buckets"])
    parser.add_argument("--endpoint", required=True)
    parser.add_argument("--region", default="us-east-1")
    parser.add_argument("--access-key-file", required=True)
    parser.add_argument("--secret-key-file", required=True)
    parser.add_argument("names", nargs=3, metavar="NAME", help="of the buckets of blobs, of the journal, of the inbox")
    try:
        given = parser.parse_args(arguments)
    except SystemExit as ending:
        return 64 if ending.code else 0
    from polyshare.ports import Bucket
    from polyshare.store.keys import Given
    from polyshare.store.s3 import S3Store

    try:
        S3Store(
            endpoint=given.endpoint,
            region=given.region,
            keys=Given(
                read_secret(given.access_key_file, "s3_access_key_file"),
                read_secret(given.secret_key_file, "s3_secret_key_file"),
            ),
            buckets=dict(zip((Bucket.BLOBS, Bucket.JOURNAL, Bucket.INBOX), given.names, strict=True)),
        ).create_buckets()
    except PolyshareError as error:
        print(error.message, file=sys.stderr)
        return 1
    print(f"{given.endpoint} has {', '.join(given.names)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
