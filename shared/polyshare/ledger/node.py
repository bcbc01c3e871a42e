"""The embedded chain: one anvil that mines each transaction at once, and survives being killed at any moment.

Every transaction is in a journal before it is sent (ledger.journal). The state is checkpointed now and then to a file
that names how much of the journal it covers; at start the newest checkpoint that loads is taken, and what the journal
holds beyond it is sent again in order. Block numbers and times differ after that: they are never kept as truth.

Nobody but the holders of the owner's and the writer's keys can sign (anvil gets no accounts of its own). But anvil lets
whoever reaches its port change its state by its own methods: it listens on 127.0.0.1 only, answers no browser, and what
it says is worth as much as the machine it runs on. Proofs against validators come with a QBFT network.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from polyshare.errors import Misconfigured, PolyshareError, Unavailable
from polyshare.ledger.journal import Journal
from polyshare.ledger.rpc import NodeRefused, Rpc, hexadecimal, octets

CHAIN_ID = 1337
GAS_LIMIT = 60_000_000  # of a block
_BLOCKS_KEPT = 16  # with their receipts, traces and all, which a checkpoint would be full of
_KEPT = 2  # checkpoints

Spawn = Callable[[Sequence[str], Mapping[str, str]], "subprocess.Popen[bytes]"]


@dataclass(frozen=True, slots=True)
class NodeFolder:
    """Where the embedded chain keeps what it must not lose."""

    path: Path

    @classmethod
    def of(cls, data: str | Path) -> NodeFolder:
        """In the data folder of an embedded stack."""
        return cls(Path(data) / "ledger")

    @property
    def home(self) -> Path:
        """Anvil's own HOME, so that it touches nobody else's."""
        return self.path / "home"

    @property
    def journal(self) -> Journal:
        return Journal(self.path / "journal")

    @property
    def owner_key(self) -> Path:
        return self.path / "owner.key"

    @property
    def writer_key(self) -> Path:
        return self.path / "writer.key"

    def checkpoints(self) -> list[tuple[int, Path]]:
        """Finished checkpoints with the length of the journal that each covers, newest first."""
        found = [(int(p.stem.partition("-")[2]), p) for p in self.path.glob("checkpoint-*.json")]
        return sorted(found, reverse=True)


def start(
    folder: NodeFolder, port: int, *, chain_id: int = CHAIN_ID, spawn: Spawn | None = None, patience: float = 180.0
) -> subprocess.Popen[bytes]:
    """Start anvil on 127.0.0.1, restored; returns once it answers with all that was ever sent to it.

    `spawn` starts a command with an environment (default: as a plain child, its output dropped). Raises Misconfigured
    where there is no anvil, Unavailable where it does not come up or its port is taken.
    """
    _check_free(port)
    folder.home.mkdir(parents=True, exist_ok=True)
    for draft in folder.path.glob(".checkpoint-*"):
        draft.unlink(missing_ok=True)
    candidates: list[tuple[int, Path | None]] = [*folder.checkpoints(), (0, None)]
    for offset, checkpoint in candidates:
        process = (spawn or _spawn)(_command(port, chain_id, checkpoint), {**os.environ, "HOME": str(folder.home)})
        with Rpc(url(port), timeout=30) as rpc:
            if not _answers(rpc, process, chain_id, patience):
                continue  # a damaged checkpoint: an older one and more of the journal come to the same
            try:
                restore(rpc, folder.journal, offset)
            except BaseException:
                process.kill()
                process.wait(timeout=10)
                raise
            return process
    raise Unavailable(f"the embedded chain (anvil) does not start on port {port}: see its log")


def restore(rpc: Rpc, journal: Journal, offset: int) -> int:
    """Send what the journal holds beyond `offset` bytes again, in order; returns how many were not there."""
    sent, nonces = 0, {}
    with journal.locked():
        for entry in journal.read(offset):
            if entry.sender not in nonces:
                nonces[entry.sender] = _nonce(rpc, entry.sender)
            if entry.nonce != nonces[entry.sender]:
                continue  # mined already, or second to another of its nonce
            try:
                rpc.call("eth_sendRawTransaction", hexadecimal(entry.raw))
            except NodeRefused:
                continue  # it was refused the first time too
            nonces[entry.sender] = _wait_for_nonce(rpc, entry.sender, entry.nonce + 1)
            sent += 1
    return sent


def checkpoint(rpc: Rpc, folder: NodeFolder) -> bool:
    """Save the chain's state; False if nothing was sent since the last time. Nobody sends while it is taken."""
    with folder.journal.locked() as descriptor:
        covered = os.fstat(descriptor).st_size
        known = folder.checkpoints()
        if known and known[0][0] == covered:
            return False
        state = octets(rpc.call("anvil_dumpState"))
    draft = folder.path / f".checkpoint-{covered}"
    with draft.open("wb") as file:
        file.write(state)
        file.flush()
        os.fsync(file.fileno())
    draft.rename(folder.path / f"checkpoint-{covered}.json")
    descriptor = os.open(folder.path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    for _, old in folder.checkpoints()[_KEPT:]:
        old.unlink(missing_ok=True)
    return True


def stop(process: subprocess.Popen[bytes], port: int, folder: NodeFolder) -> None:
    """Checkpoint, if the node still answers, and end it."""
    try:
        with Rpc(url(port), timeout=60) as rpc:
            checkpoint(rpc, folder)
    except PolyshareError:
        pass  # the journal has it all
    process.terminate()
    try:
        process.wait(timeout=10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(timeout=10)


def url(port: int) -> str:
    return f"http://127.0.0.1:{port}"


def find_anvil() -> str:
    """The anvil that `make setup` installed, else the one on PATH; raises Misconfigured."""
    checkout = Path(__file__).resolve().parents[3]
    installed = sorted(checkout.glob("node_modules/@foundry-rs/anvil-linux-*/bin/anvil"))
    found = next((str(path) for path in installed if os.access(path, os.X_OK)), None) or shutil.which("anvil")
    if found is None:
        raise Misconfigured("anvil, the embedded chain, is not installed: run make setup")
    return found


def _command(port: int, chain_id: int, checkpoint: Path | None) -> list[str]:
    command = [find_anvil(), "--host", "127.0.0.1", "--port", str(port), "--chain-id", str(chain_id), "--quiet"]
    command += ["--accounts", "0", "--no-cors", "--disable-default-create2-deployer", "--no-request-size-limit"]
    # As GoQuorum runs: London, and gas that costs nothing.
    command += ["--hardfork", "london", "--gas-price", "0", "--base-fee", "0", "--gas-limit", str(GAS_LIMIT)]
    # Else it spills gigabytes into its HOME.
    command += ["--prune-history", "--transaction-block-keeper", str(_BLOCKS_KEPT), "--order", "fifo"]
    return [*command, "--load-state", str(checkpoint)] if checkpoint else command


def _check_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as anvil: what lingers of the last run is free
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise Unavailable(f"port {port} of 127.0.0.1 is taken: end what listens there or choose another") from error


def _spawn(command: Sequence[str], environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def _answers(rpc: Rpc, process: subprocess.Popen[bytes], chain_id: int, patience: float) -> bool:
    """Whether this process, and no other on its port, came to answer; it is gone when not."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if int(rpc.call("eth_chainId"), 16) == chain_id and process.poll() is None:
                return True
        except PolyshareError:
            time.sleep(0.02)
    process.kill()
    process.wait(timeout=10)
    return False


def _nonce(rpc: Rpc, address: bytes) -> int:
    return int(rpc.call("eth_getTransactionCount", hexadecimal(address), "latest"), 16)


def _wait_for_nonce(rpc: Rpc, address: bytes, wanted: int) -> int:
    deadline = time.monotonic() + 30
    while (nonce := _nonce(rpc, address)) < wanted:
        if time.monotonic() > deadline:
            raise Unavailable("the embedded chain does not mine what its journal holds: see anvil's log")
        time.sleep(0.002)
    return nonce
