"""The lineage's step of a verification: every ancestor, by the links in the records themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from polyshare.api import AssetDocument, Relative, RelativeResult
from polyshare.assets import Kind
from polyshare.errors import Invalid, Mismatch
from polyshare.ledger.record import COMPLETED, Record, asset_address, record_of, result_digest
from polyshare.manifest import commitment
from polyshare.ports import AssetState, TrustRoot
from polyshare.verify.report import Check, Outcome

MOST_ANCESTORS = 1000

Read = Callable[[bytes], AssetState]  # asks the ledger node for the contract at an address


def check_lineage(document: AssetDocument, record: Record, pinned: TrustRoot, read: Read) -> Iterator[Check]:
    """Follow the links from contract to contract, nearest first; the document only says what the ancestors are called.

    A link is the address of the ancestor's whole record, so a contract that is there and is a clone of the pinned
    registry's is the ancestor. One withheld from the caller is on the ledger all the same; what it is stays open.
    """
    told = {relative.address.lower(): relative for relative in document.lineage}
    inputs = document.request.request.get("inputs") if document.request else None
    ahead, seen = list(record.parents), set(record.parents)
    if not ahead:
        yield Check("lineage", Outcome.ESTABLISHED, "it was made from no other asset", needed=False)
    for address in ahead:
        if len(seen) > MOST_ANCESTORS:
            yield Check("lineage", Outcome.OPEN, f"it has more than {MOST_ANCESTORS} ancestors: not all were looked at")
            return
        at = "0x" + address.hex()
        state = read(address)
        ancestor = _ancestor(state, address, pinned)
        yield _check(at, told.get(at), state, ancestor, inputs if address in record.parents else None)
        if isinstance(ancestor, Record):
            ahead += [parent for parent in ancestor.parents if parent not in seen]
            seen.update(ancestor.parents)


def _ancestor(state: AssetState, address: bytes, pinned: TrustRoot) -> Record | str:
    """The record that the contract at an address is, or what is wrong with it."""
    try:
        definition, packed = record_of(state.code)
        kind = next(k for k, at in pinned.definitions.items() if at == definition)
        record = Record.decode(kind, packed)
    except (Invalid, StopIteration):
        return "the contract there is not one of the pinned registry's"
    if asset_address(pinned, kind, packed) != address:
        return "the contract there holds another record"
    return record


def _check(at: str, told: Relative | None, state: AssetState, ancestor: Record | str, inputs: object) -> Check:
    """`inputs` are those of the asset's job, by role, where the ancestor is a parent that it was made from."""
    known = told is not None and not told.withheld and told.record is not None
    name = _name(told) if told is not None and known else at
    if not state.code:
        return Check("lineage", Outcome.OPEN, f"{name}: there is no contract at {at} yet")
    if isinstance(ancestor, str):
        return Check("lineage", Outcome.FAILED, f"{name}: {ancestor}")
    revoked = "; it is REVOKED" if any(state.revocation) else ""
    if told is None or not known:
        detail = f"{at}: a {ancestor.kind.label} on the ledger; what it is is withheld from you{revoked}"
        return Check("lineage", Outcome.OPEN, detail, needed=False)
    if told.record != ancestor.encode().hex() or (told.id or "").replace("-", "") != ancestor.id.hex():
        return Check("lineage", Outcome.FAILED, f"{name}: the document shows another record than the ledger")
    linked = f"{name}, a {ancestor.kind.label}, is what was linked to{revoked}"
    try:
        content = _content(told, state, ancestor)
    except (Mismatch, ValueError) as error:  # ValueError: not hexadecimal
        return Check("lineage", Outcome.FAILED, f"{name}: {error}")
    if not isinstance(inputs, dict):
        return Check("lineage", Outcome.ESTABLISHED, linked)
    role = "dataset" if ancestor.kind == Kind.DATASET else "model"
    if content is None:
        detail = f"{linked}; its salt was erased, so whether its content is what the job was given stays open"
        return Check("lineage", Outcome.OPEN, detail, needed=False)
    if inputs.get(role) != content:
        return Check("lineage", Outcome.FAILED, f"{name}: it is not the content that the job was given")
    return Check("lineage", Outcome.ESTABLISHED, f"{linked}, and its content is what the job was given")


def _content(told: Relative, state: AssetState, ancestor: Record) -> str | None:
    """The content root that the ledger commits an ancestor to; None where its salt was erased. Raises Mismatch."""
    if told.salt and told.content_root:  # of what a job made, this is the job's request
        if commitment(bytes.fromhex(told.salt), bytes.fromhex(told.content_root)) != ancestor.commitment:
            raise Mismatch("its content is not what its record commits to")
        if ancestor.environment is None:
            return told.content_root
    if ancestor.environment is None or told.result is None:
        return None
    result = told.result
    if _digest(result) != state.result or result.outcome != COMPLETED:
        raise Mismatch("its result is not what the ledger's result slot commits to")
    return result.content_root


def _digest(result: RelativeResult) -> bytes:
    salt, root, metadata, provenance = (
        bytes.fromhex(text) for text in (result.salt, result.content_root, result.metadata_root, result.provenance)
    )
    return result_digest(result.outcome, commitment(salt, root), metadata, provenance)


def _name(relative: Relative) -> str:
    if relative.name is None:
        return relative.id or relative.address
    return f"{relative.organisation}/{relative.name}@{relative.version}"
