"""The runner's port: the same suite on the fake and on the local one."""

from __future__ import annotations

import json
import os
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from polyshare.errors import Invalid
from polyshare.jobs.fake import FakeRunner
from polyshare.jobs.job import Job, Runner, RunnerState, RunState
from polyshare.jobs.local import LocalRunner


class Nobody:
    """A line that nobody is at."""

    def post(self, *_: Any) -> tuple[int, Any]:
        raise AssertionError

    get = put = post  # type: ignore[assignment]


@pytest.fixture(params=["fake", "local"])
def runner(request: pytest.FixtureRequest, tmp_path: Path) -> Runner:
    return LocalRunner(tmp_path / "spool") if request.param == "local" else FakeRunner(Nobody(), time.time)


def job(name: str, attempt: int = 1) -> Job:
    return Job(name, attempt, "train", "http://127.0.0.1:1/complete_job", "hush", time.time() + 60)


def test_jobs_wait_in_the_order_they_came(runner: Runner) -> None:
    for name in ("a", "b", "c"):
        runner.submit(job(name))
        time.sleep(0.002)
    assert [runner.state(name) for name in ("a", "b", "c")] == [RunnerState(RunState.QUEUED, n) for n in (1, 2, 3)]


def test_submitting_again_changes_nothing(runner: Runner) -> None:
    runner.submit(job("a"))
    time.sleep(0.002)
    runner.submit(job("b"))
    runner.submit(job("a"))
    assert runner.state("a") == RunnerState(RunState.QUEUED, 1)
    assert runner.state("b") == RunnerState(RunState.QUEUED, 2)


def test_a_job_it_does_not_know_has_no_state(runner: Runner) -> None:
    assert runner.state("nobody") is None
    runner.cancel("nobody")


def test_a_cancelled_job_is_forgotten_with_all_its_attempts(runner: Runner) -> None:
    runner.submit(job("a", 1))
    runner.submit(job("a", 2))
    runner.cancel("a")
    assert runner.state("a") is None


def test_the_token_is_kept_from_other_users_and_is_whole_on_disk(tmp_path: Path) -> None:
    LocalRunner(tmp_path / "spool").submit(job("a"))
    assert stat.S_IMODE(os.stat(tmp_path / "spool").st_mode) == 0o700
    (path,) = (tmp_path / "spool").iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert json.loads(path.read_text())["token"] == "hush"


@pytest.mark.parametrize("name", ["../x", "", "a/b", "a.1"])
def test_an_id_that_is_no_files_name_is_refused(tmp_path: Path, name: str) -> None:
    actions: list[Callable[[], object]] = [
        lambda: LocalRunner(tmp_path).submit(job(name)),
        lambda: LocalRunner(tmp_path).cancel(name),
    ]
    for act in actions:
        with pytest.raises(Invalid, match="job's id"):
            act()
