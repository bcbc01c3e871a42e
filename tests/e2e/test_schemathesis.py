"""Requests made up from the OpenAPI document, good ones and bad ones, against the running stack.

Left out of Schemathesis's checks: that all data which the schema allows is taken (a digest must also fit its size, a
path no system's reserved name, which no schema says), and those that need several users or a deleted resource, which
the tests of access do.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, assume, settings
from schemathesis.checks import not_a_server_error
from schemathesis.config import SchemathesisConfig
from schemathesis.specs.openapi.checks import (
    allow_header_conformance,
    content_type_conformance,
    ignored_auth,
    missing_required_header,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from tests.e2e.machine import Machine

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    response_headers_conformance,
    negative_data_rejection,
    missing_required_header,
    unsupported_method,
    allow_header_conformance,
    ignored_auth,
]
EXAMPLES = 8  # of made-up requests an operation, besides those that Schemathesis works out from the schema
SECONDS = 20.0  # that one request may take

schema = schemathesis.openapi.from_dict(
    json.loads((Path(__file__).parents[2] / "docs" / "openapi.json").read_text()),
    config=SchemathesisConfig.from_dict({"generation": {"max-examples": EXAMPLES, "no-shrink": True}}),
)


class Served:
    """The stack, a public asset of it, and the token that each kind of caller has."""

    def __init__(self, stack: Machine) -> None:
        profile = json.loads(stack.layout.profile.read_text())
        self.url = profile["url"].removesuffix("/{function}")
        folder = stack.home / "schemathesis"
        folder.mkdir()
        (folder / "a.csv").write_text("1,2\n")
        self.asset = stack.json("dataset", "add", str(folder), "--name", "schemathesis", "--visibility", "public")["id"]
        described = json.loads(stack.layout.settings.read_text())
        self.tokens = {
            "token": profile["token"],
            "events": Path(described["event_token_file"]).read_text().strip(),
            "job": "0" * 64,
        }
        self.session = requests.Session()
        self.session.trust_env = False


@pytest.fixture(scope="module")
def served(stack: Machine) -> Iterator[Served]:
    found = Served(stack)
    yield found
    found.session.close()


@schema.parametrize()
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_every_answer_is_what_the_document_says(case: schemathesis.Case, served: Served) -> None:
    # functions-framework's own router answers addresses with a line feed, before any function sees them.
    assume(not any("\n" in unquote(str(value)) for value in (case.path_parameters or {}).values()))
    ways = {name for way in case.operation.definition.raw.get("security", ()) for name in way}
    is_event = case.media_type == "application/cloudevents+json" or ways == {"events"}
    token = served.tokens["events" if is_event else "job" if "job" in ways else "token"]
    if "ref" in (case.path_parameters or {}) and len(str(case.path_parameters["ref"])) % 2:
        case.path_parameters["ref"] = served.asset
    case.call_and_validate(
        base_url=served.url,
        session=served.session,
        headers={"Authorization": f"Bearer {token}"},
        checks=CHECKS,
        timeout=SECONDS,
    )
