"""`polyshare up` and `polyshare down`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from polyshare.client.profile import profile_path
from polyshare.errors import PolyshareError, Unavailable
from polyshare.stack import listening
from polyshare.stack.embedded import Stack, hold, holder, wait_until_free
from polyshare.stack.layout import Layout, read_json
from polyshare.stack.profile import make_profile, save_as_current, save_profile

PORT = 8080
_TICK = 0.1  # seconds
_START_SECONDS = 180.0
_END_SECONDS = 90.0


@dataclass(frozen=True, slots=True)
class Running:
    """A stack that serves: its URL, the profile for the CLI, and whether that is the one the CLI reads."""

    url: str
    pid: int
    profile: str
    current: bool
    user: str = "me"
    organisation: str = "local"


def up(layout: Layout, port: int | None, *, say: Callable[[str], None], ready: Callable[[Running], None]) -> None:
    """Run the stack until SIGINT or SIGTERM. Raises Conflict if it runs already, Unavailable if it can't start."""
    with hold(layout), _ending_by_signal():
        wanted = port or (read_json(layout.ports) or {}).get("functions", PORT)
        stack = Stack(layout, listening.choose_port(wanted, exactly=port is not None), say=say)
        try:
            stack.start()
            listening.remember(layout, "functions", stack.functions_port)
            ready(_announce(layout, stack))
            while True:
                stack.supervisor.tick()
                time.sleep(_TICK)
        except _Ended:
            pass
        finally:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            stack.stop()


def up_detached(layout: Layout, port: int | None) -> Running:
    """Start the stack in the background; returns once it serves. Raises Unavailable with what it said."""
    with hold(layout):  # says so at once if it runs
        log = layout.log / "up.log"
    told, tell = os.pipe()  # what went wrong
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "polyshare.stack.up", str(layout.data), str(port or 0), str(tell)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=[tell],
        )
    os.close(tell)
    deadline = time.monotonic() + _START_SECONDS
    with os.fdopen(told) as errors:
        while time.monotonic() < deadline:
            state = read_json(layout.stack) or {}
            if state.get("pid") == process.pid and state.get("running"):
                return Running(_shown(state["url"]), process.pid, str(layout.profile), _is_current(layout))
            if process.poll() is not None:
                raise Unavailable(errors.read() or f"the stack ended at once: see {log}")
            time.sleep(0.05)
    process.terminate()
    raise Unavailable(f"the stack was not ready after {_START_SECONDS:.0f} s: see {layout.log}")


def down(layout: Layout) -> bool:
    """End the stack that runs in a data folder; False if none does. Raises Unavailable if it does not end."""
    pid = holder(layout)
    if pid is None:
        return False
    os.kill(pid, signal.SIGTERM)
    if not wait_until_free(layout, _END_SECONDS):
        raise Unavailable(f"the stack (process {pid}) does not end: see {layout.log}, then kill it with kill -9 {pid}")
    return True


def _announce(layout: Layout, stack: Stack) -> Running:
    profile = make_profile(layout)
    save_profile(layout.profile, profile)
    current = save_as_current(profile)
    stack.serve()
    return Running(_shown(stack.functions_url), os.getpid(), str(current or layout.profile), current is not None)


def _shown(url: str) -> str:
    return url.removesuffix("/{function}")


def _is_current(layout: Layout) -> bool:
    """Whether the CLI reads this stack's profile."""
    known, own = read_json(profile_path(os.environ)), read_json(layout.profile)
    return isinstance(known, dict) and known == own


class _Ended(BaseException):
    """Somebody wants the stack to end, while it starts."""


@contextmanager
def _ending_by_signal() -> Iterator[None]:
    """SIGINT and SIGTERM raise _Ended in whatever is being done."""

    def end(_number: int, _frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise _Ended

    before = [signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)]
    try:
        yield
    except _Ended:
        pass
    finally:
        for number, handler in zip((signal.SIGINT, signal.SIGTERM), before, strict=True):
            signal.signal(number, handler)


def main() -> None:
    """In the background: `python -m polyshare.stack.up DATA PORT FD`, where FD is told what went wrong."""

    def stamped(text: str) -> None:
        print(time.strftime("%Y-%m-%d %H:%M:%S"), text, flush=True)

    try:
        up(Layout.find(sys.argv[1]), int(sys.argv[2]) or None, say=stamped, ready=lambda running: stamped("ready"))
    except PolyshareError as error:
        stamped(error.message)
        os.write(int(sys.argv[3]), error.message.encode())
        sys.exit(1)


if __name__ == "__main__":
    main()
