"""Verification: what a file or folder is, and whether it is what was registered, trusting no server.

What is believed: the bytes on disk, the trust root pinned in the caller's profile, and a node of that ledger. The
document that came with the files (polyshare.json) only says what to check; nothing is taken from it unchecked.

 1. files      each file on disk has the digest that the document lists, none is missing, none is there besides
 2. content    the list hashes to the content root
 3. document   what the document shows beside is what its sealed metadata says
 4. record     commitment(salt, root) and the metadata's Merkle root are those in the record
               (of what a job made: the job's request is in the record, and the content in the result)
 5. contract   the record's address, recomputed as CREATE2 of the pinned registry and definition, is the document's
 6. ledger     the code at that address is the record's clone, byte for byte
 7. result     the result slot holds the digest of the result that the files are part of
 8. revocation the revocation slot is empty, or the asset is shown as revoked
 9. lineage    each link in the record is the address of its ancestor's record, which is on the ledger too
10. seals      the embedded ledger has none: what the node says is that node's word
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from polyshare.errors import Mismatch, PolyshareError
from polyshare.ports import TrustRoot
from polyshare.verify.found import Found as Found
from polyshare.verify.found import look
from polyshare.verify.report import Check as Check
from polyshare.verify.report import Outcome as Outcome
from polyshare.verify.report import Report as Report
from polyshare.verify.steps import Steps

if TYPE_CHECKING:
    from polyshare.client import Client, Profile
    from polyshare.client.progress import Progress
    from polyshare.ledger.rpc import Rpc
    from polyshare.verify.lineage import Read


def verify(
    path: Path,
    profile: Profile,
    *,
    client: Client | None = None,
    rpc: str | None = None,
    progress: Progress | None = None,
) -> Report:
    """Verify a fetched folder, a file in one, or a file or folder whose asset the registry (`client`) knows by content.

    `rpc` is the ledger node to ask, if not the profile's. Raises Invalid when there is nothing at `path`.
    """
    found = look(path, client, progress)
    if found.document is None:
        return Report(str(path), tuple(found.checks))
    return verify_document(found, profile, path=str(path), rpc=rpc)


def verify_document(found: Found, profile: Profile, *, path: str = "", rpc: str | None = None) -> Report:
    """The steps that need no file (2 to 10), after those in `found`; its document must be there."""
    assert found.document is not None
    pinned = profile.trust_root()
    steps = Steps(found.document, list(found.checks), pinned, found.content_root)
    url = rpc or profile.rpc
    with ExitStack() as stack:
        node, why = _node(url, pinned, stack)
        steps.run(_reading(node) if node else None, why=why)
    if node is not None and steps.block is not None:
        told = f"no block header with validators' seals was checked: what the ledger says is the word of {node.url}"
        steps.add("seals", Outcome.OPEN, told, needed=False)
    return Report(path, tuple(steps.checks), found.document, steps.revoked, steps.block)


def _node(url: str | None, pinned: TrustRoot | None, stack: ExitStack) -> tuple[Rpc | None, str]:
    """Whom to ask, each node once it has shown to be of the pinned ledger; or why nobody."""
    if pinned is None or not url:
        return None, "no ledger node is set: give --rpc, or polyshare login anew"
    from polyshare.ledger.read import check_contracts
    from polyshare.ledger.rpc import Nodes

    try:
        rpc = stack.enter_context(Nodes(url, admit=lambda node: check_contracts(node, pinned)))
        rpc.height()
    except Mismatch as error:
        return None, f"{url} is not a node of the pinned ledger: {error.message}"
    except PolyshareError as error:
        return None, error.message
    return rpc, ""


def _reading(node: Rpc) -> Read:
    from polyshare.ledger.read import asset_state

    return lambda address: asset_state(node, address)
