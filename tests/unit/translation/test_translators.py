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
import re
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


def test_source_that_imports_jax_is_a_jax_model_and_other_source_is_not(tmp_path) -> None:
    (tmp_path / "model.py").write_text("import numpy\nfrom flax import linen\n")
    (tmp_path / "other.py").write_text("import torch  # not jax\n")
    assert translators.find(tmp_path).translator.name == "jax"
    assert translators.find(tmp_path).file == "model.py"


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


MLMODEL = """\
artifact_path: model
flavors:
  python_function: {{loader_module: mlflow.sklearn, model_path: model.pkl}}
  {flavor}
mlflow_version: 3.1.0
model_uuid: 0c2d8e1f5a8b4d0c9e3f1a2b3c4d5e6f
signature:
  inputs: '{inputs}'
  outputs: '[{{"type": "tensor", "tensor-spec": {{"dtype": "int64", "shape": [-1]}}}}]'
utc_time_created: '2026-01-02 03:04:05.678901'
"""
COLUMNS = '[{"type": "double", "name": "age", "required": true}, {"type": "string", "name": "city"}]'
SKLEARN_FLAVOR = "sklearn: {code: null, pickled_model: model.pkl, serialization_format: cloudpickle}"


def mlflow(folder: Path, flavor: str = SKLEARN_FLAVOR, inputs: str = COLUMNS, **files: bytes) -> Path:
    (folder / "MLmodel").write_text(MLMODEL.format(flavor=flavor, inputs=inputs))
    (folder / "conda.yaml").write_text("name: mlflow-env")
    for name, data in files.items():
        path = folder / name.replace("__", "/").replace("_", ".")
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
    return folder


@pytest.mark.parametrize(
    ("flavor", "files", "file", "translator"),
    [
        (SKLEARN_FLAVOR, {"model_pkl": SKLEARN}, "model.pkl", "sklearn"),
        (SKLEARN_FLAVOR, {"model_pkl": pickle.dumps(["sklearn.pipeline", "xgboost.sklearn"])}, "model.pkl", "xgboost"),
        (
            "xgboost: {data: model.ubj, model_class: xgboost.core.Booster}",
            {"model_ubj": b"{L\0learner{"},
            "model.ubj",
            "xgboost",
        ),
        ("lightgbm: {data: model.lgb}", {"model_lgb": b"tree\nversion=v4\n"}, "model.lgb", "lightgbm"),
        ("catboost: {data: model.cb, save_format: cbm}", {"model_cb": b"CBM1\0"}, "model.cb", "catboost"),
        ("onnx: {data: model.onnx}", {"model_onnx": b"\x08\x08\x3a\x02ab"}, "model.onnx", "onnx"),
        ("onnx: {data: data}", {"data__model_onnx": b"\x08\x08\x3a\x02ab"}, "data/model.onnx", "onnx"),
    ],
)
def test_a_model_that_mlflow_saved_is_what_its_mlmodel_file_says(flavor, files, file, translator, tmp_path) -> None:
    found = translators.find(mlflow(tmp_path, flavor, **files))
    assert (found.translator.name, found.file) == (translator, file)
    assert found.signature.inputs[0] == translators.Input("age", "float64", [None, 1])
    assert found.signature.stated["inputs"][1] == {"name": "city", "dtype": "string", "shape": [None, 1]}
    assert translators.framework_of(tmp_path) in found.translator.frameworks


@pytest.mark.parametrize(
    ("recorded", "data"),
    [
        ("sklearn", skops()),
        ("lgbsk", skops('{"__module__": "lightgbm.sklearn"}')),
        ("cb", b"CBM1\0"),
        ("xgb", b"{L\0learner{"),
        ("onnx", b"\x08\x08\x3a\x02ab"),
    ],
)
def test_mlmodel_files_that_mlflow_3_wrote_are_understood(recorded, data, tmp_path) -> None:
    text = (Path(__file__).with_name("data") / "mlflow" / f"{recorded}.yaml").read_text()
    (tmp_path / "MLmodel").write_text(text)
    name = re.search(r"(?:data|pickled_model): (model\.\w+)", text)[1]
    (tmp_path / name).write_bytes(data)
    found = translators.find(tmp_path)
    assert found.file == name
    assert [one.name for one in found.signature.inputs] == ([] if recorded == "onnx" else ["age", "sex", "bmi"])


def test_tensors_of_an_mlmodel_file_are_inputs_with_their_shape(tmp_path) -> None:
    tensor = '[{"type": "tensor", "tensor-spec": {"dtype": "uint8", "shape": [-1, 8, 8]}}]'
    found = translators.find(mlflow(tmp_path, inputs=tensor, model_pkl=SKLEARN))
    assert found.signature.inputs == [translators.Input("", "uint8", [None, 8, 8])]


def test_a_signature_goes_before_an_mlmodel_file(tmp_path) -> None:
    mlflow(tmp_path, "spark: {model_data: sparkml}", model_pkl=SKLEARN)
    (tmp_path / "signature.json").write_text(json.dumps({"framework": "sklearn", "model": "model.pkl"}))
    assert translators.find(tmp_path).file == "model.pkl"


@pytest.mark.parametrize(
    ("flavor", "inputs", "said"),
    [
        (
            "sklearn: {pickled_model: other.pkl}",
            COLUMNS,
            r"MLmodel names the model file 'other\.pkl', which is not there",
        ),
        ("sklearn: {pickled_model: ../model.pkl}", COLUMNS, "which is not there"),
        ("sklearn: {code: null}", COLUMNS, "sklearn of the MLmodel file does not say pickled_model"),
        ("spark: {model_data: sparkml}", COLUMNS, "python_function, spark; understood are .*add a signature.json"),
        ("lightgbm: {data: model.pkl}", COLUMNS, r"MLmodel says framework 'lightgbm', but model\.pkl is a model of"),
        (
            SKLEARN_FLAVOR,
            '[{"type": "datetime", "name": "day"}]',
            "'day' in the MLmodel file's signature has the type 'datetime'",
        ),
        (SKLEARN_FLAVOR, "not JSON", "inputs in the MLmodel file's signature can't be read"),
    ],
)
def test_a_wrong_mlmodel_file_is_refused_with_what_to_correct(flavor, inputs, said, tmp_path) -> None:
    with pytest.raises(Invalid, match=said):
        translators.find(mlflow(tmp_path, flavor, inputs, model_pkl=SKLEARN))


@pytest.mark.parametrize(
    "text",
    [
        "flavors: [",
        "- flavors",
        "flavors: {}",
        "flavors: !!python/object/apply:os.system [echo ran]",
        "a: &a [1,1]\nflavors: [*a, *a]",
        "[" * 50_000,
        " " * 2_000_000,
        "\x00",
    ],
)
def test_a_hostile_mlmodel_file_is_refused_in_bounded_time(text, tmp_path) -> None:
    (tmp_path / "MLmodel").write_text(text)
    (tmp_path / "model.pkl").write_bytes(SKLEARN)
    with pytest.raises(Invalid, match="MLmodel"):
        translators.find(tmp_path)
