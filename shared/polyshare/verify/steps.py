"""The steps of a verification that need no file: from the document to the ledger."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256

import rfc8785

from polyshare.api import AssetDocument, RevokedDocument
from polyshare.assets import Kind
from polyshare.client.fetch import files_of, manifest_of
from polyshare.errors import Invalid, PolyshareError, Unavailable
from polyshare.ledger.record import FAILED, Record, asset_address, clone_code, result_digest, revocation_digest
from polyshare.manifest import commitment
from polyshare.metadata import Metadata
from polyshare.ports import AssetState, TrustRoot
from polyshare.verify.lineage import Read, check_lineage
from polyshare.verify.report import Check, Outcome


@dataclass
class Steps:
    """The steps after the files': each adds what it established, and `run` goes through them in order."""

    document: AssetDocument
    checks: list[Check]
    pinned: TrustRoot | None
    content_root: bytes | None  # of the files as found; None when only some of them were looked at
    revoked: RevokedDocument | None = None
    block: int | None = None

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
        if not self._contract(record) or self.pinned is None:
            return
        if read is None:
            self.add("ledger", Outcome.OPEN, f"the ledger was not asked: {why}")
            return
        try:
            state = read(bytes.fromhex(self.document.address[2:]))
            self.block = state.block
            if self._ledger(state):
                if record.kind in (Kind.MODEL, Kind.TRANSLATION):
                    self._guard("result", lambda: self._result(state))
                self._revocation(state)
                self.checks += check_lineage(self.document, record, self.pinned, read)
        except Unavailable as error:
            self.add("ledger", Outcome.OPEN, error.message)

    def add(self, name: str, outcome: Outcome, detail: str, *, needed: bool = True) -> None:
        self.checks.append(Check(name, outcome, detail, needed))

    # 2
    def _content(self) -> None:
        document = self.document
        content = document.result.content if document.result is not None else document.content
        if content is None:
            self.add("content", Outcome.OPEN, f"the {document.kind} has no content (it is {document.state})")
            return
        listed = manifest_of(files_of(document)).content_root
        if self.content_root is not None and self.content_root != listed:
            self.add("content", Outcome.FAILED, "the files on disk are not those that the document lists")
        elif listed.hex() != content.root:
            self.add("content", Outcome.FAILED, "the document's list of files does not hash to its content root")
        else:
            count = len(content.files)
            what = f"{count} file{'s' * (count != 1)}"
            self.add("content", Outcome.ESTABLISHED, f"the list of {what} hashes to content root {content.root[:16]}…")

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

    def _source_root(self) -> str:
        return manifest_of(self.document.source).content_root.hex()

    def _guard(self, name: str, step: Callable[[], None]) -> None:
        """A document that can't be read fails the step, whatever is wrong with it."""
        try:
            step()
        except Unavailable:
            raise
        except (PolyshareError, ValueError, TypeError, AttributeError, rfc8785.CanonicalizationError) as error:
            self.add(name, Outcome.FAILED, f"the document can't be read: {error}")


def _kind(label: str) -> Kind:
    """Raises Invalid."""
    for kind in Kind:
        if kind.label == label:
            return kind
    raise Invalid(f"there is no kind {label[:50]!r} of asset")


def _day(at: float) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(at))
