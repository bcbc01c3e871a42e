"""The operations on fakes with real behaviour: what a user and a job may rely on."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa

from polyshare.api import Uploading
from polyshare.catalogue.tables import assets, jobs, outbox, stages, uploads, writes
from polyshare.catalogue.tables import files as files_table
from polyshare.errors import (
    Conflict,
    Erased,
    Forbidden,
    Invalid,
    Mismatch,
    NotFound,
    PolyshareError,
    TooLarge,
    Unauthenticated,
    Unavailable,
)
from polyshare.ledger.record import Record, result_digest, revocation_digest
from polyshare.manifest import commitment
from polyshare.metadata import Metadata
from polyshare.operations.documents import read_registration
from polyshare.operations.rebuild import rebuild
from polyshare.ports import Bucket, Signed
from tests.world import ADMIN, ALICE, ANONYMOUS, BOB, CAROL, DAVE, IMAGE, READER, Files, World, file_json


@pytest.fixture
def world() -> World:
    return World(seed="operations")


def stages_of(world: World, asset: str) -> list[str]:
    return [r.stage for r in world.rows(sa.select(stages).where(stages.c.asset == asset).order_by(stages.c.row))]


# --- the whole path ---------------------------------------------------------------------------------------------------


def test_a_dataset_becomes_a_trained_and_translated_model_with_all_of_it_on_the_ledger(world: World) -> None:
    dataset = world.dataset(name="digits")
    model = world.model(dataset.id, name="reader", parameters={"framework": "sklearn"}, source={"train.py": b"print()"})
    assert not model.anchored
    world.settle(sweeps=2)
    row = world.row(assets, model.id)
    translation = world.rows(sa.select(assets).where(assets.c.kind == 4))[0]
    assert (row.state, translation.state) == ("trained", "translated")
    for asset in (row, translation, world.row(assets, dataset.id)):
        state = world.ledger.asset(bytes.fromhex(asset.address[2:]))
        assert Record.decode(asset.kind, asset.record).commitment == commitment(asset.salt, asset.content_root)
        assert state.code
        assert asset.anchored is not None
    for asset in (row, translation):
        root = Metadata.from_json(asset.result_metadata).root
        told = result_digest(asset.outcome, commitment(asset.result_salt, asset.result_root), root, asset.provenance)
        assert world.ledger.asset(bytes.fromhex(asset.address[2:])).result == told
    assert not world.rows(sa.select(outbox))
    assert {w.state for w in world.rows(sa.select(writes))} == {"done"}
    told = stages_of(world, model.id)
    assert [s for s in told if s in ("uploading", "registered", "trained")] == ["uploading", "registered", "trained"]


def test_the_same_training_gives_the_same_bytes(world: World) -> None:
    dataset = world.dataset()
    first, second = (world.model(dataset.id, translate=False).id for _ in range(2))
    world.settle(sweeps=1)
    assert world.row(assets, first).result_root == world.row(assets, second).result_root
    assert world.row(assets, first).result_salt != world.row(assets, second).result_salt


def test_a_training_that_fails_says_why_on_the_ledger_too(world: World) -> None:
    model = world.model(world.dataset().id, parameters={"fail": "it did not converge"})
    world.settle(sweeps=1)
    row = world.row(assets, model.id)
    assert row.state == "failed"
    assert "it did not converge" in row.reason
    assert any(world.ledger.asset(bytes.fromhex(row.address[2:])).result)


def test_a_model_of_a_foreign_framework_is_told_to_be_untranslated(world: World) -> None:
    model = world.model(world.dataset().id)
    world.settle(sweeps=1)
    assert "not translated" in stages_of(world, model.id)
    assert world.row(assets, model.id).state == "trained"


def test_a_translation_asked_for_twice_is_one(world: World) -> None:
    model = world.imported(metadata={"framework": "sklearn"}, visibility="organisation")
    world.settle()
    first = world.post("translate", "/", {"model": model.id}, ALICE)
    assert world.post("translate", "/", {"model": model.id}, BOB).id == first.id


def test_an_opset_that_no_converter_writes_is_refused_at_once(world: World) -> None:
    model = world.imported(metadata={"framework": "sklearn"})
    world.settle()
    with pytest.raises(Invalid, match="translated to 22 at most"):
        world.post("translate", "/", {"model": model.id, "opset": 26})
    asked = [world.post("translate", "/", {"model": model.id, "opset": opset}).id for opset in (None, 22, 15)]
    assert asked[0] == asked[1] != asked[2]


# --- small files that come with the declaration -----------------------------------------------------------------------


def test_files_that_come_with_the_declaration_need_no_upload(world: World) -> None:
    files = Files({"train/a.csv": b"1,2\n", "empty": b""})
    registered = world.post("register_dataset", "/", {"files": files.listed(brought=True)}, key="k")
    assert registered.address
    world.settle()
    held = {row.path: row.key for row in world.rows(sa.select(files_table))}
    assert {path: world.store.get(Bucket.BLOBS, key) for path, key in held.items()} == files.contents
    assert world.rows(sa.select(uploads.c.brought).where(uploads.c.brought.is_not(None))) == []
    assert stages_of(world, registered.id) == ["registered", "anchored"]
    again = world.post("register_dataset", "/", {"files": files.listed()}, key="k")
    assert again.id == registered.id


def test_a_model_brings_its_source_along(world: World) -> None:
    body = {"dataset": world.dataset().id, "image": IMAGE, "source": Files({"train.py": b"x"}).listed(brought=True)}
    model = world.post("register_model", "/", body)
    world.settle(sweeps=1)
    assert world.row(assets, model.id).state == "trained"


def test_the_journal_gets_of_what_came_along_the_document_that_the_rows_give(world: World) -> None:
    files = Files({"train.py": b"x"}).listed(brought=True)
    asked = {"dataset": world.dataset().id, "image": IMAGE, "source": files, "name": "reader", "metadata": {"n": 1}}
    models = [world.post("register_model", "/", asked, key=f"k{version}") for version in (1, 2)]
    for model in models:
        row = world.row(assets, model.id)
        with world.catalogue.reading() as connection:
            read = read_registration(connection, row)
        kept = msgspec.json.decode(world.store.get(Bucket.JOURNAL, f"{model.id}/registration"))
        assert {name: kept[name] for name in read} == msgspec.to_builtins(read)
        assert all(read[name] for name in ("job", "asked", "parents", "files"))


def test_where_the_store_is_down_what_came_along_is_kept_until_it_is_back(world: World) -> None:
    files = Files({"a": b"1"})
    put_all, world.store.put_all = world.store.put_all, _down
    with pytest.raises(Unavailable):
        world.post("register_dataset", "/", {"files": files.listed(brought=True)}, key="k")
    world.store.put_all = put_all
    world.settle(sweeps=1)  # the client has gone: sweep takes it on
    (row,) = world.rows(sa.select(assets))
    assert (row.state, row.anchored is not None) == ("registered", True)
    assert world.store.get(Bucket.BLOBS, world.rows(sa.select(files_table))[0].key) == b"1"


def test_what_a_machine_that_lost_power_forgot_of_a_registration_comes_out_as_it_was(world: World) -> None:
    frozen: list[bytes] = []
    put_all = world.store.put_all

    def put_and_remember(puts: Any) -> None:  # what was flushed by then, and nothing after it
        with world.catalogue.reading() as connection:
            frozen.append(connection.connection.driver_connection.serialize())
        put_all(puts)

    world.store.put_all = put_and_remember
    answered = world.dataset({"a": b"1"}, name="digits", brought=True)
    with world.catalogue.reading() as connection:
        connection.connection.driver_connection.deserialize(frozen[0])
    assert world.row(assets, answered.id).state == "registering"
    world.settle(sweeps=1)
    row = world.row(assets, answered.id)
    assert (row.state, row.address, row.anchored is not None) == ("registered", answered.address, True)


def test_a_rebuild_passes_over_what_was_never_acknowledged(world: World) -> None:
    files = Files({"a": b"1"})

    def only_the_journal(puts: Any) -> None:
        world.store.put(puts[0].bucket, puts[0].key, puts[0].data)
        raise Unavailable("the store does not answer")

    put_all, world.store.put_all = world.store.put_all, only_the_journal
    with pytest.raises(Unavailable):
        world.post("register_dataset", "/", {"files": files.listed(brought=True)}, key="k")
    world.store.put_all = put_all
    world.lose_database()
    assert rebuild(world.ports).assets == 0
    assert world.post("register_dataset", "/", {"files": files.listed(brought=True)}, key="k").address


def test_bytes_that_are_not_in_the_store_yet_are_shared_with_nobody(world: World) -> None:
    files = Files({"a": b"1"})
    put_all, world.store.put_all = world.store.put_all, _down
    with pytest.raises(Unavailable):
        world.post("register_dataset", "/", {"files": files.listed(brought=True)})
    world.store.put_all = put_all
    assert world.post("register_dataset", "/", {"files": files.listed()}).missing == ["a"]
    world.settle(sweeps=1)
    assert world.post("register_dataset", "/", {"files": files.listed()}).address


def test_of_files_of_which_not_all_came_along_the_missing_are_uploaded(world: World) -> None:
    files = Files({"a": b"1", "b": b"2"})
    listed = files.listed(brought=True)
    del listed[0]["data"]
    answer = world.post("register_dataset", "/", {"files": listed})
    assert isinstance(answer, Uploading)
    assert answer.missing == ["a", "b"]


@pytest.mark.parametrize(
    ("data", "error", "said"),
    [
        (b"other", Mismatch, "the data of 'a'"),
        (b"", Mismatch, "the data of 'a'"),
        (bytes(65 * 1024), TooLarge, "upload them"),
    ],
)
def test_data_that_is_not_what_its_digest_says_or_is_too_much_is_refused(
    world: World, data: bytes, error: type[PolyshareError], said: str
) -> None:
    listed = [{**file_json("a", b"1"), "data": b64encode(data).decode()}]
    with pytest.raises(error, match=said):
        world.post("register_dataset", "/", {"files": listed})
    assert world.rows(sa.select(assets)) == []


def test_too_many_files_do_not_come_along(world: World) -> None:
    files = Files({f"{number}": b"1" for number in range(9)})
    with pytest.raises(TooLarge, match="at most 8 files"):
        world.post("register_dataset", "/", {"files": files.listed(brought=True)})


def _down(*_: object, **__: object) -> bool:
    raise Unavailable("the store does not answer")


# --- names, versions, keys --------------------------------------------------------------------------------------------


def test_a_name_again_is_the_next_version_that_supersedes_the_one_before(world: World) -> None:
    first, second = world.dataset(name="digits"), world.dataset({"a": b"1"}, name="acme/digits")
    assert (first.version, second.version) == (1, 2)
    supersedes = Record.decode(1, world.row(assets, second.id).record).supersedes
    assert supersedes == bytes.fromhex(first.address[2:])
    assert world.get("fetch_asset", "/acme%2Fdigits").id == second.id
    assert world.get("fetch_asset", "/acme%2Fdigits@1").id == first.id


def test_a_key_again_is_the_same_asset_and_never_another(world: World) -> None:
    first = world.dataset(key="k")
    assert world.dataset(key="k").id == first.id
    with pytest.raises(Conflict, match="Idempotency-Key"):
        world.dataset({"a": b"other"}, key="k")
    assert world.dataset(caller=BOB, key="k").id != first.id


def test_a_name_of_another_organisation_is_refused(world: World) -> None:
    with pytest.raises(Invalid, match="other"):
        world.dataset(name="other/digits")


def test_fields_that_the_registry_writes_can_not_be_given(world: World) -> None:
    with pytest.raises(Invalid, match="registrant"):
        world.dataset(metadata={"registrant": "somebody else"})


# --- who may do what --------------------------------------------------------------------------------------------------

READERS = {
    "private": {"alice"},
    "organisation": {"alice", "bob", "rita", "ada"},
    "public": {"alice", "bob", "rita", "ada", "carol", "dave", ""},
}


def readers(world: World, asset: str) -> set[str]:
    found = set()
    for caller in (ALICE, BOB, READER, ADMIN, CAROL, DAVE, ANONYMOUS):
        try:
            world.get("fetch_asset", f"/{asset}", caller)
            found.add(caller.subject)
        except NotFound:
            pass
    return found


@pytest.mark.parametrize("visibility", READERS)
def test_an_asset_is_read_by_whom_its_visibility_names(world: World, visibility: str) -> None:
    dataset = world.dataset(visibility=visibility)
    assert readers(world, dataset.id) == READERS[visibility]
    world.govern("share", dataset.id, {"organisation": "other"})
    assert readers(world, dataset.id) == READERS[visibility] | {"carol"}
    world.govern("unshare", dataset.id, {"organisation": "other"})
    assert readers(world, dataset.id) == READERS[visibility]


def test_a_grant_ends_when_it_expires(world: World) -> None:
    dataset = world.dataset(visibility="private")
    world.govern("share", dataset.id, {"organisation": "other", "expires": world.clock.now() + 60})
    assert "carol" in readers(world, dataset.id)
    world.clock.time += 61
    assert "carol" not in readers(world, dataset.id)
    with pytest.raises(Invalid, match="future"):
        world.govern("share", dataset.id, {"organisation": "other", "expires": world.clock.now() - 1})


@pytest.mark.parametrize(
    ("caller", "error"), [(BOB, Forbidden), (READER, Forbidden), (CAROL, NotFound), (ANONYMOUS, Unauthenticated)]
)
def test_only_the_registrant_and_admins_govern(world: World, caller: object, error: type[PolyshareError]) -> None:
    dataset = world.dataset()
    for what, body in (
        ("share", {"organisation": "other"}),
        ("visibility", {"visibility": "public"}),
        ("revoke", {"reason": "no"}),
        ("erase", {"confirm": dataset.id}),
    ):
        with pytest.raises(error):
            world.govern(what, dataset.id, body, caller)  # type: ignore[arg-type]
    world.govern("visibility", dataset.id, {"visibility": "public"}, ADMIN)


def test_a_foreign_asset_and_none_at_all_get_the_same_answer(world: World) -> None:
    foreign, none = world.dataset(visibility="private").id, "018bcfe5-0000-7000-8000-000000000000"
    for name, path in (("fetch_asset", "/{}"), ("catalogue", "/{}/lineage"), ("prove", "/{}")):
        answers = []
        for asset in (foreign, none):
            with pytest.raises(NotFound) as caught:
                world.get(name, path.format(asset), CAROL)
            answers.append(caught.value.message.replace(asset, "X"))
        assert answers[0] == answers[1]


def test_readers_register_nothing(world: World) -> None:
    with pytest.raises((Forbidden, Invalid)):
        world.dataset(caller=READER)


# --- revoking and erasing ---------------------------------------------------------------------------------------------


def test_a_revocation_is_on_the_ledger_and_its_asset_no_input_unless_allowed(world: World) -> None:
    dataset = world.dataset()
    world.govern("revoke", dataset.id, {"reason": "mislabelled"})
    world.settle()
    row = world.row(assets, dataset.id)
    held = world.ledger.asset(bytes.fromhex(row.address[2:])).revocation
    assert held == revocation_digest("mislabelled", int(row.revoked))
    assert world.govern("revoke", dataset.id, {"reason": "mislabelled"}).id == dataset.id
    with pytest.raises(Conflict, match="already"):
        world.govern("revoke", dataset.id, {"reason": "another"})
    with pytest.raises(Conflict, match="revoked"):
        world.model(dataset.id)
    world.model(dataset.id, allow_revoked=True)


def test_what_is_erased_is_gone_but_for_bytes_that_others_have(world: World) -> None:
    shared, own = b"in both", b"in one"
    first = world.dataset({"shared": shared, "own": own})
    second = world.dataset({"shared": shared})
    world.settle()
    with pytest.raises(Invalid, match="confirm"):
        world.govern("erase", first.id, {"confirm": "yes"})
    world.govern("erase", first.id, {"confirm": first.id})
    world.settle(sweeps=2)
    held = [world.store.get(Bucket.BLOBS, item.key) for item in world.store.list(Bucket.BLOBS)]
    assert held == [shared]
    url = world.post("fetch_asset", f"/{second.id}/urls", {"paths": ["shared"]}).urls[0]
    assert world.store.read(Signed(url.url, url.headers)) == (200, shared)
    with pytest.raises(Erased):
        world.get("fetch_asset", f"/{first.id}")
    row = world.row(assets, first.id)
    assert (row.salt, row.metadata, row.content_root) == (None, None, None)
    journal = b"".join(world.store.get(Bucket.JOURNAL, i.key) for i in world.store.list(Bucket.JOURNAL, first.id))
    assert b"salt" not in journal
    assert world.ledger.asset(bytes.fromhex(row.address[2:])).code


def test_what_a_request_that_hung_writes_of_an_erased_asset_is_deleted_too(world: World) -> None:
    files = Files({"a": b"1"})
    late: list[Any] = []
    put_all = world.store.put_all

    def put_and_keep(puts: Any) -> None:
        late.append(puts)
        put_all(puts)

    world.store.put_all = put_and_keep
    registered = world.post("register_dataset", "/", {"files": files.listed(brought=True)})
    world.settle()
    world.govern("erase", registered.id, {"confirm": registered.id})
    put_all(late[0])  # as from a process that slept meanwhile
    world.settle(sweeps=2)
    assert list(world.store.list(Bucket.BLOBS)) != []
    world.clock.time += 3600
    world.settle(sweeps=1)
    assert list(world.store.list(Bucket.BLOBS)) == []
    assert world.row(assets, registered.id).erase_again is None


def test_an_erasure_that_was_cut_short_is_finished_where_there_are_no_files(world: World) -> None:
    model = world.model(world.dataset().id, parameters={"fail": "on purpose"})
    world.settle(sweeps=2)
    assert world.row(assets, model.id).state == "failed"
    delete, world.store.delete = world.store.delete, _down
    with pytest.raises(Unavailable):
        world.govern("erase", model.id, {"confirm": model.id})
    world.store.delete = delete
    world.settle(sweeps=1)
    kept = b"".join(world.store.get(Bucket.JOURNAL, i.key) for i in world.store.list(Bucket.JOURNAL, model.id))
    assert b"salt" not in kept


def test_a_translation_fails_whose_model_was_erased_and_its_result_lost_with_the_database(world: World) -> None:
    model = world.model(world.dataset().id, parameters={"framework": "sklearn"}, translate=False)
    world.settle(sweeps=2)
    translation = world.post("translate", "/", {"model": model.id})
    world.govern("erase", model.id, {"confirm": model.id})
    with world.catalogue.transaction() as connection:  # it was not on the ledger yet, and is not known any more
        connection.execute(assets.update().where(assets.c.id == model.id).values(result_anchored=None))
    world.settle(sweeps=2)
    row = world.row(assets, translation.id)
    assert row.state == "failed"
    assert "erased" in row.reason


def test_a_job_whose_dataset_was_erased_fails_and_trains_on_nothing(world: World) -> None:
    dataset = world.dataset()
    model = world.model(dataset.id)
    world.govern("erase", dataset.id, {"confirm": dataset.id})
    world.settle(sweeps=3)
    row = world.row(assets, model.id)
    assert row.state == "failed"
    assert "erased" in row.reason


# --- uploads ----------------------------------------------------------------------------------------------------------


def declared(world: World, contents: dict[str, bytes], caller: object = ALICE) -> Uploading:
    body = {"files": Files(contents).listed(), "visibility": "private"}
    answer = world.post("register_dataset", "/", body, caller)  # type: ignore[arg-type]
    assert isinstance(answer, Uploading)
    return answer


def test_a_known_hash_of_anothers_bytes_yields_nothing(world: World) -> None:
    world.dataset({"secret": b"the formula"}, visibility="private")
    answer = declared(world, {"mine": b"the formula"}, BOB)
    assert answer.missing == ["mine"]
    with pytest.raises(Conflict, match="not uploaded"):
        world.post("register_dataset", f"/{answer.id}/confirm", {}, BOB)


def test_bytes_that_one_may_read_are_not_uploaded_again(world: World) -> None:
    world.dataset({"a": b"same"}, visibility="organisation")
    assert world.post("register_dataset", "/", {"files": [file_json("b", b"same")]}, BOB).version is None


def test_other_bytes_than_declared_can_not_be_uploaded(world: World) -> None:
    answer = declared(world, {"a": b"right"})
    digest = file_json("a", b"right")["digest"].removeprefix("sha256:")
    url = world.post("register_dataset", f"/{answer.id}/urls", {"parts": [{"path": "a", "sha256": digest}]}).urls[0]
    assert world.store.request("PUT", Signed(url.url, url.headers), b"wrong") == 400
    with pytest.raises(Invalid, match="declared"):
        world.post("register_dataset", f"/{answer.id}/urls", {"parts": [{"path": "a", "sha256": "00" * 32}]})
    with pytest.raises(NotFound):
        world.post("register_dataset", f"/{answer.id}/confirm", {}, BOB)


def test_a_large_file_goes_in_parts_and_only_in_those_declared(world: World) -> None:
    data = bytes(17 * 1024 * 1024)
    dataset = world.dataset({"big": data})
    url = world.post("fetch_asset", f"/{dataset.id}/urls", {"paths": ["big"]}).urls[0]
    assert url.parts == file_json("big", data)["parts"]
    wrong = {**file_json("big", data), "parts": ["00" * 32, "11" * 32]}
    with pytest.raises(PolyshareError, match="hash"):
        world.post("register_dataset", "/", {"files": [wrong]})


def test_an_upload_that_is_never_finished_expires_and_leaves_nothing(world: World) -> None:
    answer = declared(world, {"a": b"1", "b": b"2"})
    world.upload("register_dataset", answer, Files({"a": b"1", "b": b"2"}), only={"a"})
    world.clock.time += world.ports.settings.upload_seconds + 1
    world.sweep()
    assert world.row(assets, answer.id).state == "failed"
    assert not list(world.store.list(Bucket.BLOBS))


def test_a_model_whose_upload_expired_is_not_trained(world: World) -> None:
    dataset = world.dataset()
    body = {"dataset": dataset.id, "image": IMAGE, "source": Files({"train.py": b"print()"}).listed()}
    answer = world.post("register_model", "/", body)
    world.clock.time += world.ports.settings.upload_seconds + 1
    world.settle(sweeps=3)
    assert world.row(assets, answer.id).state == "failed"
    assert [r.state for r in world.rows(sa.select(jobs))] == ["failed"]


# --- job tokens -------------------------------------------------------------------------------------------------------


def test_a_job_is_told_nothing_without_its_token_and_completed_once(world: World) -> None:
    world.model(world.dataset().id, translate=False)
    while world.deliver():
        pass
    (job,) = world.runner.queue.values()
    with pytest.raises(Unauthenticated):
        world.post("complete_job", f"/{job.id}/start", {"attempt": 1}, ANONYMOUS, token="forged")
    failed = {"attempt": 1, "outcome": "failed", "reason": "by hand", "run": {}}
    for _ in range(2):
        world.post("complete_job", f"/{job.id}/complete", failed, ANONYMOUS, token=job.token)
    with pytest.raises(Forbidden, match="otherwise"):
        world.post("complete_job", f"/{job.id}/complete", {**failed, "reason": "x"}, ANONYMOUS, token=job.token)
    with pytest.raises(Conflict):
        world.post("complete_job", f"/{job.id}/start", {"attempt": 1}, ANONYMOUS, token=job.token)


def test_a_new_attempt_fences_the_one_before_and_a_token_expires(world: World) -> None:
    world.model(world.dataset().id, translate=False)
    while world.deliver():
        pass
    (first,) = world.runner.queue.values()
    world.runner.queue.clear()
    world.clock.time += 120
    world.sweep()
    (second,) = world.runner.queue.values()
    assert second.attempt == 2
    with pytest.raises((Unauthenticated, Conflict)):
        world.post("complete_job", f"/{first.id}/start", {"attempt": 1}, ANONYMOUS, token=first.token)
    world.clock.time = second.deadline + 1
    with pytest.raises(Unauthenticated, match="expired"):
        world.post("complete_job", f"/{second.id}/start", {"attempt": 2}, ANONYMOUS, token=second.token)


def test_a_result_without_verified_inputs_is_refused(world: World) -> None:
    world.model(world.dataset().id, translate=False)
    while world.deliver():
        pass
    (job,) = world.runner.queue.values()
    world.post("complete_job", f"/{job.id}/start", {"attempt": 1}, ANONYMOUS, token=job.token)
    done = {"attempt": 1, "outcome": "trained", "files": [file_json("model.bin", b"x")], "run": {}}
    with pytest.raises(Invalid, match="inputs"):
        world.post("complete_job", f"/{job.id}/complete", done, ANONYMOUS, token=job.token)


# --- rebuild and sweep ------------------------------------------------------------------------------------------------


def test_a_rebuild_brings_back_what_was(world: World) -> None:
    from polyshare.operations.rebuild import rebuild

    dataset = world.dataset(name="digits", visibility="private")
    model = world.model(dataset.id, parameters={"framework": "sklearn"})
    world.settle(sweeps=2)
    world.govern("share", dataset.id, {"organisation": "other"})
    world.govern("visibility", dataset.id, {"visibility": "organisation"})
    world.govern("visibility", dataset.id, {"visibility": "private"})
    world.govern("revoke", model.id, {"reason": "withdrawn"})
    world.settle(sweeps=1)
    before = [msgspec.to_builtins(world.get("fetch_asset", f"/{a}")) for a in (dataset.id, model.id)]
    who, count = readers(world, dataset.id), world.ledger.count
    world.lose_database()
    rebuild(world.ports)
    with pytest.raises(Conflict, match="not empty"):
        rebuild(world.ports)
    assert [msgspec.to_builtins(world.get("fetch_asset", f"/{a}")) for a in (dataset.id, model.id)] == before
    assert readers(world, dataset.id) == who
    world.settle(sweeps=3)
    assert world.ledger.count == count


def test_events_that_were_lost_are_made_up_for_by_sweep(world: World) -> None:
    model = world.model(world.dataset().id, translate=False)
    with world.catalogue.transaction() as connection:
        connection.execute(outbox.delete())
    world.settle(sweeps=4)
    assert world.row(assets, model.id).result_anchored is not None
