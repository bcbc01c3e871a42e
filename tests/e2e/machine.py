"""A user's machine for tests: a home of its own, with the command line and a stack on real processes."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from polyshare import Client
from polyshare.client import Profile
from polyshare.stack.embedded import holder
from polyshare.stack.layout import Layout, read_json
from polyshare.stack.listening import is_free
from polyshare.stack.weed import remove_sockets

ENVIRONMENTS = Path(__file__).parents[2] / ".make" / "environments"  # named by digest, so they are kept between runs
PARTS = ("store", "chain", "functions", "runner")


class Machine:
    """`polyshare(...)` runs a command as the user would; it must end as expected, and without a traceback."""

    def __init__(self, home: Path, data: Path | None = None, *, prefix: Sequence[str] = (), **environ: str) -> None:
        """Commands start with `prefix`: setpriv, say."""
        self.home, self.prefix = home, prefix
        self.layout = Layout(data or home / "data")
        self.environ = {
            name: value for name, value in os.environ.items() if not name.startswith(("POLYSHARE_", "AWS_", "XDG_"))
        }
        self.environ |= {
            "HOME": str(home),
            "POLYSHARE_DATA": str(self.layout.data),
            "POLYSHARE_ENVIRONMENTS": str(ENVIRONMENTS),
            **environ,
        }

    def polyshare(
        self, *arguments: str, expect: int | None = 0, timeout: float = 300, environ: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command; `expect` is its exit code, None for any."""
        done = subprocess.run(
            [*self.prefix, polyshare_command(), *arguments],
            env={**self.environ, **(environ or {})},
            cwd=self.home,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        said = f"polyshare {' '.join(arguments)}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        assert expect is None or done.returncode == expect, said
        assert "Traceback" not in done.stdout + done.stderr, said
        return done

    def json(self, *arguments: str, expect: int = 0, timeout: float = 300) -> Any:
        return json.loads(self.polyshare(*arguments, "--json", expect=expect, timeout=timeout).stdout)

    def up(self) -> dict[str, Any]:
        """The first time on a port of its own, so that another stack here does not take it while this one is down."""
        port = () if self.layout.ports.exists() else ("--port", str(choose_port(random.randint(12_000, 16_000))))
        answer: dict[str, Any] = self.json("up", "--detach", *port)
        return answer

    def client(self) -> Client:
        """The SDK with the stack's own profile."""
        return Client(Profile.read({"POLYSHARE_CONFIG": str(self.layout.profile)}))

    @property
    def state(self) -> dict[str, Any]:
        """What the stack says of itself: process ids, ports, URL."""
        state: dict[str, Any] = read_json(self.layout.stack) or {}
        return state

    def supervisor(self) -> psutil.Process | None:
        pid = holder(self.layout)
        try:
            return psutil.Process(pid) if pid else None
        except psutil.NoSuchProcess:
            return None

    def part(self, name: str) -> psutil.Process | None:
        """A server of the stack, if it runs now."""
        supervisor, pid = self.supervisor(), self.state.get("pids", {}).get(name)
        children = supervisor.children() if supervisor else []
        return next((child for child in children if child.pid == pid), None)

    def kill(self, *names: str) -> list[str]:
        """kill -9 of parts at once ("supervisor" among them); returns those that ran."""
        found = {name: self.supervisor() if name == "supervisor" else self.part(name) for name in names}
        killed = []
        for name, process in found.items():
            if process is not None:
                try:
                    process.send_signal(signal.SIGKILL)
                    killed.append(name)
                except psutil.NoSuchProcess:
                    pass
        return killed

    @contextmanager
    def without(self, name: str) -> Iterator[None]:
        """A part is down, and its supervisor does not notice before the end."""
        supervisor, process = self.supervisor(), self.part(name)
        assert supervisor is not None
        assert process is not None
        supervisor.suspend()
        try:
            process.kill()
            yield
        finally:
            supervisor.resume()

    def wait_until_dead(self, seconds: float = 30) -> None:
        wait_until(lambda: holder(self.layout) is None, seconds, "the data folder's lock is still held")

    def clean(self) -> None:
        """End what runs."""
        pid = holder(self.layout)
        if pid is not None:
            os.kill(pid, signal.SIGTERM)
            self.wait_until_dead(120)
        ports = read_json(self.layout.ports)
        if ports:
            remove_sockets(ports)


def choose_port(wanted: int) -> int:
    while not is_free(wanted):
        wanted += 1
    return wanted


def polyshare_command() -> str:
    return str(Path(sys.executable).with_name("polyshare"))


def wait_until(true: Callable[[], object], seconds: float = 60.0, what: str = "it did not come true") -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"{what} after {seconds:g} s"
        time.sleep(0.05)
