from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from polyshare.errors import Invalid, Mismatch, NotFound, Unavailable
from polyshare.jobs import environment
from tests.unit.jobs.conftest import CACHE

IMAGES = Path(__file__).parents[3] / "infra" / "images"


def versions(lock: Path) -> dict[str, str]:
    return {m[1]: m[2] for m in re.finditer(r"^([a-z0-9-]+)==(\S+)( ;.*)? \\$", lock.read_text(), re.MULTILINE)}


def test_a_name_is_pinned_by_the_digest_of_its_folder() -> None:
    pinned = environment.resolve("uv:sklearn")
    assert re.fullmatch(r"uv:sklearn@sha256:[0-9a-f]{64}", pinned)
    assert environment.resolve(pinned) == pinned
    assert environment.digest_of(pinned).hex() == pinned[-64:]


def test_the_digest_changes_with_lock_and_programs_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("a==1")
    first = environment.folder_digest(tmp_path)
    (tmp_path / "README.md").write_text("notes")
    assert environment.folder_digest(tmp_path) == first
    (tmp_path / "train.py").write_text("pass")
    second = environment.folder_digest(tmp_path)
    (tmp_path / "requirements.txt").write_text("a==2")
    assert len({first, second, environment.folder_digest(tmp_path)}) == 3


def test_programs_shared_by_environments_count_in_each(tmp_path: Path) -> None:
    for name, programs in (("shared", {"a.py": "1", "b.py": "1"}), ("own", {"b.py": "2"})):
        (tmp_path / name).mkdir()
        for file, text in programs.items():
            (tmp_path / name / file).write_text(text)
    (tmp_path / "own" / "requirements.txt").write_text("a==1")
    without = environment.folder_digest(tmp_path / "own")
    (tmp_path / "own" / "programs.txt").write_text("shared\n")
    first = environment.folder_digest(tmp_path / "own")
    (tmp_path / "shared" / "b.py").write_text("3")  # own has a b.py itself
    assert environment.folder_digest(tmp_path / "own") == first
    (tmp_path / "shared" / "a.py").write_text("2")
    assert len({without, first, environment.folder_digest(tmp_path / "own")}) == 3


@pytest.mark.parametrize("folder", sorted(lock.parent.name for lock in IMAGES.glob("*/requirements.txt")))
def test_an_image_has_the_programs_of_its_environment(folder: str) -> None:
    shared = IMAGES / folder / "programs.txt"
    own = [folder] if any((IMAGES / folder).glob("*.py")) else []
    names = [*(shared.read_text().split() if shared.exists() else []), *own]
    recipe = (IMAGES / folder / "Containerfile").read_text()
    assert f"COPY {' '.join(f'{name}/*.py' for name in names)} /opt/polyshare/programs/" in recipe
    assert f"COPY {folder}/requirements.txt /opt/polyshare/programs/" in recipe


@pytest.mark.parametrize("reference", ["", "sklearn", "uv:", "pip:x", "uv:a\nb"])
def test_what_is_no_environment_is_refused_saying_what_to_write(reference: str) -> None:
    with pytest.raises(Invalid, match=r"uv:<name>"):
        environment.resolve(reference)


@pytest.mark.parametrize("name", ["nothing", "../trainer-sklearn", "Sklearn", "."])
def test_an_unknown_name_is_answered_with_the_known_ones(name: str) -> None:
    with pytest.raises(NotFound, match="uv:sklearn"):
        environment.resolve(f"uv:{name}")


def test_another_digest_than_this_installations_is_refused() -> None:
    other = "uv:sklearn@sha256:" + "0" * 64
    with pytest.raises(NotFound, match="it has uv:sklearn"):
        environment.resolve(other)
    with pytest.raises(Mismatch, match="not what this installation has"):
        environment.prepare(other, CACHE)
    with pytest.raises(Invalid, match="not pinned"):
        environment.prepare("uv:sklearn", CACHE)


def test_an_environment_that_filled_the_disk_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some of its bytecode may be cut, which nothing else would tell before a job fails by it."""
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=4096))
    with pytest.raises(Unavailable, match="is full: free some space"):
        environment.prepare(environment.resolve("uv:verify"), tmp_path)
    assert os.listdir(tmp_path) == []


def test_a_prepared_environment_names_its_wheels_and_is_reused() -> None:
    reference = environment.resolve("uv:sklearn")
    first = environment.prepare(reference, CACHE)
    said: list[str] = []
    assert environment.prepare(reference, CACHE, said.append) == first
    assert said == []
    installed = {wheel.name: wheel.version for wheel in first.wheels}
    assert installed.items() <= versions(IMAGES / "trainer-sklearn" / "requirements.txt").items() | installed.items()
    assert installed["scikit-learn"] == "1.9.1"
    assert all(re.fullmatch(r"[0-9a-f]{64}", wheel.sha256) for wheel in first.wheels)
    assert first.programs is not None
    assert (first.programs / "train.py").is_file()


@pytest.mark.parametrize(
    ("name", "has"),
    [
        ("sklearn", {"scikit-learn", "skops", "numpy", "scipy", "joblib"}),
        ("boosting", {"catboost", "skops", "numpy", "scipy", "joblib"}),
        ("tensorflow", {"tensorflow-cpu", "keras", "numpy", "h5py"}),
        ("jax", {"flax", "numpy", "scipy"}),
        ("torch", {"torch", "keras", "numpy", "safetensors"}),
    ],
)
def test_models_are_converted_by_the_versions_that_trained_them(name: str, has: set[str]) -> None:
    trainer = versions(IMAGES / f"trainer-{name}" / "requirements.txt")
    translator = versions(IMAGES / f"translator-{name}" / "requirements.txt")
    assert trainer.keys() >= has
    assert {name: translator.get(name) for name in trainer} == trainer


@pytest.mark.parametrize("folder", sorted(lock.parent.name for lock in IMAGES.glob("*/requirements.txt")))
def test_every_lock_has_hashes_and_names_no_host(folder: str) -> None:
    text = (IMAGES / folder / "requirements.txt").read_text()
    assert "://" not in text
    for entry in text.replace("\\\n", " ").splitlines():
        assert not entry.strip() or entry.startswith("#") or "--hash=sha256:" in entry, entry


def test_the_machines_class_has_what_changes_results() -> None:
    found = environment.machine_class(2)
    assert found["threads"] == "2"
    assert found.keys() >= {"architecture", "cpu", "accelerator", "driver", "python"}
