"""Opens a Keras model file (.keras or .h5) on whichever backend KERAS_BACKEND names. Runs only inside a sandbox."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import graph
import harness
import keras


@dataclass(frozen=True)
class Opened:
    """A Keras model; `call` takes its inputs in order and gives its outputs in order, as tensors of the backend."""

    model: Any
    inputs: list[dict[str, Any]]  # name, dtype, shape
    outputs: list[str]
    call: Callable[[Sequence[Any]], list[Any]]

    @property
    def kind(self) -> str:
        return " > ".join(type(layer).__name__ for layer in self.model.layers)[:500]


def open_model(path: Path) -> Opened:
    """The model in `path`, in Keras's safe mode: no code of the file runs. Raises harness.Unsupported."""
    with path.open("rb") as file:
        ending = ".keras" if file.read(2) == b"PK" else ".h5"
    if path.suffix != ending:  # Keras goes by the ending
        raise harness.Unsupported(f"{path.name} is a Keras file whose name must end in {ending}: rename it")
    try:
        model = keras.models.load_model(path, compile=False, safe_mode=True)
    except (ValueError, TypeError) as error:
        said = str(error)
        if "safe_mode" in said or "unsafe" in said:
            raise harness.Unsupported(
                "the model has a Lambda layer or another that carries Python code, and a file's code is not run: build "
                "it of Keras's own layers, or export it as a SavedModel"
            ) from error
        if "Could not locate class" in said or "Unknown layer" in said:
            raise harness.Unsupported(
                "the model has a layer of its own, whose code is not in the file: export a SavedModel; Keras says: "
                + said.splitlines()[0][:300]
            ) from error
        if "No model config" in said:
            raise harness.Unsupported(
                f"{path.name} holds weights alone: save the whole model with model.save"
            ) from error
        raise
    tensors = getattr(model, "inputs", None)
    if not tensors:
        raise harness.Unsupported(
            f"the {type(model).__name__} does not state its inputs: call it once on data before saving it"
        )
    names = graph.distinct([one._keras_history.operation.name for one in tensors])

    def call(values: Sequence[Any]) -> list[Any]:
        packed = keras.tree.pack_sequence_as(model.input, list(values)) if len(values) > 1 else values[0]
        return list(keras.tree.flatten(model(packed, training=False)))

    inputs = [
        {"name": name, "dtype": str(one.dtype), "shape": list(one.shape)}
        for name, one in zip(names, tensors, strict=True)
    ]
    return Opened(model, inputs, graph.distinct(list(model.output_names), names), call)
