"""Container images made without an engine: one more layer of files on an image that the registry has, pushed to it."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx

_TYPES = "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json"
Content = bytes | Path | str  # a file, a folder of this machine, the target of a link


class Registry:
    """A registry that speaks plain HTTP."""

    def __init__(self, host: str) -> None:
        self.host = host
        self._client = httpx.Client(base_url=f"http://{host}", timeout=300, trust_env=False)

    def push(self, image: str, base: str, files: Mapping[str, Content], config: Mapping[str, Any] | None = None) -> str:
        """Push `name:tag` made of `base` (another name:tag here) and files by absolute path; returns name@digest."""
        name, _, tag = image.partition(":")
        under, _, under_tag = base.partition(":")
        manifest = self._client.get(f"/v2/{under}/manifests/{under_tag}", headers={"Accept": _TYPES}).json()
        settings = self._client.get(f"/v2/{under}/blobs/{manifest['config']['digest']}").json()
        for item in manifest["layers"]:
            mounted = {"mount": item["digest"], "from": under}
            assert self._client.post(f"/v2/{name}/blobs/uploads/", params=mounted).status_code == 201
        raw = _layer(files)
        packed = gzip.compress(raw, compresslevel=1, mtime=0)
        settings["rootfs"]["diff_ids"].append("sha256:" + hashlib.sha256(raw).hexdigest())
        settings.pop("history", None)
        settings["config"] = {**(settings.get("config") or {}), **(config or {})}
        layer = {"mediaType": manifest["layers"][0]["mediaType"], **self._upload(name, packed)}
        described = {**manifest["config"], **self._upload(name, json.dumps(settings).encode())}
        made = json.dumps({**manifest, "config": described, "layers": [*manifest["layers"], layer]})
        headers = {"Content-Type": manifest["mediaType"]}
        answer = self._client.put(f"/v2/{name}/manifests/{tag}", content=made, headers=headers)
        answer.raise_for_status()
        return f"{self.host}/{name}@{answer.headers['Docker-Content-Digest']}"

    def has(self, image: str) -> bool:
        name, _, tag = image.partition(":")
        return self._client.head(f"/v2/{name}/manifests/{tag}", headers={"Accept": _TYPES}).status_code == 200

    def _upload(self, name: str, data: bytes) -> dict[str, Any]:
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        place = self._client.post(f"/v2/{name}/blobs/uploads/").headers["Location"]
        answer = self._client.put(f"{place}{'&' if '?' in place else '?'}digest={digest}", content=data)
        answer.raise_for_status()
        return {"digest": digest, "size": len(data)}


def _layer(files: Mapping[str, Content]) -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as tar:
        for path, content in sorted(files.items()):
            if isinstance(content, Path):
                tar.add(content, path.lstrip("/"), filter=_plain)
                continue
            info = tarfile.TarInfo(path.lstrip("/"))
            if isinstance(content, str):
                info.type, info.linkname = tarfile.SYMTYPE, content
                tar.addfile(info)
            else:
                info.size, info.mode = len(content), 0o755
                tar.addfile(info, io.BytesIO(content))
    return raw.getvalue()


def _plain(info: tarfile.TarInfo) -> tarfile.TarInfo | None:
    if os.path.basename(info.name) == "__pycache__":
        return None
    info.uid = info.gid = info.mtime = 0
    info.uname = info.gname = ""
    info.mode |= 0o444 | (0o111 if info.isdir() or info.mode & 0o100 else 0)
    return info
