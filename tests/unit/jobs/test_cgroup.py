"""A folder stands for a delegated cgroup: what is written where. (The kernel's side needs a machine with cgroup v2.)"""

from __future__ import annotations

from pathlib import Path

from polyshare.jobs.cgroup import Cgroup
from polyshare.jobs.job import Limits


def delegated(root: Path, controllers: str) -> Path:
    parent = root / "user.slice" / "app.slice"
    (parent / "shell.scope").mkdir(parents=True)
    (parent / "cgroup.subtree_control").write_text(controllers)
    (parent / "cgroup.procs").write_text("")
    (root / "own").write_text("1:name=systemd:/\n0::/user.slice/app.slice/shell.scope\n")
    return parent


def test_the_parent_is_used_where_memory_and_pids_are_delegated(tmp_path: Path) -> None:
    parent = delegated(tmp_path, "cpu memory pids\n")
    assert Cgroup.available(tmp_path, tmp_path / "own") == parent


def test_without_the_controllers_there_is_none(tmp_path: Path) -> None:
    delegated(tmp_path, "cpuset\n")
    assert Cgroup.available(tmp_path, tmp_path / "own") is None


def test_where_there_is_no_group_nothing_is_done(tmp_path: Path) -> None:
    with Cgroup.make(Limits(), tmp_path / "gone") as group:
        assert group.entry == ""
        group.kill()


def test_limits_are_written_before_anything_enters(tmp_path: Path) -> None:
    parent = delegated(tmp_path, "memory pids\n")
    with Cgroup.make(Limits(memory_bytes=800, processes=10), parent) as group:
        assert group.folder is not None
        assert (group.folder / "memory.max").read_text() == "900"
        assert (group.folder / "pids.max").read_text() == "36"
        assert group.entry == str(group.folder / "cgroup.procs")
        for file in group.folder.iterdir():  # the kernel's files go with the folder
            file.unlink()
    assert not list(parent.glob("polyshare-*"))
