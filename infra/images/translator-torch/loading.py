"""Loads a PyTorch model, or a Keras model on PyTorch. Runs only inside a sandbox: most of these files are programs.

Taken are torch.export's .pt2, TorchScript, a state dict (torch.save or safetensors) with its model's source beside it,
and Keras files.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ["KERAS_BACKEND"] = "torch"

import graph
import harness
import numpy as np
import torch
from torch.utils import _pytree as pytree

warnings.filterwarnings("ignore")
torch.set_num_threads(1)
torch.set_grad_enabled(False)

EXAMPLE_ROWS, EXAMPLE_SIZE = 2, 7  # of the inputs that a model is traced with
STATED = (
    'add to signature.json "inputs", in the order in which the model takes them, each such as '
    '{"name": "x", "dtype": "float32", "shape": [null, 64]}; null is the number of rows, and any size that is free'
)


@dataclass(frozen=True)
class Loaded:
    """A model. `module` takes the inputs' tensors in order and gives a list of the outputs' tensors in order.

    `program` is what is converted, in the `ways` that may be tried: by torch.export ("export") or by tracing ("trace").
    """

    kind: str
    loaded_by: str
    untrusted: list[str]
    inputs: list[dict[str, Any]]  # name, dtype, shape
    outputs: list[str]
    module: Callable[..., list[torch.Tensor]]
    program: Any
    ways: tuple[str, ...]
    sizes: dict[str, list[int]]  # to try for free axes that do not take every size

    def call(self, arrays: list[np.ndarray]) -> list[np.ndarray]:
        tensors = [torch.from_numpy(np.ascontiguousarray(array)) for array in arrays]
        return [answer.detach().numpy() for answer in self.module(*tensors)]


class Flat(torch.nn.Module):
    """A module whose answer is a flat list of tensors, whatever it is built of."""

    def __init__(self, module: Any) -> None:
        super().__init__()
        self.module = module

    def forward(self, *values: torch.Tensor) -> list[torch.Tensor]:
        return pytree.tree_leaves(self.module(*values))


WHOLE = ("keras", "exported")  # kinds of file that need no description of the model


def kind_of(path: Path) -> str:
    """What a file holds, by its first bytes and its members' names: keras, exported, script or state dict."""
    head = _head(path)
    members = _members(path) if head[:2] == b"PK" else set()
    if "model.weights.h5" in members or head[:4] == b"\x89HDF":
        return "keras"
    if "archive_format" in members or "serialized_exported_program.json" in members:
        return "exported"
    return "script" if "constants.pkl" in members else "state dict"


def load(folder: Path, file: str, stated: dict[str, Any]) -> Loaded:
    """The model in `folder`; `stated` is its own description. Raises harness.Unsupported."""
    path = folder / file
    match kind_of(path):
        case "keras":
            return _keras(path)
        case "exported":
            return _exported(path)
        case "script":
            return _script(path, stated)
        case _:
            return _state_dict(folder, path, stated)


def examples(inputs: list[dict[str, Any]]) -> list[torch.Tensor]:
    """Inputs of zeros; open sizes are 2 for the batch and 7 elsewhere."""
    found = []
    for one in inputs:
        free = [EXAMPLE_ROWS, *[EXAMPLE_SIZE] * len(one["shape"])]
        sizes = [size if isinstance(size, int) else free[axis > 0] for axis, size in enumerate(one["shape"])]
        found.append(torch.zeros(sizes, dtype=_dtype(one["dtype"])))
    return found


def _exported(path: Path) -> Loaded:
    program = torch.export.load(path)
    takes = program.graph_signature.user_inputs
    nodes = {node.name: node.meta.get("val") for node in program.graph.nodes if node.op == "placeholder"}
    inputs = []
    for name in takes:
        value = nodes.get(name)
        if not isinstance(value, torch.Tensor):
            raise harness.Unsupported(
                f"the exported program's input {name!r} is no tensor: export it with tensors alone"
            )
        shape = [size if isinstance(size, int) else None if axis == 0 else str(size)
                 for axis, size in enumerate(value.shape)]  # fmt: skip
        inputs.append({"name": name, "dtype": str(value.dtype).removeprefix("torch."), "shape": shape})
    sizes = {}
    for symbol, span in program.range_constraints.items():
        low, high = int(span.lower), int(min(span.upper, 2**31))
        if low > 8 or high < 16:
            sizes[str(symbol)] = sorted({min(max(size, low), high) for size in (8, 12, 16)})
    module = program.module()

    def call(*values: torch.Tensor) -> list[torch.Tensor]:
        args, kwargs = pytree.tree_unflatten(list(values), program.call_spec.in_spec)
        return pytree.tree_leaves(module(*args, **kwargs))

    outputs = _outputs(len(program.graph_signature.user_outputs), [one["name"] for one in inputs])
    untrusted = ["any: torch.export.load reads pickles"]
    return Loaded("ExportedProgram", "torch.export.load", untrusted, inputs, outputs, call, program, ("export",), sizes)


def _script(path: Path, stated: dict[str, Any]) -> Loaded:
    module = torch.jit.load(path, map_location="cpu")
    name = getattr(module, "original_name", "module")
    return _module(module, f"TorchScript {name}", "torch.jit.load", ["any: TorchScript is a program"], stated)


