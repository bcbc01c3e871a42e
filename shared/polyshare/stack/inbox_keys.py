"""S3 keys with which an organisation may put, read and list below its own prefix of the inbox, and nothing else."""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from polyshare.assets import check_name
from polyshare.errors import Unavailable
from polyshare.stack.keyring import Keyring
from polyshare.stack.layout import Layout, read_json, write_json
from polyshare.stack.weed import identities_path, identity

if TYPE_CHECKING:
    from polyshare.api import InboxCredentials
    from polyshare.settings import Settings

_PATIENCE = 15.0  # seconds until the store knows a new key


def inbox_credentials(data: Path, settings: Settings, organisation: str) -> InboxCredentials:
    """The organisation's key for the inbox, working when this returns. Raises Invalid or Unavailable."""
    from polyshare.api import InboxCredentials

    endpoint = settings.s3_public_endpoint or settings.s3_endpoint
    access_key, secret_key = InboxKeys(Layout(data), settings.bucket_inbox).issue(organisation)
    _wait_until_known(settings, organisation, access_key, secret_key)
    return InboxCredentials(
        endpoint=endpoint,
        region=settings.s3_region,
        bucket=settings.bucket_inbox,
        prefix=f"{organisation}/",
        access_key=access_key,
        secret_key=secret_key,
    )


class InboxKeys:
    """The keys follow from the stack's seed and the organisation's name, so issuing again gives the same one."""

    def __init__(self, layout: Layout, bucket: str) -> None:
        self._layout, self._bucket = layout, bucket

    def issue(self, organisation: str) -> tuple[str, str]:
        """The access key and the secret key; the supervisor has the store read them. Raises Invalid."""
        check_name(organisation, "organisation")
        seed = Keyring(self._layout).read("inbox_seed")
        access_key = f"inbox-{_derive(seed, f'access {organisation}')[:20]}"
        secret_key = _derive(seed, f"secret {organisation}")
        below = f"{self._bucket}/{organisation}/*"
        actions = f"Read:{below} Write:{below} List:{below}"
        wanted = identity(f"inbox-{organisation}", access_key, secret_key, actions)
        with self._locked():
            known = read_json(identities_path(self._layout))
            if wanted not in known["identities"]:
                others = [found for found in known["identities"] if found["name"] != wanted["name"]]
                write_json(identities_path(self._layout), {"identities": [*others, wanted]})
        return access_key, secret_key

    @contextmanager
    def _locked(self) -> Iterator[None]:
        lock = os.open(self._layout.store / "identities.lock", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)


def _derive(seed: str, what: str) -> str:
    return hmac.new(bytes.fromhex(seed), what.encode(), hashlib.sha256).hexdigest()


def _wait_until_known(settings: Settings, organisation: str, access_key: str, secret_key: str) -> None:
    """A signed HEAD of an object that is not there: 404 from a store that knows the key, 403 from one that does not."""
    import httpx

    from polyshare.store.keys import Given
    from polyshare.store.sign import Signer

    signer = Signer(settings.s3_endpoint, settings.s3_region, Given(access_key, secret_key))
    deadline = time.monotonic() + _PATIENCE
    with httpx.Client(timeout=5, trust_env=False) as client:
        while True:
            url = signer.url("HEAD", settings.bucket_inbox, f"{organisation}/.known", seconds=60)
            try:
                if client.head(url).status_code in (200, 404):
                    return
            except httpx.TransportError:
                pass  # being started again
            if time.monotonic() > deadline:
                raise Unavailable("the object store does not know the new inbox key yet: ask again in a moment")
            time.sleep(0.1)
