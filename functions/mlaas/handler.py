"""mlaas: the REST interface of the original platform, for its clients; also at the root of the embedded stack.

The token may come as the password of HTTP Basic. docs/mlaas.md says where the two platforms differ.
"""

from typing import Any
from urllib.parse import quote

from polyshare import api, tar
from polyshare import mlaas as bodies
from polyshare.assets import Kind
from polyshare.errors import Invalid
from polyshare.http import Answer, Call, Content, Function, Route
from polyshare.operations import mlaas as operations
from polyshare.operations.prove import contract


def dataset(call: Call) -> Answer:
    """Reserve a dataset's id; its bytes come by the inbox bucket, below that id."""
    return Answer(201, operations.reserve_dataset(call.ports, call.caller, call.body))


def dataset_bytes(call: Call) -> Answer:
    """The dataset's bytes: its file, or a tar of its files."""
    return _content(call, Kind.DATASET)


def model(call: Call) -> Answer:
    """Reserve a model's id, its dataset and its training image; /train registers it."""
    return Answer(201, operations.reserve_model(call.ports, call.caller, call.body))


def unverified(call: Call) -> Answer:
    """Reserve the id of a model that was trained elsewhere; PUT registers it."""
    return Answer(201, operations.reserve_unverified(call.ports, call.caller, call.body))


def put(call: Call) -> Answer:
    """Bring the bytes of an unverified model, which registers it; the same again is the same."""
    assert call.file is not None
    file = call.file
    return Answer(200, operations.put_model(call.ports, call.caller, call.path["id"], file.name, file.content))


def model_bytes(call: Call) -> Answer:
    """The model's bytes: its file, or a tar of its files."""
    return _content(call, Kind.MODEL, Kind.IMPORTED_MODEL)


def metadata(call: Call) -> Answer:
    """What is known of a model, from when its id was reserved."""
    return Answer(200, operations.describe(call.ports, call.caller, call.path["id"]))


def train(call: Call) -> Answer:
    """Register a reserved model with these hyper-parameters and start its training; the same again is the same."""
    given = call.body
    if set(given) == {"params"} and isinstance(given["params"], dict):
        given = given["params"]
    return Answer(202, operations.train(call.ports, call.caller, call.path["id"], given))


def find_contract(call: Call) -> Answer:
    """The contract of an asset, which was made when it was registered: none is made here."""
    return Answer(200, operations.contract_of(call.ports, call.caller, call.path["type"], call.body))


def read_contract(call: Call) -> Answer:
    """What the ledger's node says of the contract at an address now."""
    row = operations.at_address(call.ports, call.caller, call.path["address"], call.path["type"])
    return Answer(200, contract(call.ports, call.caller, row.id))


def verify_contract(call: Call) -> Answer:
    """Whether the contract at an address stands for bytes with this hash, by the word of the ledger's node."""
    if "res_hash" not in call.query:
        raise Invalid("say which hash to compare, with ?res_hash=")
    address, asked = call.path["address"], call.query
    return Answer(200, operations.verify(call.ports, call.caller, address, asked["res_hash"], asked.get("type")))


def _content(call: Call, *kinds: Kind) -> Answer:
    row, held = operations.open_content(call.ports, call.caller, call.path["id"], *kinds)
    files = [(entry.path, entry.size, operations.read(call.ports, key, entry.size)) for entry, key in held]
    if len(files) == 1:
        path, size, pieces = files[0]
        kind, name, etag = "application/octet-stream", path.rpartition("/")[2], str(held[0][0].digest)
    else:
        size, pieces = tar.size_of([(path, size) for path, size, _ in files]), tar.pieces(files)
        kind, name, etag = "application/x-tar", f"{row.id}.tar", (row.result_root or row.content_root).hex()
    named = f"attachment; filename*=UTF-8''{quote(name, safe='')}"
    return Answer(200, Content(pieces, size, kind, {"etag": f'"{etag}"', "content-disposition": named}))


function = Function(
    "mlaas",
    [
        Route("POST", "/dataset", dataset, {201: bodies.DatasetReserved}, body=bodies.ReserveDataset),
        Route("GET", "/dataset/{id}", dataset_bytes, {200: Content}, auth="anyone"),
        Route("POST", "/model", model, {201: bodies.ModelReserved}, body=bodies.ReserveModel),
        Route("POST", "/model/unverified", unverified, {201: bodies.ModelReserved}, body=bodies.ReserveUnverified),
        Route("PUT", "/model/{id}", put, {200: bodies.ModelAccepted}, file="model"),
        Route("GET", "/model/{id}", model_bytes, {200: Content}, auth="anyone"),
        Route("GET", "/model/{id}/metadata", metadata, {200: bodies.ModelDescription}, auth="anyone"),
        Route("POST", "/train/{id}", train, {202: bodies.ModelAccepted}, body=dict[str, Any]),
        Route("POST", "/contract/{type}", find_contract, {200: bodies.ContractFound}, body=bodies.FindContract),
        Route("GET", "/contract/{type}/{address}", read_contract, {200: api.ContractState}, auth="anyone"),
        Route(
            "POST",
            "/contract/{address}/verify",
            verify_contract,
            {200: bodies.ContractVerified},
            auth="anyone",
            query=("res_hash", "type"),
        ),
    ],
    basic=True,
)
mlaas = function.serve
