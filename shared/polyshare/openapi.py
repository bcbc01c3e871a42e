"""The OpenAPI document of all HTTP functions, made of their routes and of polyshare.api: `python -m polyshare.openapi`.

Examples are the requests in functions/<name>/requests/, which the tests of the functions send.
"""

from __future__ import annotations

import importlib
import json
import re
import sys
from collections.abc import Iterator
from importlib.metadata import version
from importlib.resources import files
from typing import Any

import msgspec

from polyshare import api, errors
from polyshare.auth import AUDIENCE
from polyshare.events import ROUTES
from polyshare.http import PROBLEM, Content, Function, Route, title_of

FUNCTIONS = (
    "register_dataset",
    "register_model",
    "translate",
    "query_status",
    "fetch_asset",
    "prove",
    "catalogue",
    "govern",
    "mlaas",
    "complete_job",
    "anchor",
    "run_job",
    "sweep",
)
_SCHEMAS = "#/components/schemas/"
_REFERENCE = {"type": "string", "minLength": 1, "maxLength": 200}
_ORGANISATION = {"type": "string", "pattern": api.NAME}
_CURSOR = {"type": "string", "minLength": 1}
_PARAMETERS: dict[str, tuple[dict[str, Any], str]] = {
    "ref": (_REFERENCE, "UUID, org/name or org/name@version, as one segment: its slash is written %2F"),
    "id": (_REFERENCE, "UUID of the asset, or of the caller's own upload"),
    "type": ({"enum": ["model", "model_unverified", "dataset"]}, "type of asset, as the original platform calls it"),
    "address": ({"type": "string", "pattern": "^0x[0-9a-fA-F]{40}$"}, "address of the asset's contract"),
    "res_hash": ({"type": "string", "minLength": 64, "maxLength": 80}, "the hash to compare, as 64 hex digits"),
    "job": (_REFERENCE, "UUID of the job"),
    "root": ({"type": "string", "pattern": "^[0-9a-f]{64}$"}, "content root of a manifest"),
    "wait": ({"type": "number", "minimum": 0, "maximum": 30}, "seconds to wait for news"),
    "since": ({"type": "integer", "minimum": 0, "maximum": 2**53 - 1}, "the cursor of the status known so far"),
    "q": ({"type": "string", "minLength": 1, "maxLength": 100}, "part of the name"),
    "kind": ({"enum": ["dataset", "model", "imported_model", "translation"]}, "kind of asset"),
    "organisation": (_ORGANISATION, "organisation"),
    "name": ({"type": "string", "pattern": api.NAME}, "name without its organisation"),
    "asset": (_REFERENCE, "UUID, org/name or org/name@version"),
    "cursor": (_CURSOR, "the cursor that the page before gave"),
    "limit": ({"type": "integer", "minimum": 0, "maximum": 100}, "most entries of a page"),
}
_ABOUT = """\
Clients address functions by a URL template: `http://127.0.0.1:8080/{function}` for the embedded stack, or one host a
function, `https://{function}.models.example.org`; there the first segment of the paths below is not part of the path.

Errors are RFC 9457 problem documents with a stable `type`. An asset that the caller may not read and one that does not
exist are answered the same. Answers of 503 say with Retry-After when to ask again."""


