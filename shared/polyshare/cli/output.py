"""How commands speak: one JSON document or aligned text on stdout, progress and notes on stderr."""

from __future__ import annotations

import functools
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

    from polyshare.client import Client


def with_json(function: Callable[..., int | None]) -> Callable[..., int | None]:
    """Give a command --json, and an Output as its first argument."""

    @click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
    @functools.wraps(function)
    def wrapped(*, as_json: bool, **arguments: Any) -> int | None:
        return function(Output(as_json), **arguments)

    return wrapped


class Output:
    """Where a command's answer goes."""

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json
        self.progress = Bars()

    def client(self) -> Client:
        from polyshare.client import Client

        return Client()

    def answer(self, value: object, say: Callable[[], None]) -> None:
        """The command's answer: `value` as JSON, or what `say` prints."""
        if self.as_json:
            import msgspec

            click.echo(json.dumps(msgspec.to_builtins(value), indent=2, ensure_ascii=False))
        else:
            say()

    def note(self, text: str) -> None:
        """For people only."""
        if not self.as_json:
            click.echo(text)

    @contextmanager
    def steps(self) -> Iterator[Callable[[str], None]]:
        """Says what is being done: on a terminal the newest alone, elsewhere a line each; on stderr."""
        if self.as_json or not sys.stderr.isatty():
            yield (lambda _: None) if self.as_json else self.progress.note
            return
        from rich.console import Console
        from rich.markup import escape

        with Console(stderr=True).status("") as spinner:
            yield lambda text: spinner.update(escape(text))


class Bars:
    """Progress bars with bytes, rate and time left, on a terminal only."""

    def __init__(self) -> None:
        self._rich: RichProgress | None = None
        self._task: TaskID | None = None
        self._lock = threading.Lock()
        self._held = 0
        self._told = 0.0

    def begin(self, what: str, total: int) -> None:
        if not sys.stderr.isatty() or total < 1_000_000:  # over before it could be read
            return
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

        columns = (BarColumn(), DownloadColumn(binary_units=True), TransferSpeedColumn(), TimeRemainingColumn())
        self._rich = Progress("{task.description:<10}", *columns, console=Console(stderr=True), refresh_per_second=5)
        self._task = self._rich.add_task(what, total=total)
        self._rich.start()

    def advance(self, count: int) -> None:
        """Cheap: rich is told ten times a second."""
        if self._rich is None or self._task is None:
            return
        with self._lock:
            self._held += count
            now = time.monotonic()
            if now - self._told < 0.1:
                return
            held, self._held, self._told = self._held, 0, now
        self._rich.advance(self._task, held)

    def end(self) -> None:
        if self._rich is not None and self._task is not None:
            self._rich.advance(self._task, self._held)
            self._rich.stop()
        self._rich, self._held = None, 0

    def note(self, text: str) -> None:
        click.echo(text, err=True)


def fields(pairs: Sequence[tuple[str, object]]) -> None:
    """Names and values, aligned; without what is None."""
    shown = [(name, value) for name, value in pairs if value is not None]
    width = max((len(name) for name, _ in shown), default=0)
    for name, value in shown:
        click.echo(f"{click.style(name.ljust(width), dim=True)}  {value}")


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Rows under their heads, aligned."""
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in [list(head), *cells]) for i in range(len(head))]
    line = "  ".join(title.ljust(width) for title, width in zip(head, widths, strict=True))
    click.echo(click.style(line.rstrip(), bold=True))
    for row in cells:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def heading(text: str) -> None:
    click.echo(click.style(text, bold=True))


def following(command: str) -> None:
    """The command that is likely to be wanted next."""
    click.echo(f"{click.style('next', dim=True)}  {click.style(command, fg='cyan')}")


def when(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))


def label(organisation: str | None, name: str | None, version: int | None, otherwise: str) -> str:
    """`org/name@version`, or the other way to call an asset that has no name."""
    return f"{organisation}/{name}@{version}" if name else otherwise
