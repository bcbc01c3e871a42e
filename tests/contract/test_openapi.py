"""The OpenAPI document: fresh, valid, and about all that there is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

from polyshare import openapi
from polyshare.errors import PolyshareError
from polyshare.http import PROBLEM
from polyshare.stack.app import FUNCTIONS

DOCUMENT = openapi.document()
COMMITTED = Path(__file__).parents[2] / "docs" / "openapi.json"


def operations() -> list[tuple[str, str, dict[str, Any]]]:
    return [(path, method, found) for path, item in DOCUMENT["paths"].items() for method, found in item.items()]


def test_the_committed_document_is_fresh() -> None:
    said = "docs/openapi.json is stale: .venv/bin/python -m polyshare.openapi > docs/openapi.json"
    assert json.loads(COMMITTED.read_text()) == DOCUMENT, said


def test_the_document_is_valid_openapi() -> None:
    validate(DOCUMENT)


def test_every_function_of_the_stack_is_described() -> None:
    assert set(openapi.FUNCTIONS) == set(FUNCTIONS)
    assert {path.split("/")[1] for path, _, _ in operations()} == set(FUNCTIONS)


def test_operations_have_names_of_their_own_and_say_what_they_do() -> None:
    names = [found["operationId"] for _, _, found in operations()]
    assert len(set(names)) == len(names)
    assert all(found["summary"] for _, _, found in operations())


@pytest.mark.parametrize(
    ("path", "method", "found"), operations(), ids=lambda value: value if isinstance(value, str) else ""
)
def test_every_example_is_what_its_schema_says(path: str, method: str, found: dict[str, Any]) -> None:
    for content in found.get("requestBody", {}).get("content", {}).values():
        schema = {**content["schema"], "components": DOCUMENT["components"]}
        Draft202012Validator(schema).validate(content["example"])
    for parameter in found.get("parameters", ()):
        if "example" in parameter:
            Draft202012Validator(parameter["schema"]).validate(_read(parameter["example"]))


def test_every_problem_has_a_type_of_its_own() -> None:
    types = [
        answer["content"]["application/problem+json"]["schema"]["allOf"][1]["properties"]["type"]["const"]
        for answer in DOCUMENT["components"]["responses"].values()
    ]
    assert len(set(types)) == len(types)
    assert PROBLEM + PolyshareError.slug in types


def _read(text: str) -> object:
    try:
        return float(text)
    except ValueError:
        return text
