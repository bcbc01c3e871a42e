"""Hostile outputs: only plain files of one link are published, read beneath the folder without following links."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from polyshare.errors import Invalid
from polyshare.hashing import hash_file
from polyshare.jobs import outputs

MOST = 1024**2


def test_plain_files_are_collected_in_order_and_hashed_as_the_client_would(tmp_path: Path) -> None:
    for name in ("b", "a/x", "a/y", "Z"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    found = outputs.collect(tmp_path, most_bytes=MOST)
    assert [output.path for output in found] == ["Z", "a/x", "a/y", "b"]
    for entry in outputs.manifest(tmp_path, found).entries:
        assert entry.digest == hash_file(tmp_path / entry.path).digest


def make_symlink(path: Path) -> None:
    path.symlink_to("/etc/passwd")


def make_folder_link(path: Path) -> None:
    path.symlink_to("/etc")


def make_hard_link(path: Path) -> None:
    (path.parent / "other").write_text("x")
    os.link(path.parent / "other", path)


def make_fifo(path: Path) -> None:
    os.mkfifo(path)


def make_socket(path: Path) -> None:
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(path))
    listening.close()


@pytest.mark.parametrize("make", [make_symlink, make_folder_link, make_hard_link, make_fifo, make_socket])
def test_anything_but_a_plain_file_is_refused_by_its_path(tmp_path: Path, make: object) -> None:
    (tmp_path / "sub").mkdir()
    make(tmp_path / "sub" / "evil")  # type: ignore[operator]
    with pytest.raises(Invalid, match=r"sub/(evil|other)"):
        outputs.collect(tmp_path, most_bytes=MOST)


@pytest.mark.parametrize("name", [b"a\nb", b"\xff\xfe", b"con", b"a:b", b"polyshare.json", "e\u0301".encode()])
def test_names_that_not_every_system_can_store_are_refused(tmp_path: Path, name: bytes) -> None:
    Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), name))).write_text("x")
    with pytest.raises(Invalid, match="path "):
        outputs.collect(tmp_path, most_bytes=MOST)


def test_names_that_differ_by_case_only_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    (tmp_path / "A").write_text("2")
    with pytest.raises(Invalid, match="ignores case"):
        outputs.manifest(tmp_path, outputs.collect(tmp_path, most_bytes=MOST))


def test_size_count_and_depth_are_bounded(tmp_path: Path) -> None:
    for i in range(3):
        (tmp_path / str(i)).write_bytes(bytes(10))
    with pytest.raises(Invalid, match="30 bytes"):
        outputs.collect(tmp_path, most_bytes=29)
    with pytest.raises(Invalid, match="more than 2"):
        outputs.collect(tmp_path, most_files=2, most_bytes=MOST)
    tmp_path.joinpath(*["d"] * 40).mkdir(parents=True)
    with pytest.raises(Invalid, match="deep"):
        outputs.collect(tmp_path, most_bytes=MOST)


def test_an_output_that_is_swapped_after_it_was_collected_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("old")
    found = outputs.collect(tmp_path, most_bytes=MOST)
    (tmp_path / "f").unlink()
    (tmp_path / "f").symlink_to("/etc/hostname")
    with pytest.raises(Invalid, match="'f'"):
        outputs.manifest(tmp_path, found)
    (tmp_path / "f").unlink()
    (tmp_path / "f").write_text("new")
    with pytest.raises(Invalid, match="changed"), outputs.opened(tmp_path, found[0]):
        pass


def test_reports_are_read_only_from_plain_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "failure")
    (tmp_path / "link").symlink_to("/etc/hostname")
    (tmp_path / "plain").write_text("x" * 100)
    assert outputs.read_small(tmp_path, "failure") is None
    assert outputs.read_small(tmp_path, "link") is None
    assert outputs.read_small(tmp_path, "none") is None
    assert outputs.read_small(tmp_path, "plain", 10) == b"x" * 10
