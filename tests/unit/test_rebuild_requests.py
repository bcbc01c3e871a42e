"""Who registered something and lost the answer asks again, also of a database that was rebuilt meanwhile."""

from __future__ import annotations

from polyshare import api
from polyshare.operations.rebuild import rebuild
from tests.world import Files, World


def test_the_same_request_after_a_rebuild_is_answered_with_what_was_registered() -> None:
    world = World()
    first = world.dataset(name="digits", key="mine")
    world.lose_database()
    assert rebuild(world.ports).assets == 1
    again = world.dataset(name="digits", key="mine")
    assert (again.id, again.version) == (first.id, 1)
    assert world.dataset(name="digits", key="another").version == 2


def test_an_upload_that_went_with_the_database_begins_anew_under_its_key() -> None:
    world = World()
    files = Files({"a": b"1"})
    lost = world.post("register_dataset", "/", {"files": files.listed(), "name": "digits"}, key="mine")
    assert isinstance(lost, api.Uploading)
    world.lose_database()
    rebuild(world.ports)
    assert world.dataset({"a": b"1"}, name="digits", key="mine").version == 1
