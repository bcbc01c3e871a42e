"""Which models the tests train and translate, and so the cells of the matrix in docs/translation.md.

A module of tests/translation/models declares those of a framework. It is imported in two places: by the tests, which
have no framework, and as a program in the framework's environment, where it trains one of its models:
`python -m tests.translation.models.<module> NAME FOLDER` writes FOLDER/model/… and, where there are, test data
FOLDER/test/…. So only functions import the framework.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

MODULES = ("sklearn", "boosting", "tensorflow", "torch", "jax", "onnx")
KINDS = (
    "dense",
    "convolutional",
    "recurrent",
    "attention",
    "tree ensemble",
    "text with strings",
    "several inputs or outputs",
    "dynamic batch",
    "integer inputs",
    "float16 inputs",
    "quantised",
)


@dataclass(frozen=True)
class Model:
    """A model that a test trains and translates. It shows its format × each of its kinds, and × dynamic batch, unless
    it is `refused`: then its translation fails, and the sentence, which must match this, is what the cells say."""

    name: str
    format: str
    kinds: tuple[str, ...]
    environment: str
    module: str  # that declares it
    train: Callable[[Path], None]
    light: bool  # in make test
    refused: str | None


class Models:
    """The models of one module. `cannot` has, by format, the kinds that a format has no models of, and why."""

    def __init__(self, module: str, environment: str, cannot: dict[str, dict[str, str]]) -> None:
        self.module, self.environment, self.cannot = f"tests.translation.models.{module}", environment, cannot
        self.all: dict[str, Model] = {}

    def add(
        self, format: str, *kinds: str, name: str = "", light: bool = False, refused: str | None = None
    ) -> Callable[[Callable[[Path], None]], Callable[[Path], None]]:
        """Declares the decorated function, which trains the model, by its name."""
        assert format in self.cannot, f"{format} is not among the formats"
        assert set(kinds) <= set(KINDS), kinds

        def declare(train: Callable[[Path], None]) -> Callable[[Path], None]:
            one = name or train.__name__
            assert one not in self.all, one
            self.all[one] = Model(one, format, kinds, self.environment, self.module, train, light, refused)
            return train

        return declare

    def main(self) -> None:
        """Trains the model that the command line names."""
        name, folder = sys.argv[1], Path(sys.argv[2])
        assert not folder.exists()
        (folder / "model").mkdir(parents=True)
        self.all[name].train(folder)


def modules() -> list[Models]:
    return [importlib.import_module(f"tests.translation.models.{name}").MODELS for name in MODULES]


def models() -> dict[str, Model]:
    """All models, by name."""
    found: dict[str, Model] = {}
    for module in modules():
        assert not found.keys() & module.all.keys(), "two models have one name"
        found |= module.all
    return found


def reasons() -> dict[tuple[str, str], str]:
    """Why a format has no models of a kind, by both."""
    return {
        (format, kind): why
        for module in modules()
        for format, kinds in module.cannot.items()
        for kind, why in kinds.items()
    }


def csv(folder: Path, x: object, y: object) -> None:
    """Test data as FOLDER/test/rows.csv with a column `target`."""
    import numpy as np

    array = np.asarray(x)
    (folder / "test").mkdir()
    header = ",".join([f"x{i}" for i in range(array.shape[1])] + ["target"])
    rows = np.column_stack([array, np.asarray(y)])
    np.savetxt(folder / "test" / "rows.csv", rows, delimiter=",", header=header, comments="", fmt="%.17g")
