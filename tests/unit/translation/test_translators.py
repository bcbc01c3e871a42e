"""Recognition of models by their content, and the taking of files from hostile folders."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import pickle
import random
import zipfile
import zlib
from pathlib import Path

import msgspec
import pytest

from polyshare.errors import Invalid
from polyshare.translation import received, translators

SKLEARN = pickle.dumps({"module": "sklearn.linear_model._logistic"})


def skops(schema: str = "{}") -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("schema.json", schema)
    return out.getvalue()


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("model.skops", skops()),
        ("weights.bin", skops()),
        ("model.pkl", SKLEARN),
        ("model.joblib", zlib.compress(SKLEARN)),
        ("model.joblib.gz", gzip.compress(SKLEARN, mtime=0)),
        ("model.joblib.bz2", bz2.compress(SKLEARN)),
        ("model.joblib.xz", lzma.compress(SKLEARN)),
    ],
)
def test_a_model_is_recognised_by_its_content_not_by_its_name(name, data, tmp_path) -> None:
    (tmp_path / name).write_bytes(data)
    (tmp_path / "notes.txt").write_text("about sklearn.linear_model")
    found = translators.find(tmp_path)
    assert (found.translator.name, found.file) == ("sklearn", name)


@pytest.mark.parametrize(
    ("data", "package"),
    [
        (b'{"learner":{"attributes":{},', "xgboost"),
        (b'{"version":[3,2,0],"learner":{}}', "xgboost"),
        (b"{L\0\0\0\0\0\0\0\7learner{", "xgboost"),
        (b"tree\nversion=v4\nnum_class=1\n", "lightgbm"),
        (b"CBM1\xa8b\0\0", "catboost"),
        (pickle.dumps(["sklearn.pipeline", "xgboost.sklearn"]), "xgboost"),
        (zlib.compress(pickle.dumps(["lightgbm.sklearn"])), "lightgbm"),
        (skops('{"__module__": "sklearn.pipeline", "1": {"__module__": "catboost.core"}}'), "catboost"),
    ],
)
def test_boosted_trees_are_recognised_alone_and_within_pipelines(data, package, tmp_path) -> None:
    (tmp_path / "model").write_bytes(data)
    found = translators.find(tmp_path)
    assert found.translator.name == package
    assert found.translator.environment == "uv:translator-boosting"
    assert translators.framework_of(tmp_path / "model") == translators.framework_of(tmp_path) == package


def test_an_archive_with_a_huge_directory_is_not_opened(tmp_path) -> None:
    data = skops()
    end = data.rindex(b"PK\x05\x06")
    lying = data[: end + 12] + (2**31).to_bytes(4, "little") + data[end + 16 :]
    (tmp_path / "model.skops").write_bytes(lying)
    assert translators.framework_of(tmp_path) is None


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"PK\x03\x04 not a zip",
        pickle.dumps([1, 2]),
        b"\x78\x9c broken",
        b"\x1f\x8bbroken",
        random.Random(1).randbytes(64),
    ],
)
def test_what_is_no_model_is_refused_with_what_to_add(data, tmp_path) -> None:
    (tmp_path / "model.pkl").write_bytes(data)
    with pytest.raises(Invalid, match=r'scikit-learn \(an estimator.*add a signature\.json with "framework"'):
        translators.find(tmp_path)


def test_a_compressed_bomb_is_looked_at_in_bounded_memory(tmp_path) -> None:
    (tmp_path / "model.joblib").write_bytes(zlib.compress(bytes(200 * 1024 * 1024)))
    with pytest.raises(Invalid):
        translators.find(tmp_path)


def test_two_models_are_ambiguous_until_one_is_named(tmp_path) -> None:
    for name in ("a.skops", "b.skops"):
        (tmp_path / name).write_bytes(skops())
    with pytest.raises(Invalid, match=r'a\.skops, b\.skops.*"model"'):
        translators.find(tmp_path)
    (tmp_path / "signature.json").write_text(json.dumps({"framework": "sklearn", "model": "b.skops", "more": [1]}))
    assert translators.find(tmp_path).file == "b.skops"


@pytest.mark.parametrize(
    "model", ["../model.skops", "/etc/passwd", "missing.skops", "link.skops", "linked/model.skops", "fifo"]
)
def test_a_signature_can_not_name_a_file_outside_the_model(model, tmp_path) -> None:
    folder = tmp_path / "m"
    folder.mkdir()
    (tmp_path / "model.skops").write_bytes(skops())
    (folder / "link.skops").symlink_to(tmp_path / "model.skops")
    (folder / "linked").symlink_to(tmp_path)
    os.mkfifo(folder / "fifo")
    (folder / "signature.json").write_text(json.dumps({"framework": "sklearn", "model": model}))
    with pytest.raises(Invalid, match="not there"):
        translators.find(folder)


def test_another_framework_is_refused_by_name(tmp_path) -> None:
    (tmp_path / "signature.json").write_text(json.dumps({"framework": "caffe"}))
    with pytest.raises(Invalid, match="'caffe'"):
        translators.find(tmp_path)


@pytest.mark.parametrize("text", ["{", "[]", '{"framework": 3}', "[" * 100_000, " " * 2_000_000])
def test_a_signature_that_can_not_be_read_is_refused(text, tmp_path) -> None:
    (tmp_path / "signature.json").write_text(text)
    with pytest.raises(Invalid, match=r"signature\.json"):
        translators.find(tmp_path)


def test_links_fifos_folders_and_large_files_are_not_taken(tmp_path) -> None:
    good = tmp_path / "good"
    good.write_bytes(b"x" * 100)
    (tmp_path / "symlink").symlink_to(good)
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "fifo")
    for name in ("symlink", "folder", "fifo", "missing"):
        with pytest.raises(Invalid, match=name):
            received.copy(tmp_path / name, tmp_path / f"copy-{name}", 1000)
    with pytest.raises(Invalid, match="over the limit of 99"):
        received.copy(good, tmp_path / "copy", 99)
    assert received.copy(good, tmp_path / "copy", 100).read_bytes() == b"x" * 100
    os.link(good, tmp_path / "hardlink")
    with pytest.raises(Invalid, match="not a regular file of its own"):
        received.copy(good, tmp_path / "copy2", 1000)


def test_received_json_is_read_as_what_was_expected_or_refused(tmp_path) -> None:
    class Wanted(msgspec.Struct):
        rows: int

    for data in (b'{"rows": "3"}', b"{", b"[" * 100_000, b"\xff\xfe"):
        (tmp_path / "a.json").write_bytes(data)
        with pytest.raises(Invalid, match=r"a\.json"):
            received.decode(tmp_path / "a.json", 1_000_000, Wanted)


def test_received_text_is_made_printable(tmp_path) -> None:
    (tmp_path / "failure").write_bytes(b"bad \x1b[2J\xff\nnews\x00")
    assert received.text(tmp_path / "failure", 4096) == "bad �[2J� news�"
    assert received.text(Path(tmp_path / "missing"), 4096) == ""