def document() -> dict[str, Any]:
    """The OpenAPI 3.1 document."""
    paths: dict[str, Any] = {}
    used: list[type[Any]] = [api.Problem]
    for function in (_load(name) for name in FUNCTIONS):
        for route in function.routes:
            bodies = [route.body] if _fields(route) else []
            used += [kind for kind in (*bodies, *route.answers.values()) if kind is not None and kind is not Content]
            path = f"/{function.name}{route.path.rstrip('/')}"
            paths.setdefault(path, {})[route.method.lower()] = _operation(function, route)
        if function.on_event is not None:
            post = paths.setdefault(f"/{function.name}", {}).setdefault("post", {})
            _add_event(function, post)
    _, components = msgspec.json.schema_components(dict.fromkeys(used), ref_template=_SCHEMAS + "{name}")
    return {
        "openapi": "3.1.0",
        "info": {"title": "polyshare", "version": version("polyshare"), "description": _ABOUT},
        "servers": [
            {"url": "http://127.0.0.1:8080", "description": "the embedded stack, polyshare up"},
            {
                "url": "https://{host}",
                "description": "a platform with all functions below one host",
                "variables": {"host": {"default": "models.example.org"}},
            },
        ],
        "tags": [{"name": name, "description": _about(name)} for name in FUNCTIONS],
        "paths": paths,
        "components": {
            "schemas": components,
            "responses": dict(_problems()),
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "JWT",
                    "description": f"of the registry's OIDC issuer, audience {AUDIENCE}; claim orgs: "
                    "{organisation: reader | publisher | admin}",
                },
                "basic": {
                    "type": "http",
                    "scheme": "basic",
                    "description": "the same token as password; any user name",
                },
                "job": {"type": "http", "scheme": "bearer", "description": "the token of one attempt of one job"},
                "events": {"type": "http", "scheme": "bearer", "description": "the platform's event token"},
            },
        },
    }


def example(function: str, operation: str) -> dict[str, Any]:
    """The example request of an operation, named as its handler; "event" is that of an event."""
    text = (files("functions") / function / "requests" / f"{operation}.json").read_text()
    found: dict[str, Any] = json.loads(text)
    return found


def _load(name: str) -> Function:
    function: Function = importlib.import_module(f"functions.{name}.handler").function
    return function


def _about(name: str) -> str:
    text = (importlib.import_module(f"functions.{name}.handler").__doc__ or "").partition(": ")[2]
    return " ".join(text.split())


def _operation(function: Function, route: Route) -> dict[str, Any]:
    name = getattr(route.handler, "__name__", "")
    shown = example(function.name, name)
    said = " ".join((route.handler.__doc__ or "").split())
    operation: dict[str, Any] = {
        "operationId": f"{function.name}.{name}",
        "tags": [function.name],
        "summary": said.rstrip("."),
        "security": _security(function, route),
    }
    parameters = [_parameter(n, "path", shown) for n in re.findall(r"{(\w+)}", route.path)]
    parameters += [_parameter(n, "query", shown) for n in route.query]
    if api.Uploading in route.answers.values():
        parameters.append(
            {
                "name": "Idempotency-Key",
                "in": "header",
                "description": "the same key and request again go on with the registration that the first began",
                "schema": {"type": "string", "minLength": 1, "maxLength": 255},
            }
        )
    if parameters:
        operation["parameters"] = parameters
    if route.file:
        bytes_of = {"type": "string", "contentMediaType": "application/octet-stream"}
        schema = {"type": "object", "required": [route.file], "properties": {route.file: bytes_of}}
        form = {"schema": schema, "example": shown["form"]}
        operation["requestBody"] = {"required": True, "content": {"multipart/form-data": form}}
    if route.body is not None:
        named = {"$ref": _SCHEMAS + route.body.__name__} if _fields(route) else {"type": ["object", "array"]}
        if route.body is dict[str, Any]:
            named = {"type": "object"}
        content = {"schema": named, "example": shown["body"]}
        required = any(field.required for field in _fields(route))
        operation["requestBody"] = {"required": required, "content": {"application/json": content}}
    operation["responses"] = {str(status): _answer(kind) for status, kind in sorted(route.answers.items())}
    operation["responses"] |= {
        str(s): {"$ref": f"#/components/responses/{s}"} for s in sorted(_failures(function, route))
    }
    return operation


