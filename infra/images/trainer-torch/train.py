"""Trains a network with PyTorch: the trainer used when no source is given (network.py says on what).

Writes model.safetensors, which repeats byte for byte where torch.save does not, its source model.py, signature.json and
metrics.json.
"""

from __future__ import annotations

import shutil
from typing import Any

import data
import mlp
import network
import numpy as np
import torch
from safetensors.torch import save_file
from torch.nn import functional


def fit(plan: network.Plan, rows: network.Rows) -> tuple[network.Predict, dict[str, Any]]:
    """The trained network, saved with its source."""
    torch.set_num_threads(1)  # thread counts change the order of sums, and so the weights
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(plan.seed)
    arguments = {
        "features": rows.x.shape[1],
        "hidden": list(plan.hidden_layer_sizes),
        "outputs": rows.outputs,
        "activation": plan.activation,
        "classifies": plan.classifies,
    }
    model = mlp.MLP(**arguments)
    model.mean.copy_(torch.from_numpy(rows.mean))
    model.deviation.copy_(torch.from_numpy(rows.deviation))
    if not plan.classifies:
        model.offset.fill_(rows.offset)
        model.factor.fill_(rows.factor)
    x = torch.from_numpy(rows.x)
    y = torch.from_numpy(rows.y if plan.classifies else (rows.y[:, None] - rows.offset) / rows.factor)
    loss_of = functional.cross_entropy if plan.classifies else functional.mse_loss
    optimiser = torch.optim.Adam(model.parameters(), plan.learning_rate_init)
    for _ in range(plan.max_iter):
        for some in torch.randperm(len(x)).split(plan.batch_size):
            loss = loss_of(model.scores(x[some]), y[some])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    model.eval()
    save_file(model.state_dict(), network.ROOT / "model" / "model.safetensors")
    shutil.copy(mlp.__file__, network.ROOT / "model" / "model.py")
    said = {
        "framework": "pytorch",
        "framework_version": torch.__version__,
        "model": "model.safetensors",
        "source": "model.py",
        "class": "MLP",
        "arguments": arguments,
    }
    return lambda given: _answers(model, given), said


def _answers(model: mlp.MLP, x: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return model(torch.from_numpy(x)).numpy()


if __name__ == "__main__":
    data.main(lambda: network.train(fit))
