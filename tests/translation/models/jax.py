"""Models of JAX and Flax: source, parameters and a signature in one folder.

Each is trained for a few steps on rows made by a stated rule: the sign of a sum of the inputs.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.translation.declared import Models

FORMAT = "JAX, Flax (source, npz or safetensors)"
MODELS = Models(
    "jax",
    "uv:translator-jax",
    {
        FORMAT: {
            "tree ensemble": "JAX has no tree ensembles",
            "text with strings": "JAX has no strings",
        }
    },
)
add = MODELS.add

DENSE = """
import jax
import jax.numpy as jnp

def apply(params, x):
    hidden = jax.nn.relu(x @ params["hidden"]["kernel"] + params["hidden"]["bias"])
    return jax.nn.softmax(hidden @ params["out"]["kernel"])
"""
HALF = """
import jax.numpy as jnp

def apply(params, x):
    return jnp.tanh(x @ params["kernel"])
"""
CONVOLUTIONAL = """
import jax
from flax import linen as nn

class Net(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Conv(8, (3, 3))(x))
        x = nn.max_pool(x, window_shape=(2, 2), strides=(2, 2))
        return nn.Dense(2)(x.reshape((x.shape[0], -1)))

def apply(params, x):
    return Net().apply({"params": params}, x)
"""
ATTENTION = """
from flax import linen as nn

class Net(nn.Module):
    @nn.compact
    def __call__(self, tokens):
        x = nn.Embed(50, 16)(tokens)
        x = x + nn.MultiHeadDotProductAttention(num_heads=2)(x, x)
        return nn.Dense(2)(nn.LayerNorm()(x).mean(axis=1))

def apply(params, tokens):
    return Net().apply({"params": params}, tokens)
"""
RECURRENT = """
import jax
import jax.numpy as jnp

def apply(params, x):
    def step(state, row):
        return jnp.tanh(row @ params["w"] + state @ params["u"] + params["b"]), None

    state, _ = jax.lax.scan(step, jnp.zeros((x.shape[0], 6), x.dtype), jnp.swapaxes(x, 0, 1))
    return state @ params["out"]
"""
SEVERAL = """
import jax.numpy as jnp

def apply(params, left, right):
    both = jnp.concatenate([left, right], axis=1) @ params["kernel"]
    return {"total": both.sum(axis=1), "both": both}
"""
QUANTISED = """
import jax.numpy as jnp

def apply(params, x):
    steps = jnp.round(jnp.clip(x / 0.05, -128, 127)).astype(jnp.int8)
    return (steps.astype(jnp.float32) * 0.05) @ (params["kernel"].astype(jnp.float32) * params["scale"])
