"""Every error that polyshare raises on purpose. A message names the thing, what is wrong with it, and what to do.

`slug` is the stable last part of the problem type in HTTP answers (RFC 9457) and of `--json` output;
`status` is the HTTP status the error is answered with.
"""

from __future__ import annotations

from typing import ClassVar


class PolyshareError(Exception):
    """Root of all errors of polyshare."""

    slug: ClassVar[str] = "internal"
    status: ClassVar[int] = 500

    def __init__(self, message: str, **fields: object) -> None:
        super().__init__(message)
        self.message = message
        self.fields = fields  # extension members of the problem document; never a secret


class Invalid(PolyshareError):
    """The input can never be accepted as it is."""

    slug, status = "invalid", 400


class Unauthenticated(PolyshareError):
    """No token, or one that is expired, forged or of another issuer."""

    slug, status = "unauthenticated", 401


class Forbidden(PolyshareError):
    """The caller is known and may see the thing, but may not do this to it."""

    slug, status = "forbidden", 403


class NotFound(PolyshareError):
    """There is no such thing, or the caller may not know whether there is: the same message for both."""

    slug, status = "not-found", 404


class NotAllowed(PolyshareError):
    """The address is right, the HTTP method is not."""

    slug, status = "method-not-allowed", 405


class Conflict(PolyshareError):
    """The thing is not in a state that allows this, now or any more."""

    slug, status = "conflict", 409


class Erased(PolyshareError):
    """The bytes were erased; the ledger keeps the record."""

    slug, status = "erased", 410


class TooLarge(PolyshareError):
    """A body, a list or a file is over its limit."""

    slug, status = "too-large", 413


class Mismatch(PolyshareError):
    """Bytes are not what their digest says."""

    slug, status = "mismatch", 422


class Unavailable(PolyshareError):
    """Something this needs does not answer now; the same call may work later."""

    slug, status = "unavailable", 503

    def __init__(self, message: str, *, retry_after: int = 2, **fields: object) -> None:
        super().__init__(message, **fields)
        self.retry_after = retry_after  # seconds


class Undecided(PolyshareError):
    """A verification could neither succeed nor fail, for want of something it names."""

    slug, status = "undecided", 424


class Misconfigured(PolyshareError):
    """A setting is missing or wrong; the message gives its name and what to set it to."""

    slug, status = "misconfigured", 500
