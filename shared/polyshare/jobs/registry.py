"""Asking an image registry by which digest it has a tag, for machines without a container engine.

Source: OCI Distribution Specification v1.1 (end-2: HEAD of a manifest, Docker-Content-Digest); the token of anonymous
users as Docker's registries give it (distribution.github.io: Token Authentication).
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Iterable
from urllib.parse import urlsplit

import httpx

from polyshare.errors import Invalid, NotFound, Unavailable

_TIMEOUT = httpx.Timeout(15)
_HUB = "registry-1.docker.io"
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_MANIFESTS = ", ".join(
    f"application/vnd.{kind}+json"
    for kind in (
        "oci.image.index.v1",
        "oci.image.manifest.v1",
        "docker.distribution.manifest.list.v2",
        "docker.distribution.manifest.v2",
    )
)


def resolve(image: str, registries: Iterable[str] = ()) -> str:
    """The digest of `host/name:tag`, as sha256:… .

    `registries` names those on private addresses that may be asked, with http:// before one that speaks plain HTTP:
    whoever names an image must not make us ask anything else within our network. Raises Invalid for those not named,
    NotFound for an image that is not there or not public, Unavailable if the registry does not answer.
    """
    host, name, tag = _split(image)
    named = {entry.rpartition("://")[2]: entry for entry in registries}
    base = named.get(host, host)
    base = base if "://" in base else f"https://{base}"
    if host not in named:
        _check_public(base)
    url = f"{base}/v2/{name}/manifests/{tag}"
    try:
        with httpx.Client(timeout=_TIMEOUT, trust_env=True, follow_redirects=False) as client:
            answer = client.head(url, headers={"Accept": _MANIFESTS})
            if answer.status_code == 401:
                token = _token(client, answer.headers.get("WWW-Authenticate", ""), trusted=host in named)
                headers = {"Accept": _MANIFESTS, "Authorization": f"Bearer {token}"}
                answer = client.head(url, headers=headers) if token else answer
    except httpx.HTTPError as error:
        raise Unavailable(f"registry {host} does not answer for image {image}: {error}") from error
    digest = str(answer.headers.get("Docker-Content-Digest", ""))
    if answer.status_code == 200 and _DIGEST.fullmatch(digest):
        return digest
    if answer.status_code in (401, 403, 404):
        raise NotFound(f"image {image} is not there, or not for everybody: push it, or name it by digest")
    raise Unavailable(f"registry {host} answered {answer.status_code} for image {image}, without its digest")


def _split(image: str) -> tuple[str, str, str]:
    """Host, repository and tag, with the defaults that engines have for them."""
    first, slash, rest = image.partition("/")
    if not slash or not ("." in first or ":" in first or first == "localhost"):
        first, rest = "docker.io", image if slash else f"library/{image}"
    name, _, tag = rest.partition(":")
    return (_HUB if first == "docker.io" else first), name, tag or "latest"


def _token(client: httpx.Client, challenge: str, *, trusted: bool) -> str | None:
    """An anonymous token from where the registry says; None if it asks for something else."""
    scheme, _, rest = challenge.partition(" ")
    fields = dict(re.findall(r'(\w+)="([^"]*)"', rest))
    if scheme.lower() != "bearer" or "realm" not in fields:
        return None
    if not trusted:
        _check_public(fields["realm"])
    answer = client.get(fields["realm"], params={key: fields[key] for key in ("service", "scope") if key in fields})
    try:
        document = answer.json() if answer.is_success else {}
    except ValueError:
        return None
    return document.get("token") or document.get("access_token")


def _check_public(url: str) -> None:
    """Raises Invalid unless it is HTTPS to public addresses, Unavailable if the name can't be resolved."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    try:
        found = socket.getaddrinfo(host, parts.port or 443, type=socket.SOCK_STREAM)
    except (OSError, ValueError) as error:
        raise Unavailable(f"registry {host} can't be found: {error}") from error
    addresses = [ipaddress.ip_address(item[4][0]) for item in found]
    if parts.scheme != "https" or not all(address.is_global for address in addresses):
        raise Invalid(f"{host} is not a public registry: an operator can allow it with POLYSHARE_REGISTRIES")
