"""web3 and eth-account import py_ecc, which raises the interpreter's recursion limit to 100,000 for all of the process.

Under that limit a deeply nested JSON body overflows the C stack, and one request ends the process.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def limit_kept() -> Iterator[None]:
    """Whatever is imported inside, the recursion limit is afterwards what it was."""
    limit = sys.getrecursionlimit()
    try:
        yield
    finally:
        sys.setrecursionlimit(limit)
