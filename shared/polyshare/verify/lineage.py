"""The lineage's step of a verification: every ancestor, by the links in the records themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from polyshare.api import AssetDocument, Relative
from polyshare.assets import Kind
from polyshare.errors import Invalid
from polyshare.ledger.record import Record, asset_address, record_of
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
    inputs = (document.request.request.get("inputs") if document.request else None) or {}
    given = inputs.get("dataset") if isinstance(inputs, dict) else None
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
        yield _check(at, told.get(at), state, ancestor, given if address in record.parents else None)
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


def _check(at: str, told: Relative | None, state: AssetState, ancestor: Record | str, given: object) -> Check:
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
    if ancestor.kind == Kind.DATASET and told.salt and told.content_root:
        if commitment(bytes.fromhex(told.salt), bytes.fromhex(told.content_root)) != ancestor.commitment:
            return Check("lineage", Outcome.FAILED, f"{name}: its content is not what its record commits to")
        if given is not None and given != told.content_root:
            return Check("lineage", Outcome.FAILED, f"{name}: it is not the content that the job was given")
    return Check("lineage", Outcome.ESTABLISHED, f"{name}, a {ancestor.kind.label}, is what was linked to{revoked}")


def _name(relative: Relative) -> str:
    if relative.name is None:
        return relative.id or relative.address
    return f"{relative.organisation}/{relative.name}@{relative.version}"
