"""Bad input over HTTP: each gets the right type of problem, that names the thing, and nothing is half done."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from polyshare.assets import Caller, Role
from polyshare.events import INBOX_CHANGED, Event
from polyshare.hashing import part_size
from polyshare.http import LARGEST_BODY
from tests.unit.http_world import HttpWorld, Reply
from tests.world import IMAGE, READER

DIGEST = "sha256:" + sha256(b"a").hexdigest()
FILE = {"path": "a.csv", "size": 1, "digest": DIGEST}
PART = part_size(0)
BIG = 3 * PART
RANDOM = "0199f3a1-5c3e-7b02-9c55-0d8f6f2f1a11"


@pytest.fixture
def http(tmp_path: Path) -> HttpWorld:
    return HttpWorld(tmp_path)


@pytest.fixture
def unchanged(http: HttpWorld) -> Iterator[None]:
    """The database holds after the test what it held before it."""
    before = http.rows()
    yield
    assert http.rows() == before


def dataset(http: HttpWorld, **changes: Any) -> Reply:
    return http.call("register_dataset", "POST", "/", {"organisation": "acme", "files": [FILE], **changes})


def model(http: HttpWorld, **changes: Any) -> Reply:
    return http.call("register_model", "POST", "/", {"organisation": "acme", "image": IMAGE, **changes})


def raw(metadata: bytes) -> bytes:
    return b'{"organisation":"acme","files":[' + json.dumps(FILE).encode() + b'],"metadata":' + metadata + b"}"


# --- JSON ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (b"", "files"),
        (b"{", "truncated"),
        (b"[]", "object"),
        (b"null", "object"),
        (b"\xff\xfe{}", "malformed"),
        (raw(b"{}") + b"{}", "malformed"),
        (b'{"files": "a.csv"}', "$.files"),
        (b'{"files": []}', "$.files"),
        (b'{"files": [{"path": "a.csv", "size": "1", "digest": ""}]}', "size"),
        (b'{"files": [{"path": "a.csv", "size": -1, "digest": ""}]}', "size"),
        (b'{"files": [{"path": "a.csv", "size": 1.5, "digest": ""}]}', "size"),
        (raw(b'{"a": 1, "a": 2}'), "'a' is given twice"),
        (raw(b'{"a": 1, "\\u0061": 2}'), "'a' is given twice"),
        (raw(b'{}, "metadata": {}'), "'metadata' is given twice"),
        (raw(b'{"a": NaN}'), "malformed"),
        (raw(b'{"a": Infinity}'), "malformed"),
        (raw(b'{"a": 1e999}'), "out of range"),
        (raw(b'{"rows": 9007199254740993}'), "'rows' is beyond"),
        (raw(b'{"rows": -9007199254740992}'), "'rows' is beyond"),
        (raw(b'{"rows": 1e300}'), "'rows' is beyond"),
        (raw(b'{"rows": ' + b"9" * 5000 + b"}"), "out of range"),
        (raw(b'{"a": "\\ud800"}'), "not a valid"),
        (raw(b'{"a\\ud800": 1}'), "not a valid"),
        (raw(b'{"a": "\xed\xa0\x80"}'), "not a valid"),
        (raw(b'{"a": "x\\u0000"}'), "NUL"),
        (raw(b'{"a\\u0000": 1}'), "NUL"),
        (raw(b'{"a": {"b": 1}}'), "'a' is nested"),
        (raw(b'{"a": [1]}'), "'a' is nested"),
        (raw(b'{"": 1}'), "name"),
        (raw(b'{"%s": 1}' % (b"n" * 129)), "name"),
        (raw(b'{"a": "%s"}' % (b"v" * 20_000)), "'a' is longer"),
        (raw(json.dumps({f"f{i}": i for i in range(300)}).encode()), "256 fields"),
        (raw(b'{"version": 7}'), "version"),
        (raw(b'{"organisation": "acme"}'), "organisation"),
        (raw(b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"), "not a valid"),
        (raw(b'{"a":' * 50_000 + b"1" + b"}" * 50_000), "not a valid"),
        (b'{"files": ' + b"[" * 200_000, "not a valid"),
        (raw(b"{}")[:-1] + b', "visibilty": "public"}', "visibilty"),
        (raw(b"{}")[:-1] + b', "visibility": "everybody"}', "visibility"),
        (raw(b"{}")[:-1] + b', "name": "Digits!"}', "Digits!"),
        (raw(b"{}")[:-1] + b', "name": "other/digits"}', "other"),
        (raw(b"{}")[:-1] + b', "name": 5}', "$.name"),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, str) else None,
)
@pytest.mark.usefixtures("unchanged")
def test_a_body_that_can_not_be_taken_is_refused_by_name(http: HttpWorld, body: bytes, named: str) -> None:
    reply = http.call("register_dataset", "POST", "/", body)
    assert (reply.status, reply.problem) == (400, "invalid"), reply
    assert named in reply.detail, reply.detail
    assert len(reply.body) < 2000


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "", "json"])
@pytest.mark.usefixtures("unchanged")
def test_another_content_type_than_json_is_refused(http: HttpWorld, kind: str) -> None:
    reply = http.call("register_dataset", "POST", "/", raw(b"{}"), headers={"content-type": kind})
    assert (reply.status, reply.problem) == (400, "invalid")
    assert "application/json" in reply.detail


def test_parameters_of_the_content_type_do_no_harm(http: HttpWorld) -> None:
    headers = {"content-type": "application/json; charset=utf-8"}
    assert http.call("register_dataset", "POST", "/", raw(b"{}"), headers=headers).status == 202


@pytest.mark.usefixtures("unchanged")
def test_a_body_over_the_limit_is_refused_before_it_is_read(http: HttpWorld) -> None:
    headers = {"content-length": str(LARGEST_BODY + 1)}
    reply = http.call("register_dataset", "POST", "/", [b"x" * 1024] * 10, headers=headers)
    assert (reply.status, reply.problem, reply.taken) == (413, "too-large", 0)


@pytest.mark.usefixtures("unchanged")
def test_a_body_without_a_length_is_refused_as_soon_as_it_is_over_the_limit(http: HttpWorld) -> None:
    chunk = b" " * 1024 * 1024
    reply = http.call("register_dataset", "POST", "/", [chunk] * 200)
    assert (reply.status, reply.problem) == (413, "too-large")
    assert reply.taken <= LARGEST_BODY + len(chunk)


@pytest.mark.usefixtures("unchanged")
def test_more_bytes_than_an_upload_may_have_are_refused(http: HttpWorld) -> None:
    parts = [sha256(b"x").hexdigest()] * 4000
    digest = f"sha256-4000:{sha256(b''.join(map(bytes.fromhex, parts))).hexdigest()}"
    size = http.world.ports.settings.most_upload_bytes // 40
    size = 4000 * PART if part_size(size) == PART else size
    http.use(settings=http.world.ports.settings.__class__(**{**fields_of(http), "most_upload_bytes": 10**6}))
    reply = dataset(http, files=[{"path": "a", "size": size, "digest": digest, "parts": parts}])
    assert (reply.status, reply.problem) == (413, "too-large"), reply
    assert "1000000" in reply.detail


def fields_of(http: HttpWorld) -> dict[str, Any]:
    settings = http.world.ports.settings
    return {name: getattr(settings, name) for name in settings.__dataclass_fields__}


# --- manifests ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "",
        "..",
        "../a",
        "a/../../b",
        "a/./b",
        "a//b",
        "a/",
        "/etc/passwd",
        "C:\\a",
        "a\\..\\b",
        "a:stream",
        "nul",
        "AUX.csv",
        "com1.txt",
        "a.",
        "a ",
        "a\nb",
        "a\x7fb",
        "a\u2028b",
        "caf\u0065\u0301.csv",
        "polyshare.json",
        "POLYSHARE.json",
        "x" * 256,
        "/".join(["d" * 200] * 6),
    ],
)
@pytest.mark.usefixtures("unchanged")
def test_a_path_that_is_no_file_everywhere_is_refused(http: HttpWorld, path: str) -> None:
    reply = dataset(http, files=[{**FILE, "path": path}])
    assert (reply.status, reply.problem) == (400, "invalid"), reply
    assert "path" in reply.detail


@pytest.mark.parametrize(
    ("paths", "named"),
    [
        (["a.csv", "a.csv"], "a.csv"),
        (["a.csv", "A.CSV"], "A.CSV"),
        (["stra\u00dfe", "STRASSE"], "STRASSE"),
        (["a", "a/b"], "a/b"),
    ],
)
@pytest.mark.usefixtures("unchanged")
def test_two_paths_that_are_one_are_refused(http: HttpWorld, paths: list[str], named: str) -> None:
    reply = dataset(http, files=[{**FILE, "path": path} for path in paths])
    assert (reply.status, reply.problem) == (400, "invalid")
    assert named in reply.detail


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"digest": ""}, "invalid"),
        ({"digest": "md5:" + "0" * 32}, "invalid"),
        ({"digest": DIGEST.upper()}, "invalid"),
        ({"digest": DIGEST[:-1]}, "invalid"),
        ({"digest": "sha256-1:" + DIGEST[7:]}, "invalid"),
        ({"digest": "sha256-2:" + DIGEST[7:]}, "invalid"),
        ({"size": 2**70}, "invalid"),
        ({"size": BIG}, "invalid"),
        ({"size": BIG, "digest": "sha256-3:" + DIGEST[7:]}, "invalid"),
        ({"size": BIG, "digest": "sha256-3:" + DIGEST[7:], "parts": [DIGEST[7:]] * 2}, "invalid"),
        ({"size": BIG, "digest": "sha256-3:" + DIGEST[7:], "parts": [DIGEST[7:]] * 3}, "mismatch"),
        ({"size": BIG, "digest": "sha256-3:" + DIGEST[7:], "parts": ["zz"] * 3}, "invalid"),
    ],
)
@pytest.mark.usefixtures("unchanged")
def test_a_digest_size_or_part_list_that_does_not_fit_is_refused(
    http: HttpWorld, changes: dict[str, Any], problem: str
) -> None:
    reply = dataset(http, files=[{**FILE, **changes}])
    assert (reply.status, reply.problem) == ({"invalid": 400, "mismatch": 422}[problem], problem), reply


# --- uploads ------------------------------------------------------------------------------------------------------


def test_an_upload_takes_only_what_was_declared_and_is_confirmed_only_when_it_is_there(http: HttpWorld) -> None:
    upload = dataset(http).json["id"]
    before = http.rows()
    confirm = http.call("register_dataset", "POST", f"/{upload}/confirm")
    assert (confirm.status, confirm.problem, confirm.json["missing"]) == (409, "conflict", ["a.csv"])
    for part in (
        {"path": "b.csv", "sha256": DIGEST[7:]},
        {"path": "a.csv", "sha256": "0" * 64},
        {"path": "a.csv", "part": 2, "sha256": DIGEST[7:]},
        {"path": "../a.csv", "sha256": DIGEST[7:]},
    ):
        reply = http.call("register_dataset", "POST", f"/{upload}/urls", {"parts": [part]})
        assert (reply.status, reply.problem) == (400, "invalid"), reply
        assert part["path"] in reply.detail
    for caller in (READER, Caller("bob", {"acme": Role.ADMIN}), Caller("alice", {"other": Role.ADMIN})):
        for path, body in (("urls", {"parts": [{"path": "a.csv", "sha256": DIGEST[7:]}]}), ("confirm", None)):
            reply = http.call("register_dataset", "POST", f"/{upload}/{path}", body, caller=caller)
            other = http.call("register_dataset", "POST", f"/{RANDOM}/{path}", body, caller=caller)
            assert (reply.status, reply.problem) == (404, "not-found")
            assert reply.body.replace(upload.encode(), b"?") == other.body.replace(RANDOM.encode(), b"?")
    assert http.rows() == before


# --- idempotency --------------------------------------------------------------------------------------------------


def test_an_idempotency_key_begins_one_registration_and_is_good_for_one_request(http: HttpWorld) -> None:
    body = {"organisation": "acme", "files": [FILE], "name": "digits"}
    key = {"idempotency-key": "k1"}
    first = http.call("register_dataset", "POST", "/", body, headers=key)
    before = http.rows()
    assert http.call("register_dataset", "POST", "/", body, headers=key).json == first.json
    for other in (
        {**body, "name": "letters"},
        {**body, "files": [{**FILE, "path": "b.csv"}]},
        {**body, "metadata": {"a": 1}},
    ):
        reply = http.call("register_dataset", "POST", "/", other, headers=key)
        assert (reply.status, reply.problem) == (409, "conflict")
        assert "Idempotency-Key" in reply.detail
    assert http.rows() == before
    bob = Caller("bob", {"acme": Role.PUBLISHER})
    assert http.call("register_dataset", "POST", "/", body, headers=key, caller=bob).json["id"] != first.json["id"]


@pytest.mark.parametrize("key", ["", "k" * 256])
@pytest.mark.usefixtures("unchanged")
def test_an_idempotency_key_has_1_to_255_characters(http: HttpWorld, key: str) -> None:
    reply = http.call("register_dataset", "POST", "/", raw(b"{}"), headers={"idempotency-key": key})
    assert (reply.status, reply.problem) == (400, "invalid")
    reply = http.event("register_dataset", Event(INBOX_CHANGED, "1"), idempotency_key=key)
    assert (reply.status, reply.problem) == (400, "invalid")


# --- models -------------------------------------------------------------------------------------------------------


def test_a_model_of_what_can_not_train_it_is_refused_by_name(http: HttpWorld) -> None:
    digits = http.world.dataset(name="digits")
    pending = dataset(http).json["id"]
    brought = http.world.imported()
    revoked = http.world.dataset({"x.csv": b"x"})
    http.world.govern("revoke", revoked.id, {"reason": "wrong labels"})
    before = http.rows()
    pinned = {"image": "uv:sklearn@sha256:" + "0" * 64}
    for changes, status, problem, named in (
        ({"dataset": RANDOM}, 404, "not-found", RANDOM),
        ({"dataset": "acme/nothing"}, 404, "not-found", "acme/nothing"),
        ({"dataset": "digits"}, 400, "invalid", "digits"),
        ({"dataset": pending}, 409, "conflict", "uploading"),
        ({"dataset": brought.id}, 400, "invalid", "imported_model"),
        ({"dataset": revoked.id}, 409, "conflict", "wrong labels"),
        ({"dataset": digits.id, "image": "trainer:latest"}, 400, "invalid", "trainer:latest"),
        ({"dataset": digits.id, "image": "uv:nothing"}, 404, "not-found", "nothing"),
        ({"dataset": digits.id, **pinned}, None, None, "sklearn"),
        *(
            ({"dataset": digits.id, "image": image}, 400, "invalid", image)
            for image in (
                "oci:../../x@sha256:" + "0" * 64,
                "oci:x@sha256:" + "0" * 63,
                "oci:--volume=/:/host",
                "oci:--volume=/:/host@sha256:" + "0" * 64,
                "oci:docker-archive:/tmp/image.tar",
                "oci:dir:/etc",
                "oci:",
            )
        ),
        ({"dataset": digits.id, "parameters": {"trees": [1, 2]}}, 400, "invalid", "parameter 'trees'"),
        ({"dataset": digits.id, "parameters": {"trees": 2**60}}, 400, "invalid", "parameter 'trees'"),
        ({"dataset": digits.id, "parameters": "x"}, 400, "invalid", "parameters"),
        ({"dataset": digits.id, "seconds": 0}, 400, "invalid", "seconds"),
        ({"dataset": digits.id, "memory": 1}, 400, "invalid", "memory"),
        ({"dataset": digits.id, "memory": 2**60}, 400, "invalid", "memory"),
        ({"dataset": digits.id, "source": [FILE]}, 400, "invalid", "train.py"),
        ({"dataset": digits.id, "source": [FILE], "program": "../train.py"}, 400, "invalid", "train.py"),
    ):
        reply = model(http, **changes)
        assert status is None or (reply.status, reply.problem) == (status, problem), (changes, reply)
        assert 400 <= reply.status < 500, (changes, reply)
        assert named in reply.detail, (changes, reply.detail)
    assert http.rows() == before
    assert model(http, dataset=revoked.id, allow_revoked=True).status == 201


def test_more_parents_than_a_record_can_hold_are_refused_at_once(http: HttpWorld) -> None:
    body = {"files": [FILE], "trained_on": [http.world.dataset().id] * 65}
    before = http.rows()
    reply = http.call("register_model", "POST", "/imported", body)
    assert (reply.status, reply.problem) == (400, "invalid")
    assert http.rows() == before


def test_what_can_not_be_translated_is_refused_by_name(http: HttpWorld) -> None:
    digits = http.world.dataset()
    waiting = http.world.model(digits.id)
    before = http.rows()
    for asked, status, problem, named in (
        (RANDOM, 404, "not-found", RANDOM),
        (digits.id, 400, "invalid", "dataset"),
        (waiting.id, 409, "conflict", "queued"),
    ):
        reply = http.call("translate", "POST", "/", {"model": asked})
        assert (reply.status, reply.problem) == (status, problem)
        assert named in reply.detail
    assert http.call("translate", "POST", "/", {"model": waiting.id, "opset": 99}).problem == "invalid"
    assert http.rows() == before


# --- addresses ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "/..%2f..%2fetc%2fpasswd",
        "/%2e%2e",
        "/.",
        "/%00",
        "/acme%2Fdigits%00",
        "/acme%2F..%2Fdigits",
        "/acme%2F%2Fdigits",
        "/acme%2Fdigits@0",
        "/acme%2Fdigits@-1",
        "/acme%2Fdigits@1e3",
        "/acme%2Fdigits@99999999999999999999",
        "/acme%252Fdigits",
        "/ACME%2Fdigits",
        "/%ff%fe",
        "/%ED%A0%80",
        "/" + "x" * 36,
        "/" + "x" * 50_000,
        "/'%20OR%201=1--",
        "/{ref}",
        "/acme%2F" + "d" * 65,
    ],
    ids=lambda path: path[:30],
)
@pytest.mark.parametrize("function", ["query_status", "fetch_asset", "prove"])
@pytest.mark.usefixtures("unchanged")
def test_what_names_no_asset_is_refused(http: HttpWorld, function: str, path: str) -> None:
    reply = http.call(function, "GET", path)
    assert (reply.status, reply.problem) == (400, "invalid"), reply
    assert len(reply.body) < 1000


@pytest.mark.parametrize("path", ["/a/b", "/x/y/z", "//", "/acme/digits/lineage/..", "/../query_status/x"])
def test_an_address_that_there_is_not_is_not_found(http: HttpWorld, path: str) -> None:
    reply = http.call("register_model", "GET", path)
    assert reply.status in (404, 405), reply


@pytest.mark.parametrize(
    ("function", "path", "query"),
    [
        ("query_status", "/acme%2Fdigits", "wait=nan"),
        ("query_status", "/acme%2Fdigits", "wait=inf"),
        ("query_status", "/acme%2Fdigits", "wait=-1"),
        ("query_status", "/acme%2Fdigits", "wait=31"),
        ("query_status", "/acme%2Fdigits", "wait=1_0"),
        ("query_status", "/acme%2Fdigits", "wait="),
        ("query_status", "/acme%2Fdigits", "since=0.5"),
        ("catalogue", "/", "limit=1.5"),
        ("catalogue", "/", "q=" + "x" * 101),
        ("query_status", "/acme%2Fdigits", "wait=1&wait=2"),
        ("query_status", "/acme%2Fdigits", "wiat=1"),
        ("query_status", "/acme%2Fdigits", "since=" + "9" * 400),
        ("catalogue", "/", "limit=1000"),
        ("catalogue", "/", "limit=x"),
        ("catalogue", "/", "kind=thing"),
        ("catalogue", "/", "organisation=A%2FB"),
        ("catalogue", "/", "name=%00"),
        ("catalogue", "/", "q=%00"),
        ("catalogue", "/", "cursor=x"),
        ("catalogue", "/", "cursor=%C3%BC"),
        ("catalogue", "/", "cursor=bnVsbA=="),
        ("catalogue", "/", "cursor=WzFd"),
        ("catalogue", "/", "cursor=" + "W1tb" * 12_000),
        ("catalogue", "/", "cursor=Wz" + "k5" * 400),
        ("catalogue", "/content/" + "0" * 62, ""),
        ("catalogue", "/content/" + "0%20" * 32, ""),
        ("catalogue", "/content/" + "G" * 64, ""),
        ("govern", "/audit", "organisation=acme&cursor=%C2%B2"),
        ("govern", "/audit", "organisation=acme&cursor=" + "9" * 40),
        ("govern", "/audit", "organisation=acme&cursor=-1"),
        ("govern", "/audit", "asset=x"),
    ],
)
def test_a_query_that_can_not_be_meant_is_refused(http: HttpWorld, function: str, path: str, query: str) -> None:
    http.world.dataset(name="digits")
    admin = Caller("ada", {"acme": Role.ADMIN})
    reply = http.call(function, "GET", path, query=query, caller=admin)
    assert (reply.status, reply.problem) == (400, "invalid"), reply
    assert len(reply.body) < 1000


def test_a_cursor_of_huge_numbers_is_refused(http: HttpWorld) -> None:
    import base64

    for text in ("[1" + "0" * 400 + ', "x"]', '["x", "y"]', "[" * 30_000, "{}", "5"):
        cursor = base64.urlsafe_b64encode(text.encode()).decode()
        assert http.call("catalogue", "GET", query={"cursor": cursor}).problem == "invalid", text[:20]


# --- governing ----------------------------------------------------------------------------------------------------


def test_governing_refuses_what_makes_no_sense(http: HttpWorld) -> None:
    digits = http.world.dataset()
    before = http.rows()
    for action, body, status, problem in (
        ("share", {"organisation": "Other"}, 400, "invalid"),
        ("share", {"organisation": "other", "expires": 5}, 400, "invalid"),
        ("share", {"organisation": "other", "expires": "tomorrow"}, 400, "invalid"),
        ("share", {}, 400, "invalid"),
        ("unshare", {"organisation": "other"}, 409, "conflict"),
        ("visibility", {"visibility": "all"}, 400, "invalid"),
        ("revoke", {"reason": ""}, 400, "invalid"),
        ("revoke", {"reason": "x" * 1001}, 400, "invalid"),
        ("revoke", {"reason": "x\0"}, 400, "invalid"),
        ("erase", {"confirm": RANDOM}, 400, "invalid"),
        ("erase", {"confirm": ""}, 400, "invalid"),
    ):
        reply = http.call("govern", "POST", f"/{digits.id}/{action}", body)
        assert (reply.status, reply.problem) == (status, problem), (action, body, reply)
    assert http.rows() == before


# --- jobs ---------------------------------------------------------------------------------------------------------


def test_a_forged_completion_changes_nothing(http: HttpWorld, queued: Callable[[], tuple[str, str]]) -> None:
    job, token = queued()
    before = http.rows()
    body = {"attempt": 1, "outcome": "trained", "files": [FILE]}
    unknown = http.call("complete_job", "POST", f"/{RANDOM}/complete", body, token=token)
    for forged in ("", "x" * 64, token[:-1], token.upper(), http.token(), token + "\xe4"):
        reply = http.call("complete_job", "POST", f"/{job}/complete", body, caller=None, token=forged)
        assert (reply.status, reply.problem) == (401, "unauthenticated")
        assert reply.body == unknown.body
    for step, asked, status in (
        ("complete", {**body, "attempt": 2}, 409),
        ("complete", {**body, "outcome": "translated"}, 400),
        ("complete", {**body, "files": []}, 400),
        ("complete", body, 400),
        ("complete", {**body, "run": {"predicate": {"buildDefinition": {"resolvedDependencies": [[]]}}}}, 400),
        ("complete", {**body, "outcome": "failed", "run": {"n": 2**60}}, 400),
        ("complete", {**body, "outcome": "failed", "metadata": {"a": {}}}, 400),
        ("start", {"attempt": 2}, 409),
        ("start", {"attempt": 2**80}, 409),
        ("inputs", {"files": [{"channel": "train", "path": "../../x"}]}, 400),
        ("inputs", {"files": [{"channel": "other", "path": "a.csv"}]}, 400),
        ("outputs", {"parts": [{"path": "m", "size": 1, "part": 2, "sha256": "0" * 64}]}, 400),
        ("outputs", {"parts": [{"path": "m", "size": 2**70, "sha256": "0" * 64}]}, 400),
    ):
        reply = http.call("complete_job", "POST", f"/{job}/{step}", asked, token=token)
        assert reply.status == status, (step, asked, reply)
    assert http.rows() == before


def test_the_same_completion_again_is_taken_and_another_is_refused(
    http: HttpWorld, queued: Callable[[], tuple[str, str]]
) -> None:
    job, token = queued()
    body = {"attempt": 1, "outcome": "failed", "reason": "no column 'label'"}
    assert http.call("complete_job", "POST", f"/{job}/complete", body, token=token).status == 204
    before = http.rows()
    assert http.call("complete_job", "POST", f"/{job}/complete", body, token=token).status == 204
    for other in ({**body, "reason": "another"}, {**body, "outcome": "trained", "files": [FILE]}):
        reply = http.call("complete_job", "POST", f"/{job}/complete", other, token=token)
        assert (reply.status, reply.problem) == (403, "forbidden")
    assert http.call("complete_job", "POST", f"/{job}/start", {"attempt": 1}, token=token).status == 409
    assert http.rows() == before


def test_a_jobs_token_ends_with_its_deadline(http: HttpWorld, queued: Callable[[], tuple[str, str]]) -> None:
    job, token = queued()
    http.clock.time += 30 * 86_400
    reply = http.call("complete_job", "POST", f"/{job}/start", {"attempt": 1}, token=token)
    assert (reply.status, reply.problem) == (401, "unauthenticated")
    assert "expired" in reply.detail


def test_a_log_with_nul_characters_is_taken_without_them(
    http: HttpWorld, queued: Callable[[], tuple[str, str]]
) -> None:
    job, token = queued()
    body = {"attempt": 1, "stage": "running", "log_tail": "epoch\0 1"}
    assert http.call("complete_job", "POST", f"/{job}/progress", body, token=token).status == 204


@pytest.fixture
def queued(http: HttpWorld) -> Callable[[], tuple[str, str]]:
    """A job that is queued, and its token."""

    def make() -> tuple[str, str]:
        http.world.model(http.world.dataset().id)
        http.world.deliver()
        ((_, job),) = http.world.runner.queue.items()
        return job.id, job.token

    return make
