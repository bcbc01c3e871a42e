"""`polyshare doctor`: what is wrong with a machine or a stack, and how to mend it."""

from __future__ import annotations

import os
import platform
import shutil
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from polyshare.errors import PolyshareError
from polyshare.stack import listening, weed
from polyshare.stack.embedded import holder
from polyshare.stack.keyring import Keyring
from polyshare.stack.layout import Layout, read_json

_ENOUGH_SPACE = 2 * 1024**3  # bytes
_ENOUGH_MEMORY = 1024**3  # bytes
_OLD = 300.0  # seconds after which something undelivered or unfinished is worth a word
_MOST_SKEW = 5.0  # seconds


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at. `mend` says what to do where it is not well."""

    what: str
    well: bool
    found: str
    mend: str = ""


def examine(layout: Layout) -> list[Finding]:
    """Everything, the machine first; the stack's part where one runs. Raises nothing: what fails is a finding."""
    checks: list[Callable[[Layout], Iterator[Finding]]] = [_machine, _programs, _sandbox, _space]
    running = holder(layout) is not None
    checks += [_processes, _functions, _store, _chain, _clock] if running else [_not_running]
    checks += [_database]
    findings: list[Finding] = []
    for check in checks:
        try:
            findings += check(layout)
        except (PolyshareError, OSError, sqlite3.Error, ValueError, KeyError) as error:
            findings.append(Finding(check.__name__.strip("_"), False, str(error), "see the log and start it anew"))
    return findings


def _machine(layout: Layout) -> Iterator[Finding]:
    import psutil

    version = platform.python_version()
    yield Finding("Python", sys.version_info >= (3, 11), version, "install Python 3.11 or newer")
    known = platform.machine() in ("x86_64", "aarch64")
    yield Finding("machine", known, f"{platform.system()} {platform.machine()}", "use Linux on x86-64 or arm64")
    memory = psutil.virtual_memory().available
    mend = "close other programs: store, chain and functions need about 1 GiB"
    yield Finding("memory", memory >= _ENOUGH_MEMORY, f"{memory / 2**30:.1f} GiB available", mend)


def _programs(layout: Layout) -> Iterator[Finding]:
    from polyshare.ledger.node import find_anvil

    for name, find in (("anvil", find_anvil), ("SeaweedFS", weed.find_weed)):
        try:
            yield Finding(name, True, find())
        except PolyshareError as error:
            yield Finding(name, False, error.message, "run make setup")


def _sandbox(layout: Layout) -> Iterator[Finding]:
    from polyshare.jobs import bubblewrap, container

    try:
        sandbox = bubblewrap.probe()
        yield Finding("sandbox for uv: environments", True, sandbox.name)
    except PolyshareError as error:
        yield Finding("sandbox for uv: environments", False, error.message, "training jobs can't run until one works")
    try:
        yield Finding("engine for oci: images", True, container.probe("doctor").name)
    except PolyshareError as error:
        yield Finding("engine for oci: images", True, f"none, so only uv: environments run here ({error.message})")


def _space(layout: Layout) -> Iterator[Finding]:
    folder = next(path for path in (layout.data, *layout.data.parents) if path.exists())
    free = shutil.disk_usage(folder).free
    mend = f"free some space on the disk of {folder}: at under {_ENOUGH_SPACE >> 30} GiB uploads and jobs begin to fail"
    yield Finding("disk", free >= _ENOUGH_SPACE, f"{free / 2**30:.1f} GiB free for {layout.data}", mend)
    inodes = os.statvfs(folder)
    few = inodes.f_files > 0 and inodes.f_favail < 100_000
    yield Finding("inodes", not few, f"{inodes.f_favail} free", f"remove files from the disk of {folder}")


def _not_running(layout: Layout) -> Iterator[Finding]:
    port = (read_json(layout.ports) or {}).get("functions", 8080)
    free = listening.is_free(port)
    yield Finding("port", True, f"{port} is {'free' if free else 'taken: up will choose the next free one'}")
    yield Finding("stack", True, f"none runs in {layout.data} (polyshare up starts one)")


def _processes(layout: Layout) -> Iterator[Finding]:
    import psutil

    state = read_json(layout.stack) or {}
    for name, pid in state.get("pids", {}).items():
        mend = f"the supervisor starts it again; if it keeps ending, see {layout.log / name}.log"
        try:
            process = psutil.Process(pid)
            alive = process.status() != psutil.STATUS_ZOMBIE  # killed, and its supervisor has not looked yet
            found = f"process {pid}, {process.memory_info().rss / 2**20:.0f} MiB"
        except psutil.NoSuchProcess:
            alive = False
        yield Finding(name, alive, found if alive else f"process {pid} is gone", mend)
    if not state.get("pids"):
        yield Finding("stack", False, "it is starting, or could not", f"wait a moment; then see {layout.log}")


