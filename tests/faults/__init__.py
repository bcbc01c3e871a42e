"""Real processes under load, killed with kill -9 at random moments, round after round; then the books are checked.

`python -m tests.faults --rounds 100 [--seed S]`: no acknowledged asset may be lost, none doubled, each must reach its
end state, and the ledger must have exactly what was registered.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from tests.e2e.machine import PARTS, Machine
from tests.faults.books import check
from tests.faults.load import Load

_STUCK = 300.0  # seconds without an acknowledgement after which something hangs


def run(rounds: int, seed: int, folder: Path, say: Callable[[str], None] = print) -> Counter[str]:
    """Counts of what was acknowledged and killed. Raises AssertionError naming what is not as it must be."""
    chance = random.Random(seed)
    machine = Machine(folder, XDG_STATE_HOME=str(folder / "state"))
    counts: Counter[str] = Counter()
    try:
        url = machine.up()["url"]
        with Load(machine, seed) as load:
            for number in range(rounds):
                _wait_for_progress(load)
                time.sleep(chance.uniform(0, 1.5))
                killed = _strike(machine, chance, number, rounds)
                counts.update(killed)
                assert machine.state["url"].startswith(url), "the stack came back at another address"
                say(f"round {number + 1}/{rounds}: killed {', '.join(killed)}; {load.told()}")
            load.finish()
        counts.update(load.ledger.counts())
        check(machine, load.ledger, folder, say)
    finally:
        machine.clean()
    return counts


def _strike(machine: Machine, chance: random.Random, number: int, rounds: int) -> list[str]:
    """Kill some or all, and have the stack come back; now and then it comes back without its database."""
    lose_database = rounds > 1 and number % max(rounds // 4, 2) == 1
    everything = lose_database or number % 10 == 9 or (rounds < 10 and number == rounds - 1)
    named = (*PARTS, "supervisor")
    killed = machine.kill(*(named if everything else chance.sample(named, chance.randint(1, len(named)))))
    if "supervisor" in killed:
        machine.wait_until_dead()
        if lose_database:
            for path in machine.layout.data.glob("catalogue.sqlite*"):
                path.unlink()
            machine.polyshare("rebuild", "--json")
            killed.append("database")
        machine.up()
    return killed


def _wait_for_progress(load: Load) -> None:
    """Until the functions acknowledged something since the last time: else kills would only ever hit what starts."""
    before, deadline = len(load.ledger.names), time.monotonic() + _STUCK
    while len(load.ledger.names) == before:
        load.raise_surprises()
        assert time.monotonic() < deadline, f"nothing was acknowledged in {_STUCK:.0f} s: {load.told()}"
        time.sleep(0.05)
