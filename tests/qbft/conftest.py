from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from tests.qbft.network import PROGRAM, Network, network


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if PROGRAM.exists():
        return
    lacking = [tool for tool in ("go", "gcc") if shutil.which(tool) is None]
    why = f"GoQuorum is not built: make test-qbft builds it{', but needs ' + ' and '.join(lacking) if lacking else ''}"
    for item in items:
        if item.path.parent == PROGRAM.parents[1] / "tests" / "qbft":
            item.add_marker(pytest.mark.skip(reason=why))


@pytest.fixture(scope="module")
def running() -> Iterator[Network]:
    """Four validators, all of them up when a test begins is each test's own to see to."""
    with network() as started:
        yield started
