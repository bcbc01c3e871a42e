"""Pinned environments: `uv:<name>` is a hash-locked Python environment, `oci:<image>` a container image by digest.

A `uv:` environment is a folder of infra/images with its lock and its programs; its digest stands for all of them.
"""

from __future__ import annotations

import hashlib
import importlib.resources
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path

import rfc8785

from polyshare.errors import Invalid, Mismatch, NotFound, Unavailable
from polyshare.jobs import bubblewrap, container, registry, scratch
from polyshare.jobs.sandbox import ENVIRONMENT, PROGRAMS, Mount, Prepared, Wheel, unheard

LOCK = "requirements.txt"
SHARED = "programs.txt"  # names folders beside this one whose programs the environment has too, one a line
WHEELS = "wheels.json"  # put in an installed environment last
_INSTALL_SECONDS = 1800
_SPARE_BYTES = 64 * 1024**2  # less left after an installation: CPython cuts bytecode silently when a disk is full
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,62}[a-z0-9])?")
_IMAGE = re.compile(  # the grammar of distribution/reference, of hosts and names in lower case
    r"[a-z0-9][a-z0-9._-]*(:[0-9]{1,5}(?=/))?(/[a-z0-9][a-z0-9._-]*)*(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?"
    r"(@sha256:[0-9a-f]{64})?"
)
_PINNED = re.compile(r"(uv|oci):([^@]+)@sha256:([0-9a-f]{64})")


def resolve(reference: str, registries: str | None = None) -> str:
    """Pin an environment: `uv:sklearn` → `uv:sklearn@sha256:…`, and the like for `oci:` images' tags.

    Tags are resolved by this machine's container engine; where `registries` is given, by their registry (registry.py),
    without one. Raises Invalid if it is no reference, NotFound if there is no such environment, Unavailable where a tag
    can't be resolved now.
    """
    kind, colon, rest = reference.partition(":")
    if not colon or kind not in ("uv", "oci") or not rest or len(reference) > 500 or not reference.isprintable():
        raise Invalid(f"{reference[:200]!r} is not an environment: write uv:<name> (such as uv:sklearn) or oci:<image>")
    if kind == "uv":
        name, _, pinned = rest.partition("@")
        now = f"uv:{name}@sha256:{folder_digest(environment_folder(name)).hex()}"
        if pinned and reference != now:
            raise NotFound(f"{reference} is not what this installation has: it has {now}")
        return now
    if not _IMAGE.fullmatch(rest):  # neither an option of the engine's, nor a file of this machine's
        raise Invalid(f"{reference[:200]!r} does not name an image: write oci:registry/name:tag or …@sha256:<digest>")
    if _PINNED.fullmatch(reference):
        return reference
    if registries is None:
        return container.resolve(reference)
    digest = registry.resolve(rest, [entry.strip() for entry in registries.split(",") if entry.strip()])
    name, slash, last = rest.rpartition("/")
    return f"oci:{name}{slash}{last.partition(':')[0]}@{digest}"


def digest_of(reference: str) -> bytes:
    """The 32 bytes by which an environment is pinned; raises Invalid if it isn't."""
    pinned = _PINNED.fullmatch(reference)
    if pinned is None:
        raise Invalid(f"{reference[:200]!r} is not pinned by its digest")
    return bytes.fromhex(pinned[3])


def environment_folder(name: str) -> Path:
    """The folder of `uv:<name>`: infra/images/<name> or …/trainer-<name>. Raises NotFound naming what there is."""
    if _NAME.fullmatch(name):
        for folder in (_root() / name, _root() / f"trainer-{name}"):
            if (folder / LOCK).is_file():
                return folder
    there = ", ".join(f"uv:{known}" for known in names())
    raise NotFound(f"there is no environment uv:{name[:100]}; there are {there or 'none'}")


def names() -> list[str]:
    """Of all `uv:` environments that this installation has."""
    return sorted(lock.parent.name.removeprefix("trainer-") for lock in _root().glob(f"*/{LOCK}"))


