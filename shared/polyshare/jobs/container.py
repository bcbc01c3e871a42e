"""The sandbox of container images: podman or docker, whichever works here."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from polyshare.errors import NotFound, Unavailable
from polyshare.jobs import scratch
from polyshare.jobs.job import Limits
from polyshare.jobs.sandbox import HOME, Finished, Mount, Prepared, Run, never, unheard
from polyshare.jobs.supervise import Watched, supervise
from polyshare.jobs.uids import hand_over, nobodys_uid

LABEL = "polyshare.job"
_SECONDS = 60  # for what does not run the job or fetch an image
_PULL_SECONDS = 1800


Engine = tuple[str, ...]  # the program, and its runtime where its own does not work here


def probe(owner: str = "none") -> Container:
    """The first engine that really runs a container, with its limits if it can.

    Raises errors.Unavailable with what each one said and how to get one.
    """
    found = _probe()
    if isinstance(found, Container):
        return replace(found, owner=owner)
    raise Unavailable(
        f"no container engine works on this machine, so no oci: image can be run: {found}. "
        "Install podman from the system's packages, or use a uv: environment such as uv:sklearn."
    )


def resolve(reference: str) -> str:
    """Pin `oci:<image>` by the digest of its manifest, asked from the local engine, else from the registry by it.

    Raises NotFound if neither has the image, Unavailable if no engine works.
    """
    engine = probe().engine
    image = reference.removeprefix("oci:")
    digest = _local_digest(engine, image)
    if digest is None:
        answer = _call(engine, "pull", "--quiet", image, seconds=_PULL_SECONDS)
        digest = _local_digest(engine, image) if answer.returncode == 0 else None
        if digest is None:
            said = " ".join(answer.stderr.split())[-300:]
            raise NotFound(
                f"image {image} can't be resolved to a digest: {said}. Build or pull it, or name it by digest"
            )
    name, slash, last = image.rpartition("/")
    return f"oci:{name}{slash}{last.partition(':')[0]}@{digest}"


def prepare(reference: str, progress: Callable[[str], None]) -> Prepared:
    """Have a pinned image on this machine. Raises NotFound if it can't be pulled, Unavailable if no engine works."""
    engine = probe().engine
    image = reference.removeprefix("oci:")
    found = _find(engine, image)
    if found is None:
        progress(f"pulling {image}")
        answer = _call(engine, "pull", "--quiet", image, seconds=_PULL_SECONDS)
        found = image if answer.returncode == 0 else None
        if found is None:
            raise NotFound(f"image {image} can't be pulled: {' '.join(answer.stderr.split())[-300:]}")
    return Prepared(reference, image=found, python="python")


def remove_leftovers(owner: str) -> None:
    """Remove containers that a runner left when it was killed; `owner` is what it named itself in its runs."""
    for name in ("podman", "docker"):
        if shutil.which(name):
            listed = _call((name,), "ps", "--all", "--quiet", "--filter", f"label={LABEL}={owner}")
            for container in listed.stdout.split() if listed.returncode == 0 else ():
                _call((name,), "kill", container)  # rm alone gives it ten seconds to end by itself
                _call((name,), "rm", "--force", container)


