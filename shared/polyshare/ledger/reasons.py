"""Why the registry sets an entry aside: AssetRegistry.Reason, number for number."""

from __future__ import annotations

import enum


class Reason(enum.IntEnum):
    UNKNOWN_KIND = 1
    BAD_SCHEMA = 2
    BAD_LENGTH = 3
    BAD_LINKS = 4
    ZERO_ID = 5
    ID_TAKEN = 6
    UNKNOWN_ID = 7
    NO_RESULT_FOR_KIND = 8
    BAD_OUTCOME = 9
    RESULT_DIFFERS = 10
    ZERO_DIGEST = 11
    REVOCATION_DIFFERS = 12

    @property
    def text(self) -> str:
        return _TEXTS[self]


_TEXTS = {
    Reason.UNKNOWN_KIND: "the registry has no definition for this kind of asset",
    Reason.BAD_SCHEMA: "the record's schema is not 1",
    Reason.BAD_LENGTH: "the record's length is not what its links and its kind say",
    Reason.BAD_LINKS: "the record has more than 64 parents, or fewer than its kind must have",
    Reason.ZERO_ID: "the record's id is all zero",
    Reason.ID_TAKEN: "another record is registered under this id",
    Reason.UNKNOWN_ID: "nothing is registered under this id",
    Reason.NO_RESULT_FOR_KIND: "an asset of this kind has no result",
    Reason.BAD_OUTCOME: "the outcome is neither 1 (completed) nor 2 (failed)",
    Reason.RESULT_DIFFERS: "another result is recorded",
    Reason.ZERO_DIGEST: "the revocation's digest is zero",
    Reason.REVOCATION_DIFFERS: "another revocation is recorded",
}
