"""`polyshare doctor --cluster`: what of the platform on a cluster is not ready, why, and how to mend it.

It only looks, from where the operator is: what is reached inside the cluster alone (database, store, ledger) is reached
by a forwarded port, with the settings and the secrets that the functions themselves have.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping

from polyshare import events
from polyshare.errors import NotFound, PolyshareError
from polyshare.stack.app import FUNCTIONS
from polyshare.stack.cluster_state import Seen, buckets, database, environ, ledger
from polyshare.stack.doctor import Finding
from polyshare.stack.kube import Cluster, Object

_KINDS = (  # group, version, kinds, what they belong to
    ("serving.knative.dev", "v1", {"services", "revisions"}, "Knative Serving"),
    ("eventing.knative.dev", "v1", {"brokers", "triggers"}, "Knative Eventing"),
    ("sources.knative.dev", "v1", {"pingsources"}, "Knative Eventing"),
    ("argoproj.io", "v1alpha1", {"workflows", "workflowtemplates"}, "Argo Workflows"),
)
_OLDEST = {"Knative Serving": (1, 16), "Knative Eventing": (1, 16), "Argo Workflows": (3, 6)}
_CONTROLLERS = (  # namespace (None: any), deployments, what they belong to
    ("knative-serving", {"controller", "webhook", "activator", "autoscaler"}, "Knative Serving"),
    ("knative-eventing", {"eventing-controller", "eventing-webhook"}, "Knative Eventing"),
    (None, {"workflow-controller"}, "Argo Workflows"),
)
_TEMPLATES = ("polyshare-ingest", "polyshare-train", "polyshare-translate")
_SIGNS = {  # of a container that does not start
    "ImagePullBackOff": "push the image, or give the service account a pull secret",
    "ErrImagePull": "push the image, or give the service account a pull secret",
    "InvalidImageName": "correct the image's name",
    "CreateContainerConfigError": "make the Secret or ConfigMap that it mounts",
    "CrashLoopBackOff": "its log says why",
}
_FAILURES = (PolyshareError, OSError, ValueError, KeyError)


def examine_cluster(connect: Callable[[], Cluster]) -> list[Finding]:
    """Everything, what the rest stands on first. Raises nothing: what fails is a finding."""
    try:
        cluster = connect()
        findings = [Finding("cluster", True, f"{cluster.server}, Kubernetes {cluster.version()}")]
    except PolyshareError as error:
        return [
            Finding("cluster", False, error.message, "point KUBECONFIG at the cluster, with an account that may look")
        ]
    seen = Seen(cluster)
    checks: list[Callable[[Seen], Iterator[Finding]]] = [_kinds, _controllers, _functions, _broker, _triggers, _timer]
    for check in [*checks, _templates, _pods, database, buckets, ledger]:
        name = check.__name__.strip("_")
        try:
            findings += check(seen)
        except NotFound as error:
            findings.append(Finding(name, False, error.message, "make it, or correct the setting that names it"))
        except _FAILURES as error:
            findings.append(Finding(name, False, str(error), "mend what the reason names, then ask again"))
    return findings


def _kinds(seen: Seen) -> Iterator[Finding]:
    for group, version, kinds, part in _KINDS:
        there = seen.cluster.kinds(group, version)
        lacking = ", ".join(f"{kind}.{group}/{version}" for kind in sorted(kinds - there))
        oldest = ".".join(map(str, _OLDEST[part]))
        mend = f"install {part} {oldest} or newer (its custom resource definitions first)"
        yield Finding(
            f"{part} ({group})", not lacking, f"{lacking} is missing" if lacking else f"serves {version}", mend
        )


def _controllers(seen: Seen) -> Iterator[Finding]:
    for namespace, names, part in _CONTROLLERS:
        there = {d["metadata"]["name"]: d for d in seen.cluster.deployments(namespace)}
        for name in sorted(names):
            if name not in there:
                yield Finding(f"{part}: {name}", False, "there is no such deployment", f"install {part}")
                continue
            deployment = there[name]
            at = deployment["metadata"]["namespace"]
            wanted, available = deployment["spec"].get("replicas", 1), deployment["status"].get("availableReplicas", 0)
            mend = f"kubectl -n {at} describe deployment {name}; kubectl -n {at} logs deployment/{name}"
            if not wanted:
                mend = f"kubectl -n {at} scale deployment {name} --replicas=1"
            version = _version(deployment)
            old = version is not None and version < _OLDEST[part]
            found = f"{available} of {wanted} replicas available"
            if version is not None:
                found = f"{part} {version[0]}.{version[1]}, {found}"
            if old:
                mend = f"upgrade {part} to {'.'.join(map(str, _OLDEST[part]))} or newer"
            yield Finding(f"{part}: {name}", available > 0 and not old, found, mend)


def _version(deployment: Object) -> tuple[int, int] | None:
    """Of its label, or of its image's tag; None where neither tells."""
    labels = deployment["metadata"].get("labels") or {}
    image = deployment["spec"]["template"]["spec"]["containers"][0]["image"]
    for text in (labels.get("app.kubernetes.io/version", ""), image.partition("@")[0].rpartition(":")[2]):
        found = re.fullmatch(r"v?(\d+)\.(\d+)(\..*)?", text)
        if found:
            return int(found[1]), int(found[2])
    return None


