"""Jobs on a real cluster, for a real registry of assets: its users' commands in, states and files out."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.world import Cluster, Platform, kubectl, wait

TRAINER = Path(__file__).with_name("trainer.py")


@pytest.fixture(scope="module")
def image(cluster: Cluster) -> str:
    """A training image with its own conventions: `train` on its own PATH, no entry point, and root as its user."""
    config = {"Env": ["PATH=/opt/program:/usr/local/bin:/usr/bin:/bin"], "WorkingDir": "/opt/program", "User": "root"}
    files = {"/opt/program/train": TRAINER.read_bytes()}
    cluster.registry.push(f"{cluster.images}trainer:1", cluster.base, files, config)
    return f"oci:{cluster.registry.host}/{cluster.images}trainer:1"


@pytest.fixture(scope="module")
def dataset(platform: Platform) -> str:
    folder = platform.home / "numbers"
    (folder / "train").mkdir(parents=True)
    (folder / "train" / "a.csv").write_text("1,2\n3,4\n5,6\n")
    return str(platform.json("dataset", "add", str(folder), "--name", "numbers")["id"])


def train(platform: Platform, image: str, dataset: str, *more: str, **parameters: Any) -> str:
    given = [part for name, value in parameters.items() for part in ("--param", f"{name}={json.dumps(value)}")]
    asked = ("model", "add", "--dataset", dataset, "--image", image, "--no-translate", *given, *more)
    return str(platform.json(*asked)["id"])


def fetched(platform: Platform, asset: str) -> dict[str, bytes]:
    folder = platform.home / f"fetched-{asset}"
    platform.polyshare("fetch", asset, "-o", str(folder))
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_somebody_elses_training_image_runs_unchanged(platform: Platform, image: str, dataset: str) -> None:
    model = train(platform, image, dataset, depth=3)
    status = platform.until(model, "trained", "failed")
    assert status["state"] == "trained", status["reason"]
    files = fetched(platform, model)
    assert json.loads(files["model.json"]) == {"rows": 3, "depth": 3, "hps": {"depth": 3}}
    assert "mode  on algo-1" in status["log_tail"]
    run = json.loads(files["polyshare.json"])["result"]["run"]["predicate"]
    assert run["runDetails"]["builder"]["id"] == "urn:polyshare:runner:argo:1"
    used = {item["name"]: item["digest"] for item in run["buildDefinition"]["resolvedDependencies"]}
    assert used[image.rpartition(":")[0]]["sha256"], "its tag was pinned by the registry"
    platform.polyshare("verify", str(platform.home / f"fetched-{model}"))


def test_the_run_reaches_nothing_and_has_no_powers(
    cluster: Cluster, platform: Platform, image: str, dataset: str
) -> None:
    ports = platform.state["ports"]
    service = json.loads(kubectl("get", "service", "kubernetes", "-o", "json"))["spec"]["clusterIP"]
    targets = [f"{service}:443", f"{platform.address}:6443", cluster.registry.host]
    targets += [f"{platform.address}:{ports[name]}" for name in ("functions", "weed_s3")]
    model = train(platform, image, dataset, mode="probe", targets=" ".join(targets))
    assert platform.until(model, "trained", "failed")["state"] == "trained"
    seen = json.loads(fetched(platform, model)["probe.json"])
    assert seen["reached"] == []
    assert seen["written"] == []
    assert seen["secrets"] == []
    assert seen["job"] is False, "the claim's own folders are not there"
    assert seen["opt_ml"] == ["input", "model", "output"]
    assert (seen["uid"], seen["capabilities"], seen["no_new_privs"], seen["seccomp"]) == (65532, "0" * 16, "1", "2")
    assert not [name for name in seen["environ"] if "TOKEN" in name or "POLYSHARE" in name]


@pytest.mark.parametrize(
    ("parameters", "options", "reason"),
    [
        ({"mode": "root"}, (), "this image must run as root"),
        ({"mode": "fail"}, (), "the labels are all the same"),
        ({"mode": "memory"}, ("--memory", "200M"), "used all of its memory; the limit is"),
        ({"seconds": 300}, ("--time", "5s"), "longer than its limit of 5 s"),
    ],
)
def test_why_a_training_failed_is_told(
    platform: Platform, image: str, dataset: str, parameters: dict[str, Any], options: tuple[str, ...], reason: str
) -> None:
    model = train(platform, image, dataset, *options, **parameters)
    status = platform.until(model, "trained", "failed")
    assert reason in status["reason"]
    assert ("Runs are never root" in status["reason"]) is (parameters.get("mode") == "root")


def test_an_image_that_cannot_be_pulled_is_named_and_told_while_it_waits(
    cluster: Cluster, platform: Platform, dataset: str
) -> None:
    cluster.apply(patience="20")
    model = train(platform, f"oci:{cluster.registry.host}/{cluster.images}nowhere@sha256:{'0' * 64}", dataset)
    wait(lambda: "can't be pulled" in (platform.status(model).get("log_tail") or ""))
    status = platform.until(model, "failed")
    assert f"{cluster.images}nowhere" in status["reason"]
    assert "can't be pulled" in status["reason"]


def test_a_gpu_that_no_node_has_is_named(cluster: Cluster, platform: Platform, image: str, dataset: str) -> None:
    cluster.apply(gpus="1", patience="10")
    try:
        model = train(platform, image, dataset)
        status = platform.until(model, "failed", "trained")
        assert "no node can take it" in status["reason"]
        assert "nvidia.com/gpu" in status["reason"]
    finally:
        cluster.apply()


@pytest.mark.parametrize("what", ["evicted", "deleted", "cancelled"])
def test_a_run_that_was_taken_away_is_done_again_as_the_same_job(
    cluster: Cluster, platform: Platform, image: str, dataset: str, what: str
) -> None:
    model = train(platform, image, dataset, seconds=12)
    job = platform.job_of(model)
    pod = wait(lambda: cluster.run_of(job), 120)
    if what == "evicted":
        eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod}}
        path = f"/api/v1/namespaces/{cluster.namespace}/pods/{pod}/eviction"
        kubectl("create", "--raw", path, "-f", "-", given=json.dumps(eviction))
    elif what == "deleted":
        kubectl("-n", cluster.namespace, "delete", "pod", pod, "--wait=false")
    else:
        kubectl("-n", cluster.namespace, "delete", "workflow", f"{job}-1", "--wait=false")
    status = platform.until(model, "trained", "failed", seconds=400)
    assert status["state"] == "trained", status["reason"]
    assert "attempt 2" in json.dumps(status["stages"])
    names = {item["metadata"]["name"] for item in cluster.get("workflows", "-l", f"polyshare.job={job}")}
    assert names == {f"{job}-2"}, "the first attempt is gone"


def test_a_job_leaves_no_token_behind(cluster: Cluster, platform: Platform, image: str, dataset: str) -> None:
    model = train(platform, image, dataset)
    job = platform.job_of(model)
    platform.until(model, "trained")
    kubectl("-n", cluster.namespace, "delete", "workflow", f"{job}-1")  # as its TTL will
    wait(lambda: not cluster.get("secrets,jobs", "-l", f"polyshare.job={job}"))
    wait(lambda: not [item for item in cluster.get("persistentvolumeclaims") if job in item["metadata"]["name"]])


def test_files_of_the_inbox_become_a_dataset(platform: Platform) -> None:
    from polyshare.api import InboxCredentials
    from tests.faults.load import s3

    key = InboxCredentials(**platform.json("inbox", "credentials"))
    client = s3(key)
    for name, data in (("a.csv", b"1,2\n"), ("dataset.json", b"{}")):
        client.put_object(Bucket=key.bucket, Key=f"{key.prefix}dropped/{name}", Body=data)
    wait(lambda: platform.status("local/dropped").get("state") == "registered", 120)


@pytest.mark.skipif(not os.environ.get("POLYSHARE_TEST_TRANSLATION"), reason="POLYSHARE_TEST_TRANSLATION is not set")
def test_a_model_is_trained_and_translated_in_the_images_of_its_environments(
    cluster: Cluster, platform: Platform
) -> None:
    from tests.cluster.environments import push

    for name in ("sklearn", "translator-sklearn", "verify"):
        push(cluster, name)
    folder = platform.home / "points"
    folder.mkdir()
    rows = "".join(f"{i},{i * i % 7},{i % 2}\n" for i in range(200))
    (folder / "points.csv").write_text("a,b,kind\n" + rows)
    dataset = platform.json("dataset", "add", str(folder))["id"]
    model = str(platform.json("model", "add", "--dataset", dataset, "--image", "uv:sklearn")["id"])
    assert platform.until(model, "trained", "failed")["state"] == "trained"
    translation = str(platform.json("translate", model)["id"])
    status = platform.until(translation, "translated", "failed", seconds=400)
    assert status["state"] == "translated", status["reason"]
    assert fetched(platform, translation).keys() >= {"model.onnx", "certificate.json"}
