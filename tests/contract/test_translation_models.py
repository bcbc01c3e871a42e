"""Every declared model is translated and agrees, and its translation is the same bytes again.

What was measured is kept in .make/translation: `make translation-matrix` makes the matrix of the documentation of it.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import jsonschema
import pytest

from polyshare.translation import certificate
from polyshare.translation.pipeline import Translated, TranslationFailed
from tests.contract.translation_world import Workshop, prepare, run, train
from tests.translation import declared, matrix

AGAIN = Path(__file__).with_name("translation_again.py")
MODELS = declared.models()


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if model.light else pytest.mark.slow) for name, model in MODELS.items()]
)
def test_a_model_is_translated_and_agrees_and_is_the_same_again(name: str, tmp_path: Path) -> None:
    model = MODELS[name]
    trained = train(name, tmp_path / "trained")
    workshop = Workshop(tmp_path / "w")
    if model.refused is not None:
        with pytest.raises(TranslationFailed) as raised:
            workshop.translate(trained)
        assert re.search(model.refused, str(raised.value))
        matrix.keep(name, {"refused": str(raised.value)})
        return
    made = workshop.translate(trained)
    document = _check(trained, made)
    again = tmp_path / "again"
    again.mkdir()
    _convert_again(workshop, again)
    programs = str(prepare("uv:verify").programs)
    run("uv:verify", str(AGAIN), programs, str(again / "candidate.onnx"), str(made.model))
    measured = {"verdict": document.verdict, "max_difference": made.metadata["max_absolute_difference"]}
    measured["dtypes"] = sorted({one.dtype for one in document.inputs.signature})
    matrix.keep(name, {**measured, "deterministic": True, "dynamic_batch": _answers_every_batch(document)})


def _check(folder: Path, made: Translated) -> certificate.Certificate:
    document = certificate.decode(made.certificate.read_bytes())
    assert document.verdict in ("agrees", "agrees_except")
    assert made.metadata["rows_compared"] >= 1000
    assert (document.inputs.test_rows > 0) == (folder / "test").is_dir()
    assert (certificate.GENERATED_ONLY in document.limits) == (not (folder / "test").is_dir())
    assert document.onnx.size == made.model.stat().st_size
    jsonschema.validate(json.loads(made.certificate.read_bytes()), certificate.schema())
    return document


def _answers_every_batch(document: certificate.Certificate) -> bool:
    """The gate's batches have 1, 2, 3 and 256 rows; where the first dimension is open, all were answered."""
    return all(one.shape[0] is None for one in document.inputs.signature)


def _convert_again(workshop: Workshop, out: Path) -> None:
    """What the converter's step did, in another process, of another hash seed, with other paths."""
    step = [run for run in workshop.runs if run.command[1].endswith("/translate.py")][-1]
    inside = {mount.inside: str(mount.host) for mount in step.mounts if not mount.writable}
    command = [inside.get(word, word) for word in step.command[2:]]
    command[command.index("--out") + 1] = str(out)
    programs = step.environment.programs
    assert programs is not None
    run(step.environment.reference.partition("@")[0], str(programs / "translate.py"), *command, hash_seed="1")
