"""Hostile files given to translation: contained, reported as what they are, and nothing outside is touched."""

from __future__ import annotations

import json
import pickle
import socket
import zipfile
from pathlib import Path

import pytest

from polyshare.errors import Invalid
from polyshare.jobs.job import Limits
from polyshare.translation.pipeline import TranslationFailed
from tests.contract.translation_world import Workshop, prepare, run

HOSTILE = Path(__file__).with_name("translation_hostile.py")


class _Runs:
    """A pickle that, loaded, writes outside, and looks for secrets and the network."""

    def __init__(self, code: str) -> None:
        self.code = code

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return exec, (self.code,)


def _pickled(tmp_path: Path, code: str) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    # The name of a scikit-learn module, so that it is taken for a model.
    (folder / "model.pkl").write_bytes(pickle.dumps([_Runs(code), "sklearn.linear_model"]))
    return tmp_path


def test_a_pickle_that_executes_reaches_no_file_and_no_network(tmp_path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("ledger key")
    with socket.create_server(("127.0.0.1", 0)) as server:
        code = f"""
import socket
found = []
try: found.append(open({str(secret)!r}).read())
except OSError: pass
try: open({str(tmp_path / "written")!r}, 'w').write('x')
except OSError: pass
try: socket.create_connection(('127.0.0.1', {server.getsockname()[1]}), timeout=2); found.append('network')
except OSError: pass
raise SystemExit('found: %r' % found)
"""
        with pytest.raises(TranslationFailed, match=r"found: \[\]"):
            Workshop(tmp_path / "w").translate(_pickled(tmp_path, code))
    assert not (tmp_path / "written").exists()


@pytest.mark.slow
def test_a_pickle_that_never_ends_is_stopped_and_said_so(tmp_path) -> None:
    workshop = Workshop(tmp_path / "w", limits=Limits(wall_seconds=5))
    with pytest.raises(TranslationFailed, match=r"converter was stopped \(time\)"):
        workshop.translate(_pickled(tmp_path, "import time; time.sleep(600)"))


@pytest.mark.slow
def test_a_pickle_that_bombs_memory_is_stopped_and_said_so(tmp_path) -> None:
    workshop = Workshop(tmp_path / "w", limits=Limits(memory_bytes=600 * 1024**2, wall_seconds=60))
    with pytest.raises(TranslationFailed, match=r"memory|MemoryError"):
        workshop.translate(_pickled(tmp_path, "import time\nx = bytearray(3 * 1024**3)\ntime.sleep(60)"))


@pytest.mark.slow
def test_links_among_the_converters_outputs_are_refused(tmp_path) -> None:
    code = """
import os
os.symlink('/etc/hostname', '/opt/ml/output/candidate.onnx')
os._exit(0)
"""
    with pytest.raises(TranslationFailed, match="no usable ONNX file"):
        Workshop(tmp_path / "w").translate(_pickled(tmp_path, code))


def test_a_fifo_among_the_converters_outputs_does_not_hang_the_runner(tmp_path) -> None:
    code = "import os; os.mkfifo('/opt/ml/output/candidate.onnx'); os._exit(0)"
    with pytest.raises(TranslationFailed, match="no usable ONNX file"):
        Workshop(tmp_path / "w").translate(_pickled(tmp_path, code))


@pytest.mark.slow
def test_a_skops_file_with_untrusted_types_is_reported_not_run_here(tmp_path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    run("uv:translator-sklearn", str(HOSTILE), "untrusted_skops", str(folder / "model.skops"))
    with pytest.raises(TranslationFailed, match="converter"):
        Workshop(tmp_path / "w").translate(tmp_path)


@pytest.mark.slow
def test_a_zip_bomb_is_stopped(tmp_path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    with (
        zipfile.ZipFile(folder / "model.skops", "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("schema.json", "w", force_zip64=True) as member,
    ):
        for _ in range(64):
            member.write(b" " * 16 * 1024**2)
    workshop = Workshop(tmp_path / "w", limits=Limits(memory_bytes=500 * 1024**2, wall_seconds=60))
    with pytest.raises(TranslationFailed, match=r"memory|MemoryError|JSONDecodeError"):
        workshop.translate(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["cut short", "noise"])
def test_a_corrupt_model_is_reported(kind, tmp_path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    data = pickle.dumps(["sklearn.linear_model"] * 100)
    (folder / "model.pkl").write_bytes(data[:60] if kind == "cut short" else data[:60] + b"\xff" * 500)
    with pytest.raises(TranslationFailed, match="converter: "):
        Workshop(tmp_path / "w").translate(tmp_path)


def test_a_pickle_of_another_framework_is_not_taken_for_a_model(tmp_path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "weights.pkl").write_bytes(pickle.dumps({"weights": [1.0, 2.0]}))
    with pytest.raises(Invalid, match=r"no model that can be translated among weights\.pkl.*signature\.json"):
        Workshop(tmp_path / "w").translate(tmp_path)


SAID = {
    "external_data": "keeps its data in another file",
    "custom_domain": "only ai.onnx and ai.onnx.ml run everywhere",
    "random_operator": "draws random numbers",
    "newer_ir": "IR version 14",
    "newer_opset": "uses opset 28",
    "deep_subgraphs": "more than 8 deep",
    "deep_protobuf": "more than 8 deep",
    "training": "training information",
    "garbage": "not ONNX",
    "cut_short": "not ONNX",
    "lying_dimensions": "ONNX checker refuses",
    "wrong_types": "ONNX checker refuses",
    "other_inputs": "signature says",
}


def test_the_gate_refuses_each_hostile_onnx_file_with_its_reason(tmp_path) -> None:
    programs = str(prepare("uv:verify").programs)
    run("uv:verify", str(HOSTILE), "all", str(tmp_path), programs, json.dumps(SAID))


@pytest.mark.parametrize("kind", ["external_data", "deep_protobuf"])
def test_a_hostile_onnx_file_from_the_converter_fails_the_translation(kind, tmp_path) -> None:
    converted = tmp_path / "converted"
    converted.mkdir()
    run("uv:verify", str(HOSTILE), kind, str(converted))
    workshop = Workshop(tmp_path / "w", converted=converted)
    with pytest.raises(TranslationFailed, match=SAID[kind]) as raised:
        workshop.translate(_pickled(tmp_path, "pass"))
    assert str(raised.value).startswith("the gate refused the model")
