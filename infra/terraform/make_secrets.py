"""The secrets of a deployment: made here, put in the cluster by kubectl, so that Terraform and its state have none.

`make FOLDER` makes what is not there yet, each in a file that only its owner may read, and writes what is public of it
(genesis, validators, trust root, the issuer's keys) to FOLDER/public.auto.tfvars.json.
`apply FOLDER` makes the namespace and its Secrets in the cluster that kubectl is set to.
`token FOLDER SUBJECT ORG=ROLE…` signs a token of the issuer whose key is in FOLDER: for a trial, where there is no OIDC
issuer yet.
"""

from __future__ import annotations

import argparse
import base64
import json
import secrets
import subprocess
import sys
from pathlib import Path
from typing import Any

from polyshare.errors import PolyshareError
from polyshare.ledger import artifacts
from polyshare.ledger.deploy import created_address
from polyshare.ledger.keys import make_key
from polyshare.ledger.record import trust_root_document
from polyshare.ports import TrustRoot
from polyshare.stack.issuer import issue
from polyshare.stack.weed import identity, roles

VALIDATORS = 4
GAS_LIMIT = 20_000_000  # a full block must be filled well inside its period, or GoQuorum proposes empty ones
LABEL = "app.kubernetes.io/part-of=polyshare"
_FORKS = ("homestead", "eip150", "eip155", "eip158", "byzantium", "constantinople", "petersburg", "istanbul")


def make(folder: Path, namespace: str, chain_id: int, issuer: str) -> None:
    """Make the secrets that are missing, and write what is public anew."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    token = _text(folder / "polyshare-events/token", secrets.token_hex(32))
    access = _text(folder / "polyshare-store/access_key", secrets.token_hex(16))
    secret = _text(folder / "polyshare-store/secret_key", secrets.token_hex(32))
    _text(folder / "polyshare-database/password", secrets.token_hex(32))
    identities = {"identities": [identity("polyshare", access, secret, "Admin Read Write List Tagging")]}
    _text(folder / "polyshare-store-server/s3.json", json.dumps(identities))
    signing_key = base64.b64encode(secrets.token_bytes(32)).decode()
    _text(folder / "polyshare-store-server/iam.json", json.dumps(roles(signing_key, "polyshare-inbox")))
    _text(folder / "polyshare-store-server/notification.toml", _notification(namespace, token))
    owner = make_key(folder / "polyshare-ledger-owner/owner_key")
    writer = make_key(folder / "polyshare-ledger-writer/writer_key")
    nodes = [folder / f"polyshare-ledger-nodes/nodekey-{number}" for number in range(VALIDATORS)]
    validators = [make_key(path).address for path in nodes]
    # The owner's first transactions put the contracts on the chain, so their addresses are known before.
    kinds = {int(kind): created_address(owner.address, 1 + i) for i, kind in enumerate(artifacts.DEFINITIONS)}
    root = trust_root_document(TrustRoot(chain_id, created_address(owner.address, 0), kinds))
    public = {
        "trust_root": root,
        "ledger": {
            "own": {
                "genesis": json.dumps(_genesis(chain_id, validators)),
                "nodes": [_public(path) for path in nodes],
                "writers": ["0x" + writer.address.hex()],
            }
        },
        "issuer": {"url": issuer, "jwks": json.dumps({"keys": [_issuer_key(folder / "issuer.jwk")]})},
    }
    (folder / "public.auto.tfvars.json").write_text(json.dumps(public, indent=2) + "\n")
    (folder / "trust-root.json").write_text(json.dumps(root, indent=2) + "\n")


def apply(folder: Path, namespace: str) -> None:
    """Put the Secrets in the cluster; what is there is brought to what the folder has."""
    _kubectl({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
    for kept in sorted(path for path in folder.iterdir() if path.is_dir()):
        _kubectl(
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": kept.name, "namespace": namespace, "labels": dict([LABEL.split("=")])},
                "stringData": {path.name: path.read_text().strip() for path in sorted(kept.iterdir())},
            }
        )


def token(folder: Path, subject: str, roles: list[str], seconds: float) -> str:
    """A token of the folder's issuer. Raises Invalid."""
    issuer = json.loads((folder / "public.auto.tfvars.json").read_bytes())["issuer"]["url"]
    key = json.loads((folder / "issuer.jwk").read_bytes())
    return issue(key, issuer, subject, dict(role.split("=", 1) for role in roles), seconds)


