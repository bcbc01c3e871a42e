"""Settings of a function, read once from one mapping.

Embedded, the environment names one JSON file in POLYSHARE_SETTINGS; on a platform each setting is a variable,
POLYSHARE_<NAME IN CAPITALS>. Secrets are never values here: a setting names the file that holds one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any

from polyshare.errors import Misconfigured


@dataclass(frozen=True, slots=True)
class Settings:
    """What a function needs to know; see each field's comment."""

    database: str  # SQLAlchemy URL: sqlite://…, or postgresql://… without its password: ?password_file= names it
    s3_endpoint: str
    functions_url: str  # template with {function}, reachable by the functions themselves and by jobs
    event_token_file: str  # the shared secret with which events between functions are sent, or signed
    jwt_issuer: str
    jwks_file: str  # the issuer's public keys; "" asks the issuer's discovery document
    broker_url: str = ""  # of a Knative broker that takes the events; "" posts them straight to the functions
    database_pool: int = 4  # connections to PostgreSQL of one instance of a function
    s3_access_key_file: str = ""  # "" for both: the role that boto3's chain of credentials finds (IRSA, for one)
    s3_secret_key_file: str = ""
    s3_region: str = "us-east-1"
    s3_public_endpoint: str = ""  # as clients reach it, where that is another address
    bucket_blobs: str = "polyshare-blobs"
    bucket_journal: str = "polyshare-journal"
    bucket_inbox: str = "polyshare-inbox"
    inbox_role: str = ""  # ARN of the role of which organisations' keys of the inbox are sessions; embedded: unused
    inbox_seconds: int = 3600  # that such a key is good for
    sts_endpoint: str = ""  # who gives out such sessions; "" is AWS
    inbox_url: str = ""  # of an inbox in another cloud, instead of that bucket: gs://bucket or az://container
    ledger_rpc: str = ""  # the URL of a node, or of several that stand in for each other, with commas between
    ledger_key_file: str = ""  # only in anchor
    ledger_kms_key: str = ""  # or there, instead of the file: the id or ARN of a key that AWS KMS keeps
    trust_root: Mapping[str, Any] = field(default_factory=dict)  # chain_id, registry, definitions
    runner: str = "local"  # local: a spool folder; argo: a cluster
    runner_spool: str = ""
    runner_namespace: str = ""  # of the jobs; default: the function's own, where it runs in the cluster
    runner_api: str = ""  # the cluster's API server; default: the one of the cluster it runs in, as are the next two
    runner_token_file: str = ""  # of the service account polyshare-runner
    runner_ca_file: str = ""
    registries: str = ""  # image registries on private addresses, comma-separated; http://host:port for plain HTTP
    data: str = ""  # the embedded stack's data folder
    url_seconds: int = 300  # how long a presigned URL lives
    hung_seconds: int = 900  # how long a request that hangs may go on, and then still write
    upload_seconds: int = 86_400  # how long an upload may take
    sweep_seconds: float = 2.0
    job_seconds: int = 3600
    most_upload_bytes: int = 5 * 1024**4

    @property
    def image_registries(self) -> str | None:
        """Tags of images are resolved by registries where jobs run on a cluster; None: by this machine's engine."""
        return self.registries if self.runner == "argo" else None

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> Settings:
        """Raises Misconfigured, naming what is missing or wrong and what to set it to."""
        if "POLYSHARE_SETTINGS" in environ:
            path = Path(environ["POLYSHARE_SETTINGS"])
            try:
                given = json.loads(path.read_bytes())
            except (OSError, ValueError) as error:
                raise Misconfigured(f"POLYSHARE_SETTINGS names {path}, which can't be read as JSON: {error}") from error
        else:
            prefix = "POLYSHARE_"
            given = {k.removeprefix(prefix).lower(): v for k, v in environ.items() if k.startswith(prefix)}
        missing = [f.name for f in fields(cls) if f.name not in given and f.default is f.default_factory is MISSING]
        if missing:
            names = ", ".join(f"POLYSHARE_{name.upper()}" for name in missing)
            raise Misconfigured(f"settings are missing: {names}; polyshare/settings.py says what each is")
        return cls(**{f.name: _value(f.name, f.type, given[f.name]) for f in fields(cls) if f.name in given})


def _value(name: str, kind: Any, value: Any) -> Any:
    try:
        if kind == "int":
            return int(value)
        if kind == "float":
            return float(value)
        if kind.startswith("Mapping"):
            return json.loads(value) if isinstance(value, str) else dict(value)
    except (TypeError, ValueError) as error:
        raise Misconfigured(f"POLYSHARE_{name.upper()} is {value!r}, which is not {kind}") from error
    return str(value)


def read_secret(path: str, setting: str) -> str:
    """The text in a secret's file; raises Misconfigured naming the setting, never the secret."""
    try:
        return Path(path).read_text().strip()
    except OSError as error:
        raise Misconfigured(
            f"POLYSHARE_{setting.upper()} names {path!r}, which can't be read: {error.strerror}"
        ) from error
