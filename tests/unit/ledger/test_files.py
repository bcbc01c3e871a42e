"""The ledger's files: keys that only their owner reads, and a journal that a crash can tear but not falsify."""

import os
import subprocess
import sys
import threading

import pytest

from polyshare.errors import Misconfigured
from polyshare.ledger.journal import Journal
from polyshare.ledger.keys import load_key, make_key


def test_a_key_is_made_once_and_only_its_owner_can_read_it(tmp_path):
    path = tmp_path / "keys" / "writer.key"
    made = make_key(path)
    assert make_key(path).address == made.address == load_key(path).address
    assert path.stat().st_mode & 0o777 == 0o600
    assert [p.name for p in path.parent.iterdir()] == ["writer.key"]


def test_a_key_shows_its_address_only(tmp_path):
    path = tmp_path / "writer.key"
    key = make_key(path)
    secret = path.read_text().strip()
    assert repr(key) == f"Key(0x{key.address.hex()})"
    assert secret not in repr(key) + str(key)


def test_a_key_that_others_can_read_is_refused(tmp_path):
    path = tmp_path / "writer.key"
    make_key(path)
    path.chmod(0o640)
    with pytest.raises(Misconfigured, match="chmod 600"):
        load_key(path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_key_that_a_platform_mounted_is_read_though_it_is_readable_for_all(tmp_path):
    path = tmp_path / "writer.key"
    made = make_key(path)
    path.chmod(0o444)
    os.chown(path, 65534, 65534)
    assert load_key(path).address == made.address


@pytest.mark.parametrize("text", ["", "hello", "00" * 32, "ff" * 32, "11" * 31])
def test_what_is_no_key_is_refused_without_being_shown(tmp_path, text):
    path = tmp_path / "writer.key"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(Misconfigured, match="does not hold a key") as caught:
        load_key(path)
    assert not text or text not in str(caught.value)


def test_a_missing_key_is_named(tmp_path):
    with pytest.raises(Misconfigured, match=r"absent\.key"):
        load_key(tmp_path / "absent.key")


def note(journal, nonce, raw):
    with journal.noting(b"s" * 20, nonce, raw):
        pass


def test_a_journal_gives_back_what_was_noted_in_order(tmp_path):
    journal = Journal(tmp_path / "journal")
    assert list(journal.read()) == []
    for nonce in range(5):
        note(journal, nonce, b"transaction %d" % nonce)
        note(journal, nonce, b"transaction %d" % nonce)  # sent again: noted once
    assert [(e.nonce, e.raw) for e in Journal(journal.path).read()] == [(n, b"transaction %d" % n) for n in range(5)]
    first = journal.path.read_bytes().index(b"\n") + 1
    assert [e.nonce for e in journal.read(first)] == [1, 2, 3, 4]


def test_a_line_torn_at_any_byte_is_passed_over_and_the_next_one_is_whole(tmp_path):
    whole = Journal(tmp_path / "whole")
    note(whole, 0, b"zero")
    note(whole, 1, b"one")
    data = whole.path.read_bytes()
    start = data.index(b"\n") + 1
    for end in range(start, len(data)):
        torn = Journal(tmp_path / "torn")
        torn.path.write_bytes(data[:end])
        note(torn, 2, b"two")
        read = [e.nonce for e in torn.read()]
        assert read == ([0, 1, 2] if end == len(data) - 1 else [0, 2])


def test_two_writers_of_a_journal_do_not_mix_their_lines(tmp_path):
    def work(which):
        journal = Journal(tmp_path / "journal")
        for nonce in range(30):
            note(journal, nonce, os.urandom(3000) + bytes([which]))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(list(Journal(tmp_path / "journal").read())) == 120


def test_what_readers_import_costs_no_web3():
    light = ["record", "gas", "read", "rpc", "fake", "node", "journal", "artifacts", "reasons", "keys", "chain"]
    light += ["deploy", "kms", "rights", "signing"]
    modules = [f"polyshare.ledger.{name}" for name in light] + ["polyshare.operations.anchor"]
    script = f"import sys, {', '.join(modules)}; print([m for m in sys.modules if m.startswith(('web3', 'eth_'))])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"
