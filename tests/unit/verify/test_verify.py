"""What verification establishes, and that no single change to files, document or ledger goes by unseen."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from polyshare.api import AssetDocument
from polyshare.assets import Kind
from polyshare.errors import Invalid, Unavailable
from polyshare.metadata import Metadata
from polyshare.ports import TrustRoot
from polyshare.verify import Outcome, Report


def outcomes(report: Report) -> dict[str, str]:
    return {check.name: check.outcome.value for check in report.checks}


@pytest.mark.parametrize("which", ["dataset", "model", "translation"])
def test_what_was_registered_verifies(world: Any, which: str) -> None:
    folder = world.fetch(getattr(world, which))
    report = world.verify(folder)
    assert report.verdict == "verified", report.checks
    assert report.exit_code == 0
    assert json.dumps(report.to_json())


def test_one_flipped_bit_is_a_mismatch(world: Any) -> None:
    folder = world.fetch(world.model)
    (folder / "model.skops").write_bytes(b"wEights")
    report = world.verify(folder)
    assert report.exit_code == 1
    assert any("model.skops" in check.detail for check in report.checks if check.outcome == Outcome.FAILED)


def test_files_that_are_missing_or_besides_are_a_mismatch(world: Any) -> None:
    folder = world.fetch(world.dataset)
    (folder / "extra.py").write_text("import os")
    assert "extra.py" in world.verify(folder).checks[0].detail
    assert world.verify(folder).exit_code == 1
    (folder / "extra.py").unlink()
    os.mkfifo(folder / "pipe")
    assert world.verify(folder).exit_code == 1
    (folder / "pipe").unlink()
    (folder / "train" / "a.csv").rename(folder / "moved")
    (folder / "train" / "a.csv").symlink_to(folder / "moved")
    assert world.verify(folder).exit_code == 1


def test_one_file_of_a_folder_verifies_alone(world: Any) -> None:
    folder = world.fetch(world.dataset)
    (folder / "extra.py").write_text("import os")
    assert world.verify(folder / "train" / "a.csv").verdict == "verified"
    assert world.verify(folder / "train").verdict == "verified"
    assert world.verify(folder / "extra.py").verdict == "mismatch"
    assert world.verify(folder / "polyshare.json").verdict == "mismatch"


def test_what_nothing_says_the_asset_of_can_not_be_decided(world: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    assert world.verify(tmp_path / "file").exit_code == 2
    with pytest.raises(Invalid, match="does not exist"):
        world.verify(tmp_path / "nothing")


def test_without_a_node_it_can_not_be_decided(world: Any) -> None:
    report = world.verify(world.fetch(world.dataset), node=False)
    assert report.exit_code == 2
    assert outcomes(report)["contract"] == "established"
    assert outcomes(report)["ledger"] == "not established"


def test_a_node_that_dies_on_the_way_leaves_it_undecided(world: Any) -> None:
    folder = world.fetch(world.model)
    answered = []

    def read(address: bytes) -> Any:
        if answered:
            raise Unavailable("the node went away")
        answered.append(address)
        return world.ledger.asset(address)

    world.read = read
    report = world.verify(folder)
    assert report.exit_code == 2
    assert "went away" in report.checks[-1].detail


def test_an_asset_of_another_ledger_can_not_be_decided(world: Any) -> None:
    root = world.ledger.trust_root()
    other = TrustRoot(root.chain_id, b"\x09" * 20, root.definitions)
    assert world.verify(world.fetch(world.dataset), pinned=other).exit_code == 2


def test_a_document_that_names_the_pinned_ledger_for_another_asset_is_a_mismatch(world: Any) -> None:
    root = world.ledger.trust_root()
    other = TrustRoot(root.chain_id, root.registry, dict.fromkeys(root.definitions, b"\t" * 20))
    assert world.verify(world.fetch(world.dataset), pinned=other).exit_code == 1


def test_an_asset_that_is_not_anchored_yet_can_not_be_decided(world: Any) -> None:
    folder = world.fetch(world.dataset)
    before = world.ledger
    world.ledger = type(before)()
    report = world.verify(folder)
    assert report.exit_code == 2
    assert "not anchored yet" in report.checks[-1].detail


def replaced(**changes: Any) -> Callable[[AssetDocument], AssetDocument]:
    return lambda document: msgspec.structs.replace(document, **changes)


def in_result(**changes: Any) -> Callable[[AssetDocument], AssetDocument]:
    def change(document: AssetDocument) -> AssetDocument:
        assert document.result is not None
        return msgspec.structs.replace(document, result=msgspec.structs.replace(document.result, **changes))

    return change


def in_request(**changes: Any) -> Callable[[AssetDocument], AssetDocument]:
    def change(document: AssetDocument) -> AssetDocument:
        assert document.request is not None
        asked = {**document.request.request, **changes}
        return msgspec.structs.replace(document, request=msgspec.structs.replace(document.request, request=asked))

    return change


OTHER = Metadata.seal({"accuracy": 0.99}, os.urandom).to_json()
FORGERIES: dict[str, Callable[[AssetDocument], AssetDocument]] = {
    "another name": replaced(name="better"),
    "another version": replaced(version=2),
    "another organisation": replaced(organisation="famous"),
    "another registrant": replaced(registrant="you"),
    "another kind": replaced(kind="imported_model"),
    "an unknown kind": replaced(kind="spaceship"),
    "another id": replaced(id="6fa459ea-ee8a-4ca4-894e-db77e160355e"),
    "another address": replaced(address="0x" + "11" * 20),
    "another record": replaced(record="00"),
    "no record": replaced(record="zz"),
    "other metadata": replaced(metadata=OTHER),
    "no metadata": replaced(metadata={}),
    "another result": in_result(metadata=OTHER),
    "another outcome": in_result(outcome=2),
    "another run": in_result(run={"subject": []}),
    "another provenance": in_result(provenance="00" * 32),
    "no provenance": in_result(provenance="zz"),
    "other parameters": in_request(parameters={"seed": 1}),
    "another environment": in_request(environment="uv:sklearn@sha256:" + "cd" * 32),
    "other inputs": in_request(inputs={"dataset": "00" * 32}),
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_forged_document_is_a_mismatch(world: Any, forgery: str) -> None:
    folder = world.fetch(world.model)
    forged = FORGERIES[forgery](world.model)
    (folder / "polyshare.json").write_bytes(msgspec.json.encode(forged))
    report = world.verify(folder)
    assert report.exit_code == 1, report.checks


def test_a_forged_list_of_files_is_a_mismatch(world: Any) -> None:
    folder = world.fetch(world.model)
    (folder / "model.skops").write_bytes(b"evil")
    document = json.loads((folder / "polyshare.json").read_bytes())
    from polyshare.hashing import digest_bytes
    from polyshare.manifest import Entry, Manifest

    entry = Entry("model.skops", digest_bytes(b"evil"))
    document["result"]["content"]["files"] = [{"path": entry.path, "size": entry.size, "digest": str(entry.digest)}]
    (folder / "polyshare.json").write_text(json.dumps(document))
    assert world.verify(folder).exit_code == 1
    document["result"]["content"]["root"] = Manifest.of([entry]).content_root.hex()
    (folder / "polyshare.json").write_text(json.dumps(document))
    report = world.verify(folder)
    assert report.exit_code == 1
    assert outcomes(report)["content"] == "established"
    assert outcomes(report)["result"] == "failed"


@pytest.mark.parametrize("junk", [b"", b"{}", b"[]", b"\xff", b"{" * 100_000, b'{"schema": 1}'])
def test_a_document_that_can_not_be_read_leaves_it_undecided(world: Any, junk: bytes) -> None:
    folder = world.fetch(world.dataset)
    (folder / "polyshare.json").write_bytes(junk)
    assert world.verify(folder).exit_code == 2


def test_a_revoked_asset_verifies_and_says_so(world: Any) -> None:
    world.revoke(world.dataset, "wrong labels", 1_700_000_000)
    told = world.verify(world.fetch(world.revoked(world.dataset, "wrong labels", 1_700_000_000)))
    assert (told.exit_code, told.revoked.reason) == (0, "wrong labels")
    untold = world.verify(world.fetch(world.dataset))
    assert untold.exit_code == 0
    assert untold.revoked is not None
    child = world.verify(world.fetch(world.model))
    assert child.exit_code == 0
    assert any("REVOKED" in check.detail for check in child.checks if check.name == "lineage")


def test_a_withheld_ancestor_is_on_the_ledger_but_not_established(world: Any) -> None:
    relatives = [
        msgspec.structs.replace(r, withheld=True, id=None, record=None) if r.kind == "dataset" else r
        for r in world.model.lineage
    ]
    report = world.verify(world.fetch(msgspec.structs.replace(world.model, lineage=relatives)))
    assert report.exit_code == 0
    (check,) = [check for check in report.checks if check.name == "lineage"]
    assert (check.outcome, check.needed) == (Outcome.OPEN, False)
    assert "withheld" in check.detail


def test_lineage_is_followed_on_the_ledger_even_where_the_document_hides_it(world: Any) -> None:
    report = world.verify(world.fetch(msgspec.structs.replace(world.translation, lineage=[])))
    assert sum(check.name == "lineage" for check in report.checks) == 2


def test_a_relative_with_another_record_is_a_mismatch(world: Any) -> None:
    relatives = [
        msgspec.structs.replace(r, record=world.model.record) if r.kind == "dataset" else r for r in world.model.lineage
    ]
    assert world.verify(world.fetch(msgspec.structs.replace(world.model, lineage=relatives))).exit_code == 1


def test_an_ancestor_that_is_missing_on_the_ledger_leaves_it_undecided(world: Any) -> None:
    folder = world.fetch(world.model)
    gone = bytes.fromhex(world.dataset.address[2:])
    real = world.ledger.asset
    world.read = lambda address: real(b"\x01" * 20) if address == gone else real(address)
    assert world.verify(folder).exit_code == 2


FORGED_PARENTS: dict[str, dict[str, Any]] = {
    "another content": {"content_root": "00" * 32},
    "another result": {"outcome": 1, "content_root": "00" * 32},
    "a result that failed": {"outcome": 2},
    "another run": {"provenance": "00" * 32},
    "junk": {"salt": "zz"},
}


@pytest.mark.parametrize("forgery", FORGED_PARENTS)
def test_a_translation_of_another_result_than_its_model_has_is_a_mismatch(world: Any, forgery: str) -> None:
    def forge(relative: Any) -> Any:
        if relative.kind != "model":
            return relative
        return msgspec.structs.replace(
            relative, result=msgspec.structs.replace(relative.result, **FORGED_PARENTS[forgery])
        )

    relatives = [forge(relative) for relative in world.translation.lineage]
    report = world.verify(world.fetch(msgspec.structs.replace(world.translation, lineage=relatives)))
    assert report.exit_code == 1, report.checks


def test_a_job_that_was_given_something_else_than_its_parent_is_a_mismatch(world: Any) -> None:
    model = world.model
    world.model = msgspec.structs.replace(
        model, result=msgspec.structs.replace(model.result, content=world.dataset.content)
    )
    stranger = world._asset(Kind.TRANSLATION, None, {"model.onnx": b"graph"}, parent=world.model)
    report = world.verify(world.fetch(stranger))
    assert report.exit_code == 1
    assert any("not the content that the job was given" in check.detail for check in report.checks)


def test_whether_an_erased_parent_was_what_the_job_was_given_stays_open(world: Any) -> None:
    relatives = [msgspec.structs.replace(r, result=None) if r.kind == "model" else r for r in world.translation.lineage]
    report = world.verify(world.fetch(msgspec.structs.replace(world.translation, lineage=relatives)))
    assert report.exit_code == 0
    assert any(check.outcome == Outcome.OPEN and "erased" in check.detail for check in report.checks)
