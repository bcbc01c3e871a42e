"""A few fault rounds; `make test-faults` runs a hundred."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults import run


@pytest.mark.timeout(900)
def test_nothing_acknowledged_is_lost_or_doubled_when_processes_are_killed(tmp_path: Path) -> None:
    """The second round takes the database too, the third kills everything."""
    counts = run(3, 5, tmp_path)
    assert counts["database"] == 1
    assert counts["supervisor"] >= 2
    assert counts["datasets"] >= 3
