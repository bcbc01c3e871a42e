"""Hostile files of each format: what crashes, hangs or bombs a parser is contained and reported as what it is.

Pickles and archives are in test_translation_hostile.py.
"""

from __future__ import annotations

import json
import random
import re
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from polyshare.jobs.job import Limits
from polyshare.translation.pipeline import TranslationFailed
from tests.contract.translation_world import Workshop, run, train

pytestmark = pytest.mark.slow

LIMITS = Limits(memory_bytes=1500 * 1024**2, wall_seconds=40)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], bytes]:
    """The bytes of a declared model's file."""
    root = tmp_path_factory.mktemp("good")

    def read(name: str) -> bytes:
        folder = train(name, root / name) / "model"
        return next(folder.glob("model.*")).read_bytes()

    return read


def refusal(tmp_path: Path, name: str, data: bytes) -> str:
    """What is said of a model of this one file."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / name).write_bytes(data)
    with pytest.raises(TranslationFailed) as raised:
        Workshop(tmp_path / "w", limits=LIMITS).translate(tmp_path)
    return str(raised.value)


def changed(data: bytes, change: Callable[[dict], None]) -> bytes:
    """XGBoost's JSON with its first tree changed."""
    document = json.loads(data)
    change(document["learner"]["gradient_booster"]["model"]["trees"][0])
    return json.dumps(document).encode()


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("cut short", r"XGBoost can't read model\.json: .*Expecting"),
        ("noise", r"XGBoost can't read model\.json"),
        ("cycle", "trees are damaged"),
        ("child beyond the end", "trees are damaged"),
        ("feature beyond the end", "trees are damaged"),
        ("deep", "ended with signal 11"),  # XGBoost's parser recurses
    ],
)
def test_a_hostile_xgboost_file_is_reported(kind, said, good, tmp_path) -> None:
    data = good("xgboost_digits")
    if kind == "cut short":
        data = data[: len(data) // 2]
    elif kind == "noise":
        data = data[:200] + random.Random(0).randbytes(1000)
    elif kind == "cycle":
        data = changed(data, lambda tree: tree["left_children"].__setitem__(1, 0))
    elif kind == "child beyond the end":
        data = changed(data, lambda tree: tree["left_children"].__setitem__(0, 2**30))
    elif kind == "feature beyond the end":
        data = changed(data, lambda tree: tree["split_indices"].__setitem__(0, 2**30))
    else:
        data = b'{"learner":' + b"[" * 200_000
    assert re.search(said, refusal(tmp_path, "model.json", data))


@pytest.mark.parametrize(
    ("kind", "said"), [("cut short", "can't read"), ("noise", "can't read|memory"), ("huge sizes", "can't read|memory")]
)
def test_a_hostile_ubjson_file_is_reported(kind, said, good, tmp_path) -> None:
    data = good("xgboost_softmax_ubj")
    if kind == "cut short":
        data = data[: len(data) // 2]
    elif kind == "noise":
        data = data[:100] + random.Random(0).randbytes(1000)
    else:  # an array that says it has 2^62 numbers
        data = data.replace(b"base_weights[$d#L\0\0\0\0", b"base_weights[$d#L\x3f\0\0\0", 1)
        assert data != good("xgboost_softmax_ubj")
    assert re.search(said, refusal(tmp_path, "model.ubj", data))


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("cut short", r"LightGBM can't read model\.txt"),
        ("noise", r"LightGBM can't read model\.txt"),
        ("cycle", "trees are damaged"),
        ("child beyond the end", "trees are damaged"),
        ("feature beyond the end", "ended with signal 11"),  # where LightGBM counts what its features are used for
        ("many features", r"LightGBM can't read model\.txt: .*feature_names"),
    ],
)
def test_a_hostile_lightgbm_file_is_reported(kind, said, good, tmp_path) -> None:
    text = good("lightgbm_regression").decode()
    lines = [line for line in text.splitlines() if not line.startswith("tree_sizes=")]  # which would tell of any change
    at = next(i for i, line in enumerate(lines) if line.startswith("left_child="))
    feature = next(i for i, line in enumerate(lines) if line.startswith("split_feature="))
    if kind == "cycle":
        lines[at] = "left_child=" + " ".join("0" for _ in lines[at].split())
    elif kind == "child beyond the end":
        lines[at] = "left_child=" + " ".join(str(2**30) for _ in lines[at].split())
    elif kind == "feature beyond the end":
        lines[feature] = "split_feature=" + " ".join(str(2**30) for _ in lines[feature].split())
    elif kind == "many features":
        lines = [line if not line.startswith("max_feature_idx=") else f"max_feature_idx={2**31 - 2}" for line in lines]
    data = "\n".join(lines).encode()
    if kind == "cut short":
        data = data[: len(data) // 3]
    elif kind == "noise":
        data = data[:900] + random.Random(0).randbytes(1000)
    assert re.search(said, refusal(tmp_path, "model.txt", data))


@pytest.mark.parametrize("kind", ["cut short", "noise", "flipped"])
def test_a_hostile_catboost_file_is_reported(kind, good, tmp_path) -> None:
    data = good("catboost_binary")
    if kind == "cut short":
        data = data[: len(data) // 2]
    elif kind == "noise":
        data = data[:16] + random.Random(0).randbytes(len(data))
    else:  # offsets of the flat buffer point anywhere
        data = data[:8] + bytes(byte ^ 0xFF for byte in data[8:200]) + data[200:]
    assert "CatBoost can't read model.cbm" in refusal(tmp_path, "model.cbm", data)


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("reads host files", "no file of the model"),
        ("beyond the end", "beyond the end"),
        ("custom domain", r"."),
        ("bomb", r"memory|allocat|stopped"),
        ("deep", "not ONNX"),
        ("cut short", "not ONNX"),
    ],
)
def test_a_hostile_onnx_file_is_reported(kind, said, tmp_path) -> None:
    (tmp_path / "made").mkdir()
    run(
        "uv:translator-onnx", str(Path(__file__).with_name("translation_hostile_onnx.py")), kind, str(tmp_path / "made")
    )
    data = (tmp_path / "made" / "model.onnx").read_bytes()
    assert re.search(said, refusal(tmp_path, "model.onnx", data))


def test_the_source_of_a_jax_model_reaches_no_file_and_no_network(tmp_path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("ledger key")
    (tmp_path / "model").mkdir()
    with socket.create_server(("127.0.0.1", 0)) as server:
        (tmp_path / "model" / "model.py").write_text(f"""
import jax, socket
found = []
try: found.append(open({str(secret)!r}).read())
except OSError: pass
try: open({str(tmp_path / "written")!r}, 'w').write('x')
except OSError: pass
try: socket.create_connection(('127.0.0.1', {server.getsockname()[1]}), timeout=2); found.append('network')
except OSError: pass
raise ValueError('found: %r' % found)
""")
        stated = {"framework": "jax", "inputs": [{"name": "X", "dtype": "float32", "shape": [None, 2]}]}
        (tmp_path / "model" / "signature.json").write_text(json.dumps(stated))
        with pytest.raises(TranslationFailed, match=r"found: \[\]"):
            Workshop(tmp_path / "w").translate(tmp_path)
    assert not (tmp_path / "written").exists()