def home_of(cache: Path, name: str, digest: str) -> Path:
    """Where an environment is installed; it is there when its WHEELS is."""
    return cache / f"{name}-{digest[:32]}-{_python_tag()}"


def folder_digest(folder: Path) -> bytes:
    """sha256 of the RFC 8785 form of the sorted list of the folder's files that matter and their SHA-256, 32 bytes."""
    listed = [{"path": name, "sha256": hashlib.sha256(data).hexdigest()} for name, data in _files(folder)]
    return hashlib.sha256(rfc8785.dumps(listed)).digest()


def prepare(reference: str, cache: Path, progress: Callable[[str], None] = unheard) -> Prepared:
    """Make a pinned environment ready on this machine, from the cache if it is there.

    Wheels only, each with the hash that the lock names, so no code of a package runs at installation. Raises Mismatch
    if the digest is not what this installation has, Unavailable if packages or image can't be fetched.
    """
    pinned = _PINNED.fullmatch(reference)
    if pinned is None:
        raise Invalid(f"{reference[:200]!r} is not pinned: resolve it first")
    kind, name, digest = pinned.groups()
    if kind == "oci":
        return container.prepare(reference, progress)
    folder = environment_folder(name)
    if folder_digest(folder).hex() != digest:
        here = resolve(f"uv:{name}")
        raise Mismatch(f"{reference} is not what this installation has, {here}: install the release that has it")
    home = home_of(cache, name, digest)
    if not (home / WHEELS).is_file():
        _install(folder, home, progress)
    wheels = tuple(Wheel(**item) for item in json.loads((home / WHEELS).read_bytes()))
    programs = home / "programs"
    mounts = (*bubblewrap.python_mounts(), Mount(home / "venv", ENVIRONMENT), Mount(programs, PROGRAMS))
    return Prepared(reference, mounts, programs=programs, wheels=wheels)


def machine_class(threads: int) -> dict[str, str]:
    """The environment class of this machine: results are compared within one class only."""
    return {
        "architecture": platform.machine(),
        "cpu": _cpu_level(),
        "threads": str(threads),
        "accelerator": "none",
        "driver": "none",
        "python": platform.python_version(),
        "libc": "-".join(platform.libc_ver()),
    }


def _root() -> Path:
    packaged = Path(str(importlib.resources.files("polyshare"))) / "images"
    return packaged if packaged.is_dir() else packaged.parents[2] / "infra" / "images"


def _files(folder: Path) -> list[tuple[str, bytes]]:
    """What a run of the environment can see: its lock and programs, not its notes or the recipe of its image.

    Programs of other folders, which SHARED names, come first: a program of the same name in `folder` takes their place.
    """
    shared = folder / SHARED
    names = shared.read_text("utf-8").split() if shared.is_file() else []
    found = {path.name: path for one in (*names, folder.name) for path in (folder.parent / one).glob("*.py")}
    found[LOCK] = folder / LOCK
    return [(name, path.read_bytes()) for name, path in sorted(found.items())]


def _install(folder: Path, home: Path, progress: Callable[[str], None]) -> None:
    home.parent.mkdir(parents=True, exist_ok=True)
    progress(f"installing {folder.name}")
    building = Path(tempfile.mkdtemp(prefix=".building-", dir=home.parent))
    try:
        building.chmod(0o755)
        programs = building / "programs"
        programs.mkdir()
        for name, data in _files(folder):
            (programs / name).write_bytes(data)
        base = os.path.realpath(sys.executable)
        _uv(["venv", "--quiet", "--python", base, "--no-project", str(building / "venv")])
        sync = ["pip", "sync", "--require-hashes", "--only-binary", ":all:", "--link-mode", "copy"]
        python = building / "venv" / "bin" / "python"
        _uv([*sync, "--compile-bytecode", "--python", str(python), str(programs / LOCK)], progress)
        wheels = _wheels(next((building / "venv" / "lib").glob("python*")) / "site-packages")
        (building / WHEELS).write_text(json.dumps(wheels))
        _readable(building)
        if shutil.disk_usage(building).free < _SPARE_BYTES:
            raise Unavailable(f"the disk of {home.parent} is full: free some space, then try again")
        os.sync()  # what has its name is trusted for ever, also after a power loss
        try:
            building.rename(home)
        except OSError:
            if not (home / WHEELS).is_file():
                raise
            scratch.remove(building)  # another process was first
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise


