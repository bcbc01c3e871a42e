"""Migrations: they end in the tables that the code works with, whatever they begin with, also two at once."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.config import Config
from alembic.script import ScriptDirectory

from polyshare.catalogue import Catalogue, engine, migrate, tables
from polyshare.catalogue.migrations.versions import r0001_first
from polyshare.errors import Conflict, Misconfigured, Unavailable
from tests.contract.conftest import MakeDatabase

FOLDER = Path(migrate.__file__).with_name("migrations")


def schema(url: str) -> dict[str, Any]:
    """All that a database says of its tables: columns, keys, and indexes with their conditions."""
    connected = engine.make_engine(url, pool=1)
    with connected.connect() as connection:
        inspected = sa.inspect(connection)
        found: dict[str, Any] = {
            name: {
                "columns": {c["name"]: _column(c) for c in inspected.get_columns(name)},
                "key": inspected.get_pk_constraint(name)["constrained_columns"],
                "unique": sorted(tuple(u["column_names"]) for u in inspected.get_unique_constraints(name)),
            }
            for name in inspected.get_table_names()
        }
        statement = (
            "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'"
            if connection.dialect.name == "postgresql"
            else "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL"
        )
        found["indexes"] = {name: " ".join(sql.split()) for name, sql in connection.execute(sa.text(statement))}
        if connection.dialect.name == "postgresql":
            assert not connection.scalar(sa.text("SELECT count(*) FROM pg_index WHERE NOT indisvalid"))
    connected.dispose()
    return found


def _column(column: Any) -> tuple[str, str | None, bool, str | None]:
    return repr(column["type"]), getattr(column["type"], "collation", None), column["nullable"], column["default"]


def first_tables(url: str) -> None:
    """As they were made before there were revisions, with a row."""
    connected = engine.make_engine(url, pool=1)
    with connected.connect() as connection, connection.begin():
        r0001_first.metadata.create_all(connection)
        row = {"id": "a", "kind": 1, "organisation": "acme", "owner": "alice", "visibility": "public"}
        connection.execute(r0001_first.assets.insert().values(state="registered", created=1.0, fields={}, **row))
    connected.dispose()


def create(url: str) -> None:
    connected = engine.make_engine(url, pool=1)
    tables.create(connected)
    connected.dispose()


def test_migrations_end_in_the_tables_that_are_made_at_once(empty_database: MakeDatabase) -> None:
    migrated, made = empty_database(), empty_database()
    assert migrate.upgrade(migrated) == (None, tables.REVISION)
    create(made)
    assert schema(migrated) == schema(made)
    assert migrate.upgrade(made) == (tables.REVISION, tables.REVISION)


def test_the_revision_of_the_tables_is_the_newest_migration() -> None:
    config = Config()
    config.set_main_option("script_location", str(FOLDER))
    config.set_main_option("path_separator", "os")
    assert ScriptDirectory.from_config(config).get_heads() == [tables.REVISION]


def test_tables_from_before_there_were_revisions_are_migrated_with_what_is_in_them(
    empty_database: MakeDatabase,
) -> None:
    old, made = empty_database(), empty_database()
    first_tables(old)
    assert migrate.upgrade(old) == (None, tables.REVISION)
    create(made)
    assert schema(old) == schema(made)
    catalogue = Catalogue(old)
    with catalogue.reading() as connection:
        assert connection.scalar(sa.select(tables.assets.c.owner)) == "alice"
    catalogue.close()


def test_two_runners_at_once_migrate_once(empty_database: MakeDatabase) -> None:
    url = empty_database()
    if url.startswith("sqlite"):
        pytest.skip("the embedded stack's folder has one holder")
    with ThreadPoolExecutor(3) as pool:
        before = sorted(str(done[0]) for done in pool.map(migrate.upgrade, [url] * 3))
    assert before == [tables.REVISION, tables.REVISION, "None"]


def test_a_migration_that_was_cut_short_is_taken_on_from(empty_database: MakeDatabase) -> None:
    url, made = empty_database(), empty_database()
    migrate.upgrade(url)
    connected = engine.make_engine(url, pool=1)
    with connected.begin() as connection:  # some indexes are there, one of them half built, and one is not
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '0001'"))
        connection.execute(sa.text("DROP INDEX inbox_drops_untold"))
        if connection.dialect.name == "postgresql":
            half = "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'assets_public'::regclass"
            connection.execute(sa.text(half))
    connected.dispose()
    assert migrate.upgrade(url) == ("0001", tables.REVISION)
    create(made)
    assert schema(url) == schema(made)


def test_a_database_of_a_newer_release_is_left_alone(empty_database: MakeDatabase) -> None:
    url = empty_database()
    create(url)
    connected = engine.make_engine(url, pool=1)
    with connected.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    connected.dispose()
    with pytest.raises(Conflict, match="9999"):
        migrate.upgrade(url)


def test_writers_go_on_while_indexes_are_built(empty_database: MakeDatabase) -> None:
    url = empty_database()
    if url.startswith("sqlite"):
        pytest.skip("SQLite migrates before the functions start")
    first_tables(url)
    catalogue = Catalogue(url)
    with ThreadPoolExecutor(1) as pool:
        with catalogue.transaction() as connection:  # a writer that is slow to commit holds up the index, not others
            connection.execute(tables.assets.update().values(owner="bob"))
            running = pool.submit(migrate.upgrade, url)
            for number in range(20):
                with catalogue.transaction() as other:
                    other.execute(tables.inbox.insert().values(source="test", id=str(number), at=1.0))
        assert running.result(timeout=60)[1] == tables.REVISION
    catalogue.close()


def test_a_file_that_is_no_database_is_told_without_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "catalogue.sqlite").write_bytes(b"not a database" * 1000)
    with pytest.raises(Unavailable, match="not a database"):
        migrate.upgrade(f"sqlite:///{tmp_path}/catalogue.sqlite")


def test_the_command_migrates_and_says_so(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/catalogue.sqlite"
    command = [sys.executable, "-m", "polyshare.catalogue", "upgrade"]
    done = subprocess.run([*command, "--database", url], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout == f"revision none -> {tables.REVISION}\n"
    wrong = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env={})
    assert wrong.returncode == 64
    assert "POLYSHARE_DATABASE" in wrong.stderr


def test_a_database_that_was_not_migrated_is_named(empty_database: MakeDatabase) -> None:
    url = empty_database()
    if url.startswith("sqlite"):
        pytest.skip("SQLite's tables are made when it is opened")
    catalogue = Catalogue(url)
    with pytest.raises(Misconfigured, match="catalogue upgrade"), catalogue.reading() as connection:
        connection.execute(sa.select(tables.assets))
    catalogue.close()


def test_a_password_is_read_from_its_file_for_each_connection(tmp_path: Path) -> None:
    path = tmp_path / "password"
    connected = engine.make_engine(f"postgresql://polyshare@db.invalid/polyshare?password_file={path}", pool=1)
    assert "password_file" not in str(connected.url)
    for password in ("first", "second"):
        path.write_text(password + "\n")
        given: dict[str, Any] = {}
        for listener in connected.dialect.dispatch.do_connect:
            listener(connected.dialect, None, (), given)
        assert given == {"password": password}
    path.unlink()
    with pytest.raises(Misconfigured, match="POLYSHARE_DATABASE names"):
        connected.connect()
