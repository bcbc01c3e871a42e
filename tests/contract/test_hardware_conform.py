"""polyshare conform: a real translation, its certificate's inputs made again, on the CPU and on OpenVINO."""

from __future__ import annotations

import json
import platform
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from polyshare.api import Conform
from polyshare.errors import Invalid, Mismatch
from polyshare.hardware.conform import conform
from polyshare.hardware.providers import PROVIDERS, Target
from polyshare.hardware.run import NotRun
from polyshare.hashing import hash_file
from polyshare.jobs.sandbox import PROGRAMS, Mount, Prepared
from polyshare.translation import certificate
from polyshare.translation.translators import Native, Signature, Translator
from tests.contract.translation_world import CACHE, ROOT, Workshop, prepare

HERE = Path(__file__).parent

CPU, OPENVINO = Target(PROVIDERS["cpu"]), Target(PROVIDERS["openvino"])
on_x86 = pytest.mark.skipif(platform.machine() != "x86_64", reason="OpenVINO's wheels are for x86-64")


@pytest.fixture(scope="module")
def translate(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Translates a model of translation_handmade.py once, with test data if there is a `<case>.csv` for it."""
    root = tmp_path_factory.mktemp("handmade")
    programs = root / "programs"
    programs.mkdir(mode=0o755)
    shutil.copy(ROOT / "infra" / "images" / "translator" / "harness.py", programs)
    shutil.copy(HERE / "translation_faults.py", programs)
    shutil.copy(HERE / "translation_handmade.py", programs / "handmade.py")
    (programs / "translate.py").write_text("import handmade, harness\nharness.translate(handmade.convert)\n")
    (programs / "predict.py").write_text("import handmade, harness\nharness.predict(handmade.load, handmade.stages)\n")

    def prepared(reference: str) -> Prepared:
        if reference != "uv:handmade":
            return prepare(reference)
        mounts = tuple(mount for mount in prepare("uv:verify").mounts if mount.inside != PROGRAMS)
        return replace(prepare("uv:verify"), mounts=(*mounts, Mount(programs, PROGRAMS)), programs=programs)

    def found(_folder: Path) -> Native:
        translator = Translator("handmade", "uv:handmade", ("handmade",), lambda _path: True, "case.json", 21)
        return Native(translator, "case.json", Signature())

    def once(case: str) -> Path:
        folder = root / case
        if not folder.exists():
            (folder / "model").mkdir(parents=True)
            (folder / "model" / "case.json").write_text(json.dumps({"case": case}))
            if case == "straight":
                (folder / "test").mkdir()
                rows = (",".join(str((row * column) % 7 / 2) for column in range(8)) for row in range(60))
                (folder / "test" / "rows.csv").write_text("\n".join(rows))
            made = Workshop(folder / "work", find=found, prepare=prepared).translate(folder)
            made.model.parent.rename(folder / "translation")
        return folder

    return once


@pytest.fixture
def straight(translate: Callable[[str], Path]) -> Path:
    """A matrix of float32, which OpenVINO takes whole."""
    return translate("straight") / "translation"


@pytest.fixture
def rows(translate: Callable[[str], Path]) -> Path:
    """The test data that it was certified with."""
    return translate("straight") / "test"


def conformed(folder: Path, target: Target, test: Path | None) -> Conform:
    return conform(folder, target, test=test, cache=CACHE)


def known(folder: Path) -> certificate.Certificate:
    return certificate.decode((folder / "certificate.json").read_bytes())


def copied(translation: Path, folder: Path, changed: certificate.Certificate) -> Path:
    """The translation with another certificate."""
    shutil.copytree(translation, folder)
    (folder / "certificate.json").write_bytes(changed.encode())
    return folder


def test_the_cpu_conforms_to_itself_on_the_very_inputs_of_the_certificate(straight: Path, rows: Path) -> None:
    found = conformed(straight, CPU, rows)
    assert (found.result, found.reasons) == ("MATCH", [])
    assert found.inputs.as_certified
    assert found.inputs.digest == known(straight).inputs.digest
    assert found.inputs.rows["test"] == 60
    assert found.onnx == str(hash_file(straight / "model.onnx").digest)
    assert found.certificate == str(hash_file(straight / "certificate.json").digest)
    assert found.hardware.environment.startswith("uv:verify@sha256:")
    assert all(one.rows_outside == 0 and one.rows > 1000 for one in found.outputs)


def test_without_the_test_data_it_says_that_the_inputs_are_others(straight: Path) -> None:
    found = conformed(straight, CPU, None)
    assert found.result == "MATCH"
    assert not found.inputs.as_certified
    assert "test" not in found.inputs.rows


@on_x86
def test_openvino_answers_the_very_inputs_of_the_certificate(straight: Path, rows: Path) -> None:
    found = conformed(straight, OPENVINO, rows)
    assert (found.result, found.reasons) == ("MATCH", [])
    assert found.inputs.as_certified
    assert found.nodes_elsewhere == []
    assert "openvino" in found.hardware.runtime


@on_x86
def test_what_is_within_the_tolerance_matches_and_what_is_not_does_not(
    translate: Callable[[str], Path], tmp_path: Path
) -> None:
    images = translate("images") / "translation"
    found = conformed(images, OPENVINO, None)
    assert (found.result, found.reasons) == ("MATCH", [])
    assert found.outputs[0].max_absolute > 0
    assert found.outputs[0].labels_differ == 0
    exact = {
        name: msgspec.structs.replace(one, absolute=0.0, relative=0.0) for name, one in known(images).tolerances.items()
    }
    strict = copied(images, tmp_path / "strict", msgspec.structs.replace(known(images), tolerances=exact))
    refused = conformed(strict, OPENVINO, None)
    assert refused.result == "MISMATCH"
    assert "outside the tolerance" in refused.reasons[0]
    assert refused.outputs[0].rows_outside > 0


@on_x86
def test_a_model_that_the_provider_does_not_take_is_no_mismatch(translate: Callable[[str], Path]) -> None:
    of_many_types = translate("types") / "translation"
    with pytest.raises(NotRun, match=r"does not take .* of the nodes"):
        conformed(of_many_types, OPENVINO, None)
    allowed = conformed(of_many_types, Target(PROVIDERS["openvino"], allow_cpu=True), None)
    assert allowed.result == "MATCH", allowed.reasons
    assert allowed.nodes_elsewhere


def test_a_certificate_of_another_file_and_none_are_refused(straight: Path, tmp_path: Path) -> None:
    shutil.copytree(straight, tmp_path / "other")
    with (tmp_path / "other" / "model.onnx").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(Mismatch, match="not the file that its certificate is of"):
        conformed(tmp_path / "other", CPU, None)
    (tmp_path / "other" / "certificate.json").unlink()
    with pytest.raises(Invalid, match=r"no certificate\.json"):
        conformed(tmp_path / "other", CPU, None)
