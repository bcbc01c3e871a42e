from __future__ import annotations

import subprocess
import sys

from polyshare.stack.listening import choose_port, is_free

_CHOOSE = (
    "from polyshare.stack.listening import choose_port; print(choose_port({}, exactly=False), flush=True); input()"
)


def test_two_stacks_that_start_at_once_take_different_ports() -> None:
    """Nobody listens yet when the second one looks."""
    wanted = choose_port(23_456, exactly=False)
    assert is_free(wanted)
    assert choose_port(wanted, exactly=True) == wanted, "it stays ours"
    with subprocess.Popen(
        [sys.executable, "-c", _CHOOSE.format(wanted)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert int(other.stdout.readline()) > wanted
        other.communicate("\n", timeout=20)
