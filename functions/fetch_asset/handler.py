"""fetch_asset: what verifies an asset, and short URLs of its files."""

from polyshare import api
from polyshare.http import Answer, Call, Function, Route
from polyshare.operations.fetch import document, sign


def get(call: Call) -> Answer:
    """The asset's document: manifest, salts, record, result, lineage."""
    return Answer(200, document(call.ports, call.caller, call.path["ref"]))


def urls(call: Call) -> Answer:
    """A presigned GET for each path."""
    return Answer(200, api.DownloadUrls(sign(call.ports, call.caller, call.path["ref"], call.body)))


function = Function(
    "fetch_asset",
    [
        Route("GET", "/{ref}", get, {200: api.AssetDocument}, auth="anyone"),
        Route("POST", "/{ref}/urls", urls, {200: api.DownloadUrls}, body=api.AskDownloadUrls, auth="anyone"),
    ],
)
fetch_asset = function.serve
