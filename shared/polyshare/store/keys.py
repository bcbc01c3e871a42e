"""Who signs requests to S3: a key that was given, or a session that AWS's own chain of credentials finds and renews."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from polyshare.errors import Misconfigured, Unavailable

SESSION_SECONDS = 600  # that a session's key is good for at least: botocore renews it that long before its end


@dataclass(frozen=True, slots=True)
class Key:
    access: str
    secret: str = field(repr=False)
    token: str = field(default="", repr=False)  # of a session, which its requests must name


class Given:
    """One key, for good."""

    def __init__(self, access: str, secret: str) -> None:
        self._key = Key(access, secret)

    def __call__(self) -> Key:
        return self._key

    def session(self) -> Any:
        """A botocore session that has it, for a client."""
        import botocore.session

        session = botocore.session.get_session()
        session.set_credentials(self._key.access, self._key.secret)
        return session


class Role:
    """The key of this process's role, whatever boto3 knows to find: IRSA, a pod identity, an instance's, a profile.

    Found when it is first needed, since botocore's import costs as much as a small function's whole start.
    """

    def __init__(self, region: str) -> None:
        self._region = region
        self._session: Any = None
        self._lock = threading.Lock()

    def __call__(self) -> Key:
        """Raises Misconfigured where there is none, Unavailable where it can't be renewed now."""
        with _translated():
            found = self.session().get_credentials()
            if found is None:
                raise Misconfigured(
                    "there is no key for the object store: set POLYSHARE_S3_ACCESS_KEY_FILE and"
                    " POLYSHARE_S3_SECRET_KEY_FILE, or give this process a role (on EKS, annotate its service account)"
                )
            frozen = found.get_frozen_credentials()
        return Key(frozen.access_key, frozen.secret_key, frozen.token or "")

    def session(self) -> Any:
        """The botocore session that has it, for a client to share."""
        with self._lock:
            if self._session is None:
                import botocore.session

                self._session = botocore.session.get_session()
                self._session.set_config_variable("region", self._region)  # whose STS is asked
                with _translated():
                    self._session.get_credentials()  # kept by the session: the chain is gone through once
            return self._session


@contextmanager
def _translated() -> Iterator[None]:
    from botocore.exceptions import BotoCoreError, ClientError, ConnectionError, HTTPClientError

    try:
        yield
    except (ConnectionError, HTTPClientError) as error:
        raise Unavailable(f"who gives out this process's AWS role does not answer: {error}") from error
    except ClientError as error:
        status = error.response["ResponseMetadata"].get("HTTPStatusCode", 0)
        if status >= 500 or error.response["Error"]["Code"] in ("Throttling", "ThrottlingException"):
            raise Unavailable(f"who gives out this process's AWS role is not able to now: {error}") from error
        raise Misconfigured(
            f"this process may not have its AWS role: {error}. See that the role exists and that its trust policy names"
            " this service account"
        ) from error
    except (BotoCoreError, OSError) as error:  # a profile that is not there, a token file that can't be read
        raise Misconfigured(f"this process's AWS role can't be had: {error}") from error
