import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyshare import hashing
from polyshare.errors import Invalid, Mismatch
from polyshare.hashing import (
    MOST_PARTS,
    SMALLEST_PART,
    Digest,
    digest_bytes,
    hash_file,
    hash_files,
    part_count,
    part_range,
    part_size,
)


@given(st.integers(min_value=0, max_value=hashing.LARGEST_FILE))
def test_parts_cover_a_file_of_any_size_once_within_the_stores_limit(size: int) -> None:
    count = part_count(size)
    assert 1 <= count <= MOST_PARTS
    assert part_size(size) % SMALLEST_PART == 0
    first, last = part_range(size, 1), part_range(size, count)
    assert first[0] == 0
    assert sum(last) == size
    assert count == 1 or (first[1] == part_size(size) and 0 < last[1] <= part_size(size))


def test_part_size_doubles_only_when_ten_thousand_parts_are_not_enough() -> None:
    full = SMALLEST_PART * MOST_PARTS
    assert part_size(full) == SMALLEST_PART
    assert part_size(full + 1) == 2 * SMALLEST_PART


def test_one_part_is_plain_sha256_and_more_are_the_hash_of_the_parts(tmp_path: Path) -> None:
    data = bytes(range(256)) * (SMALLEST_PART // 256)
    (tmp_path / "one").write_bytes(data)
    (tmp_path / "two").write_bytes(data + b"x")
    one, two = hash_files([tmp_path / "one", tmp_path / "two"])
    assert str(one.digest) == "sha256:" + hashlib.sha256(data).hexdigest()
    parts = hashlib.sha256(data).digest(), hashlib.sha256(b"x").digest()
    assert str(two.digest) == "sha256-2:" + hashlib.sha256(b"".join(parts)).hexdigest()
    assert two.parts == parts
    assert digest_bytes(data + b"x") == two.digest


def test_a_file_made_of_part_digests_is_not_the_file_of_those_parts(tmp_path: Path) -> None:
    parts = [hashlib.sha256(b"a").digest(), hashlib.sha256(b"b").digest()]
    composite = Digest.of_parts(SMALLEST_PART + 1, parts)
    plain = digest_bytes(b"".join(parts))
    assert composite.sha256 == plain.sha256
    assert composite != plain


@pytest.mark.parametrize(
    "text",
    ["", "sha256:", "sha256:" + "0" * 63, "sha256:" + "G" * 64, "SHA256:" + "0" * 64, "sha256-0:" + "0" * 64,
     "sha256-1:" + "0" * 64, "sha256-2:" + "0" * 64, "md5:" + "0" * 64, "sha256:" + "0" * 64 + "\n"],
)  # fmt: skip
def test_what_is_no_digest_of_ten_bytes_is_refused(text: str) -> None:
    with pytest.raises(Invalid):
        Digest.parse(text, 10)


def test_digests_are_written_as_they_are_read() -> None:
    digest = digest_bytes(b"polyshare")
    assert Digest.parse(str(digest), 9) == digest


def test_part_digests_that_do_not_hash_to_the_digest_are_refused() -> None:
    parts = [bytes(32), bytes([1] * 32)]
    digest = Digest.of_parts(SMALLEST_PART + 1, parts)
    digest.check_parts(parts)
    with pytest.raises(Mismatch):
        digest.check_parts(parts[::-1])
    with pytest.raises(Invalid):
        digest.check_parts(parts[:1])


def test_many_small_files_come_back_in_order_each_byte_counted_once(tmp_path: Path) -> None:
    paths = []
    for number in range(500):
        path = tmp_path / f"{number}"
        path.write_bytes(str(number).encode() * number)
        paths.append(path)
    counted: list[int] = []
    hashed = list(hash_files(paths, on_bytes=counted.append))
    assert [h.digest for h in hashed] == [digest_bytes(p.read_bytes()) for p in paths]
    assert sum(counted) == sum(p.stat().st_size for p in paths)


def test_a_file_that_changes_while_it_is_hashed_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "growing"
    path.write_bytes(b"1" * 1000)

    def grow(_: int) -> None:
        with path.open("ab") as file:
            file.write(b"2")

    with pytest.raises(Mismatch, match="growing changed"):
        hash_file(path, on_bytes=grow)
