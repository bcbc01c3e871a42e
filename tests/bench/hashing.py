"""Hashing a folder, against model_signing's own command: one file of 4 GiB, and 10,000 small files.

Ours is what `polyshare dataset add` does before it says a word to a server: scan, hash, manifest. The peer's command
also signs one digest, which is a millisecond of it. Whole processes, all files in the page cache, runs interleaved.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from tests.bench.measure import Cost, Row, cost, median, python, row

GIB = 1024**3
LARGE = 4 * GIB  # bytes
SMALL = 10_000  # files, of 1 to 8 KiB
ROUNDS = 3


def run() -> list[Row]:
    with tempfile.TemporaryDirectory(prefix="polyshare-bench-") as name:
        folder = Path(name)
        key = folder / "key.pem"
        _make_key(key)
        large, small = folder / "large", folder / "small"
        _make_large(large)
        _make_small(small)
        return [*_compare("one file of 4 GiB", large, key), *_compare(f"{SMALL:,} small files", small, key)]


def _compare(what: str, tree: Path, key: Path) -> list[Row]:
    ours: list[Cost] = []
    peer: list[Cost] = []
    signing = [Path(sys.executable).with_name("model_signing"), "sign", "key", "--private_key", key]
    for turn in range(ROUNDS + 1):
        mine = cost(python("-m", "tests.bench.hash_tree", tree))
        theirs = cost([*signing, "--signature", key.with_suffix(".sig"), tree])
        if turn:  # the first is for the page cache and the compiled modules
            ours.append(mine)
            peer.append(theirs)
    return [
        row(f"hashing {what}, wall s (peer: model_signing 1.1.1)", *_medians(ours, peer, "wall"), "< 1"),
        row(f"hashing {what}, CPU s (peer: model_signing 1.1.1)", *_medians(ours, peer, "cpu"), "< 1"),
    ]


def _medians(ours: list[Cost], peer: list[Cost], field: str) -> tuple[float, float]:
    return median(getattr(c, field) for c in ours), median(getattr(c, field) for c in peer)


def _make_key(path: Path) -> None:
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key = ec.generate_private_key(ec.SECP256R1())
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def _make_large(folder: Path) -> None:
    folder.mkdir()
    block = os.urandom(16 * 1024 * 1024)
    with (folder / "weights.bin").open("wb") as file:
        for number in range(LARGE // len(block)):
            file.write(number.to_bytes(8, "big") + block[8:])


def _make_small(folder: Path) -> None:
    for number in range(SMALL):
        inside = folder / f"{number // 100:03d}"
        inside.mkdir(parents=True, exist_ok=True)
        (inside / f"{number:05d}.bin").write_bytes(os.urandom(1024 + 7 * number % 7168))
