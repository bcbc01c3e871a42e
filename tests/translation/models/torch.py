"""Models of PyTorch: exported programs, TorchScript, state dicts with their source; and Keras on PyTorch.

Data as keras_layers.py says, which has the Keras models too; torch_nets.py has the networks.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.translation.declared import Models

EXPORTED, SCRIPT, STATE = "torch.export .pt2", "TorchScript", "state dict with source"
KERAS = "Keras on PyTorch"
_NONE = {"tree ensemble": "neural networks", "text with strings": "PyTorch has no tensors of strings"}
MODELS = Models(
    "torch",
    "uv:translator-torch",
    {
        EXPORTED: _NONE | {"quantised": "torch.export has no form of fake quantisation"},
        SCRIPT: _NONE,
        STATE: _NONE,
        KERAS: _NONE | {"quantised": "Keras computes in floats"},
    },
)
# kind of the matrix; of each network: inputs by name, dtype and shape, null being free
_KINDS = {
    "Dense": ("dense", [("pixels", "float32", [None, 64])]),
    "Convolutional": ("convolutional", [("image", "float32", [None, 1, 8, 8])]),
    "Recurrent": ("recurrent", [("rows", "float32", [None, None, 8])]),
    "Gated": ("recurrent", [("rows", "float32", [None, 8, 8])]),
    "Attention": ("attention", [("rows", "float32", [None, None, 8])]),
    "Multi": ("several inputs or outputs", [("upper", "float32", [None, 32]), ("lower", "float32", [None, 32])]),
    "Tokens": ("integer inputs", [("tokens", "int64", [None, None])]),
    "Half": ("float16 inputs", [("pixels", "float16", [None, 64])]),
    "Quantised": ("quantised", [("pixels", "float32", [None, 64])]),
}


def _fitted(name: str) -> tuple[Any, list[Any]]:
    """The network of a name, trained, and its inputs of three rows."""
    import torch

    from tests.translation.models import keras_layers, torch_nets

    torch.manual_seed(0)
    torch.set_num_threads(1)
    net = getattr(torch_nets, name)(*[32] * (name in ("Dense", "Half")))
    x, y = keras_layers.tokens() if name == "Tokens" else keras_layers.rows()
    given = torch.tensor(x).long() if name == "Tokens" else torch.tensor(x)
    shapes = [[-1 if size is None and axis == 0 else size or 8 for axis, size in enumerate(shape)]
              for _, _, shape in _KINDS[name][1]]  # fmt: skip
    columns = [given] if name == "Tokens" else [
        part.reshape(shape) for part, shape in zip(given.chunk(len(shapes), 1), shapes, strict=True)
    ]  # fmt: skip
    optimiser = torch.optim.Adam(net.parameters(), 1e-2)
    for _ in range(8):
        answers = net(*[column[:900] for column in columns])
        scores = answers[0] if isinstance(answers, tuple) else answers
        loss = torch.nn.functional.nll_loss(torch.log(scores + 1e-6), torch.tensor(y)[:900])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    net.eval()
    for one in net.parameters():
        one.requires_grad = False
    if name == "Half":
        net, columns = net.half(), [column.half() for column in columns]
    return net, [column[:3] for column in columns]


def _exported(name: str, folder: Path) -> dict[str, Any]:
    import torch

    net, rows = _fitted(name)
    batch, length = torch.export.Dim("batch"), torch.export.Dim("length")
    free = tuple({0: batch, **({1: length} if shape[1] is None else {})} for _, _, shape in _KINDS[name][1])
    torch.export.save(torch.export.export(net, tuple(rows), dynamic_shapes=free), folder / "model.pt2")
    return {}


def _scripted(name: str, folder: Path) -> dict[str, Any]:
    import torch

    torch.jit.save(torch.jit.script(_fitted(name)[0]), folder / "model.pt")
    return {"inputs": _inputs(name)}


def _traced(name: str, folder: Path) -> dict[str, Any]:
    import torch

    net, rows = _fitted(name)
    torch.jit.save(torch.jit.trace(net, tuple(rows), check_trace=False), folder / "model.pt")
    return {"inputs": _inputs(name)}


def _state(name: str, folder: Path) -> dict[str, Any]:
    import torch

    torch.save(_fitted(name)[0].state_dict(), folder / "model.pt")
    return _source(name, folder)


def _safetensors(name: str, folder: Path) -> dict[str, Any]:
    from safetensors.torch import save_file

    save_file(_fitted(name)[0].state_dict(), folder / "model.safetensors")
    return _source(name, folder)


def _source(name: str, folder: Path) -> dict[str, Any]:
    from tests.translation.models import torch_nets

    shutil.copy(torch_nets.__file__, folder / "nets.py")
    arguments = {"arguments": {"width": 32}} if name in ("Dense", "Half") else {}
    return {"source": "nets.py", "class": name, "inputs": _inputs(name), **arguments}


def _inputs(name: str) -> list[dict[str, Any]]:
    return [{"name": one, "dtype": dtype, "shape": shape} for one, dtype, shape in _KINDS[name][1]]


def _declare(
    form: str, format: str, net: str, save: Callable[[str, Path], dict[str, Any]], refused: str | None = None
) -> None:
    def train(folder: Path) -> None:
        import numpy as np

        os.environ["KERAS_BACKEND"] = "torch"
        from tests.translation.models import keras_layers

        stated = save(net, folder / "model")
        if stated:
            (folder / "model" / "signature.json").write_text(json.dumps(stated))
        inputs = _KINDS[net][1]
        if len(inputs) == 1 and None not in inputs[0][2][1:]:
            (folder / "test").mkdir()
            np.savez(folder / "test" / "rows.npz", X=keras_layers.rows()[0][keras_layers.TESTED])

    MODELS.add(format, _KINDS[net][0], name=f"{form}_{net.lower()}", refused=refused)(train)


def _declare_keras(built: str, kind: str, refused: str | None = None) -> None:
    def train(folder: Path) -> None:
        import numpy as np

        os.environ["KERAS_BACKEND"] = "torch"
        from tests.translation.models import keras_layers

        model, test = keras_layers.trained(built)
        if test is not None:
            (folder / "test").mkdir()
            np.savez(folder / "test" / "rows.npz", X=test)
        model.save(folder / "model" / "model.keras")
        stated = {"framework": "keras-torch", "model": "model.keras"}
        (folder / "model" / "signature.json").write_text(json.dumps(stated))

    MODELS.add(KERAS, kind, name=f"keras_torch_{built}", refused=refused)(train)


for _net in ("Dense", "Convolutional", "Gated", "Attention", "Multi", "Tokens", "Half"):
    _declare("pt2", EXPORTED, _net, _exported)
for _net in ("Dense", "Convolutional", "Recurrent", "Gated", "Multi", "Tokens", "Half", "Quantised"):
    _declare("script", SCRIPT, _net, _scripted)
_declare("script", SCRIPT, "Attention", _scripted, "is_autocast_enabled.*torch.export.save")
_declare("trace", SCRIPT, "Recurrent", _traced)
_declare("trace", SCRIPT, "Attention", _traced, "_transformer_encoder_layer_fwd.*torch.export.save")
for _net in _KINDS:
    _declare("state", STATE, _net, _state)
_declare("safetensors", STATE, "Convolutional", _safetensors)
for _built, _kind in (
    ("dense", "dense"), ("convolutional", "convolutional"), ("gru", "recurrent"), ("attention", "attention"),
    ("multi", "several inputs or outputs"), ("integer", "integer inputs"), ("half", "float16 inputs"),
):  # fmt: skip
    _declare_keras(_built, _kind)
_declare_keras("recurrent", "recurrent", "recurrent layers of Keras on PyTorch")


if __name__ == "__main__":
    MODELS.main()
