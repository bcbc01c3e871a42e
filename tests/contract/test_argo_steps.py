"""A training's steps as its workflow does them, before a small platform and a small API server; the run is ours."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import httpx
import pytest

from polyshare.errors import Unavailable
from polyshare.jobs import environment, steps
from polyshare.jobs.follow import Disrupted, Ended, follow
from polyshare.jobs.job import Job, Limits
from polyshare.jobs.sandbox import Finished
from polyshare.jobs.step import Step
from tests.contract import kubelet
from tests.contract.kube_stub import Kube
from tests.contract.kube_stub import serving as serving_kube
from tests.unit.jobs.conftest import CACHE
from tests.unit.jobs.platform import Platform
from tests.unit.jobs.platform import serving as serving_platform

IMAGE = "oci:registry.example.org/trainer@sha256:" + "ab" * 32
MACHINE = {"architecture": "x86_64", "cpu": "x86-64-v3", "threads": "1"}
LIMITS = Limits(wall_seconds=60)
LACKING = "0/1 nodes are available: 1 Insufficient nvidia.com/gpu."
FULL = 'Usage of EmptyDir volume "tmp" exceeds the limit "1Gi"'


@pytest.fixture
def kube() -> Iterator[Kube]:
    with serving_kube() as running:
        yield running


@pytest.fixture
def platform() -> Iterator[Platform]:
    with serving_platform() as running:
        yield running


class Workflow:
    """One workflow's pods, one after the other."""

    def __init__(self, kube: Kube, job: Job, folder: Path, **cluster: Any) -> None:
        self.kube, self.folder = kube, folder
        (folder / "job").write_text(json.dumps({**asdict(job), "requires": {}}))
        self.environ = {
            "POLYSHARE_JOB": str(folder / "job"),
            "POLYSHARE_CLUSTER": json.dumps({"image": "functions", "patience": 2, **cluster}),
            "POLYSHARE_WORKFLOW": "w-1",
            "POLYSHARE_WORKFLOW_UID": "uid",
        }
        (folder / "claim").mkdir()

    def step(self) -> Step:
        client = httpx.Client(trust_env=False)
        return Step(
            self.environ, client, api=lambda: self.kube.api(self.folder), root=self.folder / "claim", out=self.folder
        )

    def manifest(self) -> dict[str, Any]:
        return dict(json.loads((self.folder / "run.json").read_text()))

    def container(self) -> dict[str, Any]:
        return dict(self.manifest()["spec"]["template"]["spec"]["containers"][0])

    def environ_of_run(self) -> dict[str, str]:
        return {item["name"]: item["value"] for item in self.container()["env"]}


def job_of(platform: Platform, **document: Any) -> Job:
    document = {"environment": IMAGE, "parameters": {"depth": 3}, **document}
    return platform.add("train", {"train": {"d.csv": b"1"}, "test": {"t.csv": b"2"}}, **document)


def run(kube: Kube, status: Mapping[str, Any], log: bytes = b"", name: str = "w-1-run") -> None:
    """A run's Job and pod in the cluster."""
    first = {"terminated": {"exitCode": 0}}
    labels = {"batch.kubernetes.io/job-name": name}
    kube.objects["jobs", name] = {"metadata": {"name": name}, "status": {}}
    kube.objects["pods", name + "-x"] = {
        "metadata": {"name": name + "-x", "labels": labels},
        "status": {"initContainerStatuses": [{"name": "shut", "image": "f", "state": first}], **status},
    }
    kube.logs[name + "-x", "run"] = log
    kube.logs[name + "-x", "shut"] = json.dumps(MACHINE).encode()


def ended(code: int, **more: Any) -> dict[str, Any]:
    done = {"exitCode": code, "startedAt": "2026-11-25T10:00:00Z", "finishedAt": "2026-11-25T10:00:07Z", **more}
    phase = "Failed" if code else "Succeeded"
    return {"phase": phase, "containerStatuses": [{"name": "run", "image": "i", "state": {"terminated": done}}]}


def waiting(reason: str, message: str) -> dict[str, Any]:
    state = {"waiting": {"reason": reason, "message": message}}
    return {"phase": "Pending", "containerStatuses": [{"name": "run", "image": "no/such", "state": state}]}


def condition(kind: str, status: str, message: str) -> dict[str, Any]:
    return {"conditions": [{"type": kind, "status": status, "message": message}]}


def watch(kube: Kube, folder: Path, patience: float = 0, said: list[str] | None = None) -> Ended:
    tails: list[str] = [] if said is None else said
    return follow(kube.api(folder), "w-1-run", LIMITS, patience, cancelled=lambda: False, on_log=tails.append)


