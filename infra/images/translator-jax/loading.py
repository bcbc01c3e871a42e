"""A JAX model as files: Python source with a function of parameters and inputs, and the parameters.

signature.json beside them says: `model` (the source), `function` (default "apply"), `parameters` (.npz or .safetensors;
default the only one there), `inputs` (name, dtype and shape of each, in the function's order), and maybe `outputs`
(name and role of each) and `classes`. Parameters are nested by the slashes in their names (dots if there are none).
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy
from harness import Unsupported

DTYPES = ("float16", "float32", "float64", "int8", "int16", "int32", "uint8", "bool")
HINTS = ("range", "between", "columns", "categories")
ROLES = ("label", "scores", "values")


def inputs_of(stated: dict[str, Any]) -> list[dict[str, Any]]:
    """The inputs as signature.json states them. Raises Unsupported, saying what to add."""
    inputs = stated.get("inputs") or []
    if not inputs:
        raise Unsupported(
            'a JAX function does not say what it takes: list its "inputs" in signature.json, with name, dtype and shape'
        )
    found = []
    for one in inputs:
        name, dtype, shape = one.get("name"), one.get("dtype"), one.get("shape")
        if not name or dtype not in DTYPES or not shape:
            raise Unsupported(
                f"the input {str(name)[:100]!r} in signature.json needs a name, a dtype ({', '.join(DTYPES)}) and a "
                "shape that begins with the batch (null)"
            )
        found.append(
            {"name": name, "dtype": dtype, "shape": shape, **{hint: one[hint] for hint in HINTS if hint in one}}
        )
    return found


def load(folder: Path, file: str, said: dict[str, Any]) -> Callable[..., dict[str, Any]]:
    """The model as a function of its inputs, in order, to its answers by name. Runs the model's source."""
    if said["double"]:
        jax.config.update("jax_enable_x64", True)
    sys.path.insert(0, str((folder / file).parent))
    spec = importlib.util.spec_from_file_location("model_source", folder / file)
    if spec is None or spec.loader is None:
        raise Unsupported(
            f'"model" in signature.json names {file}: name the Python source of the model, such as model.py'
        )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    function = getattr(module, said["function"], None)
    if not callable(function):
        raise Unsupported(
            f'{file} has no function {said["function"]!r}: name the model\'s in signature.json as "function"'
        )
    parameters = _parameters(folder, said["parameters"])

    def model(*inputs: Any) -> dict[str, Any]:
        return _named(function(parameters, *inputs), said["outputs"])

    return model


def said_of(stated: dict[str, Any], inputs: list[dict[str, Any]]) -> dict[str, Any]:
    """What both programs need of the description."""
    outputs = [
        {"name": str(one.get("name") or ""), "role": one.get("role") if one.get("role") in ROLES else "values"}
        for one in stated.get("outputs") or []
    ]
    return {
        "function": str(stated.get("function") or "apply"),
        "parameters": str(stated.get("parameters") or ""),
        "outputs": outputs,
        "double": any(one["dtype"] == "float64" for one in inputs),
    }


def _parameters(folder: Path, name: str) -> dict[str, Any]:
    files = sorted(path for path in folder.rglob("*") if path.suffix in (".npz", ".safetensors"))
    if name:
        files = [path for path in files if str(path.relative_to(folder)) == name]
    if len(files) != 1:
        raise Unsupported(
            f"there {'are several files' if files else 'is no file'} of parameters (.npz or .safetensors): name one in "
            'signature.json as "parameters"'
        )
    if files[0].suffix == ".npz":
        with np.load(files[0], allow_pickle=False) as arrays:
            flat = {key: arrays[key] for key in arrays.files}
    else:
        flat = safetensors.numpy.load_file(files[0])
    separator = "/" if any("/" in key for key in flat) else "."
    nested: dict[str, Any] = {}
    for key, array in sorted(flat.items()):
        *path, last = key.split(separator)
        place = nested
        for part in path:
            place = place.setdefault(part, {})
        place[last] = jnp.asarray(array)
    return nested


def _named(result: Any, stated: list[dict[str, str]]) -> dict[str, Any]:
    """Outputs by name: as they are stated in order, as the function's own dict has them, else "output"."""
    if isinstance(result, dict):
        return {str(key): result[key] for key in sorted(result)}
    results = list(result) if isinstance(result, tuple | list) else [result]
    if stated and len(stated) != len(results):
        raise Unsupported(f"signature.json states {len(stated)} outputs, the function gives {len(results)}")
    names = [one["name"] for one in stated]
    if not names:
        names = ["output"] if len(results) == 1 else [f"output_{i}" for i in range(len(results))]
    return dict(zip(names, results, strict=True))
