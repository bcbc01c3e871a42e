"""A file that comes in a multipart/form-data body (RFC 7578): streamed to disk, never held in memory."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import BinaryIO

from starlette.requests import Request

from polyshare.errors import Invalid, TooLarge, Unavailable

LARGEST_FILE = 5 * 1024**3  # bytes of a form: it lies on the function's disk for a while


@dataclass(frozen=True, slots=True)
class SentFile:
    """The file of a form; it is gone when the request is answered."""

    name: str
    content: BinaryIO


@asynccontextmanager
async def sent_file(request: Request, name: str) -> AsyncIterator[SentFile]:
    """The one file of a form, on disk where it is large. Raises Invalid, TooLarge."""
    from starlette.datastructures import UploadFile
    from starlette.formparsers import MultiPartException, MultiPartParser

    async def bounded() -> AsyncGenerator[bytes, None]:
        size = 0
        async for chunk in request.stream():
            size += len(chunk)
            if size > LARGEST_FILE:
                raise TooLarge(f"the form is over {LARGEST_FILE} bytes")
            yield chunk

    declared = request.headers.get("content-length", "0")
    if declared.isdigit() and int(declared) > LARGEST_FILE:
        raise TooLarge(f"the form is over {LARGEST_FILE} bytes")
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise Invalid(f"the body is a form: send multipart/form-data with a file in its field {name}")
    try:
        form = await MultiPartParser(request.headers, bounded(), max_files=1, max_fields=8).parse()
    except (MultiPartException, KeyError, UnicodeError) as error:
        raise Invalid(f"the form can't be read: {getattr(error, 'message', error)}") from error
    except OSError as error:
        raise Unavailable(f"there is no room for the file here now ({error.strerror}): try again later") from error
    try:
        file = form.get(name)
        if not isinstance(file, UploadFile):
            raise Invalid(f"the form has no file in its field {name}")
        yield SentFile(file.filename or "", file.file)
    finally:
        await form.close()
