"""The container contract: SageMaker's, so that existing training images and scripts work.

Source: "How Amazon SageMaker AI Provides Training Information" and the SageMaker Training Toolkit's list of variables.
Values in hyperparameters.json are strings, as there; SM_HPS and SM_HP_* have them with their types.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polyshare.errors import Invalid
from polyshare.jobs.job import Limits
from polyshare.jobs.sandbox import HOME, PROGRAMS, Mount, Prepared

ROOT = "/opt/ml"
CODE = "code"  # the channel with the training source; it is mounted at /opt/ml/code
DEFAULT_PROGRAM = "train.py"
_CHANNEL = re.compile(r"[A-Za-z0-9_-]{1,64}")
_LONGEST_VARIABLE = 100_000  # bytes; Linux takes 128 KiB in one


@dataclass(frozen=True, slots=True)
class Layout:
    """A job's folders on the host. Inputs and code are read-only inside; model and output are written there."""

    work: Path

    @property
    def data(self) -> Path:
        return self.work / "input" / "data"

    @property
    def config(self) -> Path:
        return self.work / "input" / "config"

    @property
    def code(self) -> Path:
        return self.work / "code"

    @property
    def model(self) -> Path:
        return self.work / "model"

    @property
    def output(self) -> Path:
        return self.work / "output"

    def channel(self, name: str) -> Path:
        """Where a channel's files go; raises Invalid for a name that is no channel's."""
        if not _CHANNEL.fullmatch(name):
            raise Invalid(f"channel {name[:100]!r} is not 1 to 64 letters, digits, _ or -")
        return self.code if name == CODE else self.data / name

    def make(self) -> None:
        """Make the folders that every run has."""
        for folder in (self.data, self.config, self.model, self.output / "data"):
            folder.mkdir(parents=True, exist_ok=True)


def write_config(layout: Layout, parameters: Mapping[str, Any], channels: list[str]) -> None:
    """Write the three documents of /opt/ml/input/config."""
    documents = {
        "hyperparameters": {name: _as_text(value) for name, value in parameters.items()},
        "inputdataconfig": {
            name: {"TrainingInputMode": "File", "S3DistributionType": "FullyReplicated", "RecordWrapperType": "None"}
            for name in channels
        },
        "resourceconfig": {"current_host": "algo-1", "hosts": ["algo-1"], "network_interface_name": "lo"},
    }
    for name, document in documents.items():
        (layout.config / f"{name}.json").write_text(json.dumps(document, sort_keys=True), "utf-8")


def mounts(layout: Layout, channels: list[str]) -> tuple[Mount, ...]:
    """What the run sees below /opt/ml."""
    seen = [Mount(layout.config, f"{ROOT}/input/config")]
    seen += [Mount(layout.channel(name), f"{ROOT}/input/data/{name}") for name in channels]
    if layout.code.is_dir():
        seen.append(Mount(layout.code, f"{ROOT}/code"))
    return (*seen, Mount(layout.model, f"{ROOT}/model", True), Mount(layout.output, f"{ROOT}/output", True))


def command(environment: Prepared, layout: Layout, program: str | None) -> tuple[str, ...]:
    """What is run: the image's entry point with `train`, else a program of the source, else the environment's own."""
    if environment.reference.startswith("oci:"):
        return ("train",)
    if not layout.code.is_dir():
        return "python", f"{PROGRAMS}/{DEFAULT_PROGRAM}", "train"
    name = program or DEFAULT_PROGRAM
    if not (layout.code / name).is_file():
        raise Invalid(f"the training source has no {name}: add it, or name its program")
    return "python", f"{ROOT}/code/{name}", "train"


def environ(
    parameters: Mapping[str, Any], channels: list[str], limits: Limits, program: str | None, *, code: bool
) -> dict[str, str]:
    """The variables of the contract, and those that pin threads, hash seeds and numeric libraries' choices."""
    threads = str(limits.cpus)
    values = {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "HOME": HOME,
        "USER": "job",
        "LANG": "C.UTF-8",
        "TZ": "UTC",
        "PYTHONHASHSEED": "0",
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": threads,
        "OPENBLAS_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
        "NUMEXPR_NUM_THREADS": threads,
        "TF_ENABLE_ONEDNN_OPTS": "0",
        "TF_DETERMINISTIC_OPS": "1",
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
        "SM_MODEL_DIR": f"{ROOT}/model",
        "SM_INPUT_DIR": f"{ROOT}/input",
        "SM_INPUT_CONFIG_DIR": f"{ROOT}/input/config",
        "SM_OUTPUT_DIR": f"{ROOT}/output",
        "SM_OUTPUT_DATA_DIR": f"{ROOT}/output/data",
        "SM_CHANNELS": json.dumps(channels),
        "SM_HOSTS": '["algo-1"]',
        "SM_CURRENT_HOST": "algo-1",
        "SM_NUM_CPUS": threads,
        "SM_NUM_GPUS": "0",
        "SM_HPS": json.dumps(dict(parameters), sort_keys=True),
    }
    values |= {f"SM_CHANNEL_{name.upper()}": f"{ROOT}/input/data/{name}" for name in channels}
    values |= {f"SM_HP_{name.upper()}": _as_text(value) for name, value in parameters.items() if name.isidentifier()}
    if code:
        values |= {"SAGEMAKER_SUBMIT_DIRECTORY": f"{ROOT}/code", "SAGEMAKER_PROGRAM": program or DEFAULT_PROGRAM}
        values["SM_MODULE_DIR"] = f"{ROOT}/code"
    for name, value in values.items():
        if len(os.fsencode(value)) > _LONGEST_VARIABLE or "\0" in value:
            raise Invalid(f"the parameters do not fit in the variable {name}: put what is long in a file of the source")
    return values


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)
