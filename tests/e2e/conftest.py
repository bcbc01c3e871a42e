from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.machine import Machine


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """One running stack for all tests that leave it running."""
    machine = Machine(tmp_path_factory.mktemp("stack"))
    try:
        machine.up()
        yield machine
    finally:
        machine.clean()
