"""`python -m tests.simulation --histories 10000`: plays that many seeds on all cores; `--seed S` replays one, told."""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time

from tests.simulation.history import Outcome, play

_SHOWN = 30  # lines of a trace


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--histories", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--seed", type=int, help="replay this one, and tell what happens")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    asked = parser.parse_args()
    if asked.seed is not None:
        outcome = play(asked.seed, tell=print)
        print(*outcome.problems or ["all holds"], sep="\n")
        return int(bool(outcome.problems))
    return _play_all(range(asked.first, asked.first + asked.histories), asked.workers)


def _play_all(seeds: range, workers: int) -> int:
    begun = time.monotonic()
    done = assets = lost = 0
    failed: list[Outcome] = []
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        for outcome in pool.imap_unordered(play, seeds, chunksize=8):
            done, assets, lost = done + 1, assets + outcome.assets, lost + bool(outcome.was_lost)
            if outcome.problems:
                failed.append(outcome)
                print(f"\nseed {outcome.seed}:", *outcome.problems[:5], sep="\n  ", flush=True)
            if done % 50 == 0:
                rate = done / (time.monotonic() - begun)
                print(f"\r{done} of {len(seeds)} histories, {rate:.1f} a second", end="", flush=True)
    print(
        f"\n{done} histories, {assets} assets acknowledged, the database lost in {lost}, "
        f"{time.monotonic() - begun:.0f} s, {len(failed)} failed"
    )
    for outcome in sorted(failed, key=lambda failed: failed.seed)[:3]:
        print(f"\nseed {outcome.seed} (python -m tests.simulation --seed {outcome.seed}):")
        print(*outcome.trace[-_SHOWN:], *outcome.problems, sep="\n")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
