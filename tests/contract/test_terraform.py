"""The Terraform modules by Terraform's own tests, where it and its providers are; and what they take from the code."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import fields
from pathlib import Path

import pytest

from polyshare import openapi
from polyshare.settings import Settings

TERRAFORM = Path(__file__).parents[2] / "infra" / "terraform"
NOTHING_TO_TEST_WITH = 77


def test_the_modules_keep_to_their_own_tests() -> None:
    """make test-terraform runs the examples too."""
    if shutil.which("terraform") is None:
        pytest.skip("terraform is not here")
    done = subprocess.run(
        [TERRAFORM / "test.sh", "modules/*"], capture_output=True, text=True, timeout=280, check=False
    )
    if done.returncode == NOTHING_TO_TEST_WITH:
        pytest.skip(done.stderr.splitlines()[0])
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]


def test_every_function_has_its_service() -> None:
    text = (TERRAFORM / "modules/functions/variables.tf").read_text()
    default = text.partition('variable "functions"')[2].partition("default = {")[2].partition("\n  }\n")[0]
    assert set(re.findall(r"^    (\w+)\s*= \{", default, re.MULTILINE)) == set(openapi.FUNCTIONS)


def test_every_setting_that_is_given_is_known() -> None:
    known = {field.name for field in fields(Settings)}
    functions = (TERRAFORM / "modules/functions/main.tf").read_text()
    given = functions.partition("settings = merge(var.settings, {")[2].partition("\n  })")[0]
    whole = (TERRAFORM / "modules/polyshare/main.tf").read_text()
    given += whole.partition("settings = merge(\n")[2].partition("\n  )")[0]
    given += (TERRAFORM / "modules/storage/outputs.tf").read_text().partition("value = ")[2].partition("\noutput")[0]
    names = set(re.findall(r"^\s+([a-z0-9_]+)\s+= ", given, re.MULTILINE)) - {"for"}
    assert {"database", "s3_endpoint", "broker_url", "jwks_file", "trust_root"} <= names
    assert names <= known, names - known
