"""govern: who may read an asset, revoking it, erasing it, and the audit log."""

from polyshare import api
from polyshare.http import Answer, Call, Function, Route
from polyshare.operations import govern as operations


def share(call: Call) -> Answer:
    """Let an organisation read the asset."""
    return Answer(200, operations.share(call.ports, call.caller, call.path["ref"], call.body))


def unshare(call: Call) -> Answer:
    """Take a grant back."""
    return Answer(200, operations.unshare(call.ports, call.caller, call.path["ref"], call.body))


def visibility(call: Call) -> Answer:
    """Set who may read the asset besides its registrant and those it is shared with."""
    return Answer(200, operations.set_visibility(call.ports, call.caller, call.path["ref"], call.body))


def grants(call: Call) -> Answer:
    """Whom the asset is shared with."""
    return Answer(200, operations.list_grants(call.ports, call.caller, call.path["ref"]))


def revoke(call: Call) -> Answer:
    """Say on the ledger, for good, that the asset should not be used."""
    return Answer(200, api.Governed(operations.revoke(call.ports, call.caller, call.path["ref"], call.body)))


def erase(call: Call) -> Answer:
    """Delete the asset's bytes, metadata and salts for good."""
    return Answer(200, api.Governed(operations.erase(call.ports, call.caller, call.path["ref"], call.body)))


def audit(call: Call) -> Answer:
    """What was done to an organisation's assets, newest first."""
    query = call.query
    found = operations.audit_log(
        call.ports,
        call.caller,
        organisation=query.get("organisation"),
        asset=query.get("asset"),
        cursor=query.get("cursor"),
    )
    return Answer(200, found)


function = Function(
    "govern",
    [
        Route("GET", "/audit", audit, {200: api.AuditLog}, query=("organisation", "asset", "cursor")),
        Route("GET", "/{ref}/grants", grants, {200: api.Grants}),
        Route("POST", "/{ref}/share", share, {200: api.Grants}, body=api.Share),
        Route("POST", "/{ref}/unshare", unshare, {200: api.Grants}, body=api.Unshare),
        Route("POST", "/{ref}/visibility", visibility, {200: api.Grants}, body=api.SetVisibility),
        Route("POST", "/{ref}/revoke", revoke, {200: api.Governed}, body=api.Revoke),
        Route("POST", "/{ref}/erase", erase, {200: api.Governed}, body=api.Erase),
    ],
)
govern = function.serve
