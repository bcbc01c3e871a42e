"""`doctor --cluster` before the recorded answers of a real cluster: what is wrong is named, with why and what to do."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from polyshare.cli import main
from polyshare.errors import Unavailable
from polyshare.stack.app import FUNCTIONS
from polyshare.stack.cluster import examine_cluster
from polyshare.stack.doctor import Finding
from polyshare.stack.kube import Cluster
from tests.contract import cluster_api

NAMESPACE = "fn-doctor"
SERVING, EVENTING = f"/apis/serving.knative.dev/v1/namespaces/{NAMESPACE}", "/apis/eventing.knative.dev/v1"
ARGO = f"/apis/argoproj.io/v1alpha1/namespaces/{NAMESPACE}/workflowtemplates"
STATE = ("database", "buckets", "ledger")  # which the recorded answers do not lead to
Change = Callable[[dict[str, Any]], None]
Examine = Callable[..., dict[str, Finding]]


@pytest.fixture
def examine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Examine:
    def examined(change: Change = lambda answers: None, recorded: str = "whole") -> dict[str, Finding]:
        answers = cluster_api.read(recorded)
        change(answers)
        with cluster_api.api_server(answers, tmp_path) as kubeconfig:
            monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
            found = {finding.what: finding for finding in examine_cluster(lambda: Cluster.of_kubeconfig(NAMESPACE))}
        return {what: finding for what, finding in found.items() if not what.startswith((*STATE, "bucket"))}

    return examined


def wrong(found: dict[str, Finding]) -> dict[str, Finding]:
    assert all(finding.mend for finding in found.values() if not finding.well), found
    return {what: finding for what, finding in found.items() if not finding.well}


def named(answers: dict[str, Any], path: str, name: str) -> Any:
    return next(item for item in answers[path]["items"] if item["metadata"]["name"] == name)


def without(path: str, name: str) -> Change:
    def change(answers: dict[str, Any]) -> None:
        answers[path]["items"].remove(named(answers, path, name))

    return change


def test_a_whole_platform_is_well(examine: Examine) -> None:
    found = examine()
    assert wrong(found) == {}
    assert {f"function {name}" for name in FUNCTIONS} <= found.keys()
    assert "trigger polyshare.asset.registered → anchor" in found
    assert {
        "timer of sweep",
        "workflow template polyshare-train",
        "Argo Workflows: workflow-controller",
    } <= found.keys()


def test_a_kubeconfig_that_is_missing_broken_refused_or_of_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def told() -> str:
        with pytest.raises(SystemExit, match="1"):
            main(["doctor", "--cluster", "--json"])
        (finding,) = json.loads(capsys.readouterr().out)["findings"]
        assert finding["what"] == "cluster"
        assert finding["mend"]
        return str(finding["found"])

    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "nowhere"))
    assert "kubeconfig can't be used" in told()
    (tmp_path / "broken").write_text("clusters: [")
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "broken"))
    assert "kubeconfig can't be used" in told()
    with cluster_api.api_server({}, tmp_path, refuse=403) as kubeconfig:
        monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
        assert "account is refused" in told()
    assert "does not answer" in told()  # it has ended


@pytest.mark.parametrize(
    ("group", "part"),
    [
        ("serving.knative.dev", "Knative Serving"),
        ("eventing.knative.dev", "Knative Eventing"),
        ("argoproj.io", "Argo Workflows"),
    ],
)
def test_what_is_not_installed_is_named(examine: Examine, group: str, part: str) -> None:
    def change(answers: dict[str, Any]) -> None:
        for path in [path for path in answers if path.startswith(f"/apis/{group}/")]:
            del answers[path]

    missing = wrong(examine(change))[f"{part} ({group})"]
    assert "is missing" in missing.found
    assert f"install {part}" in missing.mend


def test_what_is_too_old_is_named_with_what_is_needed(examine: Examine) -> None:
    def change(answers: dict[str, Any]) -> None:
        controller = named(answers, "/apis/apps/v1/namespaces/knative-serving/deployments", "controller")
        controller["metadata"]["labels"]["app.kubernetes.io/version"] = "1.10.2"
        argo = named(answers, "/apis/apps/v1/deployments", "workflow-controller")
        argo["spec"]["template"]["spec"]["containers"][0]["image"] = "quay.io/argoproj/workflow-controller:v3.4.17"

    found = wrong(examine(change))
    assert found["Knative Serving: controller"].found.startswith("Knative Serving 1.10")
    assert found["Knative Serving: controller"].mend == "upgrade Knative Serving to 1.16 or newer"
    assert found["Argo Workflows: workflow-controller"].mend == "upgrade Argo Workflows to 3.6 or newer"


def test_a_controller_that_is_down_is_named(examine: Examine) -> None:
    def change(answers: dict[str, Any]) -> None:
        argo = named(answers, "/apis/apps/v1/deployments", "workflow-controller")
        argo["status"] = {"replicas": 1, "unavailableReplicas": 1}

    found = wrong(examine(change))["Argo Workflows: workflow-controller"]
    assert "0 of 1 replicas available" in found.found
    assert "kubectl -n argo" in found.mend


def test_a_function_that_is_missing_is_named(examine: Examine) -> None:
    found = wrong(examine(without(f"{SERVING}/services", "govern")))
    assert found["function govern"].found == "no Knative Service has it as FUNCTION_TARGET"


def test_a_trigger_a_timer_a_broker_and_a_template_that_are_missing_are_named(examine: Examine) -> None:
    def change(answers: dict[str, Any]) -> None:
        answers[f"{EVENTING}/namespaces/{NAMESPACE}/triggers"]["items"].clear()
        answers[f"{EVENTING}/namespaces/{NAMESPACE}/brokers"]["items"].clear()
        answers[f"/apis/sources.knative.dev/v1/namespaces/{NAMESPACE}/pingsources"]["items"].clear()
        without(ARGO, "polyshare-train")(answers)

    assert {*wrong(examine(change))} == {
        "broker",
        "timer of sweep",
        "workflow template polyshare-train",
        "trigger polyshare.asset.registered → anchor",
        "trigger polyshare.asset.anchored → run_job",
        "trigger polyshare.result.recorded → anchor",
        "trigger polyshare.result.anchored → translate",
        "trigger polyshare.asset.revoked → anchor",
        "trigger polyshare.job.ready → run_job",
    }


def test_an_api_server_that_fails_in_the_middle_is_told_check_by_check(examine: Examine) -> None:
    def change(answers: dict[str, Any]) -> None:
        del answers[f"/api/v1/namespaces/{NAMESPACE}/pods"]

    found = wrong(examine(change))
    assert "has no such thing" in found["functions"].found


def test_what_can_not_be_connected_is_one_finding() -> None:
    def connect() -> Cluster:
        raise Unavailable("it is away")

    assert [finding.found for finding in examine_cluster(connect)] == ["it is away"]


def test_what_holds_functions_up_is_told_with_what_to_do(examine: Examine) -> None:
    """Broken by hand on a real cluster, each in its own way."""

    def change(answers: dict[str, Any]) -> None:
        pods = answers[f"/api/v1/namespaces/{NAMESPACE}/pods"]["items"]
        (waiting,) = (
            pod["metadata"]["name"] for pod in pods if pod["metadata"]["name"].startswith("fetch-asset-00002")
        )
        answers[f"/api/v1/namespaces/{NAMESPACE}/pods/{waiting}:8080/proxy/readyz"] = "waits for trust_root"
        for name in ("store", "events", "database", "ledger"):
            answers[f"/api/v1/namespaces/{NAMESPACE}/secrets/{name}"] = {"kind": "Secret", "data": {}}

    found = wrong(examine(change, "broken"))
    assert {*found} == {
        *(f"function {name}" for name in ("fetch_asset", "translate", "govern", "prove", "run_job", "mlaas")),
        "workflow template polyshare-train",
    }
    told = {what.removeprefix("function "): finding for what, finding in found.items()}
    assert told["fetch_asset"].found.endswith("waits for trust_root; fetch-asset-00001 goes on serving")
    assert f"it mounts Secret {NAMESPACE}/nosuch, which is not there" in told["translate"].found
    assert 'Unable to fetch image "registry.example.org/fn-functions:nosuch"' in told["govern"].found
    assert "push the image" in told["govern"].mend
    assert "ExitCode128" in told["prove"].found
    assert 'exec: "/usr/bin/nosuch"' in told["prove"].found
    assert "is in ImagePullBackOff" in told["run_job"].found
    assert "push the image" in told["run_job"].mend
    assert "no node takes it: 0/1 nodes are available: 1 Insufficient memory" in told["mlaas"].found
    assert all("kubectl" in told[name].mend for name in ("fetch_asset", "prove", "run_job", "mlaas"))


def test_a_container_that_ends_again_and_again_is_told_with_how_it_ended(examine: Examine) -> None:
    def change(answers: dict[str, Any]) -> None:
        pods = answers[f"/api/v1/namespaces/{NAMESPACE}/pods"]["items"]
        (pod,) = (pod for pod in pods if pod["metadata"]["name"].startswith("prove-00002"))
        (container,) = (c for c in pod["status"]["containerStatuses"] if c["name"] == "function")
        container["state"] = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 20s restarting"}}
        container["lastState"] = {"terminated": {"exitCode": 78, "message": "FUNCTION_TARGET is wrong"}}

    found = wrong(examine(change, "broken"))["function prove"]
    assert "function is in CrashLoopBackOff, exit code 78: FUNCTION_TARGET is wrong" in found.found
