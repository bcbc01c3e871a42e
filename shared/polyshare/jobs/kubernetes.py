"""The API server of a Kubernetes cluster, by plain HTTP: the few calls that running jobs needs.

Secrets, Jobs and pods are asked of it anyway, and so are workflows: the clients made for Argo talk to argo-server, one
more server that must be up, and importing them costs every function that starts a job 100 ms of CPU (argo-workflows
6.7) or 630 ms (hera 7.1) beside the 75 ms of httpx, which is loaded already.
"""

from __future__ import annotations

import json
import os
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from polyshare.errors import Conflict, Invalid, Misconfigured, Unavailable

_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_TIMEOUT = httpx.Timeout(10, read=30)
WORKFLOWS = "/apis/argoproj.io/v1alpha1/namespaces/{namespace}/workflows"
JOBS = "/apis/batch/v1/namespaces/{namespace}/jobs"
PODS = "/api/v1/namespaces/{namespace}/pods"
SECRETS = "/api/v1/namespaces/{namespace}/secrets"
EVENTS = "/api/v1/namespaces/{namespace}/events"


@dataclass(frozen=True, slots=True)
class Access:
    """Where an API server is and who we are to it; as a pod has it, unless told otherwise."""

    url: str
    token_file: Path
    ca_file: Path
    namespace: str

    @classmethod
    def of(cls, url: str = "", token_file: str = "", ca_file: str = "", namespace: str = "") -> Access:
        """Fill in what a pod's service account gives. Raises Misconfigured where there is none."""
        host = os.environ.get("KUBERNETES_SERVICE_HOST", "")
        if not url and not host:
            raise Misconfigured("POLYSHARE_RUNNER_API is not set, and this is no pod: set it to the API server's URL")
        if ":" in host:
            host = f"[{host}]"
        try:
            namespace = namespace or (_ACCOUNT / "namespace").read_text().strip()
        except OSError as error:
            raise Misconfigured("POLYSHARE_RUNNER_NAMESPACE is not set: set it to the namespace of the jobs") from error
        url = url or f"https://{host}:{os.environ.get('KUBERNETES_SERVICE_PORT', '443')}"
        return cls(url, Path(token_file or _ACCOUNT / "token"), Path(ca_file or _ACCOUNT / "ca.crt"), namespace)


class Api:
    """Calls in one namespace. Raises Unavailable when the server can't be reached or may not be asked, Conflict for
    what is there already, Invalid for what it refuses."""

    def __init__(self, access: Access) -> None:
        self._access = access
        secure = access.url.startswith("https:")
        try:
            verify = ssl.create_default_context(cafile=str(access.ca_file)) if secure else False
        except OSError as error:
            raise Misconfigured(f"the cluster's CA {access.ca_file} can't be read: {error}") from error
        limits = httpx.Limits(max_connections=16, max_keepalive_connections=16)
        self._client = httpx.Client(
            base_url=access.url, verify=verify, timeout=_TIMEOUT, limits=limits, trust_env=False
        )

    def get(self, kind: str, name: str = "", *, metadata: bool = False, **query: str) -> dict[str, Any] | None:
        """An object, or with no name the list of them (all pages); None when there is no such object."""
        form = "List" if not name else ""
        accept = (
            f"application/json;as=PartialObjectMetadata{form};v=v1;g=meta.k8s.io" if metadata else "application/json"
        )
        items: list[Any] = []
        while True:
            found = self._ask("GET", kind, name, params={**query, "limit": "500"} if form else query, accept=accept)
            if found is None or not form:
                return found
            items += found.get("items") or ()
            query["continue"] = str((found.get("metadata") or {}).get("continue") or "")
            if not query["continue"]:
                return {**found, "items": items}

    def create(self, kind: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Raises Conflict if it is there already."""
        made = self._ask("POST", kind, body=body)
        if made is None:
            raise Unavailable(
                f"{self._path(kind)} does not exist: is it installed in this cluster, and the namespace made?"
            )
        return made

    def patch(self, kind: str, name: str, body: Mapping[str, Any]) -> None:
        """A merge patch; nothing happens if it is gone."""
        self._ask("PATCH", kind, name, body=body, content="application/merge-patch+json")

    def delete(self, kind: str, name: str = "", **query: str) -> None:
        """Delete an object, or all that a labelSelector selects, with what they own; nothing happens if it is gone."""
        assert name or query.get("labelSelector")
        self._ask("DELETE", kind, name, params={**query, "propagationPolicy": "Background"})

    @contextmanager
    def log(self, pod: str, **query: str) -> Iterator[Iterator[bytes]]:
        """What a container of a pod printed; nothing if it is gone."""
        url = f"{self._path(PODS)}/{pod}/log"
        with (
            self._translated("GET", url),
            self._client.stream("GET", url, params=query, headers=self._headers("*/*")) as answer,
        ):
            yield answer.iter_raw() if answer.is_success else iter(())

    def _ask(
        self,
        method: str,
        kind: str,
        name: str = "",
        *,
        params: Mapping[str, str] = {},
        body: Mapping[str, Any] | None = None,
        accept: str = "application/json",
        content: str = "application/json",
    ) -> dict[str, Any] | None:
        url = self._path(kind) + (f"/{name}" if name else "")
        headers = self._headers(accept) | ({"Content-Type": content} if body is not None else {})
        data = None if body is None else json.dumps(body).encode()
        with self._translated(method, url):
            answer = self._client.request(method, url, params=dict(params), content=data, headers=headers)
        if answer.is_success:
            return dict(answer.json())
        if answer.status_code == 404:
            return None
        said = f"the cluster answered {answer.status_code} to {method} {url}: {_message(answer)}"
        if answer.status_code == 409:
            raise Conflict(said)
        if answer.status_code in (400, 422):
            raise Invalid(said)
        if answer.status_code == 401 or " cannot " in said:  # a quota is answered 403 too
            said += f". Does the service account of {self._access.token_file} have its role?"
        raise Unavailable(said)

    def _path(self, kind: str) -> str:
        return kind.format(namespace=self._access.namespace)

    def _headers(self, accept: str) -> dict[str, str]:
        try:
            token = self._access.token_file.read_text().strip()  # each time: the kubelet renews it
        except OSError as error:
            raise Misconfigured(
                f"the service account's token {self._access.token_file} can't be read: {error.strerror}"
            ) from error
        return {"Authorization": f"Bearer {token}", "Accept": accept}

    @contextmanager
    def _translated(self, method: str, url: str) -> Iterator[None]:
        try:
            yield
        except httpx.TransportError as error:
            raise Unavailable(f"the cluster's API server does not answer {method} {url}: {error}") from error


def _message(answer: httpx.Response) -> str:
    try:
        return str(answer.json().get("message"))[:500]
    except (ValueError, AttributeError):
        return answer.text[:200]
