"""Attacks on a sandbox, each a program in Python with what must come of it; and a main that makes one in this process.

Run as a program so that it can be started as another user: it needs the standard library and polyshare.jobs only.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from polyshare.jobs import bubblewrap
from polyshare.jobs.job import Limits
from polyshare.jobs.sandbox import Mount, Prepared, Run

MIB = 1024**2
LIMITS = Limits(
    memory_bytes=300 * MIB, processes=60, wall_seconds=20, disk_bytes=64 * MIB, files=1000, log_bytes=200_000
)


@dataclass(frozen=True)
class Attack:
    """`status` is how the run must end; a program that is done must have found itself contained."""

    program: str
    status: str
    says: str = ""
    limits: Limits = LIMITS


@dataclass(frozen=True)
class Ended:
    status: str
    reason: str
    log: str
    seconds: float
    written: int  # bytes that it got onto the disk
    peak_memory: int


def denied(*lines: str) -> str:
    """A program in which each of these must raise."""
    tried = "\n".join(
        f"try:\n    {line}\nexcept (OSError, AttributeError) as error: print(error)\n"
        f"else: raise SystemExit('line {number} went through')"
        for number, line in enumerate(lines)
    )
    return f"import os, socket, ctypes\n{tried}"


CALLS = """
import ctypes, errno
libc = ctypes.CDLL(None, use_errno=True)
def refused(name, *arguments):
    result = getattr(libc, name)(*arguments)
    assert result == -1, name
    print(name, errno.errorcode[ctypes.get_errno()])
