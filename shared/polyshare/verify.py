"""Verification: what a file or folder is, and whether it is what was registered, trusting no server.

What is believed: the bytes on disk, the trust root pinned in the caller's profile, and a node of that ledger. The
document that came with the files (polyshare.json) only says what to check; nothing is taken from it unchecked.

 1. files      each file on disk has the digest that the document lists, none is missing, none is there besides
 2. content    the list hashes to the content root
 3. document   what the document shows beside is what its sealed metadata says
 4. record     commitment(salt, root) and the metadata's Merkle root are those in the record
               (of what a job made: the job's request is in the record, and the content in the result)
 5. contract   the record's address, recomputed as CREATE2 of the pinned registry and definition, is the document's
 6. ledger     the code at that address is the record's clone, byte for byte
 7. result     the result slot holds the digest of the result that the files are part of
 8. revocation the revocation slot is empty, or the asset is shown as revoked
 9. lineage    each link in the record is the address of its ancestor's record, which is on the ledger too
10. seals      the embedded ledger has none: what the node says is that node's word
"""

from __future__ import annotations

import enum
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import msgspec
import rfc8785

from polyshare.api import AssetDocument, Relative, RevokedDocument
from polyshare.assets import Kind
from polyshare.errors import Invalid, Mismatch, PolyshareError, Unavailable
from polyshare.ledger.record import (
    FAILED,
    Record,
    asset_address,
    clone_code,
    record_of,
    result_digest,
    revocation_digest,
)
from polyshare.manifest import commitment
from polyshare.metadata import Metadata
from polyshare.ports import AssetState, TrustRoot

if TYPE_CHECKING:
    from pathlib import Path

    from polyshare.client import Client, Profile
    from polyshare.client.progress import Progress

_MOST_ANCESTORS = 1000

Read = Callable[[bytes], AssetState]  # asks the ledger node for the contract at an address


