from __future__ import annotations

from polyshare.hashing import digest_bytes
from polyshare.jobs.job import Limits
from polyshare.jobs.record import Record, comparable
from polyshare.jobs.sandbox import Wheel
from polyshare.manifest import Entry


def record(job: str, started: float, threads: str = "1") -> Record:
    return Record(
        job=job,
        attempt=1,
        action="train",
        builder="urn:x",
        started=started,
        environment="uv:sklearn@sha256:" + "a" * 64,
        parameters={"c": 1},
        limits=Limits(),
        inputs=[("train", Entry("d.csv", digest_bytes(b"data")))],
        machine={"threads": threads},
        wheels=[Wheel("numpy", "2", "b" * 64)],
    )


def test_a_run_is_an_in_toto_statement_with_slsa_provenance() -> None:
    statement = record("j", 0).statement([Entry("m", digest_bytes(b"model"))], now=1)
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert statement["predicateType"] == "https://slsa.dev/provenance/v1"
    assert statement["subject"][0]["digest"] == {"sha256": digest_bytes(b"model").sha256.hex()}
    definition = statement["predicate"]["buildDefinition"]
    assert [d["name"] for d in definition["resolvedDependencies"]] == ["train/d.csv", "uv:sklearn"]
    assert statement["predicate"]["runDetails"]["metadata"]["finishedOn"] == "1970-01-01T00:00:01Z"


def test_two_runs_are_compared_without_their_names_and_times() -> None:
    outputs = [Entry("m", digest_bytes(b"model"))]
    one, other = (comparable(record(job, t).statement(outputs)) for job, t in (("a", 0.0), ("b", 9.0)))
    assert one == other
    assert comparable(record("a", 0, threads="2").statement(outputs))[0] != one[0]


def test_a_file_of_several_parts_has_no_plain_sha256() -> None:
    entry = Entry("big", digest_bytes(bytes(17 * 1024**2)))
    digest = record("j", 0).statement([entry])["subject"][0]["digest"]
    assert list(digest) == ["sha256Composite2"]
