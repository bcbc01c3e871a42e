"""SeaweedFS, the embedded object store, shut to everything but S3 with a key.

One process serves master, volumes, filer and S3. Its inner HTTP ports are closed or want signed tokens, its gRPC ports
want a client certificate (else they would bypass S3's keys), and all listen on this machine only. Keys of S3 are in a
file that SeaweedFS reads again on SIGHUP.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from polyshare.errors import Misconfigured
from polyshare.stack.keyring import Keyring
from polyshare.stack.layout import Layout, read_json, write_json, write_private
from polyshare.stack.listening import HOST
from polyshare.stack.notifications import PATH
from polyshare.stack.processes import Service, Spawn

REGION = "us-east-1"
BUCKETS = {"blobs": "polyshare-blobs", "journal": "polyshare-journal", "inbox": "polyshare-inbox"}
INBOX_ROLE = "arn:aws:iam::000000000000:role/inbox"
_PARTS = ("master", "volume", "filer", "s3", "admin")
PORTS = tuple(name for part in _PARTS for name in (f"weed_{part}", f"weed_{part}_grpc"))
_MEMORY = "400MiB"  # what Go's collector aims at


def service(layout: Layout, keyring: Keyring, ports: Mapping[str, int], functions_url: str) -> Service:
    """SeaweedFS as a service. Writes its configuration."""
    configure(layout, keyring, functions_url)
    conf = layout.store / "conf"
    environ = {"HOME": str(conf), "PATH": os.environ.get("PATH", "/usr/bin:/bin"), "GOMEMLIMIT": _MEMORY}
    read: dict[str, int] = {}

    def start(spawn: Spawn) -> subprocess.Popen[bytes]:
        remove_sockets(ports)
        read["at"] = identities_path(layout).stat().st_mtime_ns
        return spawn(command(layout, ports), environ)

    def look(process: subprocess.Popen[bytes]) -> None:
        changed = identities_path(layout).stat().st_mtime_ns
        if changed != read["at"]:
            read["at"] = changed
            process.send_signal(signal.SIGHUP)

    return Service(
        "store",
        start,
        ready=lambda: _healthy(ports["weed_s3"]),
        folder=conf,
        stop_seconds=20,
        look=look,
    )


def endpoint(ports: Mapping[str, int]) -> str:
    return f"http://{HOST}:{ports['weed_s3']}"


def identities_path(layout: Layout) -> Path:
    return layout.store / "conf" / "s3.json"


def command(layout: Layout, ports: Mapping[str, int]) -> list[str]:
    """Raises Misconfigured where there is no SeaweedFS. No secret is among the arguments."""
    listening = [
        flag
        for part in _PARTS
        for flag in (f"-{part}.port={ports[f'weed_{part}']}", f"-{part}.port.grpc={ports[f'weed_{part}_grpc']}")
    ]
    return [
        find_weed(),
        "-logtostderr=true",
        "mini",
        f"-dir={layout.store / 'volumes'}",
        f"-ip={HOST}",
        f"-ip.bind={HOST}",
        *listening,
        "-disableHttp",
        "-master.telemetry=false",
        "-webdav=false",
        "-admin.ui=false",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        "-s3.autoCreateBucket=false",
        "-s3.iam=false",  # else the holder of any key may make more keys
        "-s3.config=s3.json",
        # Relative, since a socket's path may have 107 bytes at most.
        "-s3.localSocket=s3.sock",
        "-filer.localSocket=filer.sock",
    ]


def find_weed() -> str:
    beside = Path(sys.executable).with_name("weed")
    found = str(beside) if os.access(beside, os.X_OK) else shutil.which("weed")
    if found is None:
        raise Misconfigured("SeaweedFS (weed), the embedded object store, is not installed: run make setup")
    return found


def configure(layout: Layout, keyring: Keyring, functions_url: str) -> None:
    """Write SeaweedFS's configuration files; keys already given out stay."""
    conf = layout.store / "conf"
    write_private(conf / "security.toml", _security(keyring))
    write_private(conf / "notification.toml", _notification(keyring, functions_url))
    known: dict[str, Any] = read_json(identities_path(layout)) or {"identities": []}
    root = identity(
        "polyshare", keyring.read("s3_access_key"), keyring.read("s3_secret_key"), "Admin Read Write List Tagging"
    )
    others = [found for found in known["identities"] if found["name"] != root["name"]]
    write_json(identities_path(layout), {"identities": [root, *others]})


