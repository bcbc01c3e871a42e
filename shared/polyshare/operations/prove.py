"""What the ledger itself says of an asset, read from its node at the time of asking."""

from __future__ import annotations

from polyshare.api import ContractState
from polyshare.assets import Caller, Kind
from polyshare.bootstrap import Ports
from polyshare.errors import Conflict
from polyshare.ledger.record import Record, clone_code, trust_root
from polyshare.operations.access import find
from polyshare.operations.fetch import chain


def contract(ports: Ports, caller: Caller, reference: str) -> ContractState:
    """Raises NotFound, Conflict before the asset has a record, Unavailable when the node does not answer."""
    with ports.catalogue.reading() as connection:
        asset = find(connection, caller, reference, ports.clock.now())
    if asset.address is None:
        raise Conflict(f"{reference} is {asset.state}: it has no contract yet")
    state = ports.ledger().asset(bytes.fromhex(asset.address[2:]))
    root = trust_root(ports.settings.trust_root)
    known = state.code == clone_code(root.definitions[asset.kind], asset.record)
    answer = ContractState(
        id=asset.id,
        kind=Kind(asset.kind).label,
        address=asset.address,
        chain=chain(ports),
        anchored=known,
        block=state.block,
    )
    if known:
        record = Record.decode(asset.kind, asset.record)
        answer.schema = asset.record[0]
        answer.commitment = record.commitment.hex()
        answer.metadata_root = record.metadata_root.hex()
        answer.parents = ["0x" + parent.hex() for parent in record.parents]
        answer.supersedes = "0x" + record.supersedes.hex() if record.supersedes else None
        answer.environment = record.environment.hex() if record.environment else None
        answer.opset = record.opset
        answer.result = state.result.hex() if any(state.result) else None
        answer.revocation = state.revocation.hex() if any(state.revocation) else None
    return answer
