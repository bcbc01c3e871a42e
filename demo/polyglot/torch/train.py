"""Trains a small network on digits with PyTorch: model.pt2, an exported program."""

import json
import os
from pathlib import Path

import numpy as np
import torch
from torch import nn

MODEL = Path(os.environ["SM_MODEL_DIR"])

torch.manual_seed(0)
torch.use_deterministic_algorithms(True)
torch.set_num_threads(1)
rows = np.loadtxt(Path(os.environ["SM_CHANNEL_TRAIN"], "digits.csv"), delimiter=",", skiprows=1)
pixels, digits = torch.tensor(rows[:, :-1], dtype=torch.float32), torch.tensor(rows[:, -1], dtype=torch.int64)


class Classifier(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.last = nn.Linear(64, 64), nn.Linear(64, 10)

    def logits(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.last(torch.relu(self.hidden(pixels / 16)))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return torch.softmax(self.logits(pixels), dim=1)


model = Classifier()
optimizer = torch.optim.Adam(model.parameters(), 0.003)
for _ in range(40):
    for some in torch.randperm(len(pixels)).split(64):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model.logits(pixels[some]), digits[some]).backward()
        optimizer.step()
batch = torch.export.Dim("batch", min=1)
program = torch.export.export(model.eval(), (pixels[:2],), dynamic_shapes={"pixels": {0: batch}})
torch.export.save(program, MODEL / "model.pt2")
signature = {"framework": "pytorch", "model": "model.pt2", "target": "digit"}
(MODEL / "signature.json").write_text(json.dumps(signature))