@dataclass(frozen=True, slots=True)
class Container:
    """podman or docker. `owner` marks its containers, so that a runner can find those it left when it was killed."""

    engine: Engine
    version: str
    capped: bool
    owner: str = "none"

    @property
    def name(self) -> str:
        return f"{' '.join(self.engine)} {self.version}"

    @property
    def gaps(self) -> tuple[str, ...]:
        gaps = ["the kernel is shared with the host", "disk is sampled, not capped"]
        if not self.capped:
            gaps.append("memory and processes are sampled, not capped: the engine has no cgroup to cap them in")
        return tuple(gaps)

    def run(
        self, run: Run, *, cancelled: Callable[[], bool] = never, on_log: Callable[[str], None] = unheard
    ) -> Finished:
        """See sandbox.Sandbox."""
        if run.environment.image is None:
            raise Unavailable(f"{run.environment.reference} is not a container image: it runs under bubblewrap")
        if run.devices:
            raise Unavailable("devices are shown to uv: environments only")
        name = f"polyshare-{secrets.token_hex(8)}"
        with ExitStack() as stack:
            own = Path(tempfile.mkdtemp(prefix="scratch-", dir=run.log.parent))
            stack.callback(scratch.remove, own)
            temporary, home = own / "tmp", own / "home"
            for folder in (temporary, home):
                folder.mkdir()
            uid = nobodys_uid() if os.geteuid() == 0 else 0
            writable = (*(mount.host for mount in run.mounts if mount.writable), temporary, home)
            for folder in writable if uid else ():
                hand_over(folder, uid)
            stack.callback(_call, self.engine, "rm", "--force", "--volumes", name)
            mounts = (*run.environment.mounts, *run.mounts, Mount(temporary, "/tmp", True), Mount(home, HOME, True))  # noqa: S108
            readable_end, output = os.pipe2(os.O_CLOEXEC)
            stack.callback(_close_if_open, output)
            environ = own / "environ"
            environ.write_text("".join(f"{key}={value}\n" for key, value in run.environ.items() if "\n" not in value))
            process = subprocess.Popen(
                self._command(run, name, mounts, environ, uid), stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
            os.close(output)
            first = _First(self.engine, name)

            def kill() -> None:
                if process.poll() is None and _call(self.engine, "kill", name).returncode:
                    process.kill()

            watched = Watched(process, readable_end, first, kill, writable)
            finished = supervise(watched, run.limits, run.log, cancelled=cancelled, on_log=on_log)
            if finished.status == "failed" and self.capped and finished.exit_code in (-9, 137):
                # Between two samples it reached the engine's own cap, and the kernel killed it.
                answer = _call(self.engine, "inspect", "--format", "{{.State.OOMKilled}}", name)
                if answer.stdout.strip() in ("true", b"true"):
                    reason = f"it used all of its memory; the limit is {run.limits.memory_bytes} bytes"
                    return replace(finished, status="memory", reason=reason)
            return finished

    def _command(self, run: Run, name: str, mounts: tuple[Mount, ...], environ: Path, uid: int) -> list[str]:
        limits = run.limits
        arguments = [*_started(self.engine, limits, capped=self.capped), "--name", name, "--ipc=private"]
        arguments += [
            "--label",
            f"{LABEL}={self.owner}",
            "--workdir",
            HOME,
            "--env-file",
            str(environ),
            "--env",
            f"HOME={HOME}",
        ]
        arguments += [
            "--shm-size",
            str(limits.memory_bytes // 2),
            "--ulimit",
            f"fsize={limits.disk_bytes}:{limits.disk_bytes}",
        ]
        arguments += ["--user", f"{uid}:{uid}" if uid else f"{os.getuid()}:{os.getgid()}"]
        if self.engine[0] == "podman" and not uid:
            arguments += ["--userns=keep-id"]
        if run.cores and self.capped:
            arguments += ["--cpuset-cpus", ",".join(map(str, sorted(run.cores)))]
        for mount in mounts:
            arguments += ["--volume", f"{mount.host}:{mount.inside}:{'rw' if mount.writable else 'ro'}"]
        assert run.environment.image is not None
        return [*arguments, run.environment.image, *run.command]


class _First:
    """PID, here, of the container's first process, once it has one."""

    def __init__(self, engine: Engine, name: str) -> None:
        self._engine = engine
        self._name = name
        self._pid: int | None = None

    def __call__(self) -> int | None:
        if self._pid is None:
            answer = _call(self._engine, "inspect", "--format", "{{.State.Pid}}", self._name)
            if answer.returncode == 0 and answer.stdout.strip().isdigit():
                self._pid = int(answer.stdout) or None
        return self._pid


def _local_digest(engine: Engine, image: str) -> str | None:
    """By which digest the engine knows an image: its manifest's, else its configuration's (docker, never pushed)."""
    answer = _call(engine, "image", "inspect", image)
    if answer.returncode:
        return None
    found = json.loads(answer.stdout)[0]
    repository = next(iter(found.get("RepoDigests") or ()), "")
    digest = str(found.get("Digest") or repository.rpartition("@")[2] or found.get("Id") or "")
    return digest if digest.startswith("sha256:") else None


def _find(engine: Engine, image: str) -> str | None:
    """What the engine calls a pinned image that it has; also one that was built here and never pushed."""
    if _call(engine, "image", "inspect", image).returncode == 0:
        return image
    name, _, digest = image.partition("@")
    listed = _call(engine, "image", "ls", "--no-trunc", "--quiet", "--filter", f"reference={name}")
    for identity in set(listed.stdout.split()) if listed.returncode == 0 else ():
        if _local_digest(engine, identity) == digest:
            return identity
    return None


@cache
def _probe() -> Container | str:
    """What works here, or what was said; once a process, as it takes a second."""
    said = []
    for name in ("podman", "docker"):
        if shutil.which(name) is None:
            said.append(f"{name} is not installed")
            continue
        said.append(f"{name} does not work")
        runtimes = ["", "runc", "crun"] if name == "podman" else [""]
        engines = [(name, "--runtime", runtime) if runtime else (name,) for runtime in runtimes]
        for engine, capped in ((engine, capped) for capped in (True, False) for engine in engines):
            if len(engine) == 1 or shutil.which(engine[2]):
                try:
                    return Container(engine, _try_out(engine, capped=capped), capped)
                except Unavailable as error:
                    said[-1] = f"{name}: {error.message}"
    return "; ".join(said)


def _try_out(engine: Engine, *, capped: bool) -> str:
    """Start a container of an empty image and return the engine's version; raises errors.Unavailable.

    There is nothing in it to run, so an engine that works says 127 (not found), and 126 when it could not start it.
    """
    form = "{{.Server.Version}}" if engine[0] == "docker" else "{{.Client.Version}}"
    version = _call(engine, "version", "--format", form)
    if version.returncode or not version.stdout.strip():
        raise Unavailable(" ".join(version.stderr.split())[-200:])
    with tempfile.NamedTemporaryFile(suffix=".tar") as empty:
        with tarfile.open(empty.name, "w") as archive:
            archive.addfile(tarfile.TarInfo("probe"))
        imported = _call(engine, "import", empty.name, "polyshare-probe:1")
    if imported.returncode:
        raise Unavailable(" ".join(imported.stderr.split())[-200:])
    arguments = _started(engine, Limits(), capped=capped)[len(engine) :]
    started = _call(engine, *arguments, "--rm", "polyshare-probe:1", "/nothing")
    if started.returncode != 127:
        raise Unavailable(" ".join(started.stderr.split())[-200:])
    return version.stdout.strip()


def _started(engine: Engine, limits: Limits, *, capped: bool) -> list[str]:
    """The start of every run's command: closed to the network, without powers, held to its limits."""
    arguments = [*engine, "run", "--network=none", "--read-only", "--cap-drop=ALL", "--pull=never"]
    arguments += ["--security-opt=no-new-privileges", "--ulimit", "core=0", "--ulimit", "nofile=1024:1024"]
    arguments += [
        "--ulimit",
        "nproc=4096:4096",
        "--log-driver=none",
    ]  # nproc counts for the uid: pids-limit is the limit
    if engine[0] == "podman":
        arguments += ["--read-only-tmpfs=false", "--http-proxy=false"]
    if capped:
        memory = str(limits.memory_bytes + limits.memory_bytes // 8)  # above, so that the supervisor tells the reason
        arguments += ["--pids-limit", str(limits.most_tasks), "--cpus", str(limits.cpus)]
        arguments += ["--memory", memory, "--memory-swap", memory]
    return arguments


def _call(engine: Engine, *arguments: str, seconds: float = _SECONDS) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            [*engine, *arguments],
            capture_output=True,
            text=True,
            timeout=seconds,
            stdin=subprocess.DEVNULL,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise Unavailable(f"{engine[0]} {arguments[0]} did not answer within {seconds:.0f} s: is it hung?") from error


def _close_if_open(fd: int) -> None:
    try:
        os.close(fd)
    except OSError:
        return
