"""The networks of the PyTorch models; it goes into the bundle where a model comes with its source."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Dense(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(64, width), nn.ReLU(), nn.Dropout(0.1), nn.Linear(width, 10))

    def forward(self, pixels: Tensor) -> Tensor:
        return torch.softmax(self.layers(pixels), -1)


class Half(Dense):
    """As Dense, for half precision."""


class Convolutional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.SiLU(), nn.AvgPool2d(2), nn.Upsample(scale_factor=2),
            nn.Conv2d(8, 8, 3, stride=2, groups=8), nn.GELU(), nn.Flatten(), nn.Linear(72, 10), nn.Softmax(-1),
        )  # fmt: skip

    def forward(self, image: Tensor) -> Tensor:
        return self.layers(image)


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(8, 12, num_layers=2, batch_first=True)
        self.head = nn.Linear(12, 10)

    def forward(self, rows: Tensor) -> Tensor:
        return torch.softmax(self.head(self.lstm(rows)[0][:, -1]), -1)


class Gated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(8, 12, batch_first=True, bidirectional=True)
        self.head = nn.Linear(24, 10)

    def forward(self, rows: Tensor) -> Tensor:
        return torch.softmax(self.head(self.gru(rows)[0][:, -1]), -1)


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.widen = nn.Linear(8, 16)
        self.encoder = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, activation="gelu", batch_first=True)
        self.head = nn.Linear(16, 10)

    def forward(self, rows: Tensor) -> Tensor:
        return torch.softmax(self.head(self.encoder(self.widen(rows)).mean(1)), -1)


class Multi(nn.Module):
    """Halves of the image in, its class and its ink out."""

    def __init__(self) -> None:
        super().__init__()
        self.upper, self.lower = nn.Linear(32, 16), nn.Linear(32, 16)
        self.digit, self.ink = nn.Linear(32, 10), nn.Linear(32, 1)

    def forward(self, upper: Tensor, lower: Tensor) -> tuple[Tensor, Tensor]:
        both = torch.cat([torch.tanh(self.upper(upper)), nn.functional.elu(self.lower(lower))], -1)
        return torch.softmax(self.digit(both), -1), self.ink(both)


class Tokens(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table, self.head = nn.Embedding(50, 8), nn.Linear(8, 4)

    def forward(self, tokens: Tensor) -> Tensor:
        return torch.softmax(self.head(self.table(tokens).mean(1)), -1)


class Quantised(nn.Module):
    """Quantisation as trained for: values are rounded to 256 steps on their way."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(64, 32), nn.Linear(32, 10)

    def forward(self, pixels: Tensor) -> Tensor:
        coarse = torch.fake_quantize_per_tensor_affine(pixels, 1 / 64, 0, -128, 127)
        hidden = torch.fake_quantize_per_tensor_affine(torch.relu(self.first(coarse)), 1 / 32, 0, 0, 255)
        return torch.softmax(self.second(hidden), -1)
