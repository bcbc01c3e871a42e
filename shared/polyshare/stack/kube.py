"""A cluster as its API server tells it, by the package `kubernetes` (extra `cluster`): for `doctor --cluster` alone.

Of the packages that know Knative Serving by name, none is kept for this release of Python: its objects are read as any
custom resource is. Objects are plain JSON.
"""

from __future__ import annotations

import json
import os
import re
import socket
import threading
from base64 import b64decode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from polyshare.errors import Forbidden, Misconfigured, NotFound, PolyshareError, Unavailable

_SECONDS = 10.0
_INSIDE = re.compile(r"(?P<name>[a-z0-9-]+)(\.(?P<namespace>[a-z0-9-]+)(\.svc(\.[a-z0-9.-]+)?)?)?")

Object = dict[str, Any]


class Cluster:
    """Raises errors.Unavailable where the API server does not answer, Forbidden where this account may not look."""

    def __init__(self, client: Any, namespace: str) -> None:
        from kubernetes import client as kubernetes

        self._kubernetes, self._client = kubernetes, client
        self.namespace, self.server = namespace, str(client.configuration.host)
        self._core = kubernetes.CoreV1Api(client)
        self._custom = kubernetes.CustomObjectsApi(client)

    @classmethod
    def of_kubeconfig(cls, namespace: str) -> Cluster:
        """The cluster that KUBECONFIG (else ~/.kube/config) names as current. Raises Misconfigured."""
        try:
            from kubernetes import client as kubernetes
            from kubernetes import config
            from yaml import YAMLError
        except ImportError as error:
            raise Misconfigured("doctor --cluster needs more: pip install 'polyshare[cluster]'") from error
        try:
            configuration = kubernetes.Configuration()
            configuration.retries = 0
            make: Callable[..., Any] = config.new_client_from_config  # which asked the environment when it was imported
            client = make(os.environ.get("KUBECONFIG"), client_configuration=configuration)
        except (config.ConfigException, YAMLError, OSError, ValueError, TypeError, KeyError) as error:
            raise Misconfigured(f"the kubeconfig can't be used: {error}") from error
        return cls(client, namespace)

    def at(self, namespace: str) -> Cluster:
        """The same, looking at another namespace."""
        return Cluster(self._client, namespace)

    def version(self) -> str:
        return str(self._ask(self._kubernetes.VersionApi(self._client).get_code)["gitVersion"])

    def kinds(self, group: str, version: str) -> set[str]:
        """The kinds (plural) that the API server has of a group's version; empty where it is not installed."""
        try:
            return {kind["name"] for kind in self._ask(self._custom.get_api_resources, group, version)["resources"]}
        except NotFound:
            return set()

    def custom(self, group: str, version: str, plural: str) -> list[Object]:
        """Custom resources of the namespace. Raises NotFound where the kind is not installed."""
        listing = self._custom.list_namespaced_custom_object
        return list(self._ask(listing, group, version, self.namespace, plural)["items"])

    def pods(self) -> list[Object]:
        return list(self._ask(self._core.list_namespaced_pod, self.namespace)["items"])

    def deployments(self, namespace: str | None = None) -> list[Object]:
        """Of a namespace, or of all."""
        apps = self._kubernetes.AppsV1Api(self._client)
        if namespace is None:
            return list(self._ask(apps.list_deployment_for_all_namespaces)["items"])
        return list(self._ask(apps.list_namespaced_deployment, namespace)["items"])

    def secret(self, name: str) -> dict[str, bytes]:
        """Raises NotFound."""
        found = self._ask(self._core.read_namespaced_secret, name, self.namespace)
        return {key: b64decode(value) for key, value in (found.get("data") or {}).items()}

    def said(self, pod: str, port: int, path: str) -> str | None:
        """What a pod answers, whether it is well or not; None where the API server does not reach it."""
        from kubernetes.client.exceptions import ApiException
        from urllib3.exceptions import HTTPError

        ask = self._core.connect_get_namespaced_pod_proxy_with_path
        try:
            return str(ask(f"{pod}:{port}", self.namespace, path, _request_timeout=_SECONDS))
        except ApiException as error:
            told = error.body.decode() if isinstance(error.body, bytes) else str(error.body or "")
            return None if told.startswith("{") else told[:200] or None  # its own troubles are JSON
        except HTTPError:
            return None

    @contextmanager
    def reach(self, url: str) -> Iterator[tuple[str, int]]:
        """Host and port at which this machine reaches a URL's server: inside the cluster, by a forwarded port."""
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or {"https": 443, "postgresql": 5432}.get(parts.scheme, 80)
        match = _INSIDE.fullmatch(host)
        inside = match and self._behind(match["name"], match["namespace"] or self.namespace, port)
        if match and not inside and host != "localhost" and (match["namespace"] is None or ".svc" in host):
            raise NotFound(
                f"there is no Service {match['namespace'] or self.namespace}/{match['name']}, which {url} names"
            )
        if not inside:
            yield host, port
            return
        listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._forward, args=(listener, *inside), daemon=True).start()
        try:
            yield "127.0.0.1", listener.getsockname()[1]
        finally:
            listener.close()

    def _behind(self, service: str, namespace: str, port: int) -> tuple[str, str, int] | None:
        """Namespace, pod and port that a Service's port leads to; None if there is no such Service."""
        try:
            found = self._ask(self._core.read_namespaced_service, service, namespace)
            names = {p["port"]: p.get("name") for p in found["spec"]["ports"]}
            endpoints = self._ask(self._core.read_namespaced_endpoints, service, namespace)
        except NotFound:
            return None
        for subset in endpoints.get("subsets") or ():
            ports = {p.get("name"): p["port"] for p in subset.get("ports") or ()}
            for address in subset.get("addresses") or ():
                if address.get("targetRef", {}).get("kind") == "Pod" and names.get(port) in ports:
                    return namespace, address["targetRef"]["name"], ports[names.get(port)]
        raise Unavailable(f"no pod is ready behind the service {namespace}/{service}, port {port}")

    def _forward(self, listener: socket.socket, namespace: str, pod: str, port: int) -> None:
        from kubernetes.stream import portforward

        while True:
            try:
                near, _ = listener.accept()
            except OSError:  # closed
                return
            # A client of its own: a stream changes how its client makes requests while it is opened.
            core = self._kubernetes.CoreV1Api(self._kubernetes.ApiClient(self._client.configuration))
            try:
                far = portforward(core.connect_get_namespaced_pod_portforward, pod, namespace, ports=str(port))
            except Exception:  # whatever it is, who connected sees a connection that ends
                near.close()
                continue
            for source, target in ((near, far.socket(port)), (far.socket(port), near)):
                threading.Thread(target=_carry, args=(source, target), daemon=True).start()

    def _ask(self, call: Callable[..., Any], *arguments: str) -> Any:
        from kubernetes.client.exceptions import ApiException
        from urllib3.exceptions import HTTPError

        try:
            return self._client.sanitize_for_serialization(call(*arguments, _request_timeout=_SECONDS))
        except ApiException as error:
            raise self._problem(error.status, str(error.reason), error.body) from error
        except HTTPError as error:
            reason = getattr(error, "reason", None) or error
            raise Unavailable(f"the API server {self.server} does not answer: {reason}") from error

    def _problem(self, status: int, reason: str, body: str | bytes | None) -> PolyshareError:
        try:
            told = json.loads(body or b"{}").get("message") or reason
        except (ValueError, AttributeError):
            told = reason
        if status == 404:
            return NotFound(f"the cluster has no such thing: {told}")
        if status in (401, 403):
            return Forbidden(f"this kubeconfig's account is refused: {told}")
        return Unavailable(f"the API server {self.server} answered {status}: {told}")


def _carry(source: Any, target: Any) -> None:
    try:
        while data := source.recv(65536):
            target.sendall(data)
    except OSError:
        pass
    finally:
        target.close()
