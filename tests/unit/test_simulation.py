"""The simulation in small: some histories hold, each planted bug is found, and a seed is a history."""

from __future__ import annotations

import pytest

from tests.simulation.bugs import BUGS, Bug
from tests.simulation.history import play

HISTORIES, AT_ONCE = 200, 10


@pytest.mark.parametrize("first", range(0, HISTORIES, AT_ONCE))
def test_histories_hold(first: int) -> None:
    failed = {seed: outcome.problems[:3] for seed in range(first, first + AT_ONCE) if (outcome := play(seed)).problems}
    assert not failed, f"replay with python -m tests.simulation --seed S: {failed}"


@pytest.mark.parametrize(("bug", "within"), BUGS.items(), ids=[bug.__name__ for bug in BUGS])
def test_a_planted_bug_is_found(bug: Bug, within: int) -> None:
    assert any(play(seed, bug=bug).problems for seed in range(within)), f"not found in {within} histories"


def test_a_seed_is_a_history() -> None:
    assert play(11).trace == play(11).trace != play(12).trace
