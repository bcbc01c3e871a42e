"""The sandbox of container images, on an image built here of one static program, so that no registry is needed."""

from __future__ import annotations

import functools
import shutil
import subprocess
from pathlib import Path

import pytest

from polyshare.errors import Invalid, NotFound, Unavailable
from polyshare.jobs import container, environment
from polyshare.jobs.job import Limits
from polyshare.jobs.sandbox import Finished, Mount, Prepared, Run

MIB = 1024**2
LIMITS = Limits(memory_bytes=200 * MIB, processes=40, wall_seconds=20, disk_bytes=64 * MIB, files=1000)
SCRIPT = "/opt/ml/input/run.sh"


@functools.cache
def image() -> str:
    """An image with busybox, its entry point a script that is mounted; built once."""
    try:
        engine = container.probe().engine
    except Unavailable as error:
        pytest.skip(error.message)
    busybox = shutil.which("busybox")
    if busybox is None or b"statically" not in subprocess.run(["file", "-L", busybox], capture_output=True).stdout:
        pytest.skip("no static busybox to build an image of: install busybox-static")
    folder = Path(busybox).parent
    recipe = f'FROM scratch\nCOPY busybox /bin/busybox\nENTRYPOINT ["/bin/busybox", "sh", "{SCRIPT}"]\n'
    built = subprocess.run(
        [*engine[:1], "build", "-q", "-t", "polyshare-test:1", "-f", "-", str(folder)],
        input=recipe,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    return "oci:localhost/polyshare-test:1"


def prepared(tmp_path: Path) -> Prepared:
    return environment.prepare(environment.resolve(image()), tmp_path)


def run(tmp_path: Path, script: str, limits: Limits = LIMITS) -> tuple[Finished, str]:
    ready = prepared(tmp_path)
    model, given = tmp_path / "model", tmp_path / "input"
    model.mkdir()
    given.mkdir()
    (given / "run.sh").write_text("b=/bin/busybox\n" + script)
    mounts = (Mount(model, "/opt/ml/model", True), Mount(given, "/opt/ml/input"))
    log = tmp_path / "run.log"
    finished = container.probe("test").run(Run(ready, ("train",), mounts, {"SM_HP_X": "a b"}, limits, log))
    return finished, log.read_text(errors="replace")


def test_a_tag_is_pinned_by_its_digest_and_found_again(tmp_path: Path) -> None:
    pinned = environment.resolve(image())
    assert pinned.startswith("oci:localhost/polyshare-test@sha256:")
    assert environment.resolve(pinned) == pinned
    assert environment.prepare(pinned, tmp_path).image


def test_a_tag_that_nobody_has_is_refused() -> None:
    image()
    with pytest.raises(NotFound, match="can't be resolved"):
        environment.resolve("oci:localhost/polyshare-nothing:9")


def test_an_image_is_not_prepared_unpinned(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="not pinned"):
        environment.prepare("oci:localhost/polyshare-test:1", tmp_path)


def test_the_entry_point_runs_with_the_contracts_argument_mounts_and_variables(tmp_path: Path) -> None:
    finished, log = run(tmp_path, 'echo "arg $1 $SM_HP_X"; echo done > /opt/ml/model/m; $b id -u')
    assert finished.status == "done", log
    assert "arg train a b" in log
    assert log.split()[-1] != "0"
    assert (tmp_path / "model" / "m").read_text() == "done\n"


def test_network_root_file_system_inputs_and_powers_are_closed(tmp_path: Path) -> None:
    finished, log = run(
        tmp_path,
        """
$b wget -T 2 -q -O - http://192.0.2.1/ && echo ESCAPED
$b ip link | $b grep -v LOOPBACK | $b grep -q UP && echo ESCAPED
echo x > /x && echo ESCAPED
echo x > /opt/ml/input/run.sh && echo ESCAPED
$b mount -t tmpfs none /tmp && echo ESCAPED
$b grep CapEff /proc/self/status
$b grep NoNewPrivs /proc/self/status
echo fine > /tmp/x && echo fine > $HOME/x && echo scratch
""",
    )
    assert finished.status == "done", log
    assert "ESCAPED" not in log
    assert "CapEff:\t0000000000000000" in log
    assert "NoNewPrivs:\t1" in log
    assert "scratch" in log


@pytest.mark.parametrize(
    ("script", "status"),
    [
        ("(while true; do $b sleep 60 & done); while true; do $b sleep 1; done", "processes"),
        ('while true; do s=$s$s; [ -z "$s" ] && s=xxxxxxxxxxxxxxxx; done', "memory"),
        ("$b dd if=/dev/zero of=/opt/ml/model/x bs=1M count=500; $b sleep 60", "disk"),
        ("i=0; while true; do echo > /tmp/$i; i=$((i+1)); done", "files"),
    ],
)
def test_what_goes_over_a_limit_is_stopped_and_named(tmp_path: Path, script: str, status: str) -> None:
    finished, log = run(tmp_path, script)
    assert finished.status == status, f"{finished.reason}\n{log}"


def test_a_run_that_never_ends_is_stopped_and_nothing_is_left(tmp_path: Path) -> None:
    finished, _ = run(tmp_path, "trap '' 1 2 3 15; while true; do $b sleep 1; done", Limits(wall_seconds=2))
    assert finished.status == "time"
    engine = container.probe().engine
    left = subprocess.run([*engine[:1], "ps", "-aq", "--filter", "label=polyshare.job=test"], capture_output=True)
    assert left.stdout == b""


def test_containers_of_a_killed_runner_are_removed_by_the_next(tmp_path: Path) -> None:
    image()
    engine = container.probe().engine
    (tmp_path / "run.sh").write_text("/bin/busybox sleep 60")
    command = [*engine, "run", "-d", "--network=none", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=4096:4096"]
    command += ["--label", "polyshare.job=killed", "-v", f"{tmp_path}:/opt/ml/input:ro", "localhost/polyshare-test:1"]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    container.remove_leftovers("killed")
    left = subprocess.run([*engine[:1], "ps", "-aq", "--filter", "label=polyshare.job=killed"], capture_output=True)
    assert left.stdout == b""
