"""polyshare run: a real ONNX Runtime in a real sandbox, on the CPU and on OpenVINO; on a GPU where there is one."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable
from pathlib import Path

import pytest

from polyshare.cli import main
from polyshare.errors import Invalid, Unavailable
from polyshare.hardware.providers import PROVIDERS, Target, gpu_devices, named
from polyshare.hardware.run import Given, NotRun, Ran
from polyshare.hardware.run import run as run_model
from polyshare.jobs import environment, sandbox
from polyshare.jobs.job import Limits
from polyshare.jobs.sandbox import Run
from tests.contract.translation_world import CACHE, prepare, run

CPU, OPENVINO = Target(PROVIDERS["cpu"]), Target(PROVIDERS["openvino"])
on_intel_or_amd = pytest.mark.skipif(platform.machine() != "x86_64", reason="OpenVINO's wheels are for x86-64")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Makes a model of hardware_models.py once."""
    folder = tmp_path_factory.mktemp("models")

    def make(name: str) -> Path:
        path = folder / f"{name}.onnx"
        if not path.exists():
            run("uv:verify", str(Path(__file__).with_name("hardware_models.py")), name, str(path))
        return path

    return make


def write(path: Path, text: str) -> Given:
    path.write_text(text)
    return Given("", path)


def rows(folder: Path, count: int = 3) -> Given:
    return write(folder / "X.json", json.dumps([[row + column / 8 for column in range(8)] for row in range(count)]))


def ran(model: Path, given: list[Given], target: Target = CPU, **more: object) -> Ran:
    return run_model(model, given, target, cache=CACHE, **more)  # type: ignore[arg-type]


def test_all_nodes_run_on_the_cpu_where_that_is_asked_for(model, tmp_path: Path) -> None:
    found = ran(model("mixed"), [rows(tmp_path)])
    assert {node.provider for node in found.nodes} == {"CPUExecutionProvider"}
    assert sorted(node.operator for node in found.nodes) == ["MatMul", "Relu", "Softmax", "ai.onnx.ml.Scaler"]
    assert [(o.name, o.dtype, o.shape) for o in found.outputs] == [("y", "float32", [3, 16]), ("s", "float32", [3, 8])]
    assert found.outputs[1].values[:3] == ["0.0", "0.25", "0.5"]


@on_intel_or_amd
def test_openvino_runs_what_it_takes_and_answers_as_the_cpu_does(model, tmp_path: Path) -> None:
    given = [rows(tmp_path)]
    found, wanted = (ran(model("dense"), given, target) for target in (OPENVINO, CPU))
    assert {node.provider for node in found.nodes} == {"OpenVINOExecutionProvider"}
    assert found.milliseconds.keys() == {"OpenVINOExecutionProvider"}
    assert "openvino" in found.runtime
    for one, other in zip(found.outputs[0].values, wanted.outputs[0].values, strict=True):
        assert float(one) == pytest.approx(float(other), abs=1e-5)


@on_intel_or_amd
def test_a_node_that_the_provider_does_not_take_is_an_error_that_names_it(model, tmp_path: Path) -> None:
    with pytest.raises(NotRun, match=r"does not take 1 of the nodes \(1 ai.onnx.ml.Scaler\): scale\. --allow-cpu"):
        ran(model("mixed"), [rows(tmp_path)], OPENVINO)


@on_intel_or_amd
def test_it_runs_on_the_cpu_if_that_is_allowed_and_this_is_said(model, tmp_path: Path) -> None:
    found = ran(model("mixed"), [rows(tmp_path)], Target(PROVIDERS["openvino"], allow_cpu=True))
    assert {(n.name, n.provider) for n in found.nodes if n.provider.startswith("CPU")} == {
        ("scale", "CPUExecutionProvider")
    }
    assert found.milliseconds.keys() == {"OpenVINOExecutionProvider", "CPUExecutionProvider"}


def test_a_provider_that_the_build_has_not_is_an_error_that_lists_those_it_has(model, tmp_path: Path) -> None:
    elsewhere = Target(PROVIDERS["cpu"].__class__("rknpu", "RknpuExecutionProvider", "uv:verify"))
    with pytest.raises(NotRun, match=r"has no RknpuExecutionProvider; it has .*CPUExecutionProvider"):
        ran(model("dense"), [rows(tmp_path)], elsewhere)
    with pytest.raises(Invalid, match="cpu, openvino, cuda"):
        named("rknpu")


