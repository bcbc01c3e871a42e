"""CPU of a client that uploads 1 GiB, against boto3's default `upload_file` of the same file to the same SeaweedFS.

Ours is `Client.add_dataset`: hashing, declaring, sending, confirming. CPU is all threads of the client's process, from
the call to its end, so that neither pays for its start. Each round has a file of its own, since ours would not send
again what is there. Then the bytes that each puts through SHA-256 are counted at hashlib itself.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

from tests.bench.measure import Row, cost, median, python, reported, row
from tests.bench.stack import Stack, stack

GIB = 1024**3
COUNTED = 160 * 1024 * 1024  # bytes: ten parts
ROUNDS = 3


def run() -> list[Row]:
    with tempfile.TemporaryDirectory(prefix="polyshare-bench-") as name, stack() as running:
        file = Path(name) / "weights.bin"
        _make(file, GIB)
        ours, peer = [], []
        for turn in range(ROUNDS):
            _change(file, turn)
            ours.append(_upload(running, "ours", file))
            peer.append(_upload(running, "boto3", file))
        _make(file, COUNTED)
        mine, theirs = (_upload(running, who, file, count=True) for who in ("ours", "boto3"))
    return [
        _row("client CPU s of uploading 1 GiB, hashing included", ours, peer, "cpu", "<= 0.6"),
        _row("wall s of uploading 1 GiB", ours, peer, "wall", "reported"),
        row(
            "bytes through SHA-256 for each byte uploaded (peer: the same)", mine["hashed"], theirs["hashed"], "1 pass"
        ),
    ]


def _row(what: str, ours: list[dict[str, float]], peer: list[dict[str, float]], field: str, goal: str) -> Row:
    return row(
        f"{what} (peer: boto3 upload_file)", median(o[field] for o in ours), median(p[field] for p in peer), goal
    )


def _upload(running: Stack, who: str, file: Path, *, count: bool = False) -> dict[str, float]:
    asked = {
        "who": who,
        "file": str(file),
        "count": count,
        "profile": str(running.layout.profile),
        "s3": running.s3(),
        "bucket": running.bucket("bench"),
    }
    command = python("-m", "tests.bench.upload_one")
    found: dict[str, float] = reported(cost(command, {"POLYSHARE_BENCH": json.dumps(asked)}))
    return found


def _make(file: Path, size: int) -> None:
    block = os.urandom(16 * 1024 * 1024)
    with file.open("wb") as target:
        for number in range(size // len(block)):
            target.write(number.to_bytes(8, "big") + block[8:])


def _change(file: Path, turn: int) -> None:
    """Other bytes in every part, so that none is there already."""
    with file.open("r+b") as target:
        for start in range(0, file.stat().st_size, 16 * 1024 * 1024):
            target.seek(start + 8)
            target.write(turn.to_bytes(8, "big"))
