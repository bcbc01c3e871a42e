"""A dense network: the model.py of models that the trainer of uv:jax makes."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp


def apply(parameters: dict[str, Any], x: Any) -> Any:
    """Probabilities of the classes [rows, classes]; of a regression the prediction [rows]."""
    found = sums(parameters, x)
    if found.shape[1] > 1:
        return jax.nn.softmax(found, axis=1)
    return found[:, 0] * parameters["spread"] + parameters["shift"]


def sums(parameters: dict[str, Any], x: Any) -> Any:
    """What the last layer gives [rows, outputs]."""
    x = (x - parameters["mean"]) / parameters["scale"]
    last = sum(name.startswith("weights_") for name in parameters) - 1
    for number in range(last + 1):
        x = jnp.dot(x, parameters[f"weights_{number}"]) + parameters[f"bias_{number}"]
        x = x if number == last else jax.nn.relu(x)
    return x