def test_inputs_come_as_arrays_rows_and_tables(model, tmp_path: Path) -> None:
    run("uv:verify", "-c", f"import numpy; numpy.save({str(tmp_path / 'c.npy')!r}, numpy.array([1, 2]))")
    by_rows = write(tmp_path / "rows.json", '[{"count": 1, "word": "a"}, {"count": 2, "word": "b"}]')
    by_column = write(tmp_path / "columns.json", '{"count": [1, 2], "word": ["a", "b"]}')
    table = write(tmp_path / "table.csv", "other,word,count\n9,a,1\n9,b,2\n")
    apart = [Given("count", tmp_path / "c.npy"), Given("word", write(tmp_path / "w.json", '["a", "b"]').path)]
    for given in ([by_rows], [by_column], [table], apart):
        answers = {output.name: output.values for output in ran(model("columns"), given).outputs}
        assert answers == {"twice": ["2", "4"], "same": ["a", "b"]}
    numbers = write(tmp_path / "numbers.csv", "0,1,2,3,4,5,6,7\n" * 2)
    assert ran(model("dense"), [numbers]).outputs[0].shape == [2, 16]
    ran(model("dense"), [numbers], output=tmp_path / "out.npz")
    assert ran(model("dense"), [Given("X", numbers.path)]).outputs[0].shape == [2, 16]
    assert (tmp_path / "out.npz").read_bytes().startswith(b"PK")


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("x.txt", "1", "is not .npy"),
        ("x.npy", "1", "can't be read"),
        ("x.json", "{", "can't be read"),
        ("x.json", "[[1, 2], [3]]", "can't be read"),
        ("x.json", "[[1, 2, 3]]", r"Expected: 8.*it takes X float32\[\?, 8\]"),
        ("x.json", "[1, 2, 3]", "takes rows of"),
        ("x.json", '["a"]', "takes float32"),
        ("x.json", '{"Y": [1], "Z": [2]}', "has Y, Z"),
        ("x.csv", "a,b\n1\n", "not all of one length"),
    ],
)
def test_inputs_that_do_not_fit_are_refused_with_what_the_model_takes(
    name: str, text: str, said: str, model, tmp_path: Path
) -> None:
    with pytest.raises(NotRun, match=said):
        ran(model("dense"), [write(tmp_path / name, text)])


def test_without_inputs_it_says_which_there_are(model) -> None:
    with pytest.raises(NotRun, match=r"it takes count int64\[\?, 1\]; word string\[\?, 1\] \(--input NAME=FILE\)"):
        ran(model("columns"), [])


def test_a_number_that_the_input_can_not_hold_is_refused(model, tmp_path: Path) -> None:
    with pytest.raises(NotRun, match="takes int64"):
        ran(model("columns"), [write(tmp_path / "x.json", '{"count": [1.5], "word": ["a"]}')])


def test_hostile_files_are_contained_and_told(model, tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(os.urandom(1000))
    with pytest.raises(NotRun, match="not ONNX"):
        ran(broken, [rows(tmp_path)])
    assert "\x1b" not in " ".join(node.name for node in ran(model("ringing"), [rows(tmp_path)]).nodes)
    with pytest.raises(NotRun, match=r"stopped \(time\)"):
        ran(model("endless"), [rows(tmp_path)], limits=Limits(wall_seconds=5))


def test_the_command_line_tells_nodes_and_outputs(model, tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.setenv("POLYSHARE_ENVIRONMENTS", str(CACHE))
    given = rows(tmp_path).path
    assert main(["run", str(model("dense")), "--input", f"X={given}"]) == 0
    told = capsys.readouterr().out
    assert "ran on CPUExecutionProvider" in told
    assert "Softmax" in told
    assert main(["run", str(model("dense")), "--input", str(given), "--output", str(tmp_path / "o.npz"), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["ran"]["outputs"][0]["shape"] == [3, 16]
    assert answer["hardware"].keys() == {"device", "driver", "architecture", "cpu"}
    assert main(["run", str(model("dense")), "--input", str(given), "--output", str(tmp_path / "o.npz")]) == 1
    assert main(["run", str(model("dense")), "--input", str(tmp_path / "gone.npy")]) == 64
    assert main(["run", str(tmp_path / "gone.onnx")]) == 1
    assert main(["run", str(model("dense")), "--provider", "abacus"]) == 1


def test_a_sandbox_shows_a_device_only_if_it_is_named(tmp_path: Path) -> None:
    device = next((path for path in map(Path, ("/dev/fuse", "/dev/loop-control", "/dev/kmsg")) if path.exists()), None)
    if device is None:
        pytest.skip("this machine has no device file to try with")
    program = f"import os; print(os.path.exists({str(device)!r}), sorted(os.listdir('/dev'))[:3])"
    for devices, shown in (((), "False"), ((device,), "True")):
        log = tmp_path / f"{shown}.log"
        finished = sandbox.choose("uv:").run(
            Run(prepare("uv:verify"), ("python", "-c", program), log=log, devices=devices)
        )
        assert finished.status == "done", log.read_text()
        assert log.read_text().startswith(shown)


def test_a_gpu_is_asked_for_in_so_many_words() -> None:
    if gpu_devices():
        with pytest.raises(Invalid, match="--gpu"):
            Target(PROVIDERS["cuda"])
    else:
        with pytest.raises(Unavailable, match="this machine has no GPU"):
            Target(PROVIDERS["cuda"], gpu=True)


def test_cuda_runs_all_nodes_on_the_gpu(model, tmp_path: Path) -> None:
    if not Path("/dev/nvidia0").exists():
        pytest.skip("this machine has no NVIDIA GPU")
    found = ran(model("dense"), [rows(tmp_path)], Target(PROVIDERS["cuda"], gpu=True))
    assert {node.provider for node in found.nodes} == {"CUDAExecutionProvider"}


def test_every_build_of_the_runtime_has_the_programs_of_verify() -> None:
    own = {path.name for path in environment.environment_folder("verify").glob("*.py")}
    for provider in PROVIDERS.values():
        folder = environment.environment_folder(provider.environment.removeprefix("uv:"))
        assert {name for name, _ in environment._files(folder)} == {*own, environment.LOCK}
