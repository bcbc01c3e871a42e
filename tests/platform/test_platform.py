"""A user's whole way on a cluster, what it costs, and what is left when its parts are killed. In this order."""

from __future__ import annotations

import json
import os
import random
import statistics
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest

from polyshare.api import InboxCredentials
from polyshare.errors import Unavailable
from polyshare.jobs import environment
from tests.cluster.environments import _CACHE
from tests.cluster.world import ROOT, wait
from tests.faults.load import s3
from tests.platform.deployment import NAMESPACE, Deployment, domain, kill, pods
from tests.platform.figures import Figures
from tests.platform.user import User

TRAINER = ROOT / "tests/cluster/trainer.py"
REGISTRATIONS = 50
SECONDS = 20.0  # that each rate is measured for
T = TypeVar("T")


@pytest.fixture(scope="module")
def image(deployment: Deployment) -> str:
    """Somebody else's training image: `train` on its own PATH, no entry point, and root as its user."""
    config = {"Env": ["PATH=/opt/program:/usr/local/bin:/usr/bin:/bin"], "WorkingDir": "/opt/program", "User": "root"}
    base = os.environ.get("POLYSHARE_TEST_BASE", "python3:base")
    deployment.registry.push("polyshare/trainer:test", base, {"/opt/program/train": TRAINER.read_bytes()}, config)
    return f"oci:{deployment.registry.host}/polyshare/trainer:test"


def test_a_second_plan_is_empty(deployment: Deployment) -> None:
    assert deployment.is_as_planned()


def test_doctor_finds_every_function_trigger_and_node_well(user: User) -> None:
    given = {name: os.environ[name] for name in ("KUBECONFIG", "PATH")}
    command = ("doctor", "--cluster", "--namespace", NAMESPACE, "--json")
    findings = json.loads(user.polyshare(*command, expect=None, environ=given).stdout)
    wrong = [found for found in findings["findings"] if not found["well"] and not found["what"].startswith("bucket")]
    assert not wrong, wrong


def test_dataset_to_verified_onnx(user: User, figures: Figures) -> None:
    """The demo's path."""
    prepared = environment.prepare(environment.resolve("uv:sklearn"), _CACHE)
    assert prepared.programs is not None
    python = prepared.programs.parent / "venv/bin/python"
    subprocess.run([python, ROOT / "demo/export_digits.py", user.home], check=True, timeout=120)
    started = time.monotonic()
    user.polyshare("dataset", "add", "digits", "--name", "digits", "--meta", "licence=CC BY 4.0")
    wait(lambda: user.status("acme/digits").get("anchored"), 120)
    figures.tell("dataset registered and on the chain, s", f"{time.monotonic() - started:.1f}")
    assert user.verified("acme/digits")["anchored"]
    started = time.monotonic()
    train = ("model", "add", "--dataset", "acme/digits", "--image", "uv:sklearn", "--name", "forest")
    user.polyshare(*train, "--param", "estimator=random_forest", "--param", "n_estimators=50")
    status = user.until("acme/forest", "trained", "failed")
    assert status["state"] == "trained", status
    figures.tell("model registered until trained by Argo, s", f"{time.monotonic() - started:.0f}")
    user.verified("acme/forest")
    translation = wait(lambda: user.status("acme/forest").get("translation"), 120)
    status = user.until(translation, "translated", "failed")
    assert status["state"] == "translated", status
    figures.tell("model registered until translated to ONNX, s", f"{time.monotonic() - started:.0f}")
    wait(lambda: user.status(translation).get("result_anchored"), 120)
    user.verified(translation)
    flipped = user.home / "fetched-acme-forest/model.skops"
    data = bytearray(flipped.read_bytes())
    data[1000] ^= 1
    flipped.write_bytes(data)
    user.polyshare("verify", str(flipped.parent), expect=1)


def test_files_put_in_the_inbox_become_a_dataset(user: User, figures: Figures) -> None:
    """By the organisation's own key; SeaweedFS's notification wakes the function before sweep looks."""
    key = InboxCredentials(**user.json("inbox", "credentials"))
    assert key.session_token
    client = s3(key)
    client.put_object(Bucket=key.bucket, Key="acme/dropped/train/a.csv", Body=b"1,2\n" * 100)
    client.put_object(Bucket=key.bucket, Key="acme/dropped/dataset.json", Body=b'{"metadata": {"licence": "MIT"}}')
    started = time.monotonic()

    def told() -> dict[str, Any]:
        try:
            answer = client.get_object(Bucket=key.bucket, Key="acme/dropped/polyshare.status.json")
        except client.exceptions.NoSuchKey:
            return {}
        return dict(json.loads(answer["Body"].read()))

    wait(told, 60)
    figures.tell("dropped in the inbox until it is taken up, s", f"{time.monotonic() - started:.1f}")
    wait(lambda: told().get("state") in ("registered", "failed", "refused"), 300)
    assert told()["state"] == "registered", told()
    user.verified("acme/dropped")
    with pytest.raises(client.exceptions.ClientError):
        client.put_object(Bucket=key.bucket, Key="other/dropped/a.csv", Body=b"")


def test_somebody_elses_image_runs_unchanged_and_one_that_insists_on_root_is_refused(user: User, image: str) -> None:
    train = ("model", "add", "--dataset", "acme/dropped", "--image", image, "--no-translate")
    user.polyshare(*train, "--name", "theirs", "--param", "depth=3")
    user.polyshare(*train, "--name", "root", "--param", 'mode="root"')
    status = user.until("acme/theirs", "trained", "failed")
    assert status["state"] == "trained", status
    user.verified("acme/theirs")
    model = json.loads((user.home / "fetched-acme-theirs/model.json").read_bytes())
    assert model == {"rows": 100, "depth": 3, "hps": {"depth": 3}}
    status = user.until("acme/root", "trained", "failed")
    assert status["state"] == "failed"
    assert "this image must run as root" in status["reason"]
    assert "Runs are never root" in status["reason"]