def identity(name: str, access_key: str, secret_key: str, actions: str) -> dict[str, Any]:
    """An S3 key and what it may do, as SeaweedFS writes it: `Read:bucket/prefix/*`."""
    credentials = [{"accessKey": access_key, "secretKey": secret_key}]
    return {"name": name, "credentials": credentials, "actions": actions.split()}


def roles(signing_key: str, bucket: str) -> dict[str, Any]:
    """STS, as `-s3.iam.config` takes it: the key `polyshare` may give out sessions of INBOX_ROLE, for the inbox only.

    `signing_key` is base64 of 32 bytes: whoever has it makes sessions at will.
    """
    may = [{"Effect": "Allow", "Action": ["s3:*"], "Resource": [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"]}]
    polyshare = {"AWS": INBOX_ROLE.replace("role/inbox", "user/polyshare")}
    trust = [{"Effect": "Allow", "Principal": polyshare, "Action": ["sts:AssumeRole"]}]
    return {
        "sts": {"issuer": "polyshare", "signingKey": signing_key, "tokenDuration": "1h", "maxSessionLength": "12h"},
        "policy": {"defaultEffect": "Deny", "storeType": "memory"},
        "policies": [{"name": "inbox", "document": {"Version": "2012-10-17", "Statement": may}}],
        "roles": [
            {
                "roleName": "inbox",
                "roleArn": INBOX_ROLE,
                "trustPolicy": {"Version": "2012-10-17", "Statement": trust},
                "attachedPolicies": ["inbox"],
            }
        ],
    }


def remove_sockets(ports: Mapping[str, int]) -> None:
    """SeaweedFS keeps sockets in /tmp under the numbers of its ports, and leaves them when it is killed."""
    for part in _PARTS:
        with contextlib.suppress(OSError):
            Path(f"/tmp/seaweedfs-{part}-grpc-{ports[f'weed_{part}_grpc']}.sock").unlink()  # noqa: S108


def _security(keyring: Keyring) -> str:
    sections = {
        "jwt.signing": {"key": keyring.read("weed_write")},
        "jwt.signing.read": {"key": keyring.read("weed_read")},
        "jwt.filer_signing": {"key": keyring.read("weed_filer_write")},
        "jwt.filer_signing.read": {"key": keyring.read("weed_filer_read")},
        "grpc": {"ca": str(keyring.path("weed.crt"))},
    }
    pair = {"cert": str(keyring.path("weed.crt")), "key": str(keyring.path("weed.key"))}
    for part in (*_PARTS, "client", "worker", "msg_broker", "msg_agent", "mq"):
        sections[f"grpc.{part}"] = pair
    return "".join(
        f"[{section}]\n" + "".join(f"{name} = {json.dumps(value)}\n" for name, value in values.items())
        for section, values in sections.items()
    )


def _notification(keyring: Keyring, functions_url: str) -> str:
    """Only a hint, and at most once: sweep lists the inbox as well."""
    target = functions_url.removesuffix("/{function}") + PATH
    return (
        "[notification.webhook]\nenabled = true\n"
        f"endpoint = {json.dumps(target)}\n"
        f"bearer_token = {json.dumps(keyring.read('event_token'))}\n"
        "timeout_seconds = 5\nmax_retries = 3\nbackoff_seconds = 1\nworkers = 2\n"
        'event_types = ["create", "update"]\n'
        f'path_prefixes = ["/buckets/{BUCKETS["inbox"]}/"]\n'
    )


def _healthy(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://{HOST}:{port}/healthz", timeout=3) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError):
        return False
