"""catalogue: what assets there are, and from what each was made."""

import re

from polyshare import api
from polyshare.errors import Invalid
from polyshare.http import Answer, Call, Function, Route
from polyshare.operations.lineage import MOST, lineage, listing


def find(call: Call) -> Answer:
    """Assets that the caller may read, newest first."""
    asked = call.query
    if len(asked.get("q", "")) > 100:
        raise Invalid("query parameter q is longer than 100 characters")
    found = listing(
        call.ports,
        call.caller,
        q=asked.get("q", ""),
        kind=asked.get("kind", ""),
        organisation=asked.get("organisation", ""),
        name=asked.get("name", ""),
        cursor=asked.get("cursor", ""),
        limit=call.whole("limit", 50, most=MOST),
    )
    return Answer(200, found)


def content(call: Call) -> Answer:
    """Assets that the caller may read whose files, or whose result's files, have this content root."""
    if not re.fullmatch("[0-9a-f]{64}", call.path["root"]):
        raise Invalid("a content root is 64 hexadecimal digits, in lower case")
    root, cursor = bytes.fromhex(call.path["root"]), call.query.get("cursor", "")
    return Answer(200, listing(call.ports, call.caller, content_root=root, cursor=cursor))


def family(call: Call) -> Answer:
    """The asset, its ancestors and its children."""
    return Answer(200, lineage(call.ports, call.caller, call.path["ref"]))


function = Function(
    "catalogue",
    [
        Route(
            "GET",
            "/",
            find,
            {200: api.Listing},
            auth="anyone",
            query=("q", "kind", "organisation", "name", "cursor", "limit"),
        ),
        Route("GET", "/content/{root}", content, {200: api.Listing}, auth="anyone", query=("cursor",)),
        Route("GET", "/{ref}/lineage", family, {200: api.Lineage}, auth="anyone"),
    ],
)
catalogue = function.serve
