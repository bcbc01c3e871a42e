"""The steps against a small platform over real HTTP, in the real sandbox."""

from __future__ import annotations

import json
import time
from pathlib import Path

import httpx
import pytest

from polyshare.errors import Unavailable
from polyshare.jobs import environment
from polyshare.jobs.job import Job
from polyshare.jobs.record import comparable
from polyshare.jobs.sandbox import Sandbox
from polyshare.jobs.steps import Place, perform
from tests.unit.jobs.platform import Platform

CSV = b"a,b,kind\n" + b"".join(b"%d,%d,%d\n" % (i, i * i % 7, i % 2) for i in range(60))


def sklearn() -> str:
    return environment.resolve("uv:sklearn")


def another(place: Place, name: str) -> Place:
    work = place.work.parent / name
    work.mkdir()
    return Place(work, place.cache)


def test_an_ingest_copies_the_inbox_part_by_part(platform: Platform, client: httpx.Client, place: Place) -> None:
    big = bytes(range(256)) * 70_000  # two parts
    job = platform.add("ingest", {"inbox": {"big.bin": big, "small/x": b"", "y": b"1"}})
    perform(job, client, place)
    assert platform.completions[job.id]["outcome"] == "ingested"
    assert platform.result(job) == {"big.bin": big, "small/x": b"", "y": b"1"}


def test_an_object_changed_while_it_is_read_fails_the_ingest_by_its_name(
    platform: Platform, client: httpx.Client, place: Place
) -> None:
    job = platform.add("ingest", {"inbox": {"a.csv": b"old"}})
    platform.etags[f"in/{job.id}/inbox/a.csv"] = "another"
    perform(job, client, place)
    completion = platform.completions[job.id]
    assert (completion["outcome"], completion["reason"]) == ("failed", "object changed while it was read: a.csv")


def test_training_publishes_the_same_bytes_twice_with_its_record(
    platform: Platform, client: httpx.Client, place: Place
) -> None:
    data = {"train": {"d.csv": CSV}, "test": {"t.csv": CSV}}
    jobs = [platform.add("train", data, environment=sklearn(), parameters={"C": 0.5}) for _ in range(2)]
    for index, job in enumerate(jobs):
        perform(job, client, another(place, str(index)))
    first, second = (platform.completions[job.id] for job in jobs)
    assert first["outcome"] == "trained", first["reason"]
    assert platform.result(jobs[0]) == platform.result(jobs[1])
    assert comparable(first["run"]) == comparable(second["run"])
    assert first["metadata"]["framework"] == "sklearn"
    assert 0 <= first["metadata"]["metric_accuracy"] <= 1
    names = [item["name"] for item in first["run"]["predicate"]["buildDefinition"]["resolvedDependencies"]]
    assert names == ["train/d.csv", "test/t.csv", "uv:sklearn"]
    stages = [stage for stage, _ in platform.told[jobs[0].id]]
    assert list(dict.fromkeys(stages)) == ["preparing", "fetching", "running", "publishing"], "none is left out"
    assert stages == sorted(stages, key=["preparing", "fetching", "running", "publishing"].index)


def test_an_input_that_is_not_what_was_registered_is_never_run(
    platform: Platform, client: httpx.Client, place: Place
) -> None:
    job = platform.add("train", {"train": {"d.csv": CSV}}, environment=sklearn())
    platform.objects[f"in/{job.id}/train/d.csv"] = CSV[:-1] + b"9"
    perform(job, client, place)
    completion = platform.completions[job.id]
    assert completion["outcome"] == "failed"
    assert "train/d.csv is not what was registered" in completion["reason"]


