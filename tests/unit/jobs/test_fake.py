"""The fake runner does the real protocol with real bytes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from polyshare.jobs.fake import FakeRunner
from polyshare.jobs.job import Job
from tests.unit.jobs.platform import Platform


class Direct:
    """A line to a platform in memory."""

    def __init__(self, platform: Platform) -> None:
        self.platform = platform
        self.crash_at: str | None = None

    def post(self, path: str, token: str, body: Mapping[str, Any]) -> tuple[int, Any]:
        job, what = path.split("/")
        answer = self.platform.post(job, what, token, dict(body))
        if what == self.crash_at:
            self.crash_at = None
            raise ConnectionAbortedError(what)
        return answer

    def get(self, url: str, headers: Mapping[str, str]) -> bytes | None:
        return self.platform.objects.get(url.removeprefix("memory:/"))

    def put(self, url: str, headers: Mapping[str, str], data: bytes) -> None:
        self.platform.objects[url.removeprefix("memory:/")] = data


@pytest.fixture
def memory() -> Platform:
    return Platform("memory:")


def run(platform: Platform, *jobs: Job) -> None:
    runner = FakeRunner(Direct(platform), lambda: 0.0)
    for job in jobs:
        runner.submit(job)
    while runner.run_next():
        pass


def test_the_same_inputs_train_to_the_same_bytes_and_others_to_others(memory: Platform) -> None:
    one, same, other = (memory.add("train", {"train": {"d": data}}, parameters={"c": 1}) for data in (b"1", b"1", b"2"))
    run(memory, one, same, other)
    assert memory.result(one) == memory.result(same) != memory.result(other)


def test_an_ingest_publishes_what_was_in_the_inbox(memory: Platform) -> None:
    job = memory.add("ingest", {"inbox": {"a": b"1", "b/c": b"2"}})
    run(memory, job)
    assert memory.completions[job.id]["outcome"] == "ingested"
    assert memory.result(job) == {"a": b"1", "b/c": b"2"}


def test_inputs_that_are_not_what_was_registered_fail_the_job(memory: Platform) -> None:
    job = memory.add("train", {"train": {"d": b"1"}})
    memory.objects[f"in/{job.id}/train/d"] = b"other"
    run(memory, job)
    assert memory.completions[job.id]["outcome"] == "failed"
    assert "train/d" in memory.completions[job.id]["reason"]


def test_a_failure_that_is_asked_for_is_told(memory: Platform) -> None:
    job = memory.add("train", {"train": {"d": b"1"}}, parameters={"fail": "no luck"})
    run(memory, job)
    assert "no luck" in memory.completions[job.id]["reason"]


@pytest.mark.parametrize("at", ["start", "inputs", "progress", "outputs", "complete"])
def test_a_crash_at_any_call_leaves_the_job_and_doing_it_again_ends_it_once(memory: Platform, at: str) -> None:
    job = memory.add("train", {"train": {"d": b"1"}})
    line = Direct(memory)
    line.crash_at = at
    runner = FakeRunner(line, lambda: 0.0)
    runner.submit(job)
    with pytest.raises(ConnectionAbortedError):
        runner.run_next()
    runner = FakeRunner(line, lambda: 0.0, runner.queue)
    assert runner.run_next()
    assert not runner.run_next()
    assert memory.completions[job.id]["outcome"] == "trained"


def test_a_newer_attempt_fences_the_older_and_a_late_job_is_dropped(memory: Platform) -> None:
    job = memory.add("train", {"train": {"d": b"1"}}, attempt=2)
    older = Job(job.id, 1, "train", job.endpoint, job.token, job.deadline)
    late = memory.add("train", {"train": {"d": b"1"}})
    runner = FakeRunner(Direct(memory), lambda: 10.0)
    for each in (older, job, Job(late.id, 1, "train", late.endpoint, late.token, 5.0)):
        runner.submit(each)
    while runner.run_next():
        pass
    assert memory.completions.keys() == {job.id}
