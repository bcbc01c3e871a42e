"""The workflow templates: what Argo itself says of them, and what they promise of themselves."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

FOLDER = Path(__file__).parents[2] / "infra" / "workflows"
ARGO = os.environ.get("ARGO") or shutil.which("argo")
TEMPLATES = {
    document["metadata"]["name"]: document["spec"]
    for path in sorted(FOLDER.glob("*.yaml"))
    for document in yaml.safe_load_all(path.read_text())
    if document["kind"] == "WorkflowTemplate"
}


@pytest.mark.skipif(ARGO is None, reason="there is no argo command: put it on PATH, or name it in ARGO")
def test_argo_finds_nothing_wrong() -> None:
    files = [str(path) for path in sorted(FOLDER.glob("*.yaml")) if "kind: WorkflowTemplate" in path.read_text()]
    done = subprocess.run(
        [str(ARGO), "lint", "--offline", "--strict", *files], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_there_is_one_for_each_action() -> None:
    assert TEMPLATES.keys() == {"polyshare-train", "polyshare-translate", "polyshare-ingest"}


@pytest.mark.parametrize("name", TEMPLATES)
def test_every_container_of_ours_is_powerless_and_limited(name: str) -> None:
    spec = TEMPLATES[name]
    assert spec["securityContext"]["runAsNonRoot"] is True
    for template in spec["templates"]:
        container: dict[str, Any] | None = template.get("container")
        if container is not None:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert container["resources"]["limits"].keys() == {"cpu", "memory"}
            assert template["retryStrategy"]["expression"] == "lastRetry.exitCode != '3'"


@pytest.mark.parametrize("name", TEMPLATES)
def test_what_is_over_is_cleaned_up(name: str) -> None:
    spec = TEMPLATES[name]
    assert spec["ttlStrategy"].keys() == {"secondsAfterSuccess", "secondsAfterFailure"}
    assert spec["podGC"]["strategy"] == "OnWorkflowSuccess"
    if "volumeClaimTemplates" in spec:
        assert spec["volumeClaimGC"]["strategy"] == "OnWorkflowCompletion"


@pytest.mark.parametrize("name", TEMPLATES)
def test_all_have_the_same_parameters(name: str) -> None:
    assert TEMPLATES[name]["arguments"] == TEMPLATES["polyshare-train"]["arguments"]
