"""Plans of the catalogue's hot queries on PostgreSQL with many assets: `python -m tests.bench.catalogue_plans`.

Not part of `make bench`: it takes minutes and some GiB. The queries are those that the operations themselves send: each
is run on a database filled by SQL, and every statement it sent is explained with the values it was sent with.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa

from polyshare.assets import ANONYMOUS, Caller, Role
from polyshare.catalogue import Catalogue, outbox
from polyshare.catalogue.engine import make_engine
from polyshare.catalogue.migrate import upgrade
from polyshare.catalogue.tables import assets, files
from polyshare.hashing import Digest
from polyshare.manifest import Entry, Manifest
from polyshare.operations import anchor, sweep, uploads
from polyshare.operations.access import find
from polyshare.operations.govern import audit_log
from polyshare.operations.lineage import lineage, listing
from polyshare.operations.register import freeze
from polyshare.operations.status import status
from tests.contract.postgres_server import server
from tests.world import World, rebuilt_on

_MOST = 12  # statements explained of what an operation sent, each once
# Of the organisations, big has 3 assets of 10; small has one of 20,000, all old; the others share the rest.
_ORGANISATION = """CASE WHEN i % 10 < 3 THEN 'big' WHEN i % 20000 = 5 AND i < :n / 2 THEN 'small'
    ELSE 'org' || i % 997 END"""


def _uuid(i: str) -> str:
    """SQL of a UUID of version 7, for the i-th millisecond."""
    time = f"lpad(to_hex({i} + 1700000000000), 12, '0')"
    return f"(substr({time}, 1, 8) || '-' || substr({time}, 9) || '-7000-8000-' || substr(md5(({i})::text), 1, 12))"


_UUID = _uuid("i::bigint")
_FILL = f"""
INSERT INTO assets (id, kind, organisation, owner, name, version, visibility, state, created, fields, salt,
    content_root, metadata, record, address, request, outcome, result_root, anchored, result_anchored, journalled)
SELECT {_UUID}, CASE WHEN i % 3 = 0 THEN 2 ELSE 1 END, {_ORGANISATION}, 'user' || i % 50,
    'name' || i / 7, i % 7 + 1,
    CASE WHEN i % 10 = 4 THEN 'public' WHEN i % 10 = 2 THEN 'private' ELSE 'organisation' END,
    CASE WHEN i % 3 = 0 THEN 'trained' ELSE 'registered' END, 1.7e9 + i, '{{"rows": 10}}', sha256(i::text::bytea),
    sha256(('c' || i)::bytea), json_build_object('leaves', repeat(md5(i::text), 15)),
    decode(repeat(md5(i::text), 16), 'hex'), '0x' || substr(repeat(md5(i::text), 2), 1, 40), NULL,
    CASE WHEN i % 3 = 0 THEN 1 END, CASE WHEN i % 3 = 0 THEN sha256(('r' || i)::bytea) END, 1.7e9 + i,
    CASE WHEN i % 3 = 0 THEN 1.7e9 + i END, 0
FROM generate_series(1, :n) i;
INSERT INTO assets (id, kind, organisation, owner, name, visibility, state, created, fields)
SELECT {_UUID}, 1, 'big', 'user1', 'name5', 'organisation', CASE WHEN i % 5 = 0 THEN 'registering' ELSE 'uploading' END,
    1.7e9 + i, '{{}}' FROM generate_series(:n + 1, :n + 500) i;
INSERT INTO files SELECT a.id, 'content', 0, 'data.csv', 1000 + i % 5000,
    'sha256:' || encode(sha256((CASE WHEN i % 50 = 0 THEN 'same' ELSE i::text END)::bytea), 'hex'),
    a.organisation || '/' || a.id || '/x'
FROM (SELECT row_number() OVER () AS i, id, organisation FROM assets) a;
INSERT INTO parents SELECT {_UUID}, 0, {_uuid("(i - 1)::bigint")}, 'dataset'
FROM generate_series(3, :n, 3) i;
INSERT INTO stages (asset, stage, at) SELECT {_UUID}, s, 1.7e9 + i
FROM generate_series(1, :n) i, unnest(ARRAY['uploading', 'registered', 'anchored']) s;
INSERT INTO writes (asset, action, entry, after, state, transaction, created)
SELECT {_UUID}, 'register', json_build_object('id', replace({_UUID}, '-', ''), 'kind', 1, 'record', repeat('00', 300)),
    '[]', CASE WHEN i > :n - 400 THEN 'pending' ELSE 'done' END,
    CASE WHEN i > :n - 400 THEN NULL ELSE sha256((i / 150)::text::bytea) END, 1.7e9 + i
