"""A QBFT network of four validators on this machine, in a folder of its own, on free ports, ended by process id.

As a command it runs another against a fresh network, whose nodes that finds in POLYSHARE_TEST_QBFT:
`python -m tests.qbft.network pytest tests/contract/test_ledger.py`
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from polyshare.errors import PolyshareError
from polyshare.ledger.keys import Key
from polyshare.ledger.rpc import Rpc

PROGRAM = Path(__file__).resolve().parents[2] / ".make" / "geth-quorum"
NODES = "POLYSHARE_TEST_QBFT"  # URLs, comma separated
VALIDATORS = 4
CHAIN_ID = 1337
GAS_LIMIT = 20_000_000  # a full block must be filled well inside the period, or GoQuorum proposes empty ones
_FORKS = ("homestead", "eip150", "eip155", "eip158", "byzantium", "constantinople", "petersburg", "istanbul")
_FORKS += ("muirGlacier", "berlin")
_PATIENCE = 90.0  # seconds until there are blocks


@dataclass
class Validator:
    """A node: its key, which is its account, and where it listens."""

    folder: Path
    secret: bytes
    rpc_port: int
    peer_port: int
    process: subprocess.Popen[bytes] | None = None
    _log: Path = field(init=False)

    def __post_init__(self) -> None:
        self._log = self.folder.with_suffix(".log")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.rpc_port}"

    @property
    def address(self) -> bytes:
        return Key(self.secret).address

    @property
    def permissioned(self) -> Path:
        """The file that names whom it lets in, which GoQuorum reads at each connection."""
        return self.folder / "permissioned-nodes.json"

    @property
    def enode(self) -> str:
        from coincurve import PrivateKey

        point = PrivateKey(self.secret).public_key.format(compressed=False)[1:]
        return f"enode://{point.hex()}@127.0.0.1:{self.peer_port}?discport=0"

    def prepare(self, genesis: Path, peers: list[str]) -> None:
        (self.folder / "geth").mkdir(parents=True, mode=0o700)
        (self.folder / "geth" / "nodekey").write_text(self.secret.hex())
        (self.folder / "static-nodes.json").write_text(json.dumps(peers))
        self.permissioned.write_text(json.dumps(peers))
        (self.folder / "config.toml").write_text(
            f'[Node.P2P]\nListenAddr = "127.0.0.1:{self.peer_port}"\nNoDiscovery = true\nMaxPeers = 25\n'
        )
        self.begin(genesis)

    def begin(self, genesis: Path) -> None:
        """Make an empty chain, in the node's folder."""
        self._run("init", str(genesis)).wait(timeout=60)

    def start(self) -> None:
        self.process = self._run(
            *("--config", str(self.folder / "config.toml"), "--networkid", str(CHAIN_ID), "--permissioned"),
            *("--nodiscover", "--nat", "none", "--ipcdisable", "--nousb", "--cache", "128"),
            *("--syncmode", "full", "--gcmode", "archive", "--mine", "--miner.threads", "1", "--miner.gasprice", "0"),
            *("--miner.gaslimit", str(GAS_LIMIT), "--miner.gastarget", str(GAS_LIMIT)),
            *("--txpool.globalslots", "50000", "--txpool.accountslots", "50000"),
            *("--http", "--http.addr", "127.0.0.1", "--http.port", str(self.rpc_port)),
            *("--http.api", "eth,net,web3,istanbul,admin,txpool,miner"),
        )

    def stop(self, how: int = signal.SIGTERM) -> None:
        if self.process is not None:
            self.process.send_signal(how)
            try:
                self.process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(timeout=10)
            self.process = None

    def kill(self) -> None:
        self.stop(signal.SIGKILL)

    def height(self) -> int:
        with Rpc(self.url) as rpc:
            return rpc.height()

    def _run(self, *arguments: str) -> subprocess.Popen[bytes]:
        environ = {"PATH": os.defpath, "HOME": str(self.folder), "PRIVATE_CONFIG": "ignore"}
        with self._log.open("ab") as log:
            command = [str(PROGRAM), "--datadir", str(self.folder), *arguments]
            return subprocess.Popen(command, env=environ, stdin=subprocess.DEVNULL, stdout=log, stderr=log)


