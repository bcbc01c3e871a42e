"""An organisation's key of the inbox where the store has STS (AWS, SeaweedFS, Ceph, MinIO): a session of one role.

Its policy narrows what the role may do to the organisation's prefix, so no user is made and nothing is kept; it ends by
itself, and the next one is asked for in the same way.
"""

from __future__ import annotations

import json
from typing import Any

from polyshare.api import InboxCredentials
from polyshare.assets import check_name
from polyshare.errors import Misconfigured, Unavailable
from polyshare.settings import Settings
from polyshare.store.keys import Given, Role

_SECONDS = 10
_OBJECT = ("GetObject", "PutObject", "DeleteObject", "AbortMultipartUpload", "ListMultipartUploadParts")


def inbox_session(settings: Settings, keys: Given | Role, organisation: str) -> InboxCredentials:
    """Raises Invalid, Unavailable, Misconfigured."""
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError, ConnectionError, HTTPClientError

    check_name(organisation, "organisation")
    try:
        client = boto3.session.Session(botocore_session=keys.session()).client(
            "sts",
            endpoint_url=settings.sts_endpoint or None,
            region_name=settings.s3_region,
            config=Config(connect_timeout=_SECONDS, read_timeout=_SECONDS, retries={"mode": "standard"}),
        )
        client.meta.events.register("before-sign.sts.AssumeRole", _in_the_query)
        made = client.assume_role(
            RoleArn=settings.inbox_role,
            RoleSessionName=f"inbox-{organisation}"[:64],
            Policy=json.dumps(policy(settings, organisation), separators=(",", ":")),
            DurationSeconds=settings.inbox_seconds,
        )["Credentials"]
    except (ConnectionError, HTTPClientError) as error:
        raise Unavailable(f"STS, which gives out keys of the inbox, does not answer: {error}") from error
    except ClientError as error:
        if error.response["ResponseMetadata"].get("HTTPStatusCode", 0) >= 500:
            raise Unavailable(f"STS, which gives out keys of the inbox, is not able to now: {error}") from error
        raise Misconfigured(
            f"STS gives out no key of the inbox: {error}. See that POLYSHARE_INBOX_ROLE ({settings.inbox_role})"
            f" trusts this process's key or role, and may last {settings.inbox_seconds} s (POLYSHARE_INBOX_SECONDS)"
        ) from error
    except BotoCoreError as error:
        raise Misconfigured(f"STS, which gives out keys of the inbox, can't be asked: {error}") from error
    return InboxCredentials(
        endpoint=settings.s3_public_endpoint or settings.s3_endpoint,
        region=settings.s3_region,
        bucket=settings.bucket_inbox,
        prefix=f"{organisation}/",
        access_key=made["AccessKeyId"],
        secret_key=made["SecretAccessKey"],
        session_token=made["SessionToken"],
        expires=made["Expiration"].timestamp(),
    )


def policy(settings: Settings, organisation: str) -> dict[str, Any]:
    """What of the role's rights a session has: one prefix. (AWS lets a session's policy name keys that it needs.)"""
    bucket = f"arn:{settings.inbox_role.split(':')[1]}:s3:::{settings.bucket_inbox}"
    below = {"StringLike": {"s3:prefix": [f"{organisation}/*"]}}
    return {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Action": [f"s3:{a}" for a in _OBJECT], "Resource": [f"{bucket}/{organisation}/*"]},
            {"Effect": "Allow", "Action": ["s3:ListBucket"], "Resource": [bucket], "Condition": below},
            {"Effect": "Allow", "Action": ["kms:Decrypt", "kms:GenerateDataKey"], "Resource": ["*"]},
        ],
    }


def _in_the_query(request: Any, **_: Any) -> None:
    """SeaweedFS checks no signature of a form unless its IAM API is open, by which keys could be made."""
    request.params, request.data = dict(request.data), b""
    del request.headers["Content-Type"]
