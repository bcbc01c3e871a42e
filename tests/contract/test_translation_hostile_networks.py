"""Hostile model files of TensorFlow and PyTorch: contained, reported, and nothing outside is touched."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from polyshare.errors import Invalid
from polyshare.jobs.job import Limits
from polyshare.translation.pipeline import TranslationFailed
from tests.contract.translation_world import Workshop, run

pytestmark = pytest.mark.slow

MAKES = Path(__file__).with_name("translation_hostile_networks.py")
SMALL = Limits(memory_bytes=1536 * 1024**2, wall_seconds=120)
X = {"inputs": [{"name": "x", "dtype": "float32", "shape": [None, 2]}]}


def refused(tmp_path: Path, sentence: str, limits: Limits | None = None) -> None:
    workshop = Workshop(tmp_path / "w", **({"limits": limits} if limits else {}))
    with pytest.raises(TranslationFailed, match=sentence):
        workshop.translate(tmp_path)


def make(framework: str, tmp_path: Path, kind: str, *arguments: str, **stated: object) -> None:
    run(f"uv:translator-{framework}", str(MAKES), kind, str(tmp_path / "model"), *arguments)
    if stated:
        (tmp_path / "model" / "signature.json").write_text(json.dumps(stated))


def prying(tmp_path: Path) -> str:
    """Code that tells which of the host's files it reached, by a sentence that the report shows."""
    secret = tmp_path / "secret"
    secret.write_text("ledger key")
    return f"""
found = []
try: found.append(open({str(secret)!r}).read())
except OSError: pass
try: open({str(tmp_path / "written")!r}, 'w').write('x'); found.append('written')
except OSError: pass
raise SystemExit('found: %r' % found)
"""


@pytest.mark.parametrize("ending", [".keras", ".h5"])
def test_code_in_a_keras_file_is_not_run(ending, tmp_path) -> None:
    make("tensorflow", tmp_path, "keras_lambda", ending)
    refused(tmp_path, "Lambda layer .* a file's code is not run: build it of Keras's own layers")


def test_code_in_a_keras_file_is_not_run_on_pytorch_either(tmp_path) -> None:
    make("tensorflow", tmp_path, "keras_lambda", ".keras")
    (tmp_path / "model" / "signature.json").write_text('{"framework": "keras-torch", "model": "model.keras"}')
    refused(tmp_path, "Lambda layer .* a file's code is not run")


def test_a_saved_models_initialiser_reads_and_writes_no_file_of_the_host(tmp_path) -> None:
    (tmp_path / "secret").write_text("ledger key")
    written = tmp_path / "written"
    make("tensorflow", tmp_path, "saved_model", str(tmp_path / "secret"), str(written))
    refused(tmp_path, "converter: FileNotFoundError: .*No such file or directory")
    assert not written.exists()


@pytest.mark.parametrize(
    ("how", "sentence"), [("cut", "TFLite can't open"), ("dies", "converter was stopped|converter: ")]
)
def test_a_corrupt_tflite_file_is_reported_also_where_tflite_dies_of_it(how, sentence, tmp_path) -> None:
    make("tensorflow", tmp_path, "lite", how)
    refused(tmp_path, sentence)


def test_a_keras_archive_that_nests_without_end_is_reported(tmp_path) -> None:
    make("tensorflow", tmp_path, "keras_archive", "deep")
    refused(tmp_path, "converter: RecursionError")


def test_a_keras_archive_that_unpacks_to_a_gigabyte_is_stopped(tmp_path) -> None:
    make("tensorflow", tmp_path, "keras_archive", "bomb")
    refused(tmp_path, "memory|MemoryError|JSONDecodeError", SMALL)


def test_a_pickle_that_executes_is_not_run_for_a_state_dict(tmp_path) -> None:
    make("torch", tmp_path, "pickled", prying(tmp_path))
    refused(tmp_path, "more than a state dict, and a pickle's code is not run")
    assert not (tmp_path / "written").exists()


def test_torchscript_that_writes_when_it_is_loaded_writes_nothing_outside(tmp_path) -> None:
    written = tmp_path / "written"
    make("torch", tmp_path, "script", str(written), **X)
    Workshop(tmp_path / "w").translate(tmp_path)  # TorchScript does not notice that its file is nowhere
    assert not written.exists()


def test_a_pickle_in_an_exported_program_reaches_no_file(tmp_path) -> None:
    make("torch", tmp_path, "exported", prying(tmp_path))
    refused(tmp_path, r"found: \[\]")
    assert not (tmp_path / "written").exists()


def test_the_source_of_a_state_dict_reaches_no_file(tmp_path) -> None:
    make("torch", tmp_path, "weights", **X, **{"source": "model.py", "class": "Net", "model": "model.safetensors"})
    (tmp_path / "model" / "model.py").write_text(prying(tmp_path))
    refused(tmp_path, r"found: \[\]")
    assert not (tmp_path / "written").exists()


@pytest.mark.parametrize(
    ("stated", "sentence"),
    [
        ({}, 'put the model\'s source beside it, and in signature.json "source": "model.py", "class": "Net"'),
        ({"source": "model.py", "class": "Net"}, 'a Net does not say what it takes: add to signature.json "inputs"'),
        ({"source": "../model.py", "class": "Net"} | X, "names the \"source\" '../model.py', which is not there"),
        ({"source": "model.py", "class": "Nat"} | X, "model.py has no torch.nn.Module 'Nat'"),
        ({"source": "model.py", "class": "Wide"} | X, "the state dict does not fit Wide"),
        ({"source": "model.py", "class": "Net", "arguments": {"n": 1}} | X, 'Net can\'t be made with "arguments"'),
    ],
)
def test_what_a_state_dict_lacks_is_said(stated, sentence, tmp_path) -> None:
    make("torch", tmp_path, "weights", **{"model": "model.safetensors", **stated})
    (tmp_path / "model" / "model.py").write_text(
        "import torch\n"
        "class Net(torch.nn.Linear):\n    def __init__(self): super().__init__(2, 2)\n"
        "class Wide(torch.nn.Linear):\n    def __init__(self): super().__init__(3, 3)\n"
    )
    refused(tmp_path, sentence)


def test_a_safetensors_header_that_lies_about_its_length_is_no_model(tmp_path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.safetensors").write_bytes((2**62).to_bytes(8, "little") + b"{}")
    with pytest.raises(Invalid, match="no model that can be translated"):
        Workshop(tmp_path / "w").translate(tmp_path)