def test_a_training_goes_through_its_steps(kube: Kube, platform: Platform, tmp_path: Path) -> None:
    job = job_of(platform)
    workflow = Workflow(kube, job, tmp_path)
    assert workflow.step().fetch()
    seen = {m["mountPath"]: (m.get("subPath"), m.get("readOnly")) for m in workflow.container()["volumeMounts"]}
    assert seen["/opt/ml/input/data/train"] == ("work/input/data/train", True)
    assert seen["/opt/ml/model"] == ("work/model", False)
    claim = tmp_path / "claim"
    assert (claim / seen["/opt/ml/input/data/train"][0] / "d.csv").read_bytes() == b"1"
    run(kube, ended(0), b"on\nand on\n")
    assert workflow.step().follow(Limits.from_json(json.loads((tmp_path / "limits.json").read_text())))
    (claim / "work" / "model" / "m.bin").write_bytes(b"model")
    assert workflow.step().publish(Ended.from_json(json.loads((tmp_path / "ended.json").read_text())))
    completion = platform.completions[job.id]
    assert completion["outcome"] == "trained", completion["reason"]
    assert platform.result(job) == {"m.bin": b"model"}
    assert [item["path"] for item in completion["report"]] == ["run.log"]
    predicate = completion["run"]["predicate"]
    assert predicate["runDetails"]["builder"]["id"] == "urn:polyshare:runner:argo:1"
    assert predicate["runDetails"]["metadata"]["polyshare"]["seconds"] == 7
    assert predicate["buildDefinition"]["internalParameters"]["class"] == MACHINE
    names = [item["name"] for item in predicate["buildDefinition"]["resolvedDependencies"]]
    assert names == ["train/d.csv", "test/t.csv", "oci:registry.example.org/trainer"]
    stages = list(dict.fromkeys(stage for stage, _ in platform.told[job.id]))
    assert stages == ["preparing", "fetching", "running", "publishing"]


def test_each_step_may_be_done_again(kube: Kube, platform: Platform, tmp_path: Path) -> None:
    job = job_of(platform)
    workflow = Workflow(kube, job, tmp_path)
    for _ in range(2):
        assert workflow.step().fetch()
    (tmp_path / "claim" / "work" / "model" / "m.bin").write_bytes(b"model")
    run(kube, ended(0))
    for _ in range(2):
        assert workflow.step().follow(LIMITS)
    result = Ended(Finished("done", "", 0, 1, 0, 0), "w-1-run-x", MACHINE)
    for _ in range(2):
        workflow.step().publish(result)
    assert platform.completions[job.id]["outcome"] == "trained"


def test_the_run_is_closed_and_powerless_and_sees_nothing_but_its_own(
    kube: Kube, platform: Platform, tmp_path: Path
) -> None:
    workflow = Workflow(kube, job_of(platform), tmp_path)
    workflow.step().fetch()
    manifest = workflow.manifest()
    pod = manifest["spec"]["template"]["spec"]
    assert manifest["spec"]["template"]["metadata"]["labels"]["polyshare.network"] == "none"
    assert manifest["spec"]["backoffLimit"] == 0
    assert (pod["automountServiceAccountToken"], pod["enableServiceLinks"]) == (False, False)
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in (*pod["initContainers"], *pod["containers"]):
        context = container["securityContext"]
        assert (context["readOnlyRootFilesystem"], context["allowPrivilegeEscalation"]) == (True, False)
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert {"cpu", "memory", "ephemeral-storage"} <= container["resources"]["limits"].keys()
    paths = [mount.get("subPath") for mount in workflow.container()["volumeMounts"]]
    assert sorted(path for path in paths if path) == [
        "work/input/config", "work/input/data/test", "work/input/data/train", "work/model", "work/output"
    ]  # fmt: skip
    assert "secret" not in json.dumps(manifest), "neither the token nor a volume of it"
    assert workflow.container()["args"] == ["train"]
    assert "command" not in workflow.container()


def test_what_parameters_say_is_taken_literally_by_argo_and_by_kubernetes(
    kube: Kube, platform: Platform, tmp_path: Path
) -> None:
    hostile = "{{workflow.uid}} {{=1+1}} $(HOME) $$(HOME)"
    workflow = Workflow(kube, job_of(platform, parameters={"x": hostile}), tmp_path)
    workflow.step().fetch()
    assert "{{" not in (tmp_path / "run.json").read_text()
    assert workflow.environ_of_run()["SM_HP_X"] == hostile.replace("$", "$$")


