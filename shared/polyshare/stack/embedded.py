"""The stack itself: its servers, its functions and its runner, in the order they need each other."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from polyshare.errors import Conflict, Misconfigured, Mismatch, PolyshareError, Unavailable
from polyshare.ledger import node
from polyshare.ledger.read import check_trust_root
from polyshare.ledger.record import trust_root as read_trust_root
from polyshare.ledger.rpc import Rpc
from polyshare.ports import Bucket
from polyshare.stack import listening, weed
from polyshare.stack.issuer import issuer_url
from polyshare.stack.keyring import Keyring
from polyshare.stack.layout import Layout, read_json, write_json
from polyshare.stack.processes import Service, Spawn, Supervisor
from polyshare.stack.timer import Timer, post_sweep
from polyshare.store.keys import Given
from polyshare.store.s3 import S3Store

_LEAST_SPACE = 256 * 1024 * 1024  # bytes free, below which nothing is started
_CHECKPOINT_SECONDS = 60.0
_SWEEP_SECONDS = 2.0
_DEPLOY_SECONDS = 120.0


@dataclass
class Stack:
    """One data folder's stack. Hold the folder (`hold`) before starting it, and use it from the main thread."""

    layout: Layout
    functions_port: int = 0
    say: Callable[[str], None] = lambda text: None

    def __post_init__(self) -> None:
        self.keyring = Keyring(self.layout)
        self.supervisor = Supervisor(self.layout.log, on_change=self._write_stack, say=self.say)
        self._timer = Timer()
        self._ready = False
        self.ports: dict[str, int] = {}

    @property
    def functions_url(self) -> str:
        return f"http://{listening.HOST}:{self.functions_port}/{{function}}"

    def start(self) -> None:
        """Everything. Raises Misconfigured if the database is gone, Unavailable if a part does not start."""
        if self.layout.trust_root.exists() and not self.layout.database.exists():
            raise Misconfigured(
                f"the database {self.layout.database} is missing: restore it with"
                f" polyshare rebuild --data {self.layout.data}"
            )
        store, chain = self._prepare()
        if self.layout.trust_root.exists():  # all settings are known, so nothing has to wait for anything
            self._write_settings()
            from polyshare.catalogue.migrate import upgrade

            upgrade(f"sqlite:///{self.layout.database}")
            self.supervisor.start(store, self._functions(), self._runner(), chain)
            self._check_chain()
        else:
            self.supervisor.start(store, chain)
            self._deploy()
            self._write_settings()
            self._create_buckets()
            self.supervisor.start(self._functions(), self._runner())
        token = self.keyring.read("event_token")
        self._timer.every(_SWEEP_SECONDS, lambda: post_sweep(self.functions_url, token))
        self._timer.every(_CHECKPOINT_SECONDS, self._checkpoint)

    def start_servers(self) -> None:
        """Store and chain only, as they were left."""
        if not self.layout.trust_root.exists():
            raise Misconfigured(f"there never was a stack in {self.layout.data}: name its folder with --data")
        self.supervisor.start(*self._prepare())
        self._check_chain()
        self._write_settings()

    def serve(self) -> None:
        """Say in the data folder that the stack serves."""
        self._ready = True
        self._write_stack()

    def stop(self) -> None:
        """End everything: the functions finish what they do first, then runner, chain (checkpointed) and store."""
        self._timer.stop()
        for name in ("functions", "runner", "chain", "store"):
            self.supervisor.stop(name)
        if self.ports:
            weed.remove_sockets(self.ports)
        if self.layout.stack.exists():
            write_json(self.layout.stack, {"url": self.functions_url, "running": False})

    def _write_stack(self) -> None:
        if self._ready:
            state = {
                "url": self.functions_url,
                "running": True,
                "pid": os.getpid(),
                "pids": self.supervisor.pids(),
                "ports": {**self.ports, "functions": self.functions_port},
                "trust_root": read_json(self.layout.trust_root),
                "store": weed.endpoint(self.ports),
                "issuer": issuer_url(self.functions_url),
                "log": str(self.layout.log),
            }
            write_json(self.layout.stack, state)

    def _prepare(self) -> tuple[Service, Service]:
        """Store and chain, not started yet."""
        os.umask(0o077)  # all that is written from here on, logs included, is its owner's only
        self.layout.make()
        _check_space(self.layout)
        self.keyring.make()
        self.ports = listening.inner_ports(self.layout, (*weed.PORTS, "chain"))
        return weed.service(self.layout, self.keyring, self.ports, self.functions_url), self._chain()

    def _create_buckets(self) -> None:
        S3Store(
            endpoint=weed.endpoint(self.ports),
            region=weed.REGION,
            keys=Given(self.keyring.read("s3_access_key"), self.keyring.read("s3_secret_key")),
            buckets={Bucket(name): bucket for name, bucket in weed.BUCKETS.items()},
        ).create_buckets()

    def _write_settings(self) -> None:
        settings = {
            "database": f"sqlite:///{self.layout.database}",
            "s3_endpoint": weed.endpoint(self.ports),
            "s3_region": weed.REGION,
            "s3_access_key_file": str(self.keyring.path("s3_access_key")),
            "s3_secret_key_file": str(self.keyring.path("s3_secret_key")),
            **{f"bucket_{name}": bucket for name, bucket in weed.BUCKETS.items()},
            "ledger_rpc": node.url(self.ports["chain"]),
            "ledger_key_file": str(node.NodeFolder.of(self.layout.data).writer_key),
            "trust_root": read_json(self.layout.trust_root),
            "runner": "local",
            "runner_spool": str(self.layout.runner),
            "functions_url": self.functions_url,
            "event_token_file": str(self.keyring.path("event_token")),
            "jwt_issuer": issuer_url(self.functions_url),
            "jwks_file": str(self.layout.jwks),
            "data": str(self.layout.data),
            "sweep_seconds": _SWEEP_SECONDS,
        }
        write_json(self.layout.settings, settings)

    def _chain(self) -> Service:
        folder, port = node.NodeFolder.of(self.layout.data), self.ports["chain"]
        folder.path.mkdir(mode=0o700, parents=True, exist_ok=True)

        def start(spawn: Spawn) -> subprocess.Popen[bytes]:
            return node.start(folder, port, spawn=spawn)

        return Service("chain", start, ready=lambda: self._chain_answers(port), stopping=self._checkpoint)

    def _chain_answers(self, port: int) -> bool:
        try:
            with Rpc(node.url(port), timeout=5) as rpc:
                return bool(rpc.call("eth_chainId"))
        except PolyshareError:
            return False

    def _checkpoint(self) -> None:
        try:
            with Rpc(node.url(self.ports["chain"]), timeout=60) as rpc:
                node.checkpoint(rpc, node.NodeFolder.of(self.layout.data))
        except (PolyshareError, OSError) as error:
            self.say(f"the chain's checkpoint has to wait ({error}); its journal has everything")

    def _check_chain(self) -> None:
        """Raises Misconfigured if the chain does not have this folder's contracts."""
        try:
            check_trust_root(node.url(self.ports["chain"]), read_trust_root(read_json(self.layout.trust_root) or {}))
        except Mismatch as error:
            raise Misconfigured(
                f"the chain in {self.layout.data} is not the one that was deployed there: {error.message}. Put its"
                " `ledger` folder back from a backup, or start anew in another --data folder"
            ) from error

    def _deploy(self) -> None:
        """Put the contracts on the new chain. The trust root, written last, says that this folder is in use."""
        command = [sys.executable, "-m", "polyshare.stack.deploy", str(self.layout.data), str(self.ports["chain"])]
        done = subprocess.run(
            command, env=_environ(), capture_output=True, text=True, timeout=_DEPLOY_SECONDS, check=False
        )
        if done.returncode != 0:
            raise Unavailable(f"the contracts could not be deployed: {done.stderr.strip()[-2000:]}")
        self.layout.database.touch(mode=0o600)
        write_json(self.layout.trust_root, json.loads(done.stdout))

    def _functions(self) -> Service:
        command = [sys.executable, "-m", "uvicorn", "--factory", "polyshare.stack.app:create"]
        command += ["--host", listening.HOST, "--port", str(self.functions_port), "--log-level", "warning"]
        command += ["--no-access-log", "--no-server-header", "--no-proxy-headers", "--timeout-graceful-shutdown", "10"]
        health = self.functions_url.format(function="query_status") + "/healthz"
        return Service(
            "functions",
            lambda spawn: spawn(command, _environ(POLYSHARE_SETTINGS=str(self.layout.settings))),
            ready=lambda: _answers(health),
            folder=self.layout.data,
            stop_seconds=15,
        )

    def _runner(self) -> Service:
        command = [sys.executable, "-m", "polyshare.jobs.local", "--spool", str(self.layout.runner)]
        command += ["--cache", str(self.layout.environments)]
        return Service(
            "runner",
            lambda spawn: spawn(command, _environ()),
            ready=lambda: True,
            folder=self.layout.data,
            stop_seconds=40,
        )


