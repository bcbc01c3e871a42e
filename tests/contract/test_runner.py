"""The runner's port: the same suite on the fake, on the local one, and on Argo's before a small API server.

On a cluster it runs in tests/cluster.
"""

from __future__ import annotations

import json
import os
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from polyshare.errors import Invalid, Unavailable
from polyshare.jobs.argo import ArgoRunner
from polyshare.jobs.fake import FakeRunner
from polyshare.jobs.job import Job, Runner, RunnerState, RunState
from polyshare.jobs.local import LocalRunner
from tests.contract.kube_stub import Kube, serving


class Nobody:
    """A line that nobody is at."""

    def post(self, *_: Any) -> tuple[int, Any]:
        raise AssertionError

    get = put = post  # type: ignore[assignment]


@pytest.fixture
def kube() -> Iterator[Kube]:
    with serving() as running:
        yield running


@pytest.fixture(params=["fake", "local", "argo"])
def runner(request: pytest.FixtureRequest, tmp_path: Path) -> Runner:
    if request.param == "argo":
        return ArgoRunner(request.getfixturevalue("kube").api(tmp_path))
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


def test_the_token_is_in_a_secret_that_goes_with_its_workflow_and_nowhere_else(kube: Kube, tmp_path: Path) -> None:
    ArgoRunner(kube.api(tmp_path)).submit(job("a", 3))
    (secret,), (workflow,) = kube.of("secrets"), kube.of("workflows")
    assert json.loads(secret["stringData"]["job"])["token"] == "hush"
    assert "hush" not in json.dumps(workflow)
    assert workflow["metadata"]["name"] == "a-3"
    kube.delete("workflows", "a-3")
    assert kube.objects == {}


def test_a_new_attempt_takes_the_one_before_away(kube: Kube, tmp_path: Path) -> None:
    runner = ArgoRunner(kube.api(tmp_path))
    for attempt in (1, 2):
        runner.submit(job("a", attempt))
    runner.submit(job("b", 1))
    assert sorted(name for _, name in kube.objects) == ["a-2", "a-2", "b-1", "b-1"]


@pytest.mark.parametrize(("phase", "state"), [("Running", "running"), ("Succeeded", "gone"), ("Failed", "gone")])
def test_a_workflows_phase_is_the_jobs_state(kube: Kube, tmp_path: Path, phase: str, state: str) -> None:
    runner = ArgoRunner(kube.api(tmp_path))
    runner.submit(job("a"))
    kube.of("workflows")[0]["metadata"]["labels"]["workflows.argoproj.io/phase"] = phase
    assert runner.state("a") == RunnerState(RunState(state))


def test_a_workflow_that_failed_says_why(kube: Kube, tmp_path: Path) -> None:
    runner = ArgoRunner(kube.api(tmp_path))
    runner.submit(job("a"))
    (workflow,) = kube.of("workflows")
    workflow["metadata"]["labels"]["workflows.argoproj.io/phase"] = "Failed"
    evicted = {"type": "Pod", "phase": "Failed", "message": "the run's pod was taken away", "finishedAt": "2"}
    workflow["status"] = {"message": "child failed", "nodes": {"x": {"type": "Steps", "phase": "Failed"}, "y": evicted}}
    assert runner.state("a") == RunnerState(RunState.GONE, detail="the run's pod was taken away")
    workflow["status"] = {"message": "workflowtemplates polyshare-train not found"}
    assert runner.state("a") == RunnerState(RunState.GONE, detail="workflowtemplates polyshare-train not found")


def test_a_queue_longer_than_a_page_is_counted_whole(kube: Kube, tmp_path: Path) -> None:
    runner = ArgoRunner(kube.api(tmp_path))
    for number in range(10):
        runner.submit(job(f"j{number}"))
    assert runner.state("j9") == RunnerState(RunState.QUEUED, 10)


def test_a_cluster_that_does_not_answer_is_told_as_unavailable(kube: Kube, tmp_path: Path) -> None:
    runner = ArgoRunner(kube.api(tmp_path))
    kube.down = True
    with pytest.raises(Unavailable, match="503"):
        runner.submit(job("a"))
    kube.down = False
    (tmp_path / "token").write_text("expired")
    with pytest.raises(Unavailable, match="service account"):
        runner.state("a")


def test_what_a_crash_left_of_a_submission_is_gone_with_the_next_attempt(kube: Kube, tmp_path: Path) -> None:
    runner = ArgoRunner(kube.api(tmp_path))
    runner.submit(job("a", 1))
    del kube.objects["workflows", "a-1"]  # it died after it wrote the Secret
    assert runner.state("a") is None
    runner.submit(job("a", 2))
    assert [item["metadata"]["name"] for item in kube.of("secrets")] == ["a-2"]


def test_a_secret_whose_workflow_was_made_just_before_a_crash_belongs_to_it_when_it_is_submitted_again(
    kube: Kube, tmp_path: Path
) -> None:
    runner = ArgoRunner(kube.api(tmp_path))
    runner.submit(job("a"))
    owners = kube.objects["secrets", "a-1"]["metadata"].pop("ownerReferences")
    runner.submit(job("a"))
    assert kube.objects["secrets", "a-1"]["metadata"]["ownerReferences"] == owners


@pytest.mark.parametrize("name", ["../x", "", "a/b", "a.1"])
def test_an_id_that_is_no_files_name_is_refused(kube: Kube, tmp_path: Path, name: str) -> None:
    actions: list[Callable[[], object]] = [
        lambda: LocalRunner(tmp_path).submit(job(name)),
        lambda: LocalRunner(tmp_path).cancel(name),
        lambda: ArgoRunner(kube.api(tmp_path)).submit(job(name)),
        lambda: ArgoRunner(kube.api(tmp_path)).cancel(name),
    ]
    for act in actions:
        with pytest.raises(Invalid, match="job's id"):
            act()
