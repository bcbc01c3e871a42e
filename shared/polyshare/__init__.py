"""polyshare: a registry of machine-learning datasets and models that anyone can check without trusting the server."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from polyshare.client import Client as Client

__all__ = ["Client"]


def __getattr__(name: str) -> object:
    """`polyshare.Client`, imported when asked for, so that a function's start does not pay for the client."""
    if name == "Client":
        from polyshare.client import Client

        return Client
    raise AttributeError(f"module 'polyshare' has no attribute {name!r}")
