import hashlib
import json

import pytest

from polyshare.errors import Invalid, Mismatch
from polyshare.hashing import digest_bytes
from polyshare.manifest import Entry, Manifest, check_path, commitment

ONE = digest_bytes(b"1")


def entry(path: str) -> Entry:
    return Entry(path, ONE)


@pytest.mark.parametrize(
    "path",
    ["", "/a", "a/", "a//b", ".", "..", "a/../b", "./a", "a\\b", "a\0b", "a\nb", "con", "CON.txt", "d/LPT1", "a.", "a ",
     "a:b", "a?", "polyshare.json", "Polyshare.JSON", "e\u0301", "x" * 256,
     "/".join("x" * 250 for _ in range(5)), "a\ud800"],
)  # fmt: skip
def test_paths_that_not_every_system_can_store_or_that_escape_are_refused(path: str) -> None:
    with pytest.raises(Invalid):
        check_path(path)


@pytest.mark.parametrize("path", ["a", "a/b.c", ".hidden", "données/été.csv", "a b/c d", "日本語", "polyshare.json/x"])
def test_ordinary_paths_are_taken(path: str) -> None:
    assert check_path(path) == path


@pytest.mark.parametrize(
    ("one", "other"), [("A", "a"), ("straße", "STRASSE"), ("dir/É", "dir/é"), ("a", "A/b"), ("x/y", "X")]
)
def test_paths_that_clash_where_case_is_ignored_are_refused(one: str, other: str) -> None:
    with pytest.raises(Invalid):
        Manifest.of([entry(one), entry(other)])


def test_content_root_is_the_hash_of_the_sorted_list_whatever_the_order_given() -> None:
    listed = [{"digest": str(ONE), "path": path, "size": 1} for path in ("B", "a", "é", "\U0001f600")]
    expected = hashlib.sha256(json.dumps(listed, separators=(",", ":"), ensure_ascii=False).encode()).digest()
    for order in (("é", "a", "B", "\U0001f600"), ("\U0001f600", "B", "é", "a")):
        assert Manifest.of(entry(path) for path in order).content_root == expected


def test_part_digests_are_not_in_the_content_root_but_must_be_right() -> None:
    with pytest.raises(Mismatch):
        Entry.from_json(
            {"path": "a", "size": 1, "digest": str(ONE), "parts": ["00" * 32]}
            | {"size": 16 * 1024**2 + 1, "digest": "sha256-2:" + "0" * 64, "parts": ["00" * 32, "11" * 32]}
        )


def test_commitment_depends_on_salt_and_root_and_is_domain_separated() -> None:
    salt, root = bytes(32), bytes([1] * 32)
    assert commitment(salt, root) == hashlib.sha256(b"polyshare/content/1" + salt + root).digest()
    assert commitment(root, salt) != commitment(salt, root)
    with pytest.raises(Invalid):
        commitment(b"short", root)
