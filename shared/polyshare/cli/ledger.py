"""ledger: for those who run one. Deploy the contracts, show and change who may write, hand the registry over."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from polyshare.cli.output import Output, fields, following, with_json
from polyshare.errors import Misconfigured

if TYPE_CHECKING:
    from collections.abc import Iterator

    from polyshare.ledger.deploy import Step
    from polyshare.ledger.keys import Signer
    from polyshare.ledger.rpc import Rpc
    from polyshare.ports import TrustRoot


def _address(text: str) -> bytes:
    try:
        address = bytes.fromhex(text.removeprefix("0x"))
    except ValueError:
        address = b""
    if len(address) != 20 or not any(address):
        raise click.BadParameter(f"{text!r} is not an account: 0x and 40 hexadecimal digits")
    return address


_File = click.Path(dir_okay=False, path_type=Path)


def _options(*options: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def add(command: Any) -> Any:
        for option in reversed(options):
            command = option(command)
        return command

    return add


_key = _options(
    click.option("--key-file", type=_File, metavar="FILE", help="The key that signs, in a file of its owner only."),
    click.option("--kms-key", metavar="ID", help="Or the id or ARN of one that AWS KMS keeps."),
)
_node = click.option(
    "--rpc",
    metavar="URL[,URL…]",
    envvar="POLYSHARE_LEDGER_RPC",
    show_envvar=True,
    help="Nodes of the ledger's chain; the first that will do is asked.  [default: the profile's]",
)
_root = click.option(
    "--trust-root", type=_File, metavar="FILE", help="What deploy wrote.  [default: what the profile pins]"
)
_yes = click.option("--yes", is_flag=True, help="Do it; without, only what would be done is told.")


@click.group()
def ledger() -> None:
    """Run a ledger: its contracts, who may write, who owns it."""


@ledger.command()
@_key
@with_json
def key(out: Output, key_file: Path | None, kms_key: str | None) -> None:
    """Show a key's account; a key file that is not there is made first."""
    from polyshare.ledger.keys import make_key

    made = key_file is not None and not kms_key and not key_file.exists()
    signer = make_key(key_file) if key_file is not None and made else _signer(key_file, kms_key)
    address = "0x" + signer.address.hex()
    if made:
        out.note(f"made {key_file}: keep a copy where it can't be lost")
    out.answer({"address": address, "made": made}, lambda: click.echo(address))


@ledger.command()
@_node
@_key
@click.option(
    "--writer",
    "writers",
    type=_address,
    metavar="ADDRESS",
    multiple=True,
    help="An account to be allowed to write; repeatable.",
)
@click.option("--out", "to", type=_File, metavar="FILE", help="Write the trust root there; if it is there, go by it.")
@_yes
@with_json
def deploy(
    out: Output,
    rpc: str | None,
    key_file: Path | None,
    kms_key: str | None,
    writers: tuple[bytes, ...],
    to: Path | None,
    yes: bool,
) -> None:
    """Put what is missing of the contracts on a chain; the key's account owns them. Again, it changes nothing."""
    from polyshare.ledger.deploy import deploy as put
    from polyshare.ledger.deploy import plan
    from polyshare.ledger.record import trust_root_document

    if to is not None and not to.absolute().parent.is_dir():
        raise click.BadParameter(f"the folder {to.parent} is not there", param_hint="--out")
    signer = _signer(key_file, kms_key)
    known = _read_trust_root(to) if to is not None and to.exists() else None
    with _connect(rpc) as node:
        left = plan(node, signer.address, writers, known=known)
        root = left.trust_root
        _tell(out, node, signer, left.steps, yes)
        if yes:
            root = put(node, signer, writers, known=known, say=lambda what: out.note(f"  {what} …"))
    document = trust_root_document(root)
    if yes and to is not None and known is None:
        _write_json(to, document)
    saved = str(to) if to is not None and (yes or known is not None) else None

    def say() -> None:
        if saved is not None:
            click.echo(f"the trust root is in {saved}")
            following(f"polyshare ledger show --rpc {rpc or node.url} --trust-root {saved}")
        elif yes or not left.steps:
            click.echo(json.dumps(document, indent=2))

    out.answer({**_done(left.steps, yes), "trust_root": document, "out": saved}, say)


@ledger.command()
@_node
@_root
@with_json
def show(out: Output, rpc: str | None, trust_root: Path | None) -> None:
    """Show chain, registry, owner and writers, after checking the contracts' code."""
    from polyshare.ledger.read import registry_state
    from polyshare.ledger.rights import read_rights

    with _registry(rpc, trust_root) as (node, root):
        rights, state = read_rights(node, root.registry), registry_state(node, root.registry)
        url = node.url
    offered = "0x" + rights.pending_owner.hex() if rights.pending_owner else None
    found = {
        "node": url,
        "chain_id": root.chain_id,
        "block": state.block,
        "registry": "0x" + root.registry.hex(),
        "records": state.count,
        "owner": "0x" + rights.owner.hex(),
        "pending_owner": offered,
    }
    writers = None if rights.writers is None else ["0x" + writer.hex() for writer in rights.writers]

    def say() -> None:
        told = ["not known: this node does not search all blocks for them"] if writers is None else writers or ["none"]
        fields([*((name.replace("_", " "), found[name]) for name in found), *(("writer", writer) for writer in told)])

    out.answer({**found, "writers": writers}, say)