class Outcome(enum.StrEnum):
    ESTABLISHED = "established"
    FAILED = "failed"
    OPEN = "not established"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at. What is not `needed` does not keep a verification from succeeding."""

    name: str
    outcome: Outcome
    detail: str
    needed: bool = True


@dataclass(frozen=True, slots=True)
class Report:
    """What was and was not established of the files at `path`."""

    path: str
    checks: tuple[Check, ...]
    document: AssetDocument | None = None
    revoked: RevokedDocument | None = None  # as the ledger says; its reason is "" where it is not known
    block: int | None = None  # of the ledger node, when it was asked

    @property
    def verdict(self) -> str:
        """verified, mismatch, or undecided."""
        if any(check.outcome == Outcome.FAILED for check in self.checks):
            return "mismatch"
        if not self.checks or any(check.outcome == Outcome.OPEN and check.needed for check in self.checks):
            return "undecided"
        return "verified"

    @property
    def exit_code(self) -> int:
        return {"verified": 0, "mismatch": 1, "undecided": 2}[self.verdict]

    def to_json(self) -> dict[str, Any]:
        document = self.document
        asset = document and {
            "id": document.id,
            "kind": document.kind,
            "organisation": document.organisation,
            "name": document.name,
            "version": document.version,
            "address": document.address,
        }
        return {
            "path": self.path,
            "verdict": self.verdict,
            "asset": asset,
            "revoked": msgspec.to_builtins(self.revoked),
            "block": self.block,
            "checks": [msgspec.to_builtins(check) for check in self.checks],
        }


def verify(
    path: Path,
    profile: Profile,
    *,
    client: Client | None = None,
    rpc: str | None = None,
    progress: Progress | None = None,
) -> Report:
    """Verify a fetched folder, a file in one, or any file or folder whose asset the registry can find by its content.

    `rpc` is the ledger node to ask, if not the profile's. Raises Invalid when there is nothing at `path`.
    """
    from polyshare.client.found import look

    found = look(path, client, progress)
    if found.document is None:
        return Report(str(path), tuple(found.checks))
    pinned = profile.trust_root()
    steps = Steps(found.document, list(found.checks), pinned, found.content_root)
    try:
        with _Node(rpc or profile.rpc, pinned) as node:
            steps.run(node.read)
            steps.add("seals", Outcome.OPEN, _SEALS.format(node.url), needed=False)
    except Unavailable as error:
        steps.run(None, why=error.message)
    return Report(str(path), tuple(steps.checks), found.document, steps.revoked, steps.block)


_SEALS = "no block header with validators' seals was checked: what the ledger says is the word of the one node at {}"


@dataclass
class Steps:
    """The steps after the files': each adds what it established, and `run` goes through them in order."""

    document: AssetDocument
    checks: list[Check]
    pinned: TrustRoot | None
    content_root: bytes | None  # of the files as found; None when only some of them were looked at
    revoked: RevokedDocument | None = None
    block: int | None = None
    _seen: set[bytes] = field(default_factory=set)

    def run(self, read: Read | None, *, why: str = "") -> None:
        """All steps; without a node (`read`), those that need none, and `why` there is none."""
        try:
            record = Record.decode(_kind(self.document.kind), bytes.fromhex(self.document.record))
        except (Invalid, ValueError) as error:
            self.add("record", Outcome.FAILED, f"the document's record can't be read: {error}")
            return
        self._guard("content", self._content)
        self._guard("document", lambda: self._claims(record))
        self._guard("record", lambda: self._record(record))
        if not self._contract(record):
            return
        if read is None:
            self.add("ledger", Outcome.OPEN, f"the ledger was not asked: {why}")
            return
        state = read(bytes.fromhex(self.document.address[2:]))
        self.block = state.block
        if self._ledger(state):
            if self.document.result is not None or record.kind in (Kind.MODEL, Kind.TRANSLATION):
                self._guard("result", lambda: self._result(state))
            self._revocation(state)
            self._lineage(record, read)

    def add(self, name: str, outcome: Outcome, detail: str, *, needed: bool = True) -> None:
        self.checks.append(Check(name, outcome, detail, needed))

    # 2
    def _content(self) -> None:
        document = self.document
        content = document.result.content if document.result is not None else document.content
        if content is None:
            self.add("content", Outcome.OPEN, f"the {document.kind} has no content (it is {document.state})")
            return
        from polyshare.client.fetch import files_of, manifest_of

        listed = manifest_of(files_of(document)).content_root
        if self.content_root is not None and self.content_root != listed:
            self.add("content", Outcome.FAILED, "the files on disk are not those that the document lists")
        elif listed.hex() != content.root:
            self.add("content", Outcome.FAILED, "the document's list of files does not hash to its content root")
        else:
            count = len(content.files)
            what = f"the {count} files hash" if count != 1 else "the file hashes"
            self.add("content", Outcome.ESTABLISHED, f"the list of {what} to content root {content.root[:16]}…")

    # 3
    def _claims(self, record: Record) -> None:
        document = self.document
        sealed = Metadata.from_json(document.metadata).values()
        shown = {
            "kind": document.kind,
            "organisation": document.organisation,
            "registrant": document.registrant,
            "name": document.name,
            "version": document.version,
        }
        wrong = [name for name, value in shown.items() if sealed.get(name) != value]
        if record.id.hex() != document.id.replace("-", ""):
            wrong.append("id")
        if document.source and not (document.request and document.request.request.get("source") == self._source_root()):
            wrong.append("source")
        if wrong:
            self.add("document", Outcome.FAILED, f"the document shows another {', '.join(wrong)} than was sealed")
        else:
            self.add("document", Outcome.ESTABLISHED, "name, version, organisation and registrant are as sealed")

    # 4
    def _record(self, record: Record) -> None:
        document = self.document
        if Metadata.from_json(document.metadata).root != record.metadata_root:
            self.add("record", Outcome.FAILED, "the metadata is not what the record commits to")
        elif document.request is not None:
            root = sha256(rfc8785.dumps(document.request.request)).digest()
            environment = str(document.request.request.get("environment", "")).rpartition(":")[2]
            if commitment(bytes.fromhex(document.request.salt), root) != record.commitment:
                self.add("record", Outcome.FAILED, "the job's request is not what the record commits to")
            elif environment != (record.environment or b"").hex():
                self.add("record", Outcome.FAILED, "the environment in the request is not the one in the record")
            else:
                what = "the job's request (inputs, environment, parameters) and the metadata"
                self.add("record", Outcome.ESTABLISHED, f"{what} are what the record commits to")
        elif document.content is not None:
            content = document.content
            if commitment(bytes.fromhex(content.salt), bytes.fromhex(content.root)) != record.commitment:
                self.add("record", Outcome.FAILED, "the content is not what the record commits to")
            else:
                self.add("record", Outcome.ESTABLISHED, "content and metadata are what the record commits to")
        else:
            self.add("record", Outcome.OPEN, "the salt of its content was erased, so nothing ties files to the record")

    # 5
    def _contract(self, record: Record) -> bool:
        document, pinned = self.document, self.pinned
        if pinned is None:
            told = "no ledger is pinned in your profile: polyshare login pins the one you trust"
            self.add("contract", Outcome.OPEN, told)
            return False
        if bytes.fromhex(document.chain.registry[2:]) != pinned.registry or document.chain.chain_id != pinned.chain_id:
            told = f"it is of another ledger (chain {document.chain.chain_id}, registry {document.chain.registry}) "
            self.add("contract", Outcome.OPEN, told + "than the one pinned in your profile")
            return False
        address = asset_address(pinned, record.kind, record.encode())
        if address.hex() != document.address[2:].lower():
            told = f"the record's contract is 0x{address.hex()}, not {document.address}"
            self.add("contract", Outcome.FAILED, told)
            return False
        self.add(
            "contract", Outcome.ESTABLISHED, f"the record's contract is {document.address}, by the pinned registry"
        )
        return True

    # 6
    def _ledger(self, state: AssetState) -> bool:
        assert self.pinned is not None
        record = bytes.fromhex(self.document.record)
        expected = clone_code(self.pinned.definitions[_kind(self.document.kind)], record)
        if not state.code:
            self.add("ledger", Outcome.OPEN, f"there is no contract at {self.document.address}: it is not anchored yet")
        elif state.code != expected:
            self.add("ledger", Outcome.FAILED, f"the contract at {self.document.address} holds another record")
        else:
            self.add(
                "ledger", Outcome.ESTABLISHED, f"the contract on the ledger is this record, at block {state.block}"
            )
        return state.code == expected

    # 7
    def _result(self, state: AssetState) -> None:
        result = self.document.result
        if result is None:
            self.add("result", Outcome.OPEN, f"the document has no result (it is {self.document.state})")
            return
        if sha256(rfc8785.dumps(result.run)).hexdigest() != result.provenance:
            self.add("result", Outcome.FAILED, "the run record is not the one that the result commits to")
            return
        expected = result_digest(
            result.outcome,
            commitment(bytes.fromhex(result.content.salt), bytes.fromhex(result.content.root)),
            Metadata.from_json(result.metadata).root,
            bytes.fromhex(result.provenance),
        )
        if not any(state.result):
            self.add("result", Outcome.OPEN, "the result is not on the ledger yet")
        elif state.result != expected:
            self.add("result", Outcome.FAILED, "the result on the ledger is another one")
        elif result.outcome == FAILED:
            self.add("result", Outcome.ESTABLISHED, "the ledger says that the job failed")
        else:
            told = "files, run record and result metadata are what the ledger's result slot commits to"
            self.add("result", Outcome.ESTABLISHED, told)

    # 8
    def _revocation(self, state: AssetState) -> None:
        told = self.document.revoked
        if not any(state.revocation):
            if told is not None:
                self.revoked = told
                self.add(
                    "revocation", Outcome.OPEN, "the document says it is revoked, the ledger not yet", needed=False
                )
            else:
                self.add("revocation", Outcome.ESTABLISHED, f"not revoked as of block {state.block}")
        elif told is not None and revocation_digest(told.reason, told.at) == state.revocation:
            self.revoked = told
            self.add("revocation", Outcome.ESTABLISHED, f"REVOKED on {_day(told.at)}: {told.reason}")
        else:
            self.revoked = RevokedDocument("", 0, True)
            hint = f"fetch it again to see why: polyshare show {self.document.id}"
            self.add("revocation", Outcome.ESTABLISHED, f"REVOKED on the ledger since these files were fetched; {hint}")

    # 9
    def _lineage(self, record: Record, read: Read) -> None:
        told = {bytes.fromhex(r.address[2:]): r for r in self.document.lineage}
        inputs = (self.document.request.request.get("inputs") if self.document.request else None) or {}
        ahead = list(record.parents)
        if not ahead:
            self.add("lineage", Outcome.ESTABLISHED, "it was made from no other asset", needed=False)
        while ahead:
            address = ahead.pop(0)
            if address in self._seen:
                continue
            self._seen.add(address)
            if len(self._seen) > _MOST_ANCESTORS:
                self.add("lineage", Outcome.OPEN, f"more than {_MOST_ANCESTORS} ancestors: the rest was not looked at")
                return
            ahead += self._ancestor(address, told.get(address), read(address), inputs)

    def _ancestor(
        self, address: bytes, told: Relative | None, state: AssetState, inputs: dict[str, Any]
    ) -> Sequence[bytes]:
        """Check one ancestor; its own links, as its contract has them."""
        assert self.pinned is not None
        name = _name(told) if told is not None and not told.withheld else f"0x{address.hex()}"
        if not state.code:
            self.add("lineage", Outcome.OPEN, f"{name}: there is no contract at 0x{address.hex()} yet")
            return ()
        try:
            definition, packed = record_of(state.code)
            kind = next(k for k, at in self.pinned.definitions.items() if at == definition)
            record = Record.decode(kind, packed)
        except (Invalid, StopIteration):
            self.add("lineage", Outcome.FAILED, f"{name}: the contract is not one of the pinned registry's")
            return ()
        if asset_address(self.pinned, kind, packed) != address:
            self.add("lineage", Outcome.FAILED, f"{name}: the contract at 0x{address.hex()} holds another record")
            return ()
        revoked = "; REVOKED" if any(state.revocation) else ""
        if told is None or told.withheld or told.record is None:
            detail = f"a {record.kind.label} at 0x{address.hex()} is on the ledger; what it is is withheld from you"
            self.add("lineage", Outcome.OPEN, detail + revoked, needed=False)
        elif told.record != packed.hex() or (told.id or "").replace("-", "") != record.id.hex():
            self.add("lineage", Outcome.FAILED, f"{name}: the document shows another record than the ledger")
        elif self._root_is_wrong(told, record, inputs):
            self.add("lineage", Outcome.FAILED, f"{name}: it does not hold the content that the job was given")
        else:
            self.add("lineage", Outcome.ESTABLISHED, f"{name} ({record.kind.label}) is the asset linked to{revoked}")
        return record.parents

    def _root_is_wrong(self, told: Relative, record: Record, inputs: dict[str, Any]) -> bool:
        """Whether a dataset that the asset's own job read has other content than the job's request names."""
        if record.kind != Kind.DATASET or told.salt is None or told.content_root is None:
            return False
        salt, root = bytes.fromhex(told.salt), bytes.fromhex(told.content_root)
        direct = "dataset" in inputs and told.address.lower() in {"0x" + parent.hex() for parent in self._own_parents()}
        return commitment(salt, root) != record.commitment or (direct and inputs["dataset"] != told.content_root)

    def _own_parents(self) -> tuple[bytes, ...]:
        return Record.decode(_kind(self.document.kind), bytes.fromhex(self.document.record)).parents

    def _source_root(self) -> str:
        from polyshare.client.fetch import manifest_of

        return manifest_of(self.document.source).content_root.hex()

    def _guard(self, name: str, step: Callable[[], None]) -> None:
        """A document that can't be read fails the step, whatever is wrong with it."""
        try:
            step()
        except Unavailable:
            raise
        except (PolyshareError, ValueError, TypeError, rfc8785.CanonicalizationError) as error:
            self.add(name, Outcome.FAILED, f"the document can't be read: {error}")
