"""Uids for untrusted processes when we are root: one that no account has, another for each job."""

from __future__ import annotations

import os
import secrets
from pathlib import Path


def nobodys_uid() -> int:
    """A uid that no account has and no other job gets, from what our user namespace has; 0 if it has none to give."""
    lines = Path("/proc/self/uid_map").read_text().split("\n")
    start, _, count = max((list(map(int, line.split())) for line in lines if line.strip()), key=lambda row: row[2])
    if count > 0x7000_0000:
        return 0x6000_0000 + secrets.randbelow(0x0FFF_FFFF)
    return start + count - 1


def hand_over(folder: Path, uid: int) -> None:
    """Give a folder and what is in it to a uid; links are not followed."""
    os.chown(folder, uid, uid)
    for base, folders, files in os.walk(folder):
        for name in (*folders, *files):
            os.chown(Path(base, name), uid, uid, follow_symlinks=False)
