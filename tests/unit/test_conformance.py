"""Records of conformance: who may make them, what is checked, that they last."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
import sqlalchemy as sa

from polyshare import api, openapi
from polyshare.assets import Caller, Role
from polyshare.catalogue.tables import audit, conformances
from polyshare.errors import Conflict, Erased, Forbidden, Invalid, NotFound, Unauthenticated
from polyshare.operations.rebuild import rebuild
from tests.world import ALICE, ANONYMOUS, CAROL, READER, World


@pytest.fixture
def world() -> World:
    return World(seed="conformance")


def translated(world: World) -> str:
    model = world.imported(name="brought", metadata={"framework": "sklearn"})
    world.settle()
    translation = world.post("translate", "/", {"model": model.id})
    world.settle()
    return str(translation.id)


def statement(world: World, translation: str, **changes: Any) -> dict[str, Any]:
    """The example's, on the files of this translation."""
    files = {f.path: f.digest for f in world.get("fetch_asset", f"/{translation}").result.content.files}
    body = openapi.example("translate", "conform")["body"]
    return {**body, "onnx": files["model.onnx"], "certificate": files["certificate.json"], **changes}


def record(world: World, translation: str, caller: Caller = ALICE, **changes: Any) -> api.Conformance:
    answer = world.post("translate", f"/{translation}/conformance", statement(world, translation, **changes), caller)
    assert isinstance(answer, api.Conformance)
    return answer


def listed(world: World, ref: str, caller: Caller = ALICE) -> list[api.Conformance]:
    found = world.get("translate", f"/{ref}/conformance", caller)
    assert isinstance(found, api.Conformances)
    return found.conformances


def test_a_reader_records_what_was_found_and_whoever_may_read_sees_it(world: World) -> None:
    translation = translated(world)
    made = record(world, translation, READER)
    assert (made.organisation, made.subject, made.translation) == ("acme", READER.subject, translation)
    assert made.at == world.clock.time
    assert listed(world, translation) == [made]
    assert listed(world, "acme%2Fbrought") == [made], "a model shows those of its translations"
    (noted,) = world.rows(sa.select(audit).where(audit.c.action == "conform"))
    assert (noted.subject, noted.asset, noted.detail["result"]) == (READER.subject, translation, "MATCH")


def test_the_same_statement_again_is_the_same_record(world: World) -> None:
    translation = translated(world)
    made = record(world, translation)
    assert record(world, translation, READER) == made, "of one organisation"
    other = record(world, translation, result="MISMATCH", reasons=["output 'label' is outside"])
    assert [one.id for one in listed(world, translation)] == [other.id, made.id]
    world.govern("share", translation, {"organisation": "other"})
    theirs = record(world, translation, CAROL)
    assert theirs.id not in (made.id, other.id)
    assert theirs.organisation == "other"


def test_who_may_not_read_it_records_nothing_and_sees_nothing(world: World) -> None:
    translation = translated(world)
    body = statement(world, translation)
    with pytest.raises(NotFound):
        world.post("translate", f"/{translation}/conformance", body, CAROL)
    with pytest.raises(NotFound):
        listed(world, translation, CAROL)
    with pytest.raises(Unauthenticated):
        world.post("translate", f"/{translation}/conformance", body, ANONYMOUS)
    with pytest.raises(Forbidden):
        world.post("translate", f"/{translation}/conformance", {**body, "organisation": "other"}, ALICE)
    both = Caller("both", {"acme": Role.READER, "other": Role.READER})
    with pytest.raises(Invalid, match="name one"):
        world.post("translate", f"/{translation}/conformance", body, both)


def test_a_model_shows_only_the_records_of_translations_that_the_caller_may_read(world: World) -> None:
    translation = translated(world)
    record(world, translation)
    world.govern("visibility", "acme%2Fbrought", {"visibility": "public"})
    assert listed(world, "acme%2Fbrought", CAROL) == []
    world.govern("visibility", translation, {"visibility": "public"})
    assert len(listed(world, "acme%2Fbrought", ANONYMOUS)) == 1


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"onnx": "sha256:" + "0a" * 32}, "another model.onnx"),
        ({"certificate": "sha256:" + "0a" * 32}, "another certificate.json"),
        ({"result": "MISMATCH"}, "at least one reason"),
        ({"result": "PERHAPS"}, "PERHAPS"),
        ({"outputs": []}, "outputs"),
        ({"nodes_elsewhere": ["\x1b]0;owned\x07"]}, "nodes_elsewhere"),
        ({"nodes_elsewhere": ["line\n"]}, "nodes_elsewhere"),
    ],
)
def test_a_statement_that_does_not_hold_together_is_refused(world: World, changes: dict[str, Any], said: str) -> None:
    translation = translated(world)
    with pytest.raises(Invalid, match=said):
        record(world, translation, **changes)


def test_it_is_recorded_of_translations_that_are_there(world: World) -> None:
    translation = translated(world)
    body = statement(world, translation)
    with pytest.raises(Invalid, match="recorded of a translation"):
        world.post("translate", "/acme%2Fbrought/conformance", body)
    running = world.post("translate", "/", {"model": "acme/brought", "opset": 15}).id
    with pytest.raises(Conflict, match="when it is translated"):
        world.post("translate", f"/{running}/conformance", body)
    world.settle()
    record(world, translation)
    world.govern("erase", translation, {"confirm": translation})
    with pytest.raises(Erased):
        world.post("translate", f"/{translation}/conformance", body)
    assert not world.rows(sa.select(conformances))


def test_records_survive_the_loss_of_the_database_and_not_that_of_the_translation(world: World) -> None:
    translation = translated(world)
    other = world.post("translate", "/", {"model": "acme/brought", "opset": 15}).id
    world.settle()
    record(world, translation)
    record(world, translation, READER, result="MISMATCH", reasons=["it differs"])
    record(world, other)
    before = msgspec.to_builtins(listed(world, translation))
    world.govern("erase", other, {"confirm": other})
    world.lose_database()
    rebuild(world.ports)
    assert msgspec.to_builtins(listed(world, translation)) == before
    assert len(listed(world, "acme%2Fbrought")) == 2
    assert record(world, translation).id in {one["id"] for one in before}


def test_records_come_a_page_at_a_time(world: World) -> None:
    translation = translated(world)
    made = [record(world, translation, nodes_elsewhere=[f"Scaler_{n}"]).id for n in range(101)]
    first = world.get("translate", f"/{translation}/conformance")
    rest = world.get("translate", f"/{translation}/conformance?cursor={first.cursor}")
    assert [one.id for one in (*first.conformances, *rest.conformances)] == made[::-1]
    assert rest.cursor is None
    with pytest.raises(Invalid, match="cursor"):
        world.get("translate", f"/{translation}/conformance?cursor=x")
