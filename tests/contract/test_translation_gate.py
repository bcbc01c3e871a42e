"""The gate and the certificate on models written by hand: every signature, and wrong conversions of each kind."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest

from polyshare.jobs.sandbox import PROGRAMS, Mount, Prepared
from polyshare.translation import certificate
from polyshare.translation.certificate import Certificate
from polyshare.translation.pipeline import Options, TranslationFailed
from polyshare.translation.translators import Native, Signature, Translator
from tests.contract.translation_world import ROOT, Workshop, prepare, run

HERE = Path(__file__).parent
SCHEMA = json.loads(Path(certificate.__file__).with_name("certificate.schema.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of a translator of hand-written models; its packages are those of the gate's environment."""
    folder = tmp_path_factory.mktemp("programs")
    folder.chmod(0o755)
    shutil.copy(ROOT / "infra" / "images" / "translator" / "harness.py", folder)
    shutil.copy(HERE / "translation_faults.py", folder)
    shutil.copy(HERE / "translation_handmade.py", folder / "handmade.py")
    (folder / "translate.py").write_text("import handmade, harness\nharness.translate(handmade.convert)\n")
    (folder / "predict.py").write_text("import handmade, harness\nharness.predict(handmade.load, handmade.stages)\n")
    return folder


@pytest.fixture
def translate(programs: Path, tmp_path: Path) -> Callable[..., Certificate]:
    """Translates a hand-written model; gives its certificate, which holds to the published schema, whatever it says."""

    def prepared(reference: str) -> Prepared:
        if reference != "uv:handmade":
            return prepare(reference)
        gate = prepare("uv:verify")
        mounts = tuple(mount for mount in gate.mounts if mount.inside != PROGRAMS)
        return replace(gate, mounts=(*mounts, Mount(programs, PROGRAMS)), programs=programs)

    def found(_folder: Path) -> Native:
        translator = Translator("handmade", "uv:handmade", ("handmade",), lambda _path: True, "case.json", 21)
        return Native(translator, "case.json", Signature())

    def certified(
        case: str, fault: str = "", *, options: Options | None = None, beside: bool = True, opset: int = 0
    ) -> Certificate:
        (tmp_path / "model").mkdir(exist_ok=True)
        (tmp_path / "model" / "case.json").write_text(json.dumps({"case": case, "fault": fault, "opset": opset}))
        work = tmp_path / f"w{len(list(tmp_path.iterdir()))}"
        workshop = Workshop(work, find=found, prepare=prepared, beside=beside)
        try:
            path = workshop.translate(tmp_path, options).certificate
        except TranslationFailed as error:
            if error.report is None:
                raise
            path = error.report
        jsonschema.validate(json.loads(path.read_bytes()), SCHEMA)
        return certificate.decode(path.read_bytes())

    return certified


def test_inputs_are_made_and_differences_measured_as_stated() -> None:
    run("uv:verify", str(HERE / "translation_measures.py"), str(prepare("uv:verify").programs))


def test_inputs_of_many_types_and_ranks_and_several_heads_agree(translate) -> None:
    document = translate("heads")
    assert (document.verdict, document.reasons) == ("agrees", [])
    assert [one.name for one in document.outputs] == ["kind", "label", "each", "mood"]
    assert all(one.native_refused == one.onnx_failed == 0 for one in document.inputs.answered.values())
    # The label is compared as it is; each position of `each`, which has no label, by its largest score.
    assert {one.output for one in document.class_agreement} == {"label", "each"}
    assert document.inputs.answered["searched"].rows > 0
    assert document.inputs.answered["empty"].both == 1


@pytest.mark.parametrize(
    "case",
    [
        "fixed",
        "recurrent",
        "quantised",
        *(pytest.param(case, marks=pytest.mark.slow) for case in ("images", "prices", "types", "dynamic", "straight")),
    ],
)
def test_models_of_every_kind_agree(case, translate) -> None:
    document = translate(case)
    assert document.verdict in ("agrees", "agrees_except"), document.reasons


# Model, fault, and the stage of the model, or else the operator, where the report says that they come apart.
LIGHT = (
    ("heads", "swapped_outputs", ""),
    ("heads", "class_names", "label (Gather)"),
    ("prices", "float16_overflow", "Cast"),
    ("straight", "far_away", "MatMul"),
    ("recurrent", "lost_direction", "each (LSTM)"),
)
REST = (
    ("heads", "old_softmax", "each (Softmax)"),
    ("heads", "baked_length", "pooled (ReduceSum)"),
    ("images", "transposed_weights", "logits (Gemm)"),
    ("images", "transposed_kernel", "convolved (Conv)"),
    ("images", "missing_softmax", "kind (Softmax)"),
    ("images", "dropped_preprocessing", "centred (Sub)"),
    ("images", "wrong_padding", "convolved (Conv)"),
    ("images", "wrong_default", "bent (LeakyRelu)"),
    ("images", "missing_bias", "logits (Gemm)"),
    ("images", "normalisation_epsilon", "normed (BatchNormalization)"),
    ("images", "resize_mode", "larger (Resize)"),
    ("images", "counted_padding", "halved (AveragePool)"),
    ("dynamic", "not_quantised", "q (DynamicQuantizeLinear)"),
    ("quantised", "off_by_a_step", "y (QuantizeLinear)"),
)


@pytest.mark.parametrize(
    ("case", "fault", "stage"), [*LIGHT, *(pytest.param(*one, marks=pytest.mark.slow) for one in REST)]
)
def test_a_planted_wrong_conversion_is_refused_and_said_where(case, fault, stage, translate) -> None:
    document = translate(case, fault, options=Options(rows=64))
    assert document.verdict == "disagrees"
    assert document.reasons
    first = document.first_disagreement
    assert (first.stage or first.operator if first else "") == stage


def test_a_search_climbs_to_what_random_rows_miss(translate) -> None:
    document = translate("straight", "far_away")
    assert document.verdict == "disagrees"
    assert document.outputs[0].by_origin["searched"].rows_outside
    assert document.inputs.searched is not None
    first, *_, last = document.inputs.searched.ratios
    assert first < 1 < last


def test_runs_that_take_turns_give_the_same_certificate(translate) -> None:
    assert translate("fixed", beside=False).encode() == translate("fixed").encode()


def test_a_candidate_of_another_opset_than_was_asked_for_is_refused(translate) -> None:
    with pytest.raises(TranslationFailed, match="opset 21 was asked for, the model has 20"):
        translate("straight", opset=20)