def _uv(arguments: list[str], progress: Callable[[str], None] = unheard) -> None:
    """Run uv, and tell what it prints: which larger packages are on their way and there, and how many in all."""
    uv = Path(sysconfig.get_path("scripts")) / "uv"
    found = str(uv) if uv.exists() else shutil.which("uv")
    if found is None:
        raise Unavailable("uv is not installed: install polyshare with its extra 'embedded'")
    environ = {"UV_SYSTEM_CERTS": "1", **os.environ}  # the machine's own store of certificates, as pip does
    environ |= {"SOURCE_DATE_EPOCH": "315532800", "PYC_INVALIDATION_MODE": "UNCHECKED_HASH"}
    said: deque[str] = deque(maxlen=20)
    with subprocess.Popen(
        [found, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environ
    ) as process:
        assert process.stderr is not None
        timer = threading.Timer(_INSTALL_SECONDS, process.kill)
        timer.start()
        try:
            for line in process.stderr:
                said.append(line.strip())
                if not said[-1].startswith("+ "):  # a line for each package
                    progress(said[-1])
        finally:
            timer.cancel()
    if process.returncode == -signal.SIGKILL:
        raise Unavailable(f"installing an environment took over {_INSTALL_SECONDS} s: is the index slow?")
    if process.returncode:
        raise Unavailable(f"installing an environment failed: {' '.join(said)[-600:]}", retry_after=15)


def _wheels(packages: Path) -> list[dict[str, str]]:
    """What is installed. Its hash is over its RECORD's rows, but those that the installer adds or adapts to the folder.

    So it is the same wherever the same wheel is installed (core metadata and RECORD: packaging.python.org).
    """
    wheels = []
    for info in packages.glob("*.dist-info"):
        name, _, version = info.name.removesuffix(".dist-info").partition("-")
        rows = (info / "RECORD").read_text(encoding="utf-8").splitlines()
        added = ("RECORD", "INSTALLER", "REQUESTED", "direct_url.json", "uv_cache.json")
        own = {f"{info.name}/{file}" for file in added}
        kept = sorted(
            row for row in rows if not row.startswith("../") and ".pyc," not in row and row.split(",")[0] not in own
        )
        digest = hashlib.sha256("\n".join(kept).encode()).hexdigest()
        wheels.append({"name": re.sub(r"[-_.]+", "-", name).lower(), "version": version, "sha256": digest})
    return sorted(wheels, key=lambda wheel: wheel["name"])


def _readable(folder: Path) -> None:
    """Whatever our umask is, the uid inside can read it."""
    for base, _, files in os.walk(folder):
        os.chmod(base, 0o755)  # noqa: S103
        for name in files:
            path = os.path.join(base, name)
            if not os.path.islink(path):
                os.chmod(path, 0o755 if os.access(path, os.X_OK) else 0o644)


def _python_tag() -> str:
    return f"{sys.implementation.cache_tag}-{hashlib.sha256(os.path.realpath(sys.executable).encode()).hexdigest()[:8]}"


def _cpu_level() -> str:
    """The psABI's level on x86-64 (x86-64-v1 … v4), else the architecture: numeric libraries choose code by it."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.machine()
    flags = set(next((line.partition(":")[2].split() for line in text.splitlines() if line.startswith("flags")), ()))
    if platform.machine() != "x86_64":
        return platform.machine()
    needs = [
        {"cx16", "lahf_lm", "popcnt", "pni", "sse4_1", "sse4_2", "ssse3"},
        {"avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe", "xsave"},
        {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"},
    ]
    level = 1
    for wanted in needs:
        if not wanted <= flags:
            break
        level += 1
    return f"x86-64-v{level}"