def _functions(seen: Seen) -> Iterator[Finding]:
    seen.pods = [pod for pod in seen.cluster.pods() if "deletionTimestamp" not in pod["metadata"]]
    for service in seen.cluster.custom("serving.knative.dev", "v1", "services"):
        target = environ(service).get("FUNCTION_TARGET")
        if target:
            seen.services[target] = service
    revisions = {r["metadata"]["name"]: r for r in seen.cluster.custom("serving.knative.dev", "v1", "revisions")}
    for function in FUNCTIONS:
        if function not in seen.services:
            mend = f"apply the Terraform module to namespace {seen.cluster.namespace}, or give --namespace"
            yield Finding(f"function {function}", False, "no Knative Service has it as FUNCTION_TARGET", mend)
        else:
            yield _function(seen, function, seen.services[function], revisions)


def _function(seen: Seen, function: str, service: Object, revisions: Mapping[str, Object]) -> Finding:
    name, status = service["metadata"]["name"], service.get("status") or {}
    newest, ready = status.get("latestCreatedRevisionName", ""), status.get("latestReadyRevisionName")
    mine = [pod for pod in seen.pods if pod["metadata"].get("labels", {}).get("serving.knative.dev/revision") == newest]
    unready, why = _unready(service), ""
    log = (
        f"kubectl -n {seen.cluster.namespace} logs -l serving.knative.dev/revision={newest} --all-containers --tail=20"
    )
    mend = log
    stuck = next(filter(None, map(_stuck, mine)), None)
    waits = next(filter(None, (_waits(seen, pod) for pod in mine)), None)
    if waits is not None:
        why, mend = waits, f"give it what it waits for; {log}"
    elif stuck is not None:
        why, mend = stuck[0], f"{stuck[1]}; {log}"
    elif unready and (lacking := _lacking(seen, service)):
        why, mend = f"it mounts {lacking}, which is not there", f"make {lacking}"
    elif unready and newest in revisions and _unready(revisions[newest]):
        why = f"revision {newest}: {_unready(revisions[newest])}"
        if "image" in why.lower() and "fetch" in why.lower():
            mend = (
                "push the image to where the cluster's nodes and Knative's controller reach it, and name it by digest"
            )
    if unready or waits or stuck:
        serving = f"; {ready} goes on serving" if ready and ready != newest else ""
        return Finding(f"function {function}", False, f"service {name}: {why or unready}{serving}", mend)
    running = sum(pod["status"].get("phase") == "Running" for pod in mine)
    return Finding(f"function {function}", True, f"{newest}, {running or 'no'} pod{'' if running == 1 else 's'}")


def _broker(seen: Seen) -> Iterator[Finding]:
    brokers = seen.cluster.custom("eventing.knative.dev", "v1", "brokers")
    if not brokers:
        yield Finding("broker", False, "there is none", "apply the Terraform module")
    for broker in brokers:
        mend = "see Knative Eventing's controllers above, and the broker's config"
        yield _ready(f"broker {broker['metadata']['name']}", broker, mend)


def _triggers(seen: Seen) -> Iterator[Finding]:
    triggers = seen.cluster.custom("eventing.knative.dev", "v1", "triggers")
    for kind, takers in events.ROUTES.items():
        for function in takers:
            name = f"trigger {kind} → {function}"
            found = [t for t in triggers if _takes(t, kind) and _leads_to(t["spec"]["subscriber"], seen, function)]
            if found:
                yield _ready(name, found[0], "mend its broker and its subscriber, which are named above")
            elif kind not in (events.SWEEP_DUE, events.INBOX_CHANGED):  # sources may bring those straight
                yield Finding(
                    name, False, "there is none", "apply the Terraform module; until then sweep does it, slower"
                )


def _timer(seen: Seen) -> Iterator[Finding]:
    sources = seen.cluster.custom("sources.knative.dev", "v1", "pingsources")
    mine = [source for source in sources if _leads_to(source["spec"].get("sink") or {}, seen, "sweep")]
    brokered = [
        source for source in sources if (source["spec"].get("sink") or {}).get("ref", {}).get("kind") == "Broker"
    ]
    if not mine + brokered:
        yield Finding("timer of sweep", False, "no PingSource leads to it", "apply the Terraform module")
    for source in mine or brokered:
        yield _ready("timer of sweep", source, "see Knative Eventing's pingsource-mt-adapter")


