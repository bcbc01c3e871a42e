"""An embedded stack of its own, in a folder that goes away, and what the benches need of it."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polyshare.client import Client, Profile
from polyshare.stack.keyring import Keyring
from polyshare.stack.layout import Layout, read_json
from polyshare.stack.up import down, up_detached


@dataclass(frozen=True, slots=True)
class Stack:
    """A stack that serves."""

    layout: Layout
    profile: Profile

    def client(self) -> Client:
        return Client(self.profile)

    def s3(self) -> dict[str, str]:
        """What boto3.client("s3", …) needs to reach the same object store."""
        settings = read_json(self.layout.settings)
        keyring = Keyring(self.layout)
        return {
            "endpoint_url": settings["s3_endpoint"],
            "region_name": settings["s3_region"],
            "aws_access_key_id": keyring.read("s3_access_key"),
            "aws_secret_access_key": keyring.read("s3_secret_key"),
        }

    def bucket(self, name: str) -> str:
        """A bucket beside the registry's own, made if need be."""
        client = s3_client(self.s3())
        if name not in {bucket["Name"] for bucket in client.list_buckets()["Buckets"]}:
            client.create_bucket(Bucket=name)
        return name


def s3_client(keys: dict[str, str]) -> Any:
    import boto3

    return boto3.client("s3", **keys)  # type: ignore[call-overload]


@contextmanager
def stack(environments: Path | None = None) -> Iterator[Stack]:
    """Runs for the time of the block; the profile that the user has stays as it is."""
    folder = Path(tempfile.mkdtemp(prefix="polyshare-bench-"))
    before = {name: os.environ.get(name) for name in ("POLYSHARE_CONFIG", "POLYSHARE_ENVIRONMENTS")}
    os.environ["POLYSHARE_CONFIG"] = str(folder / "profile.json")
    if environments is not None:
        os.environ["POLYSHARE_ENVIRONMENTS"] = str(environments)
    layout = Layout(folder / "data")
    try:
        up_detached(layout, None)
        yield Stack(layout, Profile.read(os.environ))
    finally:
        down(layout)
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
        shutil.rmtree(folder, ignore_errors=True)