def _functions(layout: Layout) -> Iterator[Finding]:
    import httpx

    from polyshare.stack.app import FUNCTIONS

    url = (read_json(layout.settings) or {})["functions_url"]
    mend = f"see {layout.log / 'functions.log'}; polyshare down and up start it anew"
    with httpx.Client(timeout=10, trust_env=False) as client:
        for name in FUNCTIONS:
            try:
                status = client.get(url.format(function=name) + "/healthz").status_code
            except httpx.HTTPError as error:
                yield Finding(f"function {name}", False, str(error) or type(error).__name__, mend)
            else:
                yield Finding(f"function {name}", status == 200, f"answers {status}", mend)


def _store(layout: Layout) -> Iterator[Finding]:
    from polyshare.ports import Bucket
    from polyshare.store.keys import Given
    from polyshare.store.s3 import S3Store

    keyring, settings = Keyring(layout), read_json(layout.settings) or {}
    store = S3Store(
        endpoint=settings["s3_endpoint"],
        region=settings["s3_region"],
        keys=Given(keyring.read("s3_access_key"), keyring.read("s3_secret_key")),
        buckets={Bucket(name): bucket for name, bucket in weed.BUCKETS.items()},
    )
    mend = f"free disk space; then see {layout.log / 'store.log'}"
    try:
        for bucket in Bucket:
            store.head(bucket, ".doctor")
        store.put(Bucket.BLOBS, ".doctor", b"writing works")
        store.delete(Bucket.BLOBS, [".doctor"])
        yield Finding("object store", True, f"{settings['s3_endpoint']} reads and writes")
    except PolyshareError as error:
        yield Finding("object store", False, error.message, mend)


def _chain(layout: Layout) -> Iterator[Finding]:
    from polyshare.ledger.read import check_trust_root, read_registry
    from polyshare.ledger.record import trust_root

    settings = read_json(layout.settings) or {}
    try:
        root = trust_root(settings["trust_root"])
        check_trust_root(settings["ledger_rpc"], root)
        count = read_registry(settings["ledger_rpc"], root.registry).count
        yield Finding("ledger", True, f"its contracts are those pinned; {count} records")
    except PolyshareError as error:
        yield Finding(
            "ledger", False, error.message, f"see {layout.log / 'chain.log'}; polyshare down and up restore it"
        )


def _clock(layout: Layout) -> Iterator[Finding]:
    """A clock that went back makes tokens and presigned URLs that are not valid yet."""
    ahead = layout.stack.stat().st_mtime - time.time()
    mend = "set this machine's clock, then polyshare down and up"
    yield Finding("clock", ahead <= _MOST_SKEW, time.strftime("%Y-%m-%d %H:%M:%S %Z"), mend)


def _database(layout: Layout) -> Iterator[Finding]:
    if not layout.database.exists():
        yield Finding("database", True, "there is none yet")
        return
    rebuild = f"restore it: polyshare down, then polyshare rebuild --data {layout.data}"
    connection = sqlite3.connect(f"file:{layout.database}?mode=ro", uri=True, timeout=10)
    try:
        verdict = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        yield Finding("database", verdict == "ok", str(verdict), rebuild)
        yield from _backlog(connection, layout)
    except sqlite3.DatabaseError as error:
        yield Finding("database", False, str(error), rebuild)
    finally:
        connection.close()


def _backlog(connection: sqlite3.Connection, layout: Layout) -> Iterator[Finding]:
    """What waits for longer than it should."""
    old = time.time() - _OLD
    questions = {
        "undelivered events": ("SELECT count(*) FROM outbox WHERE at < ?", "functions.log"),
        "records waiting for the ledger": (
            "SELECT count(*) FROM writes WHERE state IN ('pending', 'sent') AND created < ?",
            "functions.log",
        ),
        "silent jobs": (
            "SELECT count(*) FROM jobs WHERE state IN ('running', 'publishing') AND coalesce(heard, created) < ?",
            "runner.log",
        ),
    }
    for what, (question, log) in questions.items():
        count = _number(connection.execute(question, (old,)).fetchone())
        mend = f"sweep takes them up while the stack runs; if they stay, see {layout.log / log}"
        yield Finding(what, count == 0, f"{count} older than {_OLD / 60:.0f} minutes", mend)
    rejected = _number(connection.execute("SELECT count(*) FROM writes WHERE state = 'rejected'").fetchone())
    yield Finding("records refused by the ledger", rejected == 0, str(rejected), "polyshare status names the reason")


def _number(row: Any) -> int:
    return int(row[0])
