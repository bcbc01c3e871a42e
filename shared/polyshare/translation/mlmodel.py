"""MLflow's MLmodel file, understood as a model's description (mlflow.org, "MLflow Models")."""

from __future__ import annotations

from typing import Any

import msgspec

from polyshare.errors import Invalid

NAME = "MLmodel"
MOST_BYTES, DEEPEST = 128 * 1024, 20  # YAML is read slowly, what is nested more slowly still

# flavor → the framework that translates it, and the fields that may name its file or folder
FLAVORS: dict[str, tuple[str, tuple[str, ...]]] = {
    "xgboost": ("xgboost", ("data",)),
    "lightgbm": ("lightgbm", ("data",)),
    "catboost": ("catboost", ("data",)),
    "keras": ("keras", ("data",)),
    "tensorflow": ("tensorflow", ("saved_model_dir", "data")),
    "pytorch": ("pytorch", ("model_data",)),
    "onnx": ("onnx", ("data",)),
    "sklearn": ("sklearn", ("pickled_model",)),
}
_TYPES = {
    "boolean": "bool",
    "integer": "int32",
    "long": "int64",
    "float": "float32",
    "double": "float64",
    "string": "string",
}


class _Tensor(msgspec.Struct):
    dtype: str
    shape: list[int]


class _Spec(msgspec.Struct):
    """A column, or a tensor, of a signature."""

    type: str
    name: str = ""
    tensor: _Tensor | None = msgspec.field(default=None, name="tensor-spec")


def read(data: bytes) -> dict[str, Any]:
    """What it states, as signature.json would: framework, model, inputs. Raises Invalid, saying what to add."""
    document = _document(data)
    flavors = document.get("flavors")
    if not isinstance(flavors, dict) or not flavors:
        raise Invalid("the MLmodel file has no flavors: save the model with MLflow, or add a signature.json")
    flavor = next((name for name in FLAVORS if isinstance(flavors.get(name), dict)), None)
    if flavor is None:
        raise Invalid(
            f"the MLmodel file has the flavors {', '.join(map(str, flavors))[:200]}; understood are "
            f'{", ".join(FLAVORS)}: add a signature.json with "framework" and "model"'
        )
    framework, fields = FLAVORS[flavor]
    model = next((flavors[flavor][field] for field in fields if flavors[flavor].get(field)), None)
    if not isinstance(model, str):
        raise Invalid(
            f"the flavor {flavor} of the MLmodel file does not say {' or '.join(fields)}: the file of the model"
        )
    signature = document.get("signature")
    stated = signature.get("inputs") if isinstance(signature, dict) else None
    return {"framework": framework, "model": model, "inputs": _inputs(stated) if stated else []}


def _document(data: bytes) -> dict[Any, Any]:
    import yaml  # only where a model has such a file

    try:
        if len(data) > MOST_BYTES:
            raise ValueError(f"it is over {MOST_BYTES} bytes")
        depth = 0
        for event in yaml.parse(data, yaml.SafeLoader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > DEEPEST:
                raise ValueError(f"it nests more than {DEEPEST} deep")
            if isinstance(event, yaml.AliasEvent):  # MLflow writes none; a few can stand for more than memory holds
                raise ValueError("it has aliases")
        document = yaml.safe_load(data)
        if not isinstance(document, dict):
            raise ValueError("it is no mapping")
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise Invalid(f"the model's MLmodel file can't be read: {' '.join(str(error).split())[:300]}") from error
    return document


def _inputs(text: Any) -> list[dict[str, Any]]:
    """The signature's inputs, which MLflow writes as JSON in a string."""
    try:
        specs = msgspec.json.decode(text if isinstance(text, str) else b"", type=list[_Spec])
    except (msgspec.MsgspecError, RecursionError) as error:
        raise Invalid(f"the inputs in the MLmodel file's signature can't be read: {error}") from error
    found: list[dict[str, Any]] = []
    for spec in specs:
        if spec.tensor is not None:
            shape = [size if size >= 0 else None for size in spec.tensor.shape]
            dtype = "string" if spec.tensor.dtype in ("str", "object") else spec.tensor.dtype
            found.append({"name": spec.name, "dtype": dtype, "shape": shape})
        elif spec.type in _TYPES:
            found.append({"name": spec.name, "dtype": _TYPES[spec.type], "shape": [None, 1]})
        else:
            raise Invalid(
                f"the input {spec.name[:100]!r} in the MLmodel file's signature has the type {spec.type[:50]!r}; "
                f"models are translated with {', '.join(_TYPES)} and tensors"
            )
    return found
