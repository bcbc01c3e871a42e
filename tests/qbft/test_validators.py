"""Adding and removing a validator by the votes of the others, as docs/operate.md says."""

from __future__ import annotations

import shutil
import time

from polyshare.ledger.rpc import Rpc
from tests.qbft.network import Network, Validator


def propose(voters: list[Validator], candidate: Validator, wanted: bool) -> None:
    for voter in voters:
        with Rpc(voter.url) as rpc:
            rpc.call("istanbul_propose", "0x" + candidate.address.hex(), wanted)


def validators(network: Network) -> set[str]:
    with Rpc(network.validators[0].url) as rpc:
        return {address.lower() for address in rpc.call("istanbul_getValidators", "latest")}


def wait_until(network: Network, there: bool, candidate: Validator) -> None:
    end = time.monotonic() + 60
    while ("0x" + candidate.address.hex() in validators(network)) != there:
        assert time.monotonic() < end, validators(network)
        time.sleep(0.5)


def test_a_fifth_validator_is_voted_in_and_out_again(running: Network) -> None:
    running.start_all()
    four = list(running.validators)
    fifth = running.another()
    fifth.start()
    for voter in four:
        with Rpc(voter.url) as rpc:
            rpc.call("admin_addPeer", fifth.enode)
    running.wait_for_blocks(3, by=fifth)  # it follows before it votes
    assert len(validators(running)) == 4
    propose(four[:3], fifth, True)
    wait_until(running, True, fifth)
    assert len(validators(running)) == 5
    four[3].stop()  # of five one may be gone
    running.wait_for_blocks(5)
    four[3].start()
    propose([*four[:3], fifth], fifth, False)
    wait_until(running, False, fifth)
    fifth.stop()
    running.wait_for_blocks(5)
    assert len(validators(running)) == 4


def test_a_validator_whose_disk_was_lost_comes_back_with_its_key_alone(running: Network) -> None:
    running.start_all()
    lost, witness = running.validators[3], running.validators[0]
    lost.kill()
    shutil.rmtree(lost.folder / "geth" / "chaindata")
    shutil.rmtree(lost.folder / "geth" / "lightchaindata")
    lost.begin(running.genesis)
    height = witness.height()
    lost.start()
    running.wait_for_blocks(height + 3, by=lost)
    running.start_all()  # it has the blocks, and may not have found all others yet
    running.validators[2].stop()  # so the one that came back is needed
    running.wait_for_blocks(5, by=witness)
