"""Frozen values of the registry: kinds, states, visibilities, references to assets, and who is calling."""

from __future__ import annotations

import enum
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field

from polyshare.errors import Invalid

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?")


class Kind(enum.IntEnum):
    """What an asset is; the number is in its record on the ledger."""

    DATASET = 1
    MODEL = 2
    IMPORTED_MODEL = 3
    TRANSLATION = 4

    @property
    def label(self) -> str:
        """`dataset`, `model`, `imported_model` or `translation`."""
        return self.name.lower()


class State(enum.StrEnum):
    """How far an asset is. Revoked, erased and anchored are told besides."""

    UPLOADING = "uploading"
    REGISTERING = "registering"  # frozen in the catalogue, not yet in the journal; nothing is acknowledged before that
    REGISTERED = "registered"  # the end state of a dataset and of an imported model
    QUEUED = "queued"
    RUNNING = "running"
    PUBLISHING = "publishing"
    TRAINED = "trained"
    TRANSLATED = "translated"
    FAILED = "failed"


class Visibility(enum.StrEnum):
    """Who may read an asset besides its registrant and those it is shared with."""

    PRIVATE = "private"
    ORGANISATION = "organisation"
    PUBLIC = "public"


class Role(enum.IntEnum):
    """What somebody may do in an organisation; each role may do what the ones before may."""

    READER = 1
    PUBLISHER = 2
    ADMIN = 3


@dataclass(frozen=True, slots=True)
class Caller:
    """Who is calling, as the token says: a subject and its role in each of its organisations."""

    subject: str
    organisations: Mapping[str, Role] = field(default_factory=dict)

    def role(self, organisation: str) -> Role | None:
        return self.organisations.get(organisation)


ANONYMOUS = Caller("")


def check_name(text: str, what: str = "name") -> str:
    """The text itself, if it can name an organisation or an asset; raises Invalid."""
    if not _NAME.fullmatch(text):
        raise Invalid(
            f"{what} {text[:100]!r} is not 1 to 64 of a-z 0-9 . _ - that begins and ends with a letter or digit"
        )
    return text


@dataclass(frozen=True, slots=True)
class Reference:
    """How somebody names an asset: a UUID, `org/name` (its newest version) or `org/name@3`."""

    id: str | None = None
    organisation: str | None = None
    name: str | None = None
    version: int | None = None

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Raises Invalid on anything else."""
        try:
            return cls(id=str(uuid.UUID(text))) if len(text) == 36 else cls._named(text)
        except ValueError as error:
            raise Invalid(f"{text[:200]!r} is not an asset: write its UUID, org/name or org/name@version") from error

    @classmethod
    def _named(cls, text: str) -> Reference:
        organisation, slash, rest = text.partition("/")
        name, at, version = rest.partition("@")
        if not slash or (at and not re.fullmatch(r"[1-9][0-9]{0,8}", version)):
            raise ValueError(text)
        return cls(
            organisation=check_name(organisation, "organisation"),
            name=check_name(name),
            version=int(version) if at else None,
        )

    def __str__(self) -> str:
        return self.id or f"{self.organisation}/{self.name}" + (f"@{self.version}" if self.version else "")
