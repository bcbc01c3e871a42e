"""Where files are dropped: the store's own inbox bucket, or a bucket of another cloud, read by obstore.

obstore is imported when such an inbox is opened. Credentials are its own to find: AZURE_STORAGE_ACCOUNT_NAME and a
workload identity or a key, GOOGLE_SERVICE_ACCOUNT or Google's application default credentials.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from urllib.parse import unquote, urlsplit

from polyshare.errors import Invalid, Misconfigured, NotFound, Unavailable
from polyshare.ports import Bucket, Listed, Signed, Store

_SECONDS = 60
_PAGE = 1000
_SCHEMES = ("gs", "az", "abfs", "abfss")


class StoreInbox:
    """The inbox bucket of the object store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def list(self, prefix: str = "") -> Iterator[Listed]:
        return self._store.list(Bucket.INBOX, prefix)

    def get(self, key: str) -> bytes:
        return self._store.get(Bucket.INBOX, key)

    def put(self, key: str, data: bytes) -> None:
        self._store.put(Bucket.INBOX, key, data)

    def sign_get(self, key: str, *, seconds: int, if_match: str | None = None) -> Signed:
        return self._store.sign_get(Bucket.INBOX, key, seconds=seconds, if_match=if_match)


class CloudInbox:
    """A bucket of Google Cloud Storage (`gs://bucket`) or a container of Azure Blob Storage (`az://container`)."""

    def __init__(self, url: str, **options: Any) -> None:
        """`options` are obstore's. Raises Misconfigured."""
        if urlsplit(url).scheme not in _SCHEMES or not urlsplit(url).netloc or urlsplit(url).path.strip("/"):
            raise Misconfigured(f"POLYSHARE_INBOX_URL is {url!r}: it is gs://BUCKET or az://CONTAINER, without a path")
        try:
            import obstore
            from obstore.exceptions import BaseError
            from obstore.store import from_url
        except ImportError as error:
            raise Misconfigured(
                f"an inbox at {url} is read by obstore, which is not installed: pip install 'polyshare[inbox]'"
            ) from error
        self._url, self._obstore = url, obstore
        client: Any = {"timeout": f"{_SECONDS}s", "connect_timeout": "5s", **options.pop("client_options", {})}
        retry: Any = {"max_retries": 3, "retry_timeout": timedelta(seconds=_SECONDS)}
        try:
            self._store: Any = from_url(url, client_options=client, retry_config=retry, **options)
        except (BaseError, ValueError):
            raise self._misconfigured("can't be opened") from None

    def __repr__(self) -> str:
        return f"CloudInbox({self._url!r})"

    def list(self, prefix: str = "") -> Iterator[Listed]:
        """A dataset's folder with a key that obstore can't say (`a//b`) is left out, and logged."""
        from obstore.exceptions import InvalidPathError

        last, held = "", list[Listed]()  # the folder that was given last, and what is known of the next
        try:
            with self._translated(prefix):
                for chunk in self._obstore.list(self._store, prefix.rstrip("/") or None, chunk_size=_PAGE):
                    for item in map(_listed, chunk):
                        if held and _folder(item.key) != _folder(held[0].key):
                            yield from held
                            last, held = _folder(held[0].key), []
                        held.append(item)
            yield from held
        except InvalidPathError:
            yield from self._folders(prefix, last)

    def _folders(self, prefix: str, last: str) -> Iterator[Listed]:
        """The same, one folder after another from the one after `last`, so that a crooked key hides no other folder."""
        from obstore.exceptions import InvalidPathError

        try:
            if prefix.count("/") > 1:
                raise InvalidPathError
            with self._translated(prefix):
                found = self._obstore.list_with_delimiter(self._store, prefix.rstrip("/") or None)
        except InvalidPathError:
            logging.getLogger("polyshare").warning("a key below %r has an empty part: nothing there is taken", prefix)
            return
        for folder in sorted(f"{name}/" for name in found["common_prefixes"]):
            if folder > last:
                yield from self.list(folder)
            elif folder != last and last.startswith(folder):
                yield from self._folders(folder, last)

    def get(self, key: str) -> bytes:
        with self._translated(key):
            return bytes(self._obstore.get(self._store, key).bytes())

    def put(self, key: str, data: bytes) -> None:
        with self._translated(key):
            self._obstore.put(self._store, key, data)

    def sign_get(self, key: str, *, seconds: int, if_match: str | None = None) -> Signed:
        """Raises Invalid for a key that Azure's URLs can't be signed for by obstore."""
        with self._translated(key):
            url = self._obstore.sign(self._store, "GET", key, timedelta(seconds=seconds))
        path = urlsplit(url).path
        if not self._url.startswith("gs:") and unquote(path) != path:
            raise Invalid(f"{key} can't be read from Azure: use letters, digits and . _ - + in names, no spaces")
        return Signed(url, {"if-match": f'"{if_match}"'} if if_match else {})

    @contextmanager
    def _translated(self, key: str) -> Iterator[None]:
        """No error of obstore's goes on: its text has URLs in it, which may be signed."""
        from obstore.exceptions import BaseError, InvalidPathError, PermissionDeniedError, UnauthenticatedError

        try:
            yield
        except InvalidPathError:
            raise
        except FileNotFoundError as error:
            if "ContainerNotFound" in str(error) or "NoSuchBucket" in str(error):
                raise self._misconfigured("is not there") from None
            raise NotFound(f"there is no object {key} in the inbox") from None
        except ValueError as error:  # a key with an empty part, or . or ..
            raise NotFound(f"there is no object {key} in the inbox") from error
        except (PermissionDeniedError, UnauthenticatedError):
            raise self._misconfigured("refuses these credentials") from None
        except BaseError as error:
            status = re.search(r"status code: (4\d\d)", str(error))
            if status and status[1] not in ("408", "429"):
                raise self._misconfigured(f"answers {status[1]}") from None
            raise Unavailable(f"the inbox at {self._url} does not answer; it is tried again") from None

    def _misconfigured(self, what: str) -> Misconfigured:
        return Misconfigured(
            f"the inbox at {self._url} {what}: check POLYSHARE_INBOX_URL, and the credentials of this process:"
            " AZURE_STORAGE_ACCOUNT_NAME and those beside it, or GOOGLE_… (docs/deploy.md)"
        )


def _listed(found: Any) -> Listed:
    return Listed(found["path"], found["size"], (found["e_tag"] or "").strip('"'), found["last_modified"].timestamp())


def _folder(key: str) -> str:
    """The `<organisation>/<name>/` of a dataset's object."""
    return "/".join(key.split("/")[:2]) + "/"