def _allowing(name: str, allowed: bool, text: str) -> None:
    @ledger.command(name, help=text)
    @click.argument("writers", type=_address, nargs=-1, required=True, metavar="ADDRESS…")
    @_node
    @_root
    @_key
    @_yes
    @with_json
    def command(out: Output, writers: tuple[bytes, ...], **chosen: Any) -> None:
        from polyshare.ledger.rights import allowing

        _change(out, lambda node, registry, by: allowing(node, registry, by, writers, allowed), **chosen)


_allowing("allow", True, "Let accounts write; the owner's to do.")
_allowing("forbid", False, "Let accounts write no more; the owner's to do.")


@ledger.command()
@click.argument("to", type=_address, metavar="ADDRESS")
@_node
@_root
@_key
@_yes
@with_json
def transfer(out: Output, to: bytes, **chosen: Any) -> None:
    """Offer the registry to a new owner, who has to accept it; until then it stays yours."""
    from polyshare.ledger.rights import transferring

    _change(out, lambda node, registry, by: transferring(node, registry, by, to), **chosen)


@ledger.command()
@_node
@_root
@_key
@_yes
@with_json
def accept(out: Output, **chosen: Any) -> None:
    """Take over a registry that was offered to your key's account."""
    from polyshare.ledger.rights import accepting

    _change(out, accepting, **chosen)


def _change(
    out: Output,
    find: Callable[[Rpc, bytes, bytes], Sequence[Step]],
    *,
    rpc: str | None,
    trust_root: Path | None,
    key_file: Path | None,
    kms_key: str | None,
    yes: bool,
) -> None:
    """Tell the steps that `find` finds on a registry for an account, and take them if it is to be."""
    from polyshare.ledger.deploy import send

    signer = _signer(key_file, kms_key)
    with _registry(rpc, trust_root) as (node, root):
        steps = find(node, root.registry, signer.address)
        _tell(out, node, signer, steps, yes)
        for step in steps if yes else ():
            out.note(f"  {step.what} …")
            send(node, signer, root.chain_id, step)
    out.answer(_done(steps, yes), lambda: None)


def _done(steps: Sequence[Step], yes: bool) -> dict[str, Any]:
    return {"done": yes or not steps, "steps": [step.what for step in steps]}


def _tell(out: Output, node: Rpc, signer: Signer, steps: Sequence[Step], yes: bool) -> None:
    """Before anything is done: what, where and by whom."""
    if not steps:
        out.note("nothing is to be done: it is so already")
        return
    out.note(f"on {node.url}, signed by 0x{signer.address.hex()}:")
    if not yes:
        for step in steps:
            out.note(f"  {step.what}")
        out.note("nothing was done: --yes does it")


@contextmanager
def _registry(rpc: str | None, trust_root: Path | None) -> Iterator[tuple[Rpc, TrustRoot]]:
    """Nodes of a deployed ledger, each checked before it is used."""
    from polyshare.ledger.read import check_contracts

    if trust_root is not None:
        root: TrustRoot | None = _read_trust_root(trust_root)
    else:
        from polyshare.client.profile import Profile

        root = Profile.read().trust_root()
    if root is None:
        raise Misconfigured("no registry is known: name the file that deploy wrote by --trust-root")
    with _connect(rpc, lambda node: check_contracts(node, root)) as node:
        yield node, root


@contextmanager
def _connect(rpc: str | None, admit: Callable[[Rpc], object] | None = None) -> Iterator[Rpc]:
    from polyshare.ledger.rpc import Nodes

    if rpc is None:
        from polyshare.client.profile import Profile

        rpc = Profile.read().rpc
    with Nodes(rpc or "", admit=admit) as node:
        node.height()  # so that the one in use is known
        yield node


def _signer(key_file: Path | None, kms_key: str | None) -> Signer:
    from polyshare.ledger.keys import find_signer

    signer = find_signer(str(key_file) if key_file else None, kms_key)
    if signer is None:
        raise click.UsageError("a key is needed: --key-file FILE, or --kms-key ID")
    return signer


def _read_trust_root(path: Path) -> TrustRoot:
    from polyshare.ledger.record import trust_root

    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise Misconfigured(f"{path} can't be read as a trust root: {error}") from error
    return trust_root(document)


def _write_json(path: Path, document: object) -> None:
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(json.dumps(document, indent=2) + "\n")
    draft.rename(path)