def _add_event(function: Function, post: dict[str, Any]) -> None:
    """Describe the events that a function takes, beside what else it takes at the same address."""
    types = [kind for kind, takers in ROUTES.items() if function.name in takers]
    event = {
        "schema": {
            "type": "object",
            "required": ["specversion", "id", "source", "type"],
            "properties": {
                "specversion": {"const": "1.0"},
                "id": {"type": "string", "minLength": 1},
                "source": {"type": "string", "minLength": 1},
                "type": {"type": "string", "minLength": 1, "examples": types},
                "subject": {"type": ["string", "null"]},
                "data": {"type": ["object", "null"]},
            },
        },
        "example": example(function.name, "event")["body"],
    }
    if not post:
        post |= {"operationId": f"{function.name}.event", "tags": [function.name], "security": [{"events": []}]}
        post |= {"summary": f"Take a CloudEvent 1.0: {', '.join(types)}", "responses": {}}
        post["requestBody"] = {"required": True, "content": {}}
    else:
        post["description"] = f"Besides, CloudEvents 1.0 with the platform's event token: {', '.join(types)}."
        post["security"] = [*post["security"], {"events": []}]
    post["requestBody"]["content"]["application/cloudevents+json"] = event
    post["responses"]["204"] = {"description": "The event was taken, now or before"}
    post["responses"] |= {str(s): {"$ref": f"#/components/responses/{s}"} for s in (400, 401, 413, 500, 503)}
    post["responses"] = dict(sorted(post["responses"].items()))


def _parameter(name: str, place: str, shown: dict[str, Any]) -> dict[str, Any]:
    schema, description = _PARAMETERS[name]
    parameter: dict[str, Any] = {"name": name, "in": place, "description": description, "schema": schema}
    if place == "path":
        parameter["required"] = True
    value = shown.get("path" if place == "path" else "query", {}).get(name)
    return parameter if value is None else {**parameter, "example": value}


def _security(function: Function, route: Route) -> list[dict[str, Any]]:
    if route.auth in ("job", "platform"):
        return [{"job" if route.auth == "job" else "events": []}]
    ways: list[dict[str, Any]] = [{"token": []}, {"basic": []}] if function.basic else [{"token": []}]
    return [*ways, {}] if route.auth == "anyone" else ways


def _fields(route: Route) -> tuple[Any, ...]:
    """The fields of a body that is described; none of one that may have any."""
    described = isinstance(route.body, type) and issubclass(route.body, msgspec.Struct)
    return msgspec.structs.fields(route.body) if described else ()


def _answer(kind: type[Any] | None) -> dict[str, Any]:
    if kind is None:
        return {"description": "Done"}
    if kind is Content:
        return {"description": "The bytes", "content": {"application/octet-stream": {}, "application/x-tar": {}}}
    about = next(iter((kind.__doc__ or "").strip().splitlines()), "") or kind.__name__
    schema = {"schema": {"$ref": _SCHEMAS + kind.__name__}}
    return {"description": about, "content": {"application/json": schema}}


def _failures(function: Function, route: Route) -> set[int]:
    failures = {400, 401, 500, 503}
    if route.method != "GET":
        failures |= {403, 409, 413}
    if function.basic:
        failures |= {403, 404, 409, 410, 422}
    if "{ref}" in route.path or "{id}" in route.path or "asset" in route.query or _names_assets(route.body):
        failures |= {403, 404, 409, 410}
    if route.auth == "user":
        failures |= {403}
    if any("files" in f.name or f.name == "source" for f in _fields(route)):
        failures |= {422}
    return failures


def _names_assets(body: type[Any] | None) -> bool:
    return body in (api.RegisterModel, api.RegisterImportedModel, api.Translate)


def _problems() -> Iterator[tuple[str, Any]]:
    """Each error that a function may answer with, as a response by its status."""
    kinds = {
        kind.status: kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.PolyshareError) and kind is not errors.Misconfigured
    }
    for status, kind in sorted(kinds.items()):
        typed = {"type": {"const": PROBLEM + kind.slug}, "status": {"const": status}}
        schema = {"allOf": [{"$ref": _SCHEMAS + "Problem"}, {"properties": typed}]}
        answer: dict[str, Any] = {
            "description": title_of(kind),
            "content": {"application/problem+json": {"schema": schema}},
        }
        if kind is errors.Unavailable:
            answer["headers"] = {"Retry-After": {"schema": {"type": "integer"}, "description": "seconds"}}
        if kind is errors.Unauthenticated:
            answer["headers"] = {"WWW-Authenticate": {"schema": {"type": "string"}}}
        yield str(status), answer


if __name__ == "__main__":
    json.dump(document(), sys.stdout, indent=2, ensure_ascii=False)
    sys.stdout.write("\n")
