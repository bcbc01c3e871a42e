"""What functions on a cluster keep their state in, as `doctor --cluster` finds it: database, buckets, ledger."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from polyshare.errors import NotFound, PolyshareError
from polyshare.settings import Settings
from polyshare.stack.doctor import Finding
from polyshare.stack.kube import Cluster, Object

_OLD_BLOCK = 120.0  # seconds


@dataclass
class Seen:
    """What was found so far that later checks go by."""

    cluster: Cluster
    services: dict[str, Object] = field(default_factory=dict)  # function → Knative Service
    pods: list[Object] = field(default_factory=list)


def database(seen: Seen) -> Iterator[Finding]:
    import sqlalchemy as sa

    from polyshare.catalogue.engine import make_engine
    from polyshare.catalogue.migrate import revision_of
    from polyshare.catalogue.tables import REVISION

    settings = _settings(seen)
    url = sa.make_url(settings.database)
    named = str(url.query.get("password_file") or "")
    password = _secret(seen, named).strip() if named else None
    with seen.cluster.reach(f"postgresql://{url.host}:{url.port or 5432}") as (host, port):
        near = url.difference_update_query(["password_file"]).set(host=host, port=port, password=password)
        engine = make_engine(near.render_as_string(hide_password=False), pool=1)
        try:
            with engine.connect() as connection:
                found = revision_of(connection)
        except sa.exc.DBAPIError as error:
            mend = "see that the server runs, that its Secret has the right password, and its log"
            yield Finding("database", False, str(error.orig).strip(), mend)
            return
        finally:
            engine.dispose()
    well = found is not None and found >= REVISION
    mend = "run the image functions with the arguments polyshare.catalogue upgrade"
    yield Finding("database", well, f"revision {found}, this release needs {REVISION}", mend)


def buckets(seen: Seen) -> Iterator[Finding]:
    import boto3
    from botocore.client import Config
    from botocore.exceptions import BotoCoreError, ClientError

    settings = _settings(seen)
    # Where the functions have a role, whoever asks has credentials of his own.
    access_key, secret_key = (
        _secret(seen, file).strip() if file else None
        for file in (settings.s3_access_key_file, settings.s3_secret_key_file)
    )
    with seen.cluster.reach(settings.s3_endpoint) as (host, port):
        inside = host == "127.0.0.1"
        client = boto3.client(
            "s3",
            endpoint_url=f"{urlsplit(settings.s3_endpoint).scheme}://{host}:{port}" if inside else settings.s3_endpoint,
            region_name=settings.s3_region,
            aws_access_key_id=access_key,
            aws_secret_access_key=secret_key,
            verify=not inside,
            config=Config(
                s3={"addressing_style": "path"}, connect_timeout=5, read_timeout=10, retries={"max_attempts": 1}
            ),
        )

        def ask(operation: str, bucket: str) -> Any:
            """The answer, or the code of the store's refusal."""
            try:
                return getattr(client, operation)(Bucket=bucket)
            except ClientError as error:
                return error.response["Error"].get("Code", "refused")

        for what in ("blobs", "journal", "inbox"):
            bucket = getattr(settings, f"bucket_{what}")
            try:
                head = ask("head_bucket", bucket)
                versioning, lock, cors = (
                    ask(f"get_{name}", bucket)
                    for name in ("bucket_versioning", "object_lock_configuration", "bucket_cors")
                )
            except BotoCoreError as error:
                yield Finding(f"bucket {bucket}", False, str(error), "see that the store runs, and its log")
                continue
            if isinstance(head, str):
                mend = f"create it, or set POLYSHARE_BUCKET_{what.upper()}; 403: see what the key may do"
                yield Finding(f"bucket {bucket}", False, f"the store answers {head}", mend)
                continue
            locked = isinstance(lock, dict) and lock["ObjectLockConfiguration"].get("ObjectLockEnabled") == "Enabled"
            versioned = isinstance(versioning, dict) and versioning.get("Status") == "Enabled"
            told = [
                "Object Lock" if locked else "no Object Lock: who has the store's keys can delete",
                "versions are kept" if versioned else "no versions are kept",
                "CORS is set" if isinstance(cors, dict) else f"no CORS rule ({cors}): browsers can't load or upload",
            ]
            mend = "Object Lock is chosen when a bucket is made: make another, copy, and set POLYSHARE_BUCKET_JOURNAL"
            yield Finding(f"bucket {bucket}", locked or what != "journal", "; ".join(told), mend)


def ledger(seen: Seen) -> Iterator[Finding]:
    from polyshare.ledger.read import check_trust_root
    from polyshare.ledger.record import trust_root
    from polyshare.ledger.rpc import Rpc

    settings = _settings(seen)
    mend = "see that most validators run; POLYSHARE_LEDGER_RPC and POLYSHARE_TRUST_ROOT are those of one chain"
    for number, url in enumerate(settings.ledger_rpc.split(","), 1):
        name = f"ledger node {number}"
        try:
            with seen.cluster.reach(url) as (host, port):
                near = f"http://{host}:{port}" if host == "127.0.0.1" else url
                check_trust_root(near, trust_root(settings.trust_root))
                with Rpc(near, timeout=10) as rpc:
                    block = rpc.call("eth_getBlockByNumber", "latest", False)
        except PolyshareError as error:
            yield Finding(name, False, error.message, mend)
            continue
        age = time.time() - int(block["timestamp"], 16)
        found = f"block {int(block['number'], 16)}, {max(age, 0):.0f} s old; its contracts are those pinned"
        yield Finding(name, age < _OLD_BLOCK, found, mend)


def container(service: Object) -> Object:
    containers = service.get("spec", {}).get("template", {}).get("spec", {}).get("containers") or [{}]
    return dict(containers[0])


def environ(service: Object) -> dict[str, str]:
    return {e["name"]: e.get("value", "") for e in container(service).get("env") or ()}


def _settings(seen: Seen) -> Settings:
    """Those of sweep, which reaches all that there is but the ledger's key."""
    for function in ("sweep", *seen.services):
        if function in seen.services:
            return Settings.read(environ(seen.services[function]))
    raise NotFound("no function is there whose settings would name it")


def _secret(seen: Seen, path: str) -> str:
    """What is in a file that a function has mounted from a Secret. Raises NotFound."""
    for service in seen.services.values():
        volumes = {v["name"]: v for v in service["spec"]["template"]["spec"].get("volumes") or ()}
        for mount in container(service).get("volumeMounts") or ():
            source = volumes.get(mount["name"], {}).get("secret")
            at = PurePosixPath(mount["mountPath"])
            if source is None or at not in PurePosixPath(path).parents:
                continue
            file = str(PurePosixPath(path).relative_to(at))
            key = next((item["key"] for item in source.get("items") or () if item["path"] == file), file)
            held = seen.cluster.secret(source["secretName"])
            if key in held:
                return held[key].decode()
            raise NotFound(f"the Secret {source['secretName']} has no {key}, which is to be {path}")
    raise NotFound(f"no function has a Secret mounted that would be {path}")
