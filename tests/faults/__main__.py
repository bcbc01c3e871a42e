"""python -m tests.faults --rounds N [--seed S]"""

from __future__ import annotations

import argparse
import secrets
import shutil
import sys
import tempfile
import time
from pathlib import Path

from tests.faults import run


def main() -> None:
    parser = argparse.ArgumentParser(description="kill -9 of real processes under load")
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--seed", type=int, default=secrets.randbits(32))
    parser.add_argument("--keep", action="store_true", help="keep the data folder also when all is well")
    chosen = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="polyshare-faults-"))
    print(f"seed {chosen.seed}, folder {folder}", flush=True)
    started = time.monotonic()
    try:
        counts = run(chosen.rounds, chosen.seed, folder, lambda text: print(text, flush=True))
    except AssertionError as error:
        sys.exit(f"FAILED: {error}\nthe stack's folder is left in {folder}; again: --seed {chosen.seed}")
    if not chosen.keep:
        shutil.rmtree(folder)
    told = ", ".join(f"{name}: {count}" for name, count in sorted(counts.items()))
    print(f"all as it must be after {chosen.rounds} rounds in {time.monotonic() - started:.0f} s; {told}")


if __name__ == "__main__":
    main()
