"""A run as a plain Kubernetes Job: closed to the network, without a token, without powers, held to its limits."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from polyshare.errors import Invalid
from polyshare.jobs.job import Limits
from polyshare.jobs.sandbox import HOME, Prepared, Run

CONTAINER, FIRST = "run", "shut"
UID = 65532  # of runs and of our own steps alike: they share a claim, and a run sees only what is mounted for it
GAPS = (
    "the kernel is shared with the node",
    "processes are bounded by the node's podPidsLimit only",
    "model and output are bounded by the claim's size, and checked when the run has ended",
    "CPU time and peak memory are not measured",
)
_SHM = "/dev/shm"  # noqa: S108
_GRACE = 5  # seconds between SIGTERM and SIGKILL


@dataclass(frozen=True, slots=True)
class Cluster:
    """What a deployment gives to runs."""

    image: str  # of our own steps
    images: str = ""  # prefix of the images that are made from uv: environments
    gpus: int = 0
    gpu_resource: str = "nvidia.com/gpu"
    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: Sequence[Mapping[str, Any]] = ()
    patience: float = 1800  # seconds that a run may wait for its image, or a node that can take it

    def prepare(self, reference: str) -> Prepared:
        """An environment as the image that a node pulls: `oci:` as it is, `uv:` the one made from the same lock.

        That one is tagged with the environment's digest, so that none made from another lock is taken for it.
        """
        kind, _, rest = reference.partition(":")
        if kind == "oci":
            return Prepared(reference, image=rest, python="python")
        name, _, digest = rest.partition("@sha256:")
        if not self.images:
            raise Invalid(
                f"{reference} needs an image on this cluster, and no place for them is set: build infra/images, push "
                "them, and set the parameter `images` of the workflow templates to their prefix; or name an oci: image"
            )
        return Prepared(reference, image=f"{self.images}{name}:{digest[:32]}", python="python")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a run's folders are: a claim that is mounted at `root` here, of the workflow that owns all of it."""

    root: Path
    claim: str
    owner: Mapping[str, Any]  # an ownerReference
    labels: Mapping[str, str] = field(default_factory=dict)
    node: str = ""  # that has the claim already


def manifest(run: Run, name: str, cluster: Cluster, place: Place) -> dict[str, Any]:
    """The Job. What is not named in run.mounts is not there inside; scratch is gone with the pod."""
    limits = run.limits
    labels = {**place.labels, "polyshare.network": "none"}  # infra/workflows/network.yaml closes what has this label
    spec: dict[str, Any] = {
        "restartPolicy": "Never",
        "activeDeadlineSeconds": int(limits.wall_seconds + cluster.patience + 60),  # the follower is more exact
        "terminationGracePeriodSeconds": _GRACE,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "hostname": "algo-1",
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": UID,
            "runAsGroup": UID,
            "fsGroup": UID,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "nodeSelector": dict(cluster.node_selector),
        "tolerations": [dict(toleration) for toleration in cluster.tolerations],
        "initContainers": [_first(cluster, limits)],
        "containers": [_container(run, cluster, place)],
        "volumes": [
            {"name": "work", "persistentVolumeClaim": {"claimName": place.claim}},
            {"name": "tmp", "emptyDir": {"sizeLimit": limits.disk_bytes}},
            {"name": "home", "emptyDir": {"sizeLimit": limits.disk_bytes}},
            {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": limits.memory_bytes // 2}},
        ],
    }
    if place.node:
        here = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [place.node]}]}
        required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [here]}}
        spec["affinity"] = {"nodeAffinity": required}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "labels": labels, "ownerReferences": [dict(place.owner)]},
        "spec": {
            "backoffLimit": 0,
            "activeDeadlineSeconds": int(limits.wall_seconds + cluster.patience + 120),
            "template": {"metadata": {"labels": labels}, "spec": spec},
        },
    }


def dumps(document: Mapping[str, Any]) -> str:
    """JSON that Argo takes as it is: in a parameter it would replace what stands in double braces."""
    return json.dumps(document).replace("{{", "{\\u007b")


def _first(cluster: Cluster, limits: Limits) -> dict[str, Any]:
    return {
        "name": FIRST,
        "image": cluster.image,
        "command": ["python", "-m", "polyshare.jobs.shut", str(limits.cpus)],
        "securityContext": _powerless(),
        "resources": {
            "requests": {"cpu": "50m", "memory": "64Mi"},
            "limits": {"cpu": "1", "memory": "256Mi", "ephemeral-storage": "64Mi"},
        },
    }


def _container(run: Run, cluster: Cluster, place: Place) -> dict[str, Any]:
    limits = run.limits
    environ = {name: value for name, value in run.environ.items() if name != "PATH"}  # the image has its own
    if cluster.gpus and "SM_NUM_GPUS" in environ:
        environ["SM_NUM_GPUS"] = str(cluster.gpus)
    mounts = [
        {
            "name": "work",
            "mountPath": mount.inside,
            "subPath": str(mount.host.relative_to(place.root)),
            "readOnly": not mount.writable,
        }
        for mount in run.mounts
    ]
    mounts += [
        {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108
        {"name": "home", "mountPath": HOME},
        {"name": "shm", "mountPath": _SHM},
    ]
    memory = {"memory": str(limits.memory_bytes)}
    gpus = {cluster.gpu_resource: str(cluster.gpus)} if cluster.gpus else {}
    container: dict[str, Any] = {
        "name": CONTAINER,
        "image": run.environment.image,
        "workingDir": HOME,
        "env": [{"name": name, "value": _literal(value)} for name, value in sorted(environ.items())],
        "securityContext": _powerless(),
        "resources": {
            "requests": {"cpu": f"{limits.cpus * 500}m", "ephemeral-storage": "64Mi", **memory, **gpus},
            "limits": {"cpu": str(limits.cpus), "ephemeral-storage": str(limits.disk_bytes), **memory, **gpus},
        },
        "volumeMounts": mounts,
    }
    if run.environment.reference.startswith("oci:"):
        container["args"] = [_literal(part) for part in run.command]  # to the image's own entry point
    else:
        container["command"] = [_literal(part) for part in run.command]
    return container


def _powerless() -> dict[str, Any]:
    return {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
        "runAsNonRoot": True,
    }


def _literal(text: str) -> str:
    """Kubernetes replaces $(NAME) in variables and commands, and takes two dollars for one."""
    return text.replace("$", "$$")