@dataclass
class Network:
    folder: Path
    genesis: Path
    validators: list[Validator]

    @property
    def urls(self) -> str:
        return ",".join(validator.url for validator in self.validators)

    def wait_for_blocks(self, count: int = 1, *, by: Validator | None = None, patience: float = _PATIENCE) -> None:
        """Until a running validator has so many more blocks than now. Raises RuntimeError with the logs' ends."""
        by = by or next(v for v in self.validators if v.process is not None)
        first, end = None, time.monotonic() + patience
        while True:
            try:
                height = by.height()
                first = height if first is None else first
                if height >= first + count:
                    return
            except PolyshareError:
                pass  # not there yet
            if time.monotonic() > end:
                logs = "\n".join(v._log.read_text(errors="replace")[-800:] for v in self.validators)
                raise RuntimeError(f"no block in {patience:.0f} s:\n{logs}")
            time.sleep(0.1)

    def start_all(self) -> None:
        """Until each has proposed a block: one that was just started counts for no quorum before it found the others
        and the chain's end, and a test that then stops another would stop the chain."""
        for validator in self.validators:
            if validator.process is None:
                validator.start()
        self.wait_for_blocks()
        with Rpc(self.validators[0].url) as rpc:
            missing = set(rpc.call("istanbul_getValidators"))
            height, end = rpc.height(), time.monotonic() + _PATIENCE
            while missing:
                for number in range(height + 1, (height := max(height, rpc.height())) + 1):
                    missing.discard(rpc.call("eth_getBlockByNumber", hex(number), False)["miner"])
                if time.monotonic() > end:
                    raise RuntimeError(f"no block by {', '.join(sorted(missing))} in {_PATIENCE:.0f} s")
                time.sleep(0.2)

    def another(self) -> Validator:
        """A fifth node that the others let in as a peer; not a validator yet."""
        rpc_port, peer_port = _free_ports(2)
        made = Validator(self.folder / f"n{len(self.validators)}", secrets.token_bytes(32), rpc_port, peer_port)
        peers = [v.enode for v in (*self.validators, made)]
        made.prepare(self.genesis, peers)
        for validator in self.validators:
            validator.permissioned.write_text(json.dumps(peers))
        self.validators.append(made)
        return made


@contextmanager
def network(period: int = 1) -> Iterator[Network]:
    """Four running validators, which have made a block. `period` is of blocks, in seconds."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="qbft-", ignore_cleanup_errors=True)))
        ports = _free_ports(2 * VALIDATORS)
        validators = [
            Validator(folder / f"n{i}", secrets.token_bytes(32), ports[2 * i], ports[2 * i + 1])
            for i in range(VALIDATORS)
        ]
        genesis = folder / "genesis.json"
        genesis.write_text(json.dumps(_genesis([v.address for v in validators], period)))
        running = Network(folder, genesis, validators)
        stack.callback(lambda: [validator.kill() for validator in running.validators])
        for validator in validators:
            validator.prepare(genesis, [v.enode for v in validators])
        running.start_all()
        yield running


def _genesis(validators: list[bytes], period: int) -> dict[str, object]:
    import rlp  # type: ignore[import-untyped]

    extra = rlp.encode([bytes(32), sorted(validators), [], b"", []])  # vanity, validators, vote, round, seals
    qbft = {"policy": 0, "epochlength": 30_000, "requesttimeoutseconds": 2, "ceil2Nby3Block": 0}
    return {
        "config": {
            "chainId": CHAIN_ID,
            **{f"{fork}Block": 0 for fork in _FORKS},
            "isQuorum": True,
            "txnSizeLimit": 128,  # KiB
            "transitions": [{"block": 0, "miner.gaslimit": GAS_LIMIT}],
            "qbft": {**qbft, "blockperiodseconds": period},
        },
        "nonce": "0x0",
        "timestamp": "0x0",
        "difficulty": "0x1",
        "gasLimit": hex(GAS_LIMIT),
        # Istanbul's mark: "ctical byzantine fault tolerance" (EIP-650)
        "mixHash": "0x63746963616c2062797a616e74696e65206661756c7420746f6c6572616e6365",
        "coinbase": "0x" + "00" * 20,
        "extraData": "0x" + extra.hex(),
        "alloc": {},
    }


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        taken = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in taken:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in taken]


def main() -> int:
    with network() as running:
        return subprocess.call(sys.argv[1:], env={**os.environ, NODES: running.urls})


if __name__ == "__main__":
    sys.exit(main())
