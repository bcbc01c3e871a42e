"""The execution providers that can be asked for, the environment that has each, and the devices that it needs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from polyshare.errors import Invalid, Unavailable
from polyshare.jobs.environment import machine_class
from polyshare.jobs.sandbox import Mount

# Device files of GPUs and NPUs: of NVIDIA's driver, of AMD's, of the kernel's graphics and accelerators, of WSL.
_DEVICES = ("nvidia[0-9]*", "nvidiactl", "nvidia-uvm", "nvidia-uvm-tools", "nvidia-caps", "kfd", "dri", "accel", "dxg")
_ALONG = ("/sys", "/opt/rocm")  # what their libraries read besides; read-only


@dataclass(frozen=True, slots=True)
class Provider:
    name: str
    execution: str  # ONNX Runtime's name of it
    environment: str  # a uv: environment whose build of ONNX Runtime has it
    needs_gpu: bool = False


PROVIDERS = {
    provider.name: provider
    for provider in (
        Provider("cpu", "CPUExecutionProvider", "uv:verify"),
        Provider("openvino", "OpenVINOExecutionProvider", "uv:verify-openvino"),
        Provider("cuda", "CUDAExecutionProvider", "uv:verify-gpu", needs_gpu=True),
        Provider("migraphx", "MIGraphXExecutionProvider", "uv:verify-migraphx", needs_gpu=True),
    )
}


@dataclass(frozen=True, slots=True)
class Target:
    """On what a model is to run. Raises Invalid where it can't be, Unavailable where this machine has no such device.

    `gpu` shows the sandbox the machine's GPU devices: a hostile model then reaches the GPU's driver, and the part of
    the kernel that it is.
    """

    provider: Provider
    options: Mapping[str, str] = field(default_factory=dict)  # of the provider, by ONNX Runtime's names
    allow_cpu: bool = False  # for nodes that the provider does not take
    gpu: bool = False

    def __post_init__(self) -> None:
        if self.provider.needs_gpu or self.gpu:
            found = gpu_devices()
            if not found:
                raise Unavailable(
                    f"this machine has no GPU: none of {', '.join(f'/dev/{d}' for d in _DEVICES)} is there"
                )
            if not self.gpu:
                shown = ", ".join(map(str, found))
                raise Invalid(
                    f"{self.provider.name} runs on a GPU, which a model in its sandbox does not see: --gpu shows it "
                    f"{shown}, and so the GPU's driver to whatever is in the model file"
                )

    @property
    def devices(self) -> tuple[Path, ...]:
        """Device files that the sandbox is to show."""
        return gpu_devices() if self.gpu else ()

    @property
    def environ(self) -> dict[str, str]:
        return {"LD_LIBRARY_PATH": "/opt/rocm/lib"} if self.gpu and Path("/opt/rocm").is_dir() else {}

    @property
    def mounts(self) -> tuple[Mount, ...]:
        return tuple(Mount(Path(path), path) for path in _ALONG if Path(path).is_dir()) if self.gpu else ()

    def hardware(self) -> dict[str, str]:
        """Device, driver, architecture and level of the CPU: what results depend on, besides the environment."""
        machine = machine_class(1)
        asks_gpu = self.provider.needs_gpu or (self.gpu and not self.options.get("device_type", "").startswith("CPU"))
        device, driver = (_gpu() if asks_gpu else None) or (_cpu(), "none")
        return {"device": device, "driver": driver, "architecture": machine["architecture"], "cpu": machine["cpu"]}


def named(name: str) -> Provider:
    """The provider of a name; raises Invalid with those that there are."""
    if name.lower() not in PROVIDERS:
        raise Invalid(f"there is no provider {name[:50]!r}: name one of {', '.join(PROVIDERS)}")
    return PROVIDERS[name.lower()]


def gpu_devices() -> tuple[Path, ...]:
    """The device files of this machine's GPUs, and folders of them."""
    return tuple(path for pattern in _DEVICES for path in sorted(Path("/dev").glob(pattern)))


def _gpu() -> tuple[str, str] | None:
    """Names and driver version of NVIDIA's GPUs, else of AMD's, as their drivers tell them."""
    models = [_field(p, "Model") for p in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))]
    if models:
        version = re.search(r"\d+\.\d+(\.\d+)?", _text(Path("/proc/driver/nvidia/version")))
        return ", ".join(models), f"nvidia {version[0]}" if version else "nvidia"
    named = [_text(p).strip() for p in sorted(Path("/sys/class/kfd/kfd/topology/nodes").glob("*/name"))]
    if any(named):
        return ", ".join(filter(None, named)), f"amdgpu {_text(Path('/sys/module/amdgpu/version')).strip()}".strip()
    return None


def _cpu() -> str:
    return _field(Path("/proc/cpuinfo"), "model name") or machine_class(1)["architecture"]


def _field(path: Path, name: str) -> str:
    lines = (line.partition(":") for line in _text(path).splitlines())
    return next((value.strip() for key, _, value in lines if key.strip() == name), "")


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