FROM generate_series(1, :n) i;
INSERT INTO transactions SELECT sha256(i::text::bytea), i, 'raw', 'mined', 1, 1.7e9
FROM generate_series(0, :n / 150) i;
INSERT INTO jobs (id, asset, action, state, attempt, created, heard, deadline)
SELECT {_UUID}, {_UUID}, 'train', CASE WHEN i % 3000 = 0 THEN 'running' ELSE 'done' END, 1, 1.7e9 + i, 1.6e9, 3e9
FROM generate_series(3, :n, 3) i;
INSERT INTO uploads SELECT {_UUID}, 'org', '[]', '{{}}', 1.7e9 + i, true FROM generate_series(1, :n) i;
INSERT INTO uploads SELECT {_UUID}, 'org', '[]', '{{}}', 1.0, false
FROM generate_series(:n + 1, :n + 500) i;
INSERT INTO outbox (id, type, subject, data, at, due) SELECT {_UUID}, 'polyshare.asset.registered', {_UUID}, '{{}}',
    1.0, CASE WHEN i % 2 = 0 THEN 1.0 ELSE 9e9 END FROM generate_series(1, :n / 50) i;
INSERT INTO grants SELECT {_UUID}, 'partner', 'user1', 1.0, NULL FROM generate_series(1, :n, 500) i;
INSERT INTO audit (at, organisation, subject, action, asset) SELECT 1.0, {_ORGANISATION}, 'user1', 'read', {_UUID}
FROM generate_series(1, :n) i;
INSERT INTO inbox SELECT 'test', i::text, 1.7e9 + i FROM generate_series(1, :n) i;
INSERT INTO idempotency SELECT 'user' || i % 50, i::text, '', {_UUID}, 1.7e9 + i FROM generate_series(1, :n) i;
INSERT INTO inbox_drops SELECT 'org/' || i || '/', 'e', 'l', {_UUID}, CASE WHEN i % 10000 = 0 THEN NULL ELSE '' END
FROM generate_series(1, :n, 10) i;
"""


def fill(url: str, count: int) -> None:
    engine = make_engine(url, pool=1, statement_seconds=0)
    for statement in _FILL.replace(":n", str(count)).split(";\n"):
        if statement.strip():
            began = time.monotonic()
            with engine.begin() as connection:
                connection.exec_driver_sql(statement.replace("%", "%%"))
            print(f"  {statement.split()[2]}: {time.monotonic() - began:.0f} s", file=sys.stderr)
    with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        connection.execute(sa.text("VACUUM ANALYZE"))
    engine.dispose()


@contextmanager
def noted(engine: sa.Engine) -> Iterator[list[tuple[str, Any]]]:
    """Collects the statements that are sent meanwhile, with their values."""
    sent: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, values: Any, _context: Any, many: bool) -> None:
        if not many and statement.startswith(("SELECT", "WITH", "DELETE", "UPDATE")) and "pg_" not in statement[:60]:
            sent.append((statement, values))

    sa.event.listen(engine, "before_cursor_execute", note)
    try:
        yield sent
    finally:
        sa.event.remove(engine, "before_cursor_execute", note)


def explain(engine: sa.Engine, statement: str, values: Any) -> tuple[float, int, str]:
    """Milliseconds, pages read, and the plan: run, then rolled back. The second run counts: the first warms."""
    with engine.connect() as connection:
        for _ in range(2):
            rows = connection.exec_driver_sql(f"EXPLAIN (ANALYZE, BUFFERS) {statement}", values)
            lines = [row[0] for row in rows]
        connection.rollback()
    plan = "\n".join(lines)
    buffers = next((line for line in lines if "Buffers" in line), "")
    pages = sum(int(n) for n in re.findall(r"(?:hit|read)=(\d+)", buffers))
    return float(re.findall(r"Execution Time: ([\d.]+)", plan)[-1]), pages, plan


def questions(world: World) -> dict[str, Callable[[], object]]:
    """Name → what is asked, on operations as they are."""
    ports = world.ports
    big, small = Caller("user1", {"big": Role.ADMIN}), Caller("user5", {"small": Role.PUBLISHER})
    partner = Caller("p", {"partner": Role.READER})
    mine = sa.select(assets).where(assets.c.organisation == "big", assets.c.visibility == "organisation")
    with ports.catalogue.reading() as connection:
        some = connection.execute(mine.offset(1000).limit(1)).one()
        some_file = connection.execute(sa.select(files).where(files.c.asset == some.id)).one()
        begun = connection.scalar(sa.select(assets.c.id).where(assets.c.state == "uploading").limit(1))
    same = f"sha256:{hashlib.sha256(b'same').hexdigest()}"
    entries = [Entry("a", Digest.parse(some_file.digest, some_file.size)), Entry("b", Digest.parse(same, 1050))]
    now = ports.clock.now()

    def read(work: Callable[[sa.Connection], object]) -> Callable[[], object]:
        def call() -> object:
            with ports.catalogue.reading() as connection:
                return work(connection)

        return call

    middle = listing(ports, big, limit=50).cursor or ""
    return {
        "find by id": read(lambda c: find(c, big, some.id, now)),
        "find by name": read(lambda c: find(c, big, f"big/{some.name}", now)),
        "status": lambda: status(ports, big, some.id),
        "listing, big organisation": lambda: listing(ports, big),
        "listing, its second page": lambda: listing(ports, big, cursor=middle),
        "listing, small organisation": lambda: listing(ports, small),
        "listing, by grants": lambda: listing(ports, partner),
        "listing, anonymous": lambda: listing(ports, ANONYMOUS),
        "listing, by content root": lambda: listing(ports, big, content_root=some.content_root),
        "listing, text in the name": lambda: listing(ports, big, q="ame77"),
        "lineage": lambda: lineage(ports, big, some.id),
        "blobs already there": read(lambda c: uploads._reusable(c, big, "big", Manifest(tuple(entries)), now)),
        "freeze: next version of a name": lambda: freeze(ports, begun, [], {}),
        "anchor: what is pending": read(lambda c: list(anchor._ready(c))),
        "anchor: is there work": lambda: anchor._has_work(ports),
        "outbox: what is due": lambda: outbox.deliver(ports),
        "audit log of an asset": lambda: audit_log(ports, big, organisation=None, asset=some.id, cursor=None),
        "audit log of an organisation": lambda: audit_log(ports, big, organisation="big", asset=None, cursor=None),
        "sweep: frozen, not acknowledged": lambda: sweep._acknowledge_frozen(ports),
        "sweep: completions to finish": lambda: sweep._finish_jobs(ports),
        "sweep: waiting jobs": lambda: sweep._start_waiting(ports),
        "sweep: silent jobs": lambda: sweep._recover_jobs(ports),
        "sweep: old writes": lambda: sweep._anchor_pending(ports),
        "sweep: drops to report": lambda: sweep._report_drops(ports),
        "sweep: erasures to finish": lambda: sweep._finish_erasures(ports),
        "sweep: expired uploads": lambda: sweep._drop_expired_uploads(ports),
        "sweep: forget": lambda: sweep._forget(ports),
    }


def measure(url: str, count: int, *, plans: bool) -> None:
    """Print the tables: what is asked, and what is kept."""
    world = World()
    world.clock.time = 1.7e9 + count + 1000
    catalogue = Catalogue(url)
    world.ports = rebuilt_on(world.ports, catalogue)
    engine = catalogue._engine
    print(f"{count} assets\n\n| asked | statements | slowest, ms | its pages | its plan |\n|---|---|---|---|---|")
    for name, ask in questions(world).items():
        with noted(engine) as sent:
            try:
                ask()
            except Exception as error:  # the effect is not what is measured
                print(f"{name}: {error!r}"[:300], file=sys.stderr)
        firsts = dict(reversed(sent))
        told = [explain(engine, statement, firsts[statement]) for statement in list(firsts)[-_MOST:]]
        slowest = max(told, default=(0.0, 0, ""))
        scans = ", ".join(dict.fromkeys(re.findall(r"Seq Scan on \w+|using \w+|Index Scan on \w+", slowest[2])))
        print(f"| {name} | {len(sent)} | {slowest[0]:.2f} | {slowest[1]} | {scans} |", flush=True)
        if plans:
            print(name, slowest[2], sep="\n", file=sys.stderr)
    print("\n| table | MB | indexes, MB |\n|---|---|---|")
    for name, table, indexes in _sizes(engine):
        print(f"| {name} | {table / 1e6:.0f} | {indexes / 1e6:.0f} |")
    catalogue.close()


def _sizes(engine: sa.Engine) -> list[sa.Row[Any]]:
    with engine.connect() as connection:
        return list(
            connection.execute(
                sa.text(
                    "SELECT relname, pg_table_size(oid), pg_indexes_size(oid) FROM pg_class"
                    " WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace ORDER BY 2 DESC"
                )
            )
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--assets", type=int, default=1_000_000)
    parser.add_argument("--plans", action="store_true", help="print each slowest statement's plan, on stderr")
    given = parser.parse_args()
    with server(shared_buffers="1GB", work_mem="16MB", maintenance_work_mem="256MB", max_wal_size="4GB") as running:
        url = running.make_database()
        upgrade(url)
        fill(url, given.assets)
        measure(url, given.assets, plans=given.plans)


if __name__ == "__main__":
    main()
