"""A network of dense layers on rows of numbers. It goes into the bundle as model.py: the source of the state dict."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn

ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh, "logistic": nn.Sigmoid, "identity": nn.Identity}


class MLP(nn.Module):
    """X (rows, features) → probabilities (rows, outputs), or with `classifies` false numbers (rows, outputs)."""

    mean: Tensor
    deviation: Tensor
    offset: Tensor
    factor: Tensor

    def __init__(self, features: int, hidden: list[int], outputs: int, activation: str, classifies: bool) -> None:
        super().__init__()
        self.classifies = classifies
        sizes = [features, *hidden]
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise(sizes):
            layers += [nn.Linear(before, after), ACTIVATIONS[activation]()]
        self.layers = nn.Sequential(*layers, nn.Linear(sizes[-1], outputs))
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("deviation", torch.ones(features))
        self.register_buffer("offset", torch.zeros(()))
        self.register_buffer("factor", torch.ones(()))

    def forward(self, X: Tensor) -> Tensor:
        answers = self.scores(X)
        return torch.softmax(answers, -1) if self.classifies else answers * self.factor + self.offset

    def scores(self, rows: Tensor) -> Tensor:
        """Logits of classes, or numbers in units of the target's deviation."""
        return self.layers((rows - self.mean) / self.deviation)
