"""The contracts put on a chain: by steps that can be cut off anywhere; and what is wrong there, each by its name."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from polyshare.errors import Conflict, Forbidden, Misconfigured, Mismatch, Unavailable
from polyshare.ledger import node
from polyshare.ledger.chain import ChainLedger, is_writer, wait_for_receipt
from polyshare.ledger.deploy import Step, allow, created_address, deploy, plan, send
from polyshare.ledger.journal import Journal
from polyshare.ledger.keys import make_key
from polyshare.ledger.node import NodeFolder
from polyshare.ledger.read import check_trust_root, read_contract_of, read_registry
from polyshare.ledger.record import trust_root_document
from polyshare.ledger.rights import accepting, allowing, read_rights, transferring
from polyshare.ledger.rpc import Nodes, Rpc, hexadecimal
from polyshare.ledger.signing import sign_transaction
from polyshare.settings import Settings
from tests.contract.ledger_world import CHAINS, Assets, Chain, Deployed, chain, free_port, qbft


@pytest.fixture(params=CHAINS, scope="module")
def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    started = chain if request.param == "chain" else qbft
    with started(tmp_path_factory.mktemp("ledger")) as deployed:
        yield deployed


@pytest.fixture
def anvil(tmp_path: Path) -> Iterator[Chain]:
    with chain(tmp_path / "ledger") as started:
        yield started


class CutOff(Rpc):
    """A connection that breaks after some transactions were sent."""

    def __init__(self, url: str, after: int) -> None:
        super().__init__(url)
        self._left = after

    def call(self, method: str, *params: object) -> object:
        if method == "eth_sendRawTransaction":
            if self._left == 0:
                raise Unavailable("cut off")
            self._left -= 1
        return super().call(method, *params)


def test_a_deployment_cut_off_anywhere_goes_on_to_the_same_addresses(tmp_path: Path) -> None:
    folder, port = NodeFolder(tmp_path), free_port()
    owner, writer = make_key(folder.owner_key), make_key(folder.writer_key)
    process = node.start(folder, port)
    try:
        with Rpc(node.url(port)) as rpc:
            planned = plan(rpc, owner.address, [writer.address])
        assert len(planned.steps) == 10  # a registry, four definitions, four kinds, a writer
        cuts = 0
        while True:
            try:
                with CutOff(node.url(port), after=1) as rpc:
                    root = deploy(rpc, owner, [writer.address], journal=Journal(tmp_path / "journal"))
                break
            except Unavailable:
                cuts += 1
        assert cuts == 9
        assert root == planned.trust_root
        with CutOff(node.url(port), after=0) as rpc:
            assert deploy(rpc, owner, [writer.address]) == root
            assert plan(rpc, owner.address, [writer.address]).steps == ()
            assert is_writer(rpc, root.registry, writer.address)
            assert not is_writer(rpc, root.registry, owner.address)
        check_trust_root(node.url(port), root)
    finally:
        process.kill()
        process.wait(timeout=10)


def test_a_deployment_between_other_transactions_of_its_key_finds_its_own(anvil: Chain) -> None:
    key = make_key(anvil.folder.path / "busy.key")
    idle = Step("nothing", key.address, b"")
    for _ in range(9):
        send(anvil.rpc, key, 1337, idle)
        with pytest.raises(Unavailable), CutOff(anvil.rpc.url, after=1) as rpc:
            deploy(rpc, key, [key.address])
    send(anvil.rpc, key, 1337, idle)
    root = deploy(anvil.rpc, key, [key.address])
    assert int(anvil.rpc.call("eth_getTransactionCount", hexadecimal(key.address), "latest"), 16) == 20
    check_trust_root(anvil.rpc.url, root)


def test_a_step_that_another_process_signed_otherwise_is_not_taken_twice(anvil: Chain) -> None:
    """As a KMS does, whose signatures of the same bytes differ."""
    key = make_key(anvil.folder.path / "other.key")
    anvil.rpc.call("evm_setAutomine", False)
    first = plan(anvil.rpc, key.address, []).steps[0]
    more = sign_transaction(key, chain_id=1337, nonce=0, gas=3_000_000, to=None, data=first.data)
    anvil.rpc.call("eth_sendRawTransaction", hexadecimal(more.raw))
    anvil.rpc.call("evm_setIntervalMining", 1)
    root = deploy(anvil.rpc, key, [])
    assert root.registry == created_address(key.address, 0)
    assert int(anvil.rpc.call("eth_getTransactionCount", hexadecimal(key.address), "latest"), 16) == 9


def test_what_is_deployed_already_is_taken_by_its_trust_root_whoever_asks(running: Deployed, tmp_path: Path) -> None:
    stranger = make_key(tmp_path / "stranger.key")
    root = running.trust_root
    assert deploy(running.rpc, stranger, [running.writer.address], known=root) == root
    with pytest.raises(Forbidden, match="is owned by"):
        plan(running.rpc, stranger.address, [stranger.address], known=root)


def test_other_code_and_another_chain_in_the_registrys_place_are_named(running: Deployed) -> None:
    root, owner = running.trust_root, running.owner.address
    with pytest.raises(Mismatch, match=r"no code at 0x7272.*AssetRegistry should be"):
        plan(running.rpc, owner, [], known=replace(root, registry=b"r" * 20))
    with pytest.raises(Mismatch, match=r"other code at .*AssetRegistry should be"):
        plan(running.rpc, owner, [], known=replace(root, registry=root.definitions[1]))
    with pytest.raises(Mismatch, match="is on chain 1337, the trust root on 5"):
        plan(running.rpc, owner, [], known=replace(root, chain_id=5))


def test_a_key_that_did_too_much_to_be_searched_is_told(anvil: Chain) -> None:
    anvil.rpc.call("anvil_setNonce", hexadecimal(anvil.owner.address), "0x1000")
    with pytest.raises(Conflict, match="has sent 4096 transactions"):
        plan(anvil.rpc, anvil.owner.address, [])
    assert plan(anvil.rpc, anvil.owner.address, [], known=anvil.trust_root).steps == ()


def test_a_chain_that_does_not_mine_is_told_by_what_was_not_done(anvil: Chain) -> None:
    anvil.pause()
    key = make_key(anvil.folder.path / "new.key")
    with pytest.raises(Unavailable, match="did not mine “create the registry"):
        deploy(anvil.rpc, key, [], patience=0.5)
    anvil.mine()
    deploy(anvil.rpc, key, [])


# --- rights ----------------------------------------------------------------------------------------------------------


def take(running: Deployed, key: object, steps: list[Step]) -> None:
    for step in steps:
        send(running.rpc, key, running.trust_root.chain_id, step)  # type: ignore[arg-type]


def test_writers_are_allowed_and_forbidden_once(running: Deployed, tmp_path: Path) -> None:
    rpc, at, owner = running.rpc, running.trust_root.registry, running.owner.address
    new = make_key(tmp_path / "new.key").address
    steps = allowing(rpc, at, owner, [new, running.writer.address], True)
    assert [step.what for step in steps] == [f"allow 0x{new.hex()} to write"]
    take(running, running.owner, steps)
    assert allowing(rpc, at, owner, [new], True) == []
    assert set(read_rights(rpc, at).writers) >= {new, running.writer.address}
    take(running, running.owner, allowing(rpc, at, owner, [new], False))
    assert allowing(rpc, at, owner, [new], False) == []
    assert new not in read_rights(rpc, at).writers
    with pytest.raises(Forbidden, match="use the owner's key"):
        allowing(rpc, at, running.writer.address, [new], True)


def test_a_registry_is_handed_over_in_two_steps(running: Deployed, tmp_path: Path) -> None:
    rpc, at = running.rpc, running.trust_root.registry
    old, new = running.owner, make_key(tmp_path / "new.key")
    with pytest.raises(Forbidden, match="is offered to nobody"):
        accepting(rpc, at, new.address)
    take(running, old, transferring(rpc, at, old.address, new.address))
    assert transferring(rpc, at, old.address, new.address) == []
    assert (read_rights(rpc, at).owner, read_rights(rpc, at).pending_owner) == (old.address, new.address)
    with pytest.raises(Forbidden, match="is offered to 0x"):
        accepting(rpc, at, running.writer.address)
    take(running, new, accepting(rpc, at, new.address))
    assert accepting(rpc, at, new.address) == []
    with pytest.raises(Forbidden, match="is owned by"):
        transferring(rpc, at, old.address, running.writer.address)
    take(running, new, transferring(rpc, at, new.address, old.address))
    take(running, old, accepting(rpc, at, old.address))
    rights = read_rights(rpc, at)
    assert (rights.owner, rights.pending_owner) == (old.address, None)


def test_a_step_that_reverts_is_told(running: Deployed) -> None:
    with pytest.raises(Conflict, match="did not succeed"):
        send(running.rpc, running.writer, 1337, allow(running.trust_root.registry, running.writer.address))


# --- what is pinned, and who writes ----------------------------------------------------------------------------------


def test_a_trust_root_that_is_not_the_chains_is_refused_by_name(running: Deployed) -> None:
    url, root = running.rpc.url, running.trust_root
    check_trust_root(url, root)
    swapped = {**root.definitions, 1: root.definitions[3]}
    for wrong, named in (
        (replace(root, chain_id=1), "is on chain 1337, not 1"),
        (replace(root, registry=b"r" * 20), "AssetRegistry at 0x7272.* is missing"),
        (replace(root, registry=root.definitions[1]), "AssetRegistry .* is not that"),
        (replace(root, definitions=swapped), "Dataset .* is not that"),
    ):
        with pytest.raises(Mismatch, match=named):
            check_trust_root(url, wrong)


def test_one_changed_byte_of_a_definition_is_seen(anvil: Chain) -> None:
    address = hexadecimal(anvil.trust_root.definitions[2])
    code = anvil.rpc.call("eth_getCode", address, "latest")
    anvil.rpc.call("anvil_setCode", address, code[:-2] + f"{int(code[-2:], 16) ^ 1:02x}")
    with pytest.raises(Mismatch, match="the code of Model"):
        check_trust_root(anvil.rpc.url, anvil.trust_root)


def test_a_writer_that_is_not_allowed_is_told_before_anything_is_signed(running: Deployed, tmp_path: Path) -> None:
    stranger = make_key(tmp_path / "stranger.key")
    ledger = ChainLedger(running.rpc, running.trust_root, stranger)
    with pytest.raises(Misconfigured, match=f"polyshare ledger allow 0x{stranger.address.hex()}"):
        ledger.sign([Assets(running.trust_root).record()], 0)
    reader = ChainLedger(running.rpc, running.trust_root)
    with pytest.raises(Misconfigured, match="POLYSHARE_LEDGER_KEY_FILE"):
        reader.next_nonce()


def test_what_a_stranger_sends_all_the_same_changes_nothing_and_counts_as_never_mined(
    running: Deployed, tmp_path: Path
) -> None:
    stranger = make_key(tmp_path / "stranger.key")
    entry = Assets(running.trust_root).record()
    data = running.ledger()._encode([entry])
    signed = sign_transaction(
        stranger, chain_id=1337, nonce=0, gas=1_000_000, to=running.trust_root.registry, data=data
    )
    ledger = running.ledger()
    running.rpc.call("eth_sendRawTransaction", hexadecimal(signed.raw))
    assert wait_for_receipt(running.rpc, signed.hash, 30)
    assert ledger.receipt(signed.hash) is None
    assert ledger.next_nonce(stranger.address) == 1
    assert read_contract_of(running.rpc.url, running.trust_root.registry, entry.id) is None


def test_a_transaction_that_reverts_is_told_apart(running: Deployed) -> None:
    ledger = running.ledger()
    raw = sign_transaction(
        running.writer,
        chain_id=1337,
        nonce=ledger.next_nonce(),
        gas=100_000,
        to=running.trust_root.registry,
        data=bytes.fromhex("ffffffff"),  # no function of the registry
    )
    ledger.send(raw.raw)
    receipt = ledger.receipt(raw.hash, wait=30)
    assert receipt is not None
    assert not receipt.succeeded


def test_the_registry_names_the_contract_of_an_id(running: Deployed) -> None:
    assets, ledger = Assets(running.trust_root), running.ledger()
    entry = assets.record()
    url, at = running.rpc.url, running.trust_root.registry
    assert read_contract_of(url, at, entry.id) is None
    signed = ledger.sign([entry], ledger.next_nonce())
    ledger.send(signed.raw)
    assert ledger.receipt(signed.hash, wait=30)
    assert read_contract_of(url, at, entry.id) == assets.address(entry)
    with pytest.raises(Unavailable, match="no registry"):
        read_registry(url, b"n" * 20)


def test_settings_make_a_ledger_of_nodes_that_are_all_checked(running: Deployed, tmp_path: Path) -> None:
    settings = Settings(
        **dict.fromkeys(("database", "s3_endpoint", "s3_access_key_file", "s3_secret_key_file"), ""),
        **dict.fromkeys(("functions_url", "event_token_file", "jwt_issuer", "jwks_file"), ""),
    )
    with pytest.raises(Misconfigured, match="POLYSHARE_LEDGER_RPC"):
        ChainLedger.from_settings(settings)
    key, root = tmp_path / "writer.key", trust_root_document(running.trust_root)
    make_key(key)
    urls = f"http://127.0.0.1:{free_port()},{running.rpc.url}"
    settings = replace(settings, ledger_rpc=urls, ledger_key_file=str(key), trust_root=root)
    ledger = ChainLedger.from_settings(settings)
    assert ledger.trust_root() == running.trust_root
    assert ledger.next_nonce() == 0
    both = replace(settings, ledger_kms_key="alias/writer")
    with pytest.raises(Misconfigured, match="two ledger keys are named"):
        ChainLedger.from_settings(both)
    wrong = replace(settings, ledger_rpc=running.rpc.url, trust_root={**root, "chain_id": 5})
    with pytest.raises(Misconfigured, match="is on chain 1337, not 5; set POLYSHARE_LEDGER_RPC"):
        ChainLedger.from_settings(wrong).next_nonce()
    elsewhere = replace(settings, ledger_rpc=running.rpc.url, trust_root={**root, "registry": "0x" + "72" * 20})
    with pytest.raises(Misconfigured, match=r"AssetRegistry at 0x7272.* is missing"):
        ChainLedger.from_settings(elsewhere).next_nonce()
    assert isinstance(ledger._rpc, Nodes)
    assert ledger._rpc.url == running.rpc.url
