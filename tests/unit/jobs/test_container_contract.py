"""The container contract is SageMaker's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from polyshare.errors import Invalid
from polyshare.jobs import contract
from polyshare.jobs.job import Limits
from polyshare.jobs.sandbox import Prepared

PARAMETERS = {"epochs": 3, "name": "x", "flag": True, "layers": [1, 2]}


def test_hyperparameters_are_strings_as_sagemaker_writes_them(tmp_path: Path) -> None:
    layout = contract.Layout(tmp_path)
    layout.make()
    contract.write_config(layout, PARAMETERS, ["train"])
    written = json.loads((layout.config / "hyperparameters.json").read_text())
    assert written == {"epochs": "3", "name": "x", "flag": "true", "layers": "[1, 2]"}
    assert list(json.loads((layout.config / "inputdataconfig.json").read_text())) == ["train"]
    assert json.loads((layout.config / "resourceconfig.json").read_text())["hosts"] == ["algo-1"]


def test_variables_are_those_of_the_training_toolkit_and_pin_threads_and_seeds() -> None:
    values = contract.environ(PARAMETERS, ["train", "test"], Limits(cpus=2), None, code=False)
    assert values["SM_CHANNEL_TRAIN"] == "/opt/ml/input/data/train"
    assert values["SM_CHANNEL_TEST"] == "/opt/ml/input/data/test"
    assert values["SM_MODEL_DIR"] == "/opt/ml/model"
    assert json.loads(values["SM_HPS"]) == PARAMETERS
    assert values["SM_HP_EPOCHS"] == "3"
    assert values["PYTHONHASHSEED"] == "0"
    assert values["TF_ENABLE_ONEDNN_OPTS"] == "0"
    assert {values[f"{name}_NUM_THREADS"] for name in ("OMP", "MKL", "OPENBLAS")} == {"2"}


def test_inputs_and_code_are_read_only_and_only_model_and_output_are_written(tmp_path: Path) -> None:
    layout = contract.Layout(tmp_path)
    layout.make()
    layout.code.mkdir()
    seen = {mount.inside: mount.writable for mount in contract.mounts(layout, ["train"])}
    assert seen == {
        "/opt/ml/input/config": False,
        "/opt/ml/input/data/train": False,
        "/opt/ml/code": False,
        "/opt/ml/model": True,
        "/opt/ml/output": True,
    }


def test_the_source_bundles_program_runs_else_the_environments_else_the_images(tmp_path: Path) -> None:
    layout = contract.Layout(tmp_path)
    layout.make()
    assert contract.command(Prepared("uv:x"), layout, None) == ("python", "/opt/polyshare/programs/train.py", "train")
    assert contract.command(Prepared("oci:x", image="x"), layout, None) == ("train",)
    layout.code.mkdir()
    (layout.code / "fit.py").write_text("")
    assert contract.command(Prepared("uv:x"), layout, "fit.py") == ("python", "/opt/ml/code/fit.py", "train")
    with pytest.raises(Invalid, match=r"no train\.py"):
        contract.command(Prepared("uv:x"), layout, None)


@pytest.mark.parametrize("name", ["../x", "", "a/b", "a b"])
def test_a_channel_is_a_folders_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(Invalid, match="channel"):
        contract.Layout(tmp_path).channel(name)


def test_parameters_too_long_for_a_variable_are_refused() -> None:
    with pytest.raises(Invalid, match="SM_HPS"):
        contract.environ({"x": "y" * 200_000}, [], Limits(), None, code=False)