def _text(path: Path, text: str) -> str:
    """What the file has, which is made first with this text if it is not there."""
    if not path.exists():
        path.parent.mkdir(mode=0o700, exist_ok=True)
        path.touch(mode=0o600)
        path.write_text(text + "\n")
    return path.read_text().strip()


def _kubectl(document: dict[str, Any]) -> None:
    """By standard input: nothing of a secret is in a command line. Server-side, so that no annotation keeps a copy."""
    command = ["kubectl", "apply", "--server-side", "--field-manager=polyshare-secrets", "-f", "-"]
    subprocess.run(command, input=json.dumps(document).encode(), check=True, timeout=60)


def _public(path: Path) -> str:
    from coincurve import PrivateKey

    return PrivateKey(bytes.fromhex(path.read_text().strip())).public_key.format(compressed=False)[1:].hex()


def _issuer_key(path: Path) -> dict[str, Any]:
    """The public part of the issuer's key."""
    from joserfc.jwk import ECKey

    made = ECKey.generate_key("P-256", {"kid": secrets.token_hex(8), "use": "sig", "alg": "ES256"}, private=True)
    key: dict[str, Any] = json.loads(_text(path, json.dumps(made.as_dict(private=True))))
    return {name: value for name, value in key.items() if name != "d"}


def _notification(namespace: str, token: str) -> str:
    """SeaweedFS tells register_dataset what changed in the inbox: a hint, since sweep lists it as well."""
    return (
        "[notification.webhook]\nenabled = true\n"
        f'endpoint = "http://register-dataset.{namespace}.svc.cluster.local/notifications"\n'
        f'bearer_token = "{token}"\n'
        "timeout_seconds = 10\nmax_retries = 3\nbackoff_seconds = 1\nworkers = 2\n"
        'event_types = ["create", "update"]\npath_prefixes = ["/buckets/polyshare-inbox/"]\n'
    )


def _genesis(chain_id: int, validators: list[bytes]) -> dict[str, Any]:
    """Of a QBFT network with free gas, as GoQuorum reads it. Berlin is its last fork."""
    import rlp

    extra = rlp.encode([bytes(32), sorted(validators), [], b"", []])  # vanity, validators, vote, round, seals
    return {
        "config": {
            "chainId": chain_id,
            **{f"{fork}Block": 0 for fork in (*_FORKS, "muirGlacier", "berlin")},
            "isQuorum": True,
            "txnSizeLimit": 128,  # KiB
            "transitions": [{"block": 0, "miner.gaslimit": GAS_LIMIT}],
            "qbft": {
                "policy": 0,
                "epochlength": 30_000,
                "blockperiodseconds": 1,
                "requesttimeoutseconds": 2,
                "ceil2Nby3Block": 0,
            },
        },
        "nonce": "0x0",
        "timestamp": "0x0",
        "difficulty": "0x1",
        "gasLimit": hex(GAS_LIMIT),
        "mixHash": "0x" + b"ctical byzantine fault tolerance".hex(),  # Istanbul's mark (EIP-650)
        "coinbase": "0x" + "00" * 20,
        "extraData": "0x" + extra.hex(),
        "alloc": {},
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    making, applying, signing = (commands.add_parser(name) for name in ("make", "apply", "token"))
    for command in (making, applying, signing):
        command.add_argument("folder", type=Path)
    for command in (making, applying):
        command.add_argument("--namespace", default="polyshare")
    making.add_argument("--chain-id", type=int, default=1337)
    making.add_argument("--issuer", default="https://issuer.polyshare.invalid", help="of the tokens")
    signing.add_argument("subject")
    signing.add_argument("roles", nargs="+", metavar="ORG=ROLE")
    signing.add_argument("--seconds", type=float, default=86_400.0)
    given = parser.parse_args()
    try:
        if given.command == "make":
            make(given.folder, given.namespace, given.chain_id, given.issuer)
        elif given.command == "apply":
            apply(given.folder, given.namespace)
        else:
            print(token(given.folder, given.subject, given.roles, given.seconds))
    except (PolyshareError, OSError, subprocess.SubprocessError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
