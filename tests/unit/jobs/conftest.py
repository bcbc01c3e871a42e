from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from polyshare.jobs.steps import Place
from tests.unit.jobs.platform import Platform, serving

CACHE = Path(__file__).parents[3] / ".make" / "environments"  # named by digest, so it may be kept between runs


@pytest.fixture
def platform() -> Iterator[Platform]:
    with serving() as running:
        yield running


@pytest.fixture
def client() -> Iterator[httpx.Client]:
    with httpx.Client(trust_env=False) as open_client:
        yield open_client


@pytest.fixture
def place(tmp_path: Path) -> Place:
    work = tmp_path / "work"
    work.mkdir()
    return Place(work, CACHE)