def test_a_refusal_of_the_trainer_is_the_reason(platform: Platform, client: httpx.Client, place: Place) -> None:
    job = platform.add("train", {"train": {"d.csv": CSV}}, environment=sklearn(), parameters={"depth": 3})
    perform(job, client, place)
    assert "logistic_regression has no parameter 'depth'" in platform.completions[job.id]["reason"]


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("pass", "wrote no file to /opt/ml/model"),
        ("import os; os.symlink('/etc/passwd', '/opt/ml/model/m')", "'m' can't be published: it is a symbolic link"),
        ("import os; os.mkfifo('/opt/ml/model/m')", "'m' can't be published: it is a FIFO"),
        ("import os; os.mkfifo('/opt/ml/output/failure'); 1/0", "ZeroDivisionError"),
        ("open('/opt/ml/output/failure','w').write('no good data'); raise SystemExit(3)", "no good data"),
        ("import time; time.sleep(60)", "longer than its limit of 2 s"),
    ],
)
def test_what_goes_wrong_in_a_training_is_told_by_its_reason(
    platform: Platform, client: httpx.Client, place: Place, program: str, reason: str
) -> None:
    job = platform.add(
        "train", {"train": {"d": b"1"}, "code": {"train.py": program.encode()}}, environment=sklearn(), wall=2
    )
    perform(job, client, place)
    completion = platform.completions[job.id]
    assert completion["outcome"] == "failed"
    assert reason in completion["reason"]
    assert [item["path"] for item in completion["report"]] == ["run.log"]


def test_a_source_bundle_runs_under_the_container_contract(
    platform: Platform, client: httpx.Client, place: Place
) -> None:
    program = b"""
import json, os, sys
seen = {"argv": sys.argv[1:], "hps": json.load(open("/opt/ml/input/config/hyperparameters.json")),
        "train": sorted(os.listdir(os.environ["SM_CHANNEL_TRAIN"])), "cwd": os.getcwd(), "names": sorted(os.environ)}
json.dump(seen, open(os.path.join(os.environ["SM_MODEL_DIR"], "seen.json"), "w"))
"""
    code = {"main.py": program, "lib.py": b""}
    job = platform.add(
        "train", {"train": {"d": b"1"}, "code": code}, environment=sklearn(), program="main.py", parameters={"n": 2}
    )
    perform(job, client, place)
    seen = json.loads(platform.result(job)["seen.json"])
    assert seen["argv"] == ["train"]
    assert seen["hps"] == {"n": "2"}
    assert seen["train"] == ["d"]
    assert "secret" not in json.dumps(seen)


def test_a_cancelled_job_is_killed_and_tells_nothing(platform: Platform, client: httpx.Client, place: Place) -> None:
    code = {"train.py": b"import time\nwhile True: time.sleep(1)"}
    job = platform.add("train", {"train": {"d": b"1"}, "code": code}, environment=sklearn())
    started = time.monotonic()
    perform(job, client, place, cancelled=lambda: time.monotonic() - started > 1)
    assert time.monotonic() - started < 10
    assert job.id not in platform.completions


def test_a_job_cancelled_by_the_platform_is_killed(platform: Platform, client: httpx.Client, place: Place) -> None:
    code = {"train.py": b"import time\nwhile True: print('on', flush=True); time.sleep(.2)"}
    job = platform.add("train", {"train": {"d": b"1"}, "code": code}, environment=sklearn())
    started = time.monotonic()

    def look() -> bool:
        if time.monotonic() - started > 1:
            platform.cancelled.add(job.id)
        return False

    perform(job, client, place, cancelled=look)
    assert time.monotonic() - started < 15
    assert job.id not in platform.completions


def test_a_platform_that_is_down_for_a_moment_is_waited_for(
    platform: Platform, client: httpx.Client, place: Place
) -> None:
    job = platform.add("ingest", {"inbox": {"a": b"1"}})
    platform.down = 2
    perform(job, client, place)
    assert platform.completions[job.id]["outcome"] == "ingested"


def test_a_fenced_attempt_stops_quietly(platform: Platform, client: httpx.Client, place: Place) -> None:
    job = platform.add("ingest", {"inbox": {"a": b"1"}}, attempt=2)
    perform(Job(job.id, 1, "ingest", job.endpoint, job.token, job.deadline), client, place)
    assert platform.completions == {}