"""


def _save(folder: Path, source: str, parameters: Any, inputs: list[dict[str, Any]], **stated: Any) -> None:
    import numpy as np
    import safetensors.numpy
    from flax import traverse_util

    flat = {key: np.asarray(value) for key, value in traverse_util.flatten_dict(parameters, sep="/").items()}
    model = folder / "model"
    (model / "model.py").write_text(source)
    if stated.pop("safe", False):
        (model / "parameters.safetensors").write_bytes(safetensors.numpy.save(flat))
    else:
        np.savez(model / "parameters.npz", **flat)
    stated = {"framework": "jax", "model": "model.py", "inputs": inputs, **stated}
    (model / "signature.json").write_text(json.dumps(stated))


def _trained(source: str, parameters: Any, x: Any, y: Any) -> Any:
    """A few steps down the squared distance of the first two outputs from the classes."""
    import jax
    import jax.numpy as jnp

    space: dict[str, Any] = {}
    exec(source, space)

    def loss(parameters: Any) -> Any:
        return jnp.mean((space["apply"](parameters, x)[:, :2] - jax.nn.one_hot(y, 2)) ** 2)

    for _ in range(20):
        gradients = jax.grad(loss)(parameters)
        parameters = jax.tree.map(lambda p, g: (p - 0.1 * g).astype(p.dtype), parameters, gradients)
    return parameters


def _rows(*shape: int) -> tuple[Any, Any]:
    import numpy as np

    x = np.random.default_rng(0).normal(size=(64, *shape)).astype(np.float32)
    return x, (x.reshape(64, -1).sum(axis=1) > 0).astype(int)


def _random(*shape: int, dtype: str = "float32", seed: int = 1) -> Any:
    import jax.numpy as jnp
    import numpy as np

    return jnp.asarray(np.random.default_rng(seed).normal(size=shape) / np.sqrt(shape[0]), dtype)


@add(FORMAT, "dense")
def jax_dense(folder: Path) -> None:
    import jax.numpy as jnp
    import numpy as np

    x, y = _rows(8)
    start = {"hidden": {"kernel": _random(8, 16), "bias": jnp.zeros(16)}, "out": {"kernel": _random(16, 2)}}
    outputs, classes = [{"name": "probabilities", "role": "scores"}], ["below", "above"]
    inputs = [{"name": "X", "dtype": "float32", "shape": [None, 8]}]
    _save(folder, DENSE, _trained(DENSE, start, x, y), inputs, outputs=outputs, classes=classes)
    (folder / "test").mkdir()
    np.savez(folder / "test" / "rows.npz", X=x)


@add(FORMAT, "convolutional")
def flax_convolutional(folder: Path) -> None:
    x, y = _rows(8, 8, 1)
    parameters = _trained(CONVOLUTIONAL, _flax(CONVOLUTIONAL, x), x, y)
    _save(
        folder, CONVOLUTIONAL, parameters, [{"name": "image", "dtype": "float32", "shape": [None, 8, 8, 1]}], safe=True
    )


@add(FORMAT, "attention", "integer inputs")
def flax_attention(folder: Path) -> None:
    import numpy as np

    tokens = np.random.default_rng(0).integers(0, 50, (64, 12)).astype(np.int32)
    parameters = _trained(ATTENTION, _flax(ATTENTION, tokens), tokens, tokens[:, 0] % 2)
    inputs = [{"name": "tokens", "dtype": "int32", "shape": [None, 12], "between": [0, 49]}]
    _save(folder, ATTENTION, parameters, inputs)


@add(FORMAT, "recurrent")
def jax_recurrent(folder: Path) -> None:
    import jax.numpy as jnp

    x, y = _rows(7, 4)
    start = {"w": _random(4, 6), "u": _random(6, 6), "b": jnp.zeros(6), "out": _random(6, 2)}
    _save(
        folder, RECURRENT, _trained(RECURRENT, start, x, y), [{"name": "X", "dtype": "float32", "shape": [None, 7, 4]}]
    )


@add(FORMAT, "several inputs or outputs")
def jax_several(folder: Path) -> None:
    inputs = [{"name": name, "dtype": "float32", "shape": [None, 4]} for name in ("left", "right")]
    _save(folder, SEVERAL, {"kernel": _random(8, 3)}, inputs)


@add(FORMAT, "float16 inputs")
def jax_half(folder: Path) -> None:
    inputs = [{"name": "X", "dtype": "float16", "shape": [None, 12]}]
    _save(folder, HALF, {"kernel": _random(12, 4, dtype="float16")}, inputs)


@add(FORMAT, "quantised")
def jax_quantised(folder: Path) -> None:
    import jax.numpy as jnp

    kernel = jnp.round(jnp.clip(_random(12, 4) * 127, -127, 127)).astype(jnp.int8)
    inputs = [{"name": "X", "dtype": "float32", "shape": [None, 12]}]
    _save(folder, QUANTISED, {"kernel": kernel, "scale": jnp.float32(1 / 127)}, inputs)


@add(FORMAT, "dense")
def jax_double(folder: Path) -> None:
    import numpy as np

    kernel = np.random.default_rng(0).normal(size=(12, 4))
    _save(folder, HALF, {"kernel": kernel}, [{"name": "X", "dtype": "float64", "shape": [None, 12]}])


@add(FORMAT, refused='list its "inputs" in signature.json')
def jax_without_inputs(folder: Path) -> None:
    _save(folder, HALF, {"kernel": _random(12, 4)}, [])


@add(FORMAT, refused="has no function 'forward'")
def jax_without_function(folder: Path) -> None:
    inputs = [{"name": "X", "dtype": "float32", "shape": [None, 12]}]
    _save(folder, HALF, {"kernel": _random(12, 4)}, inputs, function="forward")


def _flax(source: str, x: Any) -> Any:
    import jax

    space: dict[str, Any] = {"__name__": "model"}
    exec(source, space)
    return space["Net"]().init(jax.random.key(0), x[:1])["params"]


if __name__ == "__main__":
    MODELS.main()
