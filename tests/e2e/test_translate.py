"""Translation on a running stack: it follows training by itself, and fails without harm to the model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.machine import Machine, wait_until


@pytest.fixture
def dataset(stack: Machine, tmp_path: Path) -> str:
    (tmp_path / "data.csv").write_text("a,b,kind\n" + "".join(f"{i},{i * i % 7},{i % 2}\n" for i in range(60)))
    return str(stack.json("dataset", "add", str(tmp_path / "data.csv"))["id"])


def add(stack: Machine, dataset: str, *more: str) -> Any:
    model = stack.json("model", "add", "--dataset", dataset, "--image", "uv:sklearn", *more)
    status = stack.json("status", model["id"], "--follow")
    assert status["state"] == "trained", status["reason"]
    return status


def test_a_trained_model_is_translated_by_itself_unless_told_not_to_and_conforms(stack: Machine, dataset: str) -> None:
    quiet = add(stack, dataset, "--no-translate")
    loud = add(stack, dataset)
    wait_until(lambda: stack.json("status", loud["id"])["translation"], 30)
    by_itself = stack.json("status", loud["id"])["translation"]
    assert stack.json("translate", loud["id"], "--wait")["state"] == "translated"
    assert stack.json("translate", loud["id"])["id"] == by_itself
    assert stack.json("status", quiet["id"])["translation"] is None
    record = stack.json("conform", loud["id"])
    assert record["statement"]["result"] == "MATCH"
    assert record["statement"]["inputs"]["as_certified"]
    assert (record["translation"], record["subject"], record["organisation"]) == (by_itself, "me", "local")
    assert stack.json("conform", by_itself)["id"] == record["id"]
    assert [one["id"] for one in stack.json("show", loud["id"])["conformance"]["conformances"]] == [record["id"]]
    assert "MATCH" in stack.polyshare("show", by_itself).stdout


def test_a_failed_translation_leaves_the_model_trained_and_its_report_to_be_fetched(
    stack: Machine, dataset: str, tmp_path: Path
) -> None:
    (tmp_path / "code").mkdir()
    shutil.copy(Path(__file__).with_name("translation_lies.py"), tmp_path / "code" / "train.py")
    model = add(stack, dataset, "--source", str(tmp_path / "code"))
    wait_until(lambda: stack.json("status", model["id"])["translation"], 30)
    translation = stack.json("status", model["id"])["translation"]
    failed = stack.json("status", translation, "--follow", expect=1)
    assert "does not agree" in failed["reason"]
    assert f"polyshare fetch {translation} --part report" in stack.polyshare("status", translation, expect=1).stdout
    assert stack.json("status", model["id"])["state"] == "trained"
    stack.polyshare("fetch", translation, expect=1)
    stack.polyshare("fetch", translation, "--part", "report", "-o", str(tmp_path / "report"))
    assert json.loads((tmp_path / "report" / "certificate.json").read_bytes())["verdict"] == "disagrees"
    assert [path.name for path in (tmp_path / "report").glob("convert*.log")]
