"""env list and env install."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from polyshare.cli import main


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLYSHARE_ENVIRONMENTS", str(tmp_path / "environments"))


def listed(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert main(["env", "list", "--json"]) == 0
    return {e["name"]: e for e in json.loads(capsys.readouterr().out)["environments"]}


def test_an_environment_is_installed_with_progress_and_then_listed_with_its_size(
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = listed(capsys)
    assert {e["size"] for e in before.values()} == {None}
    assert "scikit-learn models are trained" in before["sklearn"]["purpose"]
    assert main(["env", "install", "verify"]) == 0
    told = capsys.readouterr()
    assert "installing verify" in told.err
    assert "Installed" in told.err
    assert before["verify"]["reference"].partition("@")[2][:19] in told.out
    after = listed(capsys)
    assert after["verify"]["size"] > 50_000_000
    assert {name: e["size"] for name, e in after.items() if name != "verify"}.keys() == before.keys() - {"verify"}
    assert main(["env", "list"]) == 0
    assert "polyshare env install" in capsys.readouterr().out


def test_a_wrong_name_is_answered_with_the_list_and_nothing_is_installed(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["env", "install", "verify", "nothing"]) == 1
    assert "uv:sklearn, " in capsys.readouterr().err
    assert not (tmp_path / "environments").exists()
