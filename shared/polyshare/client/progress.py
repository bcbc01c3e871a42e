"""How a long action tells how far it is."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Told of one step at a time; `advance` comes from several threads."""

    def begin(self, what: str, total: int) -> None:
        """A step of `total` bytes begins."""
        ...

    def advance(self, count: int) -> None:
        """So many bytes more; negative when some are done again."""
        ...

    def end(self) -> None: ...

    def note(self, text: str) -> None:
        """Something the user should know."""
        ...


class Silent:
    def begin(self, what: str, total: int) -> None:
        pass

    def advance(self, count: int) -> None:
        pass

    def end(self) -> None:
        pass

    def note(self, text: str) -> None:
        pass
