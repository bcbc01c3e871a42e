"""How fast a real API server takes jobs and a real controller takes them up: printed (pytest -s), for performance.md.

The workflows only wait, so that pods are not what is measured.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from polyshare.jobs.argo import ArgoRunner
from polyshare.jobs.job import RunState
from polyshare.jobs.kubernetes import Access, Api
from tests.bench.submissions import submit
from tests.cluster.world import Cluster, get, kubectl

COUNT = 300
WAITING = {
    "apiVersion": "argoproj.io/v1alpha1",
    "kind": "WorkflowTemplate",
    "metadata": {"name": "polyshare-train"},
    "spec": {"entrypoint": "main", "templates": [{"name": "main", "suspend": {}}]},
}


@pytest.fixture
def runner(cluster: Cluster, tmp_path: Path) -> Iterator[ArgoRunner]:
    kubectl("-n", cluster.namespace, "apply", "-f", "-", given=yaml.safe_dump(WAITING))
    try:
        named = cluster.settings(tmp_path)
        files = (Path(named["runner_token_file"]), Path(named["runner_ca_file"]))
        yield ArgoRunner(Api(Access(named["runner_api"], *files, cluster.namespace)))
    finally:
        kubectl("-n", cluster.namespace, "delete", "workflows,secrets", "-l", "polyshare.job", "--wait=false")
        cluster.apply()


def test_jobs_are_taken_and_taken_up(cluster: Cluster, runner: ArgoRunner) -> None:
    started = time.perf_counter()
    seconds = submit(runner, COUNT, "rate")
    print(f"\nsubmitted: {60 * COUNT / seconds:.0f} a minute")
    selector = "polyshare.job,workflows.argoproj.io/phase=Running"
    while (found := len(get("-n", cluster.namespace, "workflows", "-l", selector)["items"])) < COUNT:
        assert time.perf_counter() - started < 600, f"{found} of {COUNT} were taken up"
        time.sleep(1)
    print(f"taken up by the controller: {60 * COUNT / (time.perf_counter() - started):.0f} a minute")
    state = runner.state(f"rate-{COUNT - 1}")
    assert state is not None
    assert state.state is RunState.RUNNING
    runner.cancel("rate-0")
    assert runner.state("rate-0") is None