def test_a_gpu_is_asked_for_with_its_nodes(kube: Kube, platform: Platform, tmp_path: Path) -> None:
    toleration = {"key": "gpu", "operator": "Exists"}
    place = {"gpus": 2, "node_selector": {"pool": "gpu"}, "tolerations": [toleration]}
    workflow = Workflow(kube, job_of(platform), tmp_path, **place)
    workflow.step().fetch()
    pod = workflow.manifest()["spec"]["template"]["spec"]
    assert workflow.container()["resources"]["limits"]["nvidia.com/gpu"] == "2"
    assert (pod["nodeSelector"], pod["tolerations"]) == ({"pool": "gpu"}, [toleration])
    assert workflow.environ_of_run()["SM_NUM_GPUS"] == "2"


def test_a_uv_environment_is_the_image_made_from_its_lock(kube: Kube, platform: Platform, tmp_path: Path) -> None:
    job = job_of(platform, environment="uv:sklearn@sha256:" + "cd" * 32)
    workflow = Workflow(kube, job, tmp_path, images="registry.example.org/polyshare/")
    workflow.step().fetch()
    assert workflow.container()["image"] == "registry.example.org/polyshare/sklearn:" + "cd" * 16
    assert workflow.container()["command"] == ["python", "/opt/polyshare/programs/train.py", "train"]


def test_without_a_place_for_its_image_a_uv_environment_fails_saying_what_to_set(
    kube: Kube, platform: Platform, tmp_path: Path
) -> None:
    job = job_of(platform, environment="uv:sklearn@sha256:" + "cd" * 32)
    assert not Workflow(kube, job, tmp_path).step().fetch()
    assert "set the parameter `images`" in platform.completions[job.id]["reason"]


def test_a_fenced_attempt_goes_no_further(kube: Kube, platform: Platform, tmp_path: Path) -> None:
    job = job_of(platform)
    workflow = Workflow(kube, job, tmp_path)
    assert workflow.step().fetch()
    platform.cancelled.add(job.id)
    kube.objects["jobs", "w-1-run"] = {"metadata": {"name": "w-1-run"}, "status": {}}
    assert not workflow.step().follow(LIMITS)
    assert kube.of("jobs") == [], "the run is ended"
    assert not workflow.step().publish(Ended(Finished("done", "", 0, 1, 0, 0)))
    assert job.id not in platform.completions


@pytest.mark.parametrize(
    ("status", "verdict", "reason"),
    [
        (ended(3), "failed", "exit code 3"),
        (ended(139), "failed", "signal 11"),
        (ended(137, reason="OOMKilled"), "memory", "used all of its memory; the limit is 2147483648 bytes"),
        (ended(128, reason="StartError", message='exec: "train": not found'), "failed", 'not be started: exec'),
        ({**ended(137), "reason": "DeadlineExceeded"}, "time", "longer than its limit of 60 s"),
        (
            {**ended(137), "reason": "Evicted", "message": FULL},
            "disk",
            "wrote more than its limit",
        ),
    ],
)  # fmt: skip
def test_how_a_run_ended_is_told_in_words(
    kube: Kube, tmp_path: Path, status: dict[str, Any], verdict: str, reason: str
) -> None:
    run(kube, status)
    finished = watch(kube, tmp_path).finished
    assert finished.status == verdict
    assert reason in finished.reason


@pytest.mark.parametrize(
    "status",
    [
        {**ended(137), "reason": "Evicted", "message": "The node was low on resource: memory."},
        {**ended(143), **condition("DisruptionTarget", "True", "The node was low on")},
        {"phase": "Running", **condition("DisruptionTarget", "True", "The node was low on")},
    ],
)  # fmt: skip
def test_a_run_that_the_cluster_took_away_is_no_failure_of_it(
    kube: Kube, tmp_path: Path, status: dict[str, Any]
) -> None:
    run(kube, status)
    with pytest.raises(Disrupted, match="node was low on"):
        watch(kube, tmp_path)


def test_a_run_whose_pod_was_deleted_is_disrupted(kube: Kube, tmp_path: Path) -> None:
    over = {"type": "Failed", "status": "True", "message": "Job has reached the specified backoff limit"}
    kube.objects["jobs", "w-1-run"] = {"metadata": {"name": "w-1-run"}, "status": {"conditions": [over]}}
    with pytest.raises(Disrupted, match="backoff limit"):
        watch(kube, tmp_path)


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (waiting("ImagePullBackOff", "Back-off pulling image"), "image no/such can't be pulled"),
        (waiting("InvalidImageName", "couldn't parse image name"), "InvalidImageName"),
        (
            {"phase": "Pending", **condition("PodScheduled", "False", LACKING)},
            f"no node can take it: {LACKING}",
        ),
    ],
)  # fmt: skip
def test_why_a_run_waits_is_told_and_in_the_end_is_its_failure(
    kube: Kube, tmp_path: Path, status: dict[str, Any], reason: str
) -> None:
    run(kube, status)
    said: list[str] = []
    finished = watch(kube, tmp_path, said=said).finished
    assert finished.status == "failed"
    assert reason in finished.reason
    assert reason in said[0]
    assert kube.of("jobs") == []


