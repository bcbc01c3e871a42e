"""What is committed of the contracts is what their sources give, and they cost no more than they may."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ROOT / "contracts" / "tools"


def run(*command: str | Path) -> None:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "PATH": path}, capture_output=True, text=True, timeout=240
    )
    if done.returncode:
        pytest.fail(f"{done.stdout}{done.stderr}", pytrace=False)


def test_committed_abi_and_bytecode_are_what_the_sources_compile_to() -> None:
    run(sys.executable, TOOLS / "derive.py", "--check")


def test_committed_gas_keeps_to_the_goals_and_the_table_is_of_the_snapshot() -> None:
    run(sys.executable, TOOLS / "gas_table.py", "--check")