def test_a_function_at_zero_answers_when_it_is_asked(user: User, figures: Figures) -> None:
    wait(lambda: not pods("serving.knative.dev/service=govern"), 300)
    times = []
    started = time.monotonic()
    answer = httpx.get(f"http://govern.{NAMESPACE}.{domain()}/healthz", timeout=120, trust_env=False)
    figures.tell("from zero instances to the first answer, s", f"{time.monotonic() - started:.1f}")
    assert answer.status_code == 200
    with user.client() as client:
        for _ in range(100):
            started = time.monotonic()
            client.list(limit=10)
            times.append(1000 * (time.monotonic() - started))
    times.sort()
    figures.tell(
        "a warm catalogue's listing through the ingress, ms: median, p95",
        f"{statistics.median(times):.0f}, {times[94]:.0f}",
    )


@pytest.mark.parametrize("clients", [1, 2, 4])
def test_what_clients_register_is_anchored(user: User, figures: Figures, clients: int) -> None:
    ids: list[str] = []
    ends = time.monotonic() + SECONDS
    started = time.monotonic()

    def register(number: int) -> None:
        with user.client() as client:
            step = 0
            while time.monotonic() < ends:
                file = small(user.home / f"rate-{clients}/{number}-{step}")
                ids.append(again(lambda file=file: client.add_dataset(file)).id)  # type: ignore[misc]
                step += 1

    together(register, clients)
    registered = len(ids) / (time.monotonic() - started)
    anchored(user, ids)
    rate = len(ids) / (time.monotonic() - started)
    what = f"{clients} client{'s' * (clients > 1)}: registrations a minute; records anchored a second"
    figures.tell(what, f"{60 * registered:.0f}; {rate:.1f}")


def test_nothing_is_lost_or_doubled_when_pods_are_killed(user: User, image: str, figures: Figures) -> None:
    """Functions, Argo's controller, a validator and the database go, one every few seconds, under 50 registrations."""
    chance = random.Random(1)
    over = threading.Event()
    killed: list[str] = []

    def chaos() -> None:
        selectors = ["serving.knative.dev/service=register-dataset", "serving.knative.dev/service=anchor"]
        selectors += ["statefulset.kubernetes.io/pod-name=validator-0", "app=postgres"]
        while not over.wait(4):
            if len(killed) % 5 == 4:
                kill(pods("app=workflow-controller", "argo")[0], "argo")
                killed.append("workflow-controller")
            else:
                found = pods(selectors[len(killed) % 5])
                if found:
                    kill(chance.choice(found))
                killed.append(found[0].partition("-0000")[0] if found else "none")

    before = records(user)
    user.polyshare(
        "model",
        "add",
        "--dataset",
        "acme/dropped",
        "--image",
        image,
        "--no-translate",
        "--name",
        "survivor",
        "--param",
        "seconds=30",
    )
    killer = threading.Thread(target=chaos)
    killer.start()
    ids: dict[str, str] = {}

    def register(number: int) -> None:
        with user.client() as client:
            for name in (f"kept-{i}" for i in range(number, REGISTRATIONS, 4)):
                file = small(user.home / name)
                ids[name] = again(lambda file=file, name=name: client.add_dataset(file, name=name)).id  # type: ignore[misc]
                time.sleep(1)

    try:
        together(register, 4)
        wait(lambda: len(killed) >= 10, 120)
    finally:
        over.set()
        killer.join()
    figures.tell("killed under 50 registrations", ", ".join(killed))
    started = time.monotonic()
    anchored(user, list(ids.values()), 600)
    figures.tell("after the last kill until all of them are on the chain, s", f"{time.monotonic() - started:.0f}")
    assert len(ids) == len(set(ids.values())) == REGISTRATIONS
    status = user.until("acme/survivor", "trained", "failed", seconds=900)
    assert status["state"] == "trained", status
    with user.client() as client:
        for name, asset in ids.items():
            assert [(found.id, found.version) for found in client.list(name=name).assets] == [(asset, 1)]
        for asset in chance.sample(sorted(ids.values()), 5):
            user.verified(asset)
    wait(lambda: records(user) == before + REGISTRATIONS + 1, 120, lambda: f"{records(user)} records, {before} before")


def small(file: Path) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(os.urandom(64))
    return file


def again(act: Callable[[], T], seconds: float = 600) -> T:
    """A client that takes "unavailable" for "later", and nothing else."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return act()
        except Unavailable:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)


def together(act: Callable[[int], None], count: int) -> None:
    problems: list[BaseException] = []

    def guarded(number: int) -> None:
        try:
            act(number)
        except BaseException as error:
            problems.append(error)

    threads = [threading.Thread(target=guarded, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if problems:
        raise AssertionError(f"{len(problems)} of {count} clients failed: {problems[0]!r}") from problems[0]


def anchored(user: User, ids: list[str], seconds: float = 300) -> None:
    left = list(ids)
    deadline = time.monotonic() + seconds
    with user.client() as client:
        while left:
            if again(lambda: client.status(left[-1])).anchored:
                left.pop()
            else:
                assert time.monotonic() < deadline, f"{len(left)} of {len(ids)} are not on the chain"
                time.sleep(0.2)


def records(user: User) -> int:
    """That the registry on the chain has."""
    return int(user.json("ledger", "show")["records"])