def test_a_run_that_can_start_at_last_goes_on(kube: Kube, tmp_path: Path) -> None:
    run(kube, waiting("ImagePullBackOff", "Back-off pulling image"))
    timer = threading.Timer(1.5, lambda: run(kube, ended(0)))
    timer.start()
    assert watch(kube, tmp_path, patience=30).finished.status == "done"
    timer.join()


def test_a_run_over_its_time_is_ended_by_the_kubelet_and_keeps_its_log(kube: Kube, tmp_path: Path) -> None:
    started = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 100))
    state = {"running": {"startedAt": started}}
    run(
        kube,
        {"phase": "Running", "containerStatuses": [{"name": "run", "image": "i", "state": state}]},
        b"still here\n",
    )
    said: list[str] = []

    def kubelet() -> None:
        pod = kube.of("pods")[0]
        assert pod["spec"]["activeDeadlineSeconds"] == 1
        pod["status"] = {**ended(137), "reason": "DeadlineExceeded"}

    timer = threading.Timer(0.7, kubelet)
    timer.start()
    assert watch(kube, tmp_path, patience=30, said=said).finished.status == "time"
    assert said == ["still here\n"]
    timer.join()


def test_a_network_that_stays_open_is_the_reason(kube: Kube, tmp_path: Path) -> None:
    failed = {"name": "shut", "image": "f", "state": {"terminated": {"exitCode": 1}}}
    run(kube, {"phase": "Failed", "initContainerStatuses": [failed]})
    kube.logs["w-1-run-x", "shut"] = b"its network is still open after 60 s\n"
    assert "could not be started: its network is still open" in watch(kube, tmp_path).finished.reason


def test_a_failure_tells_the_last_line_and_that_runs_are_not_root(
    kube: Kube, platform: Platform, tmp_path: Path
) -> None:
    job = job_of(platform)
    workflow = Workflow(kube, job, tmp_path)
    workflow.step().fetch()
    run(kube, ended(1), b"...\nPermissionError: Permission denied: '/etc/x'\n")
    workflow.step().publish(watch(kube, tmp_path))
    reason = platform.completions[job.id]["reason"]
    assert "exit code 1: PermissionError: Permission denied: '/etc/x'" in reason
    assert "Runs are never root" in reason


def test_an_api_server_that_is_gone_for_long_puts_the_step_back(kube: Kube, tmp_path: Path) -> None:
    kube.down = True
    with pytest.raises(Unavailable, match="503"):
        watch(kube, tmp_path)


def test_an_ingest_is_one_step(kube: Kube, platform: Platform, tmp_path: Path) -> None:
    job = platform.add("ingest", {"inbox": {"a.csv": b"1", "b/c": b""}})
    assert Workflow(kube, job, tmp_path).step().perform()
    assert platform.result(job) == {"a.csv": b"1", "b/c": b""}


@pytest.mark.slow
def test_a_translation_does_each_of_its_runs_in_a_job_that_sees_only_its_own(
    kube: Kube, platform: Platform, tmp_path: Path
) -> None:
    rows = b"a,b,kind\n" + b"".join(b"%d,%d,%d\n" % (i, i * i % 7, i % 2) for i in range(60))
    (tmp_path / "training").mkdir()
    training = platform.add("train", {"train": {"d.csv": rows}}, environment=environment.resolve("uv:sklearn"))
    with httpx.Client(trust_env=False) as client:
        steps.perform(training, client, steps.Place(tmp_path / "training", CACHE))
    pinned = {name: environment.resolve(f"uv:{name}") for name in ("translator-sklearn", "verify")}
    images = {f"r/{name}:{reference[-64:-32]}": reference for name, reference in pinned.items()}
    job = platform.add(
        "translate",
        {"model": platform.result(training), "test": {"t.csv": rows}},
        environment=pinned["translator-sklearn"],
        translate={"opset": None, "verifier": pinned["verify"]},
        wall=300,
    )
    workflow = Workflow(kube, job, tmp_path, images="r/", patience=300)
    with kubelet.serving(kube, tmp_path / "claim", CACHE, images) as ran:
        assert workflow.step().perform()
    completion = platform.completions[job.id]
    assert completion["outcome"] == "translated", completion["reason"]
    assert platform.result(job).keys() == {"model.onnx", "certificate.json"}
    assert len(ran) >= 4
    native = next(job for job in kube.of("jobs") if "predict.py" in json.dumps(job))
    seen = [m["subPath"] for m in native["spec"]["template"]["spec"]["containers"][0]["volumeMounts"] if "subPath" in m]
    assert not [path for path in seen if "onnx" in path or "candidate" in path or path.endswith("test")]
