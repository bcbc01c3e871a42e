"""A kubelet in little: does the Jobs of a small API server in this machine's sandbox, with what they mount."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from polyshare.jobs import environment
from polyshare.jobs.sandbox import Mount, Run, choose
from tests.contract.kube_stub import Kube


@contextmanager
def serving(kube: Kube, claim: Path, cache: Path, images: dict[str, str]) -> Iterator[list[str]]:
    """Run Jobs as they appear; `images` says what environment each was made from. Yields the names of those run."""
    done: list[str] = []
    over = threading.Event()

    def work() -> None:
        while not over.wait(0.1):
            for job in [job for job in kube.of("jobs") if job["metadata"]["name"] not in done]:
                done.append(job["metadata"]["name"])
                _run(kube, job, claim, cache, images)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield done
    finally:
        over.set()
        thread.join()


def _run(kube: Kube, job: dict[str, Any], claim: Path, cache: Path, images: dict[str, str]) -> None:
    name = job["metadata"]["name"]
    (container,) = job["spec"]["template"]["spec"]["containers"]
    prepared = environment.prepare(images[container["image"]], cache)
    mounts = tuple(
        Mount(claim / mount["subPath"], mount["mountPath"], not mount["readOnly"])
        for mount in container["volumeMounts"]
        if "subPath" in mount
    )
    environ = {item["name"]: item["value"].replace("$$", "$") for item in container["env"]}
    log = claim.parent / "kubelet" / name / "log"
    log.parent.mkdir(parents=True)
    run = Run(prepared, tuple(container["command"]), mounts, environ, log=log)
    started = time.time()
    finished = choose("uv:").run(replace(run, limits=replace(run.limits, wall_seconds=300)))
    kube.logs[name, "run"] = log.read_bytes()
    kube.logs[name, "shut"] = b"{}"
    terminated = {"exitCode": finished.exit_code, "startedAt": _time(started), "finishedAt": _time(time.time())}
    kube.objects["pods", name] = {
        "metadata": {"name": name, "labels": {"batch.kubernetes.io/job-name": name}},
        "status": {
            "phase": "Succeeded" if finished.status == "done" else "Failed",
            "containerStatuses": [{"name": "run", "image": container["image"], "state": {"terminated": terminated}}],
        },
    }


def _time(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