refused("unshare", 0x10000000)
refused("unshare", 0x20000)
refused("mount", b"none", b"/tmp", b"tmpfs", 0, None)
refused("umount2", b"/usr", 2)
refused("ptrace", 16, 1, None, None)
refused("setns", 0, 0)
refused("memfd_create", b"x", 0)
refused("shmget", 0, 4096, 0o1600)
"""

ATTACKS = {
    "network": Attack(
        denied(
            "socket.create_connection(('192.0.2.1', 80), 3)",
            "socket.create_connection(('127.0.0.1', {port}), 3)",
            "socket.getaddrinfo('example.org', 80)",
            "socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)",
            "socket.socket(socket.AF_UNIX).connect('\\0{abstract}')",
            "socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)",
        ),
        "done",
    ),
    "secrets": Attack(
        denied("open({secret!r}).read()", "os.listdir(os.path.dirname({secret!r}))", "open('/etc/shadow').read()")
        + "\nassert 'root' not in open('/etc/passwd').read() and '{token}' not in str(dict(os.environ))\n"
        "import glob\n"
        "for name in glob.glob('/proc/*/environ'):\n"
        "    try: assert b'{token}' not in open(name, 'rb').read(), name\n"
        "    except OSError: pass\n"
        "pids = [n for n in os.listdir('/proc') if n.isdigit()]\n"
        "assert len(pids) <= 3, pids",
        "done",
    ),
    "host files": Attack(
        "import os, sys\nfor name in ('/root', '/work', '/var', '/sys', '/run', '/boot', '/srv', '/mnt', '/home'):\n"
        "    there = os.listdir(name) if os.path.exists(name) else []\n"
        "    there = [n for n in there if not sys.base_prefix.startswith(name + '/' + n) and n != 'job']\n"
        "    assert not there, (name, there)",
        "done",
    ),
    "writing elsewhere": Attack(
        denied(
            "open('/usr/x', 'w')",
            "open('/x', 'w')",
            "open('/etc/x', 'w')",
            "open('/opt/ml/input/x', 'w')",
            "open('/dev/x', 'w')",
            "open('/proc/sys/kernel/hostname', 'w').write('x')",
            "os.chmod('/opt/ml/input/given', 0o777)",
            "open('/proc/sysrq-trigger', 'w').write('c')",
        )
        + "\nopen('/tmp/fine', 'w').write('x'); open(os.environ['HOME'] + '/fine', 'w').write('x')",
        "done",
    ),
    "powers": Attack(
        CALLS + "import os\nstatus = open('/proc/self/status').read()\n"
        "assert 'CapEff:\\t0000000000000000' in status and 'NoNewPrivs:\\t1' in status and os.getuid() != 0\n"
        "assert sorted(os.listdir('/proc/self/fd')) == ['0', '1', '2', '3']\n"
        "try: os.setuid(0)\nexcept OSError: pass\nelse: raise SystemExit('root')",
        "done",
    ),
    "other cores": Attack(
        "import os\ntry: os.sched_setaffinity(0, range(64))\nexcept PermissionError: pass\n"
        "assert os.nice(0) >= 10\ntry: os.nice(-10)\nexcept PermissionError: pass\nelse: raise SystemExit('not nice')",
        "done",
    ),
    "fork bomb": Attack(
        "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass", "processes", "the limit is 60"
    ),
    "threads without end": Attack(
        "import threading, time\nwhile True:\n    try: threading.Thread(target=time.sleep, args=(60,)).start()\n"
        "    except RuntimeError: time.sleep(.01)",
        "processes",
    ),
    "memory": Attack("b = []\nwhile True: b.append(bytearray(8 << 20))", "memory", "the limit is 300 MiB"),
    "memory of many": Attack(
        "import os, time\nfor i in range(20):\n    if not os.fork():\n        b = bytearray(32 << 20); time.sleep(60)\n"
        "time.sleep(60)",
        "memory",
    ),
    "memory in shm": Attack(
        "import time\ntry:\n    for i in range(30): open(f'/dev/shm/{i}', 'wb').write(bytes(16 << 20))\n"
        "except OSError: pass\ntime.sleep(60)",
        "memory",
    ),
    "a huge file": Attack(
        "import time\nf = open('/opt/ml/model/x', 'wb')\ntry:\n    while True: f.write(bytes(1 << 20)); f.flush()\n"
        "except OSError: time.sleep(60)",
        "disk",
        "64 MiB",
    ),
    "many large files": Attack(
        "for i in range(100): open(f'/tmp/{i}', 'wb').write(bytes(8 << 20))\nimport time; time.sleep(60)", "disk"
    ),
    "sparse files": Attack(
        "for i in range(4): open(f'/opt/ml/model/{i}', 'wb').truncate(60 << 20)\nimport time; time.sleep(60)", "disk"
    ),
    "deleted files": Attack(
        "import os, time\nkept = []\nfor i in range(40):\n    f = open(f'/opt/ml/model/{i}', 'wb'); os.unlink(f.name)\n"
        "    f.write(os.urandom(4 << 20)); f.flush(); kept.append(f)\ntime.sleep(60)",
        "disk",
    ),
    "a million files": Attack("i = 0\nwhile True:\n    open(f'/opt/ml/model/{i}', 'w').close(); i += 1", "files"),
    "folders without end": Attack(
        "import os, time\nos.chdir('/opt/ml/model')\nfor i in range(300): os.mkdir('d'); os.chdir('d')\ntime.sleep(60)",
        "files",
        "deeper",
    ),
    "a closed folder": Attack(
        "import os, time\nos.mkdir('/opt/ml/model/d'); open('/opt/ml/model/d/x', 'wb').write(bytes(32 << 20))\n"
        "open('/opt/ml/model/d/y', 'wb').write(bytes(40 << 20)); os.chmod('/opt/ml/model/d', 0)\ntime.sleep(60)",
        "disk|files",
    ),
    "never ending": Attack(
        "import signal, time\nfor n in range(1, 64):\n"
        "    try: signal.signal(n, signal.SIG_IGN)\n    except (OSError, ValueError): pass\n"
        "while True: time.sleep(1)",
        "time",
        "2 s",
        Limits(wall_seconds=2),
    ),
    "printing without end": Attack(
        "while True: print('x' * 1000)", "time", "", Limits(wall_seconds=2, log_bytes=200_000)
    ),
    "staying behind": Attack(
        "import os, time\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n"
        "        for i in range(600): open('/opt/ml/model/alive', 'a').write('x'); time.sleep(.1)\ntime.sleep(.5)",
        "done",
    ),
    "killing its keeper": Attack(
        "import os, signal\nfor pid in (0, 1, -1):\n    try: os.kill(pid, 0)\n    except OSError: pass\n"
        "for pid in range(2, 40000):\n    if pid != os.getpid():\n"
        "        try: os.kill(pid, 9)\n        except OSError: pass\n"
        "print('still here')",
        "done",
        "",
    ),
}


def bare() -> Prepared:
    """This interpreter without packages."""
    return Prepared("uv:bare", bubblewrap.python_mounts(), sys.executable)


def attack(name: str, replace: dict[str, str], folder: Path) -> Ended:
    """Make one attack in the sandbox that this machine and user have."""
    chosen = ATTACKS[name]
    program = chosen.program
    for key, value in replace.items():
        program = program.replace(f"{{{key}!r}}", repr(value)).replace(f"{{{key}}}", value)
    model, given = folder / "model", folder / "input"
    model.mkdir()
    given.mkdir()
    (given / "given").write_text("registered")
    command = (os.path.realpath(sys.executable), "-I", "-c", program)
    mounts = (Mount(model, "/opt/ml/model", True), Mount(given, "/opt/ml/input"))
    log = folder / "run.log"
    run = Run(bare(), command, mounts, {"HOME": "/home/job"}, chosen.limits, log)
    finished = bubblewrap.probe().run(run)
    written = sum(file.stat().st_blocks * 512 for file in model.rglob("*") if file.is_file())
    text = log.read_text(errors="replace")
    return Ended(finished.status, finished.reason, text, finished.seconds, written, finished.peak_memory)


def main() -> None:
    """`sandbox_attacks.py NAME REPLACEMENTS`: one attack, its end as JSON."""
    os.umask(0o077)
    with tempfile.TemporaryDirectory() as folder:
        ended = attack(sys.argv[1], json.loads(sys.argv[2]), Path(folder))
        json.dump(asdict(ended), sys.stdout)


if __name__ == "__main__":
    main()