@contextmanager
def hold(layout: Layout) -> Iterator[None]:
    """Own the data folder; raises Conflict if another stack runs in it."""
    layout.make()
    with layout.lock.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            url = (read_json(layout.stack) or {}).get("url", "").removesuffix("/{function}")
            where = f" at {url}" if url else ""
            raise Conflict(
                f"a stack runs in {layout.data} already{where}: stop it with polyshare down, or give another --data"
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def holder(layout: Layout) -> int | None:
    """The process id of the stack that runs in a data folder; None if none does."""
    try:
        with layout.lock.open("r") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return int(file.read() or 0) or None
    except (OSError, ValueError):
        pass
    return None


def wait_until_free(layout: Layout, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while holder(layout) is not None:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def _check_space(layout: Layout) -> None:
    free = shutil.disk_usage(layout.data).free
    if free < _LEAST_SPACE:
        raise Unavailable(
            f"{layout.data} is on a disk with {free // 2**20} MiB left: free some space (at least"
            f" {_LEAST_SPACE // 2**20} MiB), or give another --data folder"
        )


def _environ(**more: str) -> dict[str, str]:
    """This process's environment without credentials and settings that are not the stack's."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "POLYSHARE_"))}
    return {**kept, **more}


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 - http on this machine
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError):
        return False
