"""The simulation in small: some hundred histories hold, each planted bug is found, and a seed is a history."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from typing import Any

import pytest

from tests.simulation.bugs import BUGS, Bug
from tests.simulation.history import play

HISTORIES, AT_ONCE = 200, 10
_SECONDS = 280.0

Played = dict[object, Future[Any]]


@pytest.fixture(scope="module")
def played() -> Iterator[Played]:
    """All of them begun at once, on all cores; by first seed, and by bug."""
    with ProcessPoolExecutor(os.cpu_count(), multiprocessing.get_context("spawn")) as pool:
        begun: Played = {first: pool.submit(failures, first) for first in range(0, HISTORIES, AT_ONCE)}
        begun |= {bug: pool.submit(found_after, bug, within) for bug, within in BUGS.items()}
        yield begun
        pool.shutdown(cancel_futures=True)


def failures(first: int) -> dict[int, list[str]]:
    outcomes = [play(seed) for seed in range(first, first + AT_ONCE)]
    return {outcome.seed: outcome.problems[:3] for outcome in outcomes if outcome.problems}


def found_after(bug: Bug, within: int) -> int | None:
    return next((seed + 1 for seed in range(within) if play(seed, bug=bug).problems), None)


@pytest.mark.parametrize("first", range(0, HISTORIES, AT_ONCE))
def test_histories_hold(played: Played, first: int) -> None:
    failed = played[first].result(_SECONDS)
    assert not failed, f"replay with python -m tests.simulation --seed S: {failed}"


@pytest.mark.parametrize(("bug", "within"), BUGS.items(), ids=[bug.__name__ for bug in BUGS])
def test_a_planted_bug_is_found(played: Played, bug: Bug, within: int) -> None:
    assert played[bug].result(_SECONDS) is not None, f"not found in {within} histories"


def test_a_seed_is_a_history() -> None:
    assert play(11).trace == play(11).trace != play(12).trace
