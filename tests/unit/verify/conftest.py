"""A dataset, a model trained on it, and its translation, on a ledger in memory, with their files fetched."""

from __future__ import annotations

import hashlib
import os
import uuid
from pathlib import Path
from typing import Any

import msgspec
import pytest
import rfc8785

from polyshare.api import (
    AssetDocument,
    Chain,
    ContentDocument,
    FileDocument,
    Relative,
    RelativeResult,
    RequestDocument,
    ResultDocument,
    RevokedDocument,
)
from polyshare.assets import Kind
from polyshare.hashing import digest_bytes
from polyshare.ledger.fake import FakeLedger
from polyshare.ledger.record import Record, asset_address, revocation_digest
from polyshare.manifest import Entry, Manifest, commitment
from polyshare.metadata import Metadata
from polyshare.ports import AssetState, Register, Result, Revocation
from polyshare.verify import Found, Report
from polyshare.verify.found import look
from polyshare.verify.steps import Steps

ENVIRONMENT = "uv:sklearn@sha256:" + "ab" * 32
FILES = {"train/a.csv": b"1,2\n", "test/b.csv": b"3,4\n"}


class World:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ledger = FakeLedger()
        self.relatives: list[Relative] = []
        self.dataset = self._asset(Kind.DATASET, "digits", FILES)
        self.model = self._asset(Kind.MODEL, "model", {"model.skops": b"weights"}, parent=self.dataset)
        self.translation = self._asset(Kind.TRANSLATION, None, {"model.onnx": b"graph"}, parent=self.model)

    def fetch(self, document: AssetDocument) -> Path:
        """Put an asset's files and document in a folder, as `polyshare fetch` does."""
        folder = self.folder / document.id
        for path, data in self.files[document.id].items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(data)
        self.save(document)
        return folder

    def save(self, document: AssetDocument) -> None:
        folder = self.folder / document.id
        folder.mkdir(exist_ok=True)
        (folder / "polyshare.json").write_bytes(msgspec.json.encode(document))

    def verify(self, path: Path, *, pinned: Any = None, node: bool = True) -> Report:
        found = look(path, None, None)
        if found.document is None:
            return Report(str(path), tuple(found.checks))
        return self.steps(found, pinned=pinned, node=node)

    def steps(self, found: Found, *, pinned: Any = None, node: bool = True) -> Report:
        assert found.document is not None
        steps = Steps(found.document, list(found.checks), pinned or self.ledger.trust_root(), found.content_root)
        steps.run(self.read if node else None, why="it is down")
        return Report("", tuple(steps.checks), found.document, steps.revoked, steps.block)

    def read(self, address: bytes) -> AssetState:
        return self.ledger.asset(address)

    def write(self, entries: list[Any]) -> None:
        signed = self.ledger.sign(entries, self.ledger.next_nonce())
        self.ledger.send(signed.raw)
        receipt = self.ledger.receipt(signed.hash)
        assert receipt is not None
        assert receipt.succeeded
        assert not receipt.rejected

    def revoke(self, document: AssetDocument, reason: str, at: int) -> None:
        self.write([Revocation(uuid.UUID(document.id).bytes, revocation_digest(reason, at))])

    def revoked(self, document: AssetDocument, reason: str, at: int) -> AssetDocument:
        return msgspec.structs.replace(document, revoked=RevokedDocument(reason, at, True))

    files: dict[str, dict[str, bytes]]

    def _asset(
        self, kind: Kind, name: str | None, files: dict[str, bytes], parent: AssetDocument | None = None
    ) -> AssetDocument:
        self.files = getattr(self, "files", {})
        root = self.ledger.trust_root()
        asset = str(uuid.uuid4())
        self.files[asset] = files
        manifest = Manifest.of(Entry(path, digest_bytes(data)) for path, data in files.items())
        listed = [FileDocument(e.path, e.size, str(e.digest)) for e in manifest.entries]
        content = ContentDocument(salt=os.urandom(32).hex(), root=manifest.content_root.hex(), files=listed)
        fields: dict[str, Any] = {"kind": kind.label, "organisation": "local", "registrant": "me", "licence": "CC0"}
        if name:
            fields |= {"name": name, "version": 1}
        sealed = Metadata.seal(fields, os.urandom)
        request = None
        if parent is not None:
            source = parent.result.content if parent.result else parent.content
            assert source is not None
            asked = {"environment": ENVIRONMENT, "inputs": {parent.kind: source.root}, "parameters": {}, "source": None}
            request = RequestDocument(
                salt=os.urandom(32).hex(), root=hashlib.sha256(rfc8785.dumps(asked)).hexdigest(), request=asked
            )
        committed: Any = request or content
        record = Record(
            id=uuid.UUID(asset).bytes,
            kind=kind,
            commitment=commitment(bytes.fromhex(committed.salt), bytes.fromhex(committed.root)),
            metadata_root=sealed.root,
            parents=(bytes.fromhex(parent.address[2:]),) if parent else (),
            environment=bytes.fromhex("ab" * 32) if request else None,
            opset=18 if kind == Kind.TRANSLATION else None,
        )
        address = "0x" + asset_address(root, kind, record.encode()).hex()
        self.write([Register(record.id, kind, record.encode())])
        result = kept_result = None
        if request is not None:
            run = {"subject": [], "predicate": {"times": 1}}
            told = Metadata.seal({"accuracy": 0.97}, os.urandom)
            provenance = hashlib.sha256(rfc8785.dumps(run)).digest()  # type: ignore[arg-type]
            kept = commitment(bytes.fromhex(content.salt), manifest.content_root)
            self.write([Result(record.id, 1, kept, told.root, provenance)])
            kept_result = RelativeResult(1, content.salt, content.root, told.root.hex(), provenance.hex())
            result = ResultDocument(
                outcome=1, anchored=True, content=content, metadata=told.to_json(), provenance=provenance.hex(), run=run
            )
        relative = Relative(
            address=address,
            kind=kind.label,
            id=asset,
            organisation="local",
            name=name,
            version=1 if name else None,
            record=record.encode().hex(),
            salt=committed.salt,
            content_root=committed.root,
            result=kept_result,
            parents=[parent.address] if parent else [],
        )
        self.relatives.insert(0, relative)
        return AssetDocument(
            schema="polyshare/asset/1",
            id=asset,
            kind=kind.label,
            organisation="local",
            name=name,
            version=1 if name else None,
            state="registered" if request is None else "trained",
            created=0.0,
            registrant="me",
            address=address,
            anchored=True,
            chain=Chain(root.chain_id, "0x" + root.registry.hex(), {}),
            record=record.encode().hex(),
            metadata=sealed.to_json(),
            content=None if request else content,
            request=request,
            result=result,
            source=[],
            report=[],
            lineage=list(self.relatives),
            revoked=None,
            erased=False,
        )


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)
