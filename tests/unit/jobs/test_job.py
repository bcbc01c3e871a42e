from __future__ import annotations

import pytest

from polyshare.errors import Invalid
from polyshare.jobs.job import Job, Limits


def test_a_jobs_token_is_not_in_its_text() -> None:
    assert "hush" not in repr(Job("a", 1, "train", "http://x", "hush", 0))


def test_limits_left_out_have_their_defaults() -> None:
    assert Limits.from_json({"wall_seconds": 5, "memory_bytes": 10}) == Limits(wall_seconds=5, memory_bytes=10)


@pytest.mark.parametrize(
    "document", [{"memory": 1}, {"files": "many"}, {"files": True}, {"cpus": 0}, {"wall_seconds": -1}]
)
def test_limits_that_are_not_are_refused_by_name(document: dict[str, object]) -> None:
    with pytest.raises(Invalid, match=next(iter(document))):
        Limits.from_json(document)
