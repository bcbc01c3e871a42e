"""The embedded chain: killed, damaged, unreachable; and what only it is quick enough for."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from polyshare.assets import Kind
from polyshare.errors import Misconfigured, Unavailable
from polyshare.ledger import node
from polyshare.ledger.chain import ChainLedger
from polyshare.ledger.gas import gas_of_all
from polyshare.ledger.node import NodeFolder
from polyshare.ledger.read import read_asset, read_registry
from polyshare.ledger.record import trust_root_document
from polyshare.ledger.rpc import NodeRefused, Rpc, hexadecimal
from polyshare.ports import Register, Result, Revocation
from tests.contract.ledger_world import Assets, Chain, chain, free_port


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Chain]:
    with chain(tmp_path / "ledger") as started:
        yield started


def write(running: Chain, *entries: Register | Result | Revocation) -> bytes:
    ledger = running.ledger()
    signed = ledger.sign(entries, ledger.next_nonce())  # type: ignore[arg-type]
    ledger.send(signed.raw)
    receipt = ledger.receipt(signed.hash, wait=10)
    assert receipt is not None
    assert receipt.succeeded
    return signed.hash


def registry(running: Chain) -> tuple[int, bytes]:
    state = read_registry(running.rpc.url, running.trust_root.registry)
    return state.count, state.head


def test_a_killed_chain_comes_back_with_all_that_was_sent(running: Chain) -> None:
    assets = Assets(running.trust_root)
    entries = []
    for round_ in range(6):
        entries += [assets.record(Kind.MODEL, 1) for _ in range(3)]
        write(running, *entries[-3:])
        write(running, assets.result(entries[-1]))
        if round_ % 3 == 1:
            assert node.checkpoint(running.rpc, running.folder)
            assert not node.checkpoint(running.rpc, running.folder)
        before = registry(running)
        running.kill()
        running.restart()
        assert registry(running) == before
    write(running, assets.revocation(entries[0]))
    assert all(read_asset(running.rpc.url, assets.address(entry)).code for entry in entries)


def test_a_chain_killed_while_it_writes_and_checkpoints_loses_nothing_that_was_mined(running: Chain) -> None:
    assets = Assets(running.trust_root)
    for _ in range(4):
        mined: list[Register] = []
        killed = threading.Event()

        def load(mined: list[Register] = mined) -> None:
            with contextlib.suppress(Unavailable, AssertionError):
                while True:
                    some = [assets.record() for _ in range(5)]
                    write(running, *some)
                    mined.extend(some)

        def save(killed: threading.Event = killed) -> None:
            with contextlib.suppress(Unavailable), Rpc(running.rpc.url) as rpc:
                while not killed.wait(0.02):
                    node.checkpoint(rpc, running.folder)

        threads = [threading.Thread(target=load), threading.Thread(target=save)]
        for thread in threads:
            thread.start()
        time.sleep(0.4)
        running.kill()
        killed.set()
        for thread in threads:
            thread.join(timeout=30)
        running.restart()
        assert mined
        assert all(read_asset(running.rpc.url, assets.address(entry)).code for entry in mined)
        head = registry(running)
        running.kill()
        running.restart()
        assert registry(running) == head
    assert len(running.folder.checkpoints()) <= 2


def test_a_damaged_checkpoint_is_passed_over_for_an_older_one_or_the_whole_journal(running: Chain) -> None:
    assets = Assets(running.trust_root)
    for _ in range(2):
        write(running, assets.record())
        node.checkpoint(running.rpc, running.folder)
    write(running, assets.record())
    before = registry(running)
    for _ in range(2):
        newest = running.folder.checkpoints()[0][1]
        newest.write_bytes(newest.read_bytes()[:100])
        running.kill()
        running.restart()
        assert registry(running) == before
        newest.unlink()


def test_what_was_noted_but_never_sent_is_sent_at_the_next_start(running: Chain) -> None:
    assets = Assets(running.trust_root)
    entry = assets.record()
    ledger = running.ledger()
    signed = ledger.sign([entry], ledger.next_nonce())
    running.kill()
    with pytest.raises(Unavailable, match="does not answer"):
        ledger.send(signed.raw)
    running.restart()
    receipt = ledger.receipt(signed.hash, wait=10)
    assert receipt is not None
    assert read_asset(running.rpc.url, assets.address(entry)).code


def test_stopping_leaves_a_checkpoint_of_everything(running: Chain) -> None:
    write(running, Assets(running.trust_root).record())
    before = registry(running)
    node.stop(running.process, running.port, running.folder)
    offset = running.folder.checkpoints()[0][0]
    assert list(running.folder.journal.read(offset)) == []
    running.restart()
    assert registry(running) == before


def test_the_node_has_no_accounts_of_its_own_and_writes_nothing_into_its_home(running: Chain) -> None:
    assert running.rpc.call("eth_accounts") == []
    with pytest.raises(NodeRefused):
        running.rpc.call("eth_sendTransaction", {"from": hexadecimal(running.owner.address), "to": "0x" + "11" * 20})
    for _ in range(20):
        write(running, Assets(running.trust_root).record())
    assert [p for p in running.folder.home.rglob("*") if p.is_file()] == []


def test_a_browser_can_not_talk_to_the_node(running: Chain) -> None:
    body = b'{"jsonrpc":"2.0","id":1,"method":"anvil_mine","params":[]}'
    before = running.rpc.call("eth_blockNumber")
    simple = {"content-type": "text/plain", "origin": "https://elsewhere.example"}
    httpx.post(running.rpc.url, content=body, headers=simple, timeout=5)
    asked = {"origin": "https://elsewhere.example", "access-control-request-method": "POST"}
    allowed = httpx.options(running.rpc.url, headers=asked, timeout=5)
    assert "access-control-allow-origin" not in allowed.headers
    assert running.rpc.call("eth_blockNumber") == before


def test_a_taken_port_is_told(running: Chain, tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="is taken"):
        node.start(NodeFolder(tmp_path / "other"), running.port, patience=3)


def test_a_node_that_is_not_there_is_unavailable(tmp_path: Path) -> None:
    address = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(Unavailable, match="does not answer"):
        read_asset(address, b"a" * 20)


def test_gas_by_formula_is_never_less_than_what_is_used_nor_half_as_much_again(running: Chain) -> None:
    assets = Assets(running.trust_root)

    def used(*entries: Register | Result | Revocation) -> float:
        receipt = running.rpc.call("eth_getTransactionReceipt", hexadecimal(write(running, *entries)))
        return gas_of_all(entries) / int(receipt["gasUsed"], 16)  # type: ignore[arg-type]

    single, batched = [], []
    for kind in Kind:
        for parents in (1, 7, 64):
            for supersedes in (False, True):
                single.append(used(assets.record(kind, parents, supersedes=supersedes)))
                batched.append(used(*[assets.record(kind, parents, supersedes=supersedes) for _ in range(40)]))
    models = [assets.record(Kind.MODEL, 1) for _ in range(41)]
    write(running, *models)
    for make in (assets.result, assets.revocation):
        single.append(used(make(models[0])))
        batched.append(used(*[make(model) for model in models[1:]]))
    assert min(single + batched) >= 1.0
    assert max(batched) < 1.5


def test_settings_make_a_ledger(running: Chain, tmp_path: Path) -> None:
    from polyshare.settings import Settings

    settings = Settings.read(
        {
            "POLYSHARE_DATABASE": "sqlite://",
            **{
                f"POLYSHARE_{name}": "x"
                for name in ("S3_ENDPOINT", "S3_ACCESS_KEY_FILE", "S3_SECRET_KEY_FILE", "FUNCTIONS_URL")
            },
            **{f"POLYSHARE_{name}": "x" for name in ("EVENT_TOKEN_FILE", "JWT_ISSUER", "JWKS_FILE")},
        }
    )
    with pytest.raises(Misconfigured, match="POLYSHARE_LEDGER_RPC"):
        ChainLedger.from_settings(settings)
    settings = replace(settings, ledger_rpc=running.rpc.url, trust_root=trust_root_document(running.trust_root))
    ledger = ChainLedger.from_settings(replace(settings, ledger_key_file=str(running.folder.writer_key)))
    assert ledger.trust_root() == running.trust_root
    assert ledger.next_nonce() == 0
