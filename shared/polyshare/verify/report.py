"""What a verification says: each thing it looked at, and what that comes to."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any

import msgspec

from polyshare.api import AssetDocument, RevokedDocument


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
