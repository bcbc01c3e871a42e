"""Translation of scikit-learn models, on real models and in real sandboxes."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from polyshare.jobs.sandbox import PROGRAMS
from polyshare.translation import certificate
from polyshare.translation.pipeline import Options, Translated, TranslationFailed
from tests.contract import translation_models_list as models
from tests.contract.translation_world import Workshop, prepare, run, train

CANONICAL = Path(__file__).with_name("translation_canonical.py")
FAULTS = Path(__file__).with_name("translation_faults.py")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory):
    """Trains a model once for all tests here."""
    root = tmp_path_factory.mktemp("trained")
    return lambda name: train(name, root / name)


@pytest.fixture(scope="module")
def translated(trained, tmp_path_factory: pytest.TempPathFactory):
    """Translates a model once for all tests here: what came of it, and the workshop it came from."""
    root = tmp_path_factory.mktemp("translated")
    made: dict[str, tuple[Translated, Workshop]] = {}

    def once(name: str) -> tuple[Translated, Workshop]:
        if name not in made:
            workshop = Workshop(root / name)
            made[name] = workshop.translate(trained(name)), workshop
        return made[name]

    return once


@pytest.fixture(scope="module")
def converted(translated):
    """The converter's files of a model: faults are planted in copies of them."""
    return lambda name: next(translated(name)[1].folder.glob("convert-*-out"))


def test_translating_twice_gives_the_same_model_and_the_same_certificate(trained, translated, tmp_path) -> None:
    first, _ = translated("scaled_logistic_regression")
    shutil.copytree(trained("scaled_logistic_regression"), tmp_path / "elsewhere")
    second = Workshop(tmp_path / "w").translate(tmp_path / "elsewhere")
    assert first.model.read_bytes() == second.model.read_bytes()
    assert first.certificate.read_bytes() == second.certificate.read_bytes()


def test_canonical_form_does_not_depend_on_names_and_order(converted) -> None:
    programs = str(prepare("uv:verify").programs)
    run("uv:verify", str(CANONICAL), programs)
    real = [
        str(converted(name) / "candidate.onnx") for name in ("scaled_logistic_regression", "hist_gradient_boosting")
    ]
    run("uv:verify", str(CANONICAL), programs, *real)


def test_the_native_run_sees_the_inputs_and_no_onnx_no_plan_no_test_data(translated) -> None:
    _, workshop = translated("scaled_logistic_regression")
    native = next(r for r in workshop.runs if r.command[1] == f"{PROGRAMS}/predict.py")
    names = {mount.host.name for mount in native.mounts}
    assert names == {"model", "live-requests", "live-out"}
    given = next(mount.host for mount in native.mounts if mount.host.name == "live-requests")
    assert {path.name for path in given.iterdir()} == {"signature.json", "0.npz", "1.npz", "2.npz", "3.npz"}
    assert [mount.inside for mount in native.mounts if mount.writable] == ["/opt/ml/output"]


@pytest.mark.parametrize(("name", "fault"), models.PLANTED)
def test_a_planted_wrong_conversion_is_refused(name, fault, trained, converted, tmp_path) -> None:
    _refused(name, fault, trained, converted, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "fault"), models.PLANTED_MORE)
def test_every_planted_wrong_conversion_is_refused(name, fault, trained, converted, tmp_path) -> None:
    _refused(name, fault, trained, converted, tmp_path)


def _refused(name: str, fault: str, trained, converted, tmp_path: Path) -> None:
    def tamper(program: str, out: Path) -> None:
        if program == "translate.py":
            run("uv:verify", str(FAULTS), fault, str(out / "candidate.onnx"))

    workshop = Workshop(tmp_path / "w", tamper=tamper, converted=converted(name))
    with pytest.raises(TranslationFailed, match="does not agree") as raised:
        workshop.translate(trained(name))
    assert raised.value.report is not None
    report = certificate.decode(raised.value.report.read_bytes())
    assert report.verdict == "disagrees"
    assert report.reasons


@pytest.mark.slow
def test_the_opset_and_the_dtype_asked_for_are_what_comes_out(trained, tmp_path) -> None:
    made = Workshop(tmp_path / "w").translate(
        trained("hist_gradient_boosting_regressor"), Options(opset=17, dtype="float32")
    )
    document = certificate.decode(made.certificate.read_bytes())
    assert document.onnx.opset["ai.onnx"] == 17
    assert document.converter.dtype == "float32"
    # Float32 inputs alone move this model: the certificate says by how much, apart from the agreement.
    assert document.outputs[0].cast is not None
    assert document.outputs[0].cast.max_absolute > document.outputs[0].by_origin["test"].max_absolute


def test_an_opset_that_the_converter_does_not_write_is_refused_with_what_to_do(trained, tmp_path) -> None:
    with pytest.raises(TranslationFailed, match="ask for a lower one"):
        Workshop(tmp_path / "w").translate(trained("scaled_logistic_regression"), Options(opset=26))


@pytest.mark.slow
def test_a_tightened_tolerance_refuses_what_the_stated_one_accepts(trained, tmp_path) -> None:
    options = Options.from_json({"tolerances": {"float32": {"absolute": 0.0, "relative": 0.0}}})
    with pytest.raises(TranslationFailed, match="outside the tolerance"):
        Workshop(tmp_path / "w").translate(trained("svc"), options)
