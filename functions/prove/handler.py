"""prove: what the ledger itself says of an asset."""

from polyshare import api
from polyshare.http import Answer, Call, Function, Route
from polyshare.operations.fetch import chain
from polyshare.operations.prove import contract


def trust_root(call: Call) -> Answer:
    """The chain, the registry and its definitions, for a client to pin."""
    return Answer(200, chain(call.ports))


def get(call: Call) -> Answer:
    """The asset's contract, read from the ledger's node now."""
    return Answer(200, contract(call.ports, call.caller, call.path["ref"]))


function = Function(
    "prove",
    [
        Route("GET", "/trust-root", trust_root, {200: api.Chain}, auth="anyone"),
        Route("GET", "/{ref}", get, {200: api.ContractState}, auth="anyone"),
    ],
)
prove = function.serve