def _state_dict(folder: Path, path: Path, stated: dict[str, Any]) -> Loaded:
    if _head(path)[8:9] == b"{":
        from safetensors.torch import load_file

        state, by = load_file(path), "safetensors"
    else:
        try:
            state, by = torch.load(path, map_location="cpu", weights_only=True), "torch.load, weights only"
        except Exception as error:  # what weights_only refuses, it refuses in several ways
            raise harness.Unsupported(
                f"{path.name} is more than a state dict, and a pickle's code is not run: save its state_dict(), or the "
                "model by torch.export.save"
            ) from error
    if not isinstance(state, dict) or not all(isinstance(one, torch.Tensor) for one in state.values()):
        raise harness.Unsupported(f"{path.name} is no state dict of tensors by name: save model.state_dict()")
    source, kind = stated.get("source"), stated.get("class")
    if not isinstance(source, str) or not isinstance(kind, str):
        raise harness.Unsupported(
            "a state dict does not say what computes with it: put the model's source beside it, and in signature.json "
            '"source": "model.py", "class": "Net" and, if its constructor needs any, "arguments": {"hidden": 32}; and '
            + STATED
        )
    made = _class(folder, source, kind)
    arguments = stated.get("arguments") or {}
    try:
        module = made(**arguments)
    except TypeError as error:
        raise harness.Unsupported(
            f'{kind} can\'t be made with "arguments": {arguments} of signature.json: {error}'
        ) from error
    try:
        module.load_state_dict(state, assign=True)  # in the state's own precision
    except RuntimeError as error:
        raise harness.Unsupported(f"the state dict does not fit {kind} of {source}: {error}") from error
    return _module(module, kind, by, [f"any: {source} is a program"], stated)


def _class(folder: Path, source: str, name: str) -> Any:
    path = folder / source
    if ".." in Path(source).parts or not path.is_file():
        raise harness.Unsupported(f'signature.json names the "source" {source!r}, which is not there')
    sys.path.insert(0, str(path.parent))  # what it imports may lie beside it
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise harness.Unsupported(f"the source {source!r} is no Python file")
    code = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = code
    spec.loader.exec_module(code)
    made = getattr(code, name, None)
    if not (isinstance(made, type) and issubclass(made, torch.nn.Module)):
        raise harness.Unsupported(f'{source} has no torch.nn.Module {name!r}: name it as "class" in signature.json')
    return made


def _keras(path: Path) -> Loaded:
    import keras_file

    opened = keras_file.open_model(path)
    module = Flat(_Called(opened.model, opened.call)).eval().requires_grad_(False)
    return Loaded(opened.kind, "keras, safe mode", [], opened.inputs, opened.outputs, module, module, ("export",), {})


class _Called(torch.nn.Module):
    """A Keras model that is called with its inputs in order."""

    def __init__(self, model: Any, call: Callable[[tuple[torch.Tensor, ...]], list[torch.Tensor]]) -> None:
        super().__init__()
        self.model, self.call = model, call

    def forward(self, *values: torch.Tensor) -> list[torch.Tensor]:
        return self.call(values)


def _module(module: Any, kind: str, by: str, untrusted: list[str], stated: dict[str, Any]) -> Loaded:
    """A module that does not say what it takes: its inputs are those stated, its outputs are counted by one run."""
    inputs = [dict(one) for one in stated.get("inputs") or [] if isinstance(one, dict)]
    for one in inputs:
        shape = one.get("shape")
        if not one.get("name") or not isinstance(shape, list) or not isinstance(one.get("dtype"), str):
            raise harness.Unsupported(f"the input {one} of signature.json lacks name, dtype or shape: {STATED}")
    if not inputs:
        raise harness.Unsupported(f"a {kind} does not say what it takes: {STATED}")
    inputs = [{key: one[key] for key in ("name", "dtype", "shape")} for one in inputs]
    module.eval()
    for one in module.parameters():  # TorchScript modules have no requires_grad_
        one.requires_grad = False
    flat = Flat(module)
    try:
        answers = flat(*examples(inputs))
    except (RuntimeError, TypeError, IndexError) as error:
        raise harness.Unsupported(f"the model does not take the inputs that signature.json states: {error}") from error
    if not answers or not all(isinstance(one, torch.Tensor) for one in answers):
        raise harness.Unsupported("the model's answer is not made of tensors alone: return tensors from its forward")
    outputs = _outputs(len(answers), [one["name"] for one in inputs])
    if isinstance(module, torch.jit.ScriptModule):
        return Loaded(kind, by, untrusted, inputs, outputs, flat, module, ("trace",), {})
    return Loaded(kind, by, untrusted, inputs, outputs, flat, flat, ("export", "trace"), {})


def _outputs(count: int, inputs: list[str]) -> list[str]:
    return graph.distinct(["output"] if count == 1 else [f"output_{i}" for i in range(count)], inputs)


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(9)


def _members(path: Path) -> set[str]:
    """The last parts of the names in a zip archive's directory."""
    import zipfile

    with zipfile.ZipFile(path) as archive:
        return {name.rsplit("/", 1)[-1] for name in archive.namelist()}


def _dtype(name: str) -> torch.dtype:
    found = getattr(torch, name, None)
    if not isinstance(found, torch.dtype):
        raise harness.Unsupported(f"dtype {name!r} of signature.json is none of PyTorch's, such as float32 or int64")
    return found