def _templates(seen: Seen) -> Iterator[Finding]:
    namespace = environ(seen.services.get("run_job", {})).get("POLYSHARE_RUNNER_NAMESPACE") or seen.cluster.namespace
    there = seen.cluster.at(namespace).custom("argoproj.io", "v1alpha1", "workflowtemplates")
    names = {template["metadata"]["name"] for template in there}
    for name in _TEMPLATES:
        mend = f"kubectl -n {namespace} apply -f infra/workflows/{name.removeprefix('polyshare-')}.yaml"
        yield Finding(f"workflow template {name}", name in names, "there" if name in names else "there is none", mend)


def _pods(seen: Seen) -> Iterator[Finding]:
    """Of the parts that are no functions: ledger nodes, database, store."""
    for pod in seen.pods:
        labels = pod["metadata"].get("labels") or {}
        if labels.get("app.kubernetes.io/part-of") != "polyshare" or "serving.knative.dev/revision" in labels:
            continue
        if pod["status"].get("phase") == "Succeeded":
            continue
        name, stuck = pod["metadata"]["name"], _stuck(pod)
        ready = any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions") or ())
        mend = f"kubectl -n {seen.cluster.namespace} describe pod {name}"
        found = (
            "ready" if ready else stuck[0] if stuck else f"is {pod['status'].get('phase', 'unknown')}, and not ready"
        )
        yield Finding(f"pod {name}", ready, found, f"{stuck[1]}; {mend}" if stuck else mend)


def _ready(name: str, resource: Object, mend: str) -> Finding:
    unready = _unready(resource)
    return Finding(name, not unready, unready or "ready", mend)


def _unready(resource: Object) -> str:
    """Why a Knative resource is not ready; empty when it is."""
    conditions = {c["type"]: c for c in (resource.get("status") or {}).get("conditions") or ()}
    ready = conditions.get("Ready")
    if ready is None:
        return "nothing has looked at it yet: its controller is down"
    if ready["status"] == "True":
        return ""
    untrue = [c for c in (ready, *conditions.values()) if c["status"] != "True"]
    told = next((c for c in untrue if c.get("message")), ready)
    return f"{told.get('reason') or 'not ready'}: {told.get('message') or 'it is being made'}"


def _waits(seen: Seen, pod: Object) -> str | None:
    """What a function that runs and is not ready says that it waits for."""
    mine = [c for c in pod["status"].get("containerStatuses") or () if c["name"] != "queue-proxy"]
    running = [c for c in mine if "running" in (c.get("state") or {})]
    unready = [c for c in pod["status"].get("containerStatuses") or () if not c["ready"]]
    if not running or not unready:
        return None
    ports = [p for c in pod["spec"]["containers"] if c["name"] == running[0]["name"] for p in c.get("ports") or ()]
    said = seen.cluster.said(pod["metadata"]["name"], ports[0]["containerPort"] if ports else 8080, "readyz")
    return said if said and said != "ready" else None


def _lacking(seen: Seen, service: Object) -> str | None:
    """A Secret that a service mounts and that is not there."""
    for volume in service["spec"]["template"]["spec"].get("volumes") or ():
        name = (volume.get("secret") or {}).get("secretName")
        try:
            if name and not volume["secret"].get("optional"):
                seen.cluster.secret(name)
        except NotFound:
            return f"Secret {seen.cluster.namespace}/{name}"
    return None


def _stuck(pod: Object) -> tuple[str, str] | None:
    """Why a pod's container does not start or stay, and what to do; None if it does."""
    for container in pod["status"].get("containerStatuses") or pod["status"].get("initContainerStatuses") or ():
        waiting = (container.get("state") or {}).get("waiting") or {}
        if waiting.get("reason") in _SIGNS:
            ended = (container.get("lastState") or {}).get("terminated") or {}
            told = ended.get("message") or waiting.get("message") or ""
            code = f", exit code {ended['exitCode']}" if "exitCode" in ended else ""
            return f"{container['name']} is in {waiting['reason']}{code}: {told.strip()[:300]}", _SIGNS[
                waiting["reason"]
            ]
    for condition in pod["status"].get("conditions") or ():
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return f"no node takes it: {condition.get('message', '')}", "add a node, or ask for less"
    return None


def _takes(trigger: Object, kind: str) -> bool:
    wanted = ((trigger["spec"].get("filter") or {}).get("attributes") or {}).get("type", "")
    return wanted in ("", kind)


def _leads_to(destination: Object, seen: Seen, function: str) -> bool:
    service = seen.services.get(function)
    return service is not None and (destination.get("ref") or {}).get("name") == service["metadata"]["name"]