def test_where_no_sandbox_works_the_training_fails_saying_how_to_get_one(
    platform: Platform, client: httpx.Client, place: Place
) -> None:
    def none(reference: str) -> Sandbox:
        raise Unavailable("no sandbox works: install bubblewrap")

    job = platform.add("train", {"train": {"d.csv": CSV}}, environment=sklearn())
    perform(job, client, Place(place.work, place.cache, sandbox=none))
    assert "install bubblewrap" in platform.completions[job.id]["reason"]


def test_nothing_of_a_run_is_left_beside_its_folders(platform: Platform, client: httpx.Client, place: Place) -> None:
    job = platform.add("train", {"train": {"d": b"1"}, "code": {"train.py": b"pass"}}, environment=sklearn())
    perform(job, client, place)
    assert sorted(p.name for p in Path(place.work, "log").iterdir()) == ["run.log"]


@pytest.mark.slow
def test_a_trained_model_is_translated_with_its_certificate(
    platform: Platform, client: httpx.Client, place: Place
) -> None:
    training = platform.add("train", {"train": {"d.csv": CSV}}, environment=sklearn())
    perform(training, client, another(place, "training"))
    more = {"translate": {"opset": None}, "verifier": environment.resolve("uv:verify")}
    channels = {"model": platform.result(training), "test": {"t.csv": CSV}}
    job = platform.add(
        "translate", channels, environment=environment.resolve("uv:translator-sklearn"), wall=300, **more
    )
    perform(job, client, another(place, "translation"))
    completion = platform.completions[job.id]
    assert completion["outcome"] == "translated", completion["reason"]
    assert platform.result(job).keys() == {"model.onnx", "certificate.json"}
    wheels = {
        wheel["name"] for wheel in completion["run"]["predicate"]["buildDefinition"]["internalParameters"]["wheels"]
    }
    assert {"skl2onnx", "onnxruntime"} <= wheels


def test_the_framework_of_a_trained_model_is_what_its_files_are(
    platform: Platform, client: httpx.Client, place: Place
) -> None:
    program = b"open('/opt/ml/model/trees.txt', 'w').write('tree\\nversion=v4\\n')"
    job = platform.add("train", {"train": {"d": b"1"}, "code": {"train.py": program}}, environment=sklearn())
    perform(job, client, place)
    assert platform.completions[job.id]["metadata"]["framework"] == "lightgbm"


def test_a_model_of_another_framework_than_its_metadata_says_is_not_translated(
    platform: Platform, client: httpx.Client, place: Place
) -> None:
    job = platform.add(
        "translate",
        {"model": {"model.txt": b"tree\nversion=v4\n"}},
        environment=environment.resolve("uv:translator-sklearn"),
        verifier=environment.resolve("uv:verify"),
    )
    perform(job, client, place)
    assert "framework=lightgbm in its metadata" in platform.completions[job.id]["reason"]


def test_what_is_no_model_fails_its_translation_with_the_reason(
    platform: Platform, client: httpx.Client, place: Place
) -> None:
    job = platform.add(
        "translate", {"model": {"notes.txt": b"hello"}}, environment=environment.resolve("uv:translator-sklearn")
    )
    perform(job, client, place)
    completion = platform.completions[job.id]
    assert completion["outcome"] == "failed"
    assert "notes.txt" in completion["reason"]


def test_a_failed_translation_publishes_its_logs_as_its_report(
    platform: Platform, client: httpx.Client, place: Place
) -> None:
    pins = {"environment": environment.resolve("uv:translator-sklearn"), "verifier": environment.resolve("uv:verify")}
    model = {"model.pkl": b"\x80\x04csklearn.nothing\nEstimator\n."}
    job = platform.add("translate", {"model": model}, translate={"opset": None}, **pins)
    perform(job, client, place)
    completion = platform.completions[job.id]
    assert completion["outcome"] == "failed"
    assert "sklearn.nothing" in completion["reason"]
    assert "convert-1-out.log" in [item["path"] for item in completion["report"]]
