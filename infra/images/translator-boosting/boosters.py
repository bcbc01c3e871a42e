"""Models of XGBoost, LightGBM and CatBoost: files of their own, and estimators, alone or as a pipeline's last step."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import loading
from harness import Unsupported
from sklearn.pipeline import Pipeline

PACKAGES = ("xgboost", "lightgbm", "catboost")


@dataclass
class Booster:
    """A model as it was found."""

    package: str  # one of PACKAGES
    model: Any  # the booster of a file; the estimator; the pipeline
    last: Any  # the booster or the estimator itself
    before: Pipeline | None  # the pipeline's other steps
    is_file: bool  # of the package's own format
    how: dict[str, Any]

    @property
    def module(self) -> Any:
        """The module here that knows the package."""
        return importlib.import_module(f"{self.package}_model")

    @property
    def kind(self) -> str:
        steps = [self.last] if self.is_file else loading.steps(self.model)
        return " > ".join(type(step).__name__ for step in steps)[:500]


def load(path: Path) -> Booster:
    """The model in `path`. Raises Unsupported if there is no booster, or not at the end of a pipeline."""
    package = package_of(path)
    if package:
        module = importlib.import_module(f"{package}_model")
        try:
            model = module.read(path)
        except Exception as error:  # the packages' own errors have no common class, and some go on with a stack
            said = str(error).partition("Stack trace")[0]
            raise Unsupported(f"{module.NAME} can't read {path.name}: {' '.join(said.split())[:500]}") from error
        return Booster(package, model, model, None, True, {"loaded_by": package, "untrusted_types": []})
    model, how = loading.load(path)
    steps = loading.steps(model)
    package = type(steps[-1]).__module__.partition(".")[0]
    if package not in PACKAGES:
        raise Unsupported(
            f"{path.name} holds a {type(steps[-1]).__name__}: a model of XGBoost, LightGBM or CatBoost is translated "
            "alone, or as the last step of a pipeline"
        )
    before = Pipeline([(f"s{i}", step) for i, step in enumerate(steps[:-1])]) if len(steps) > 1 else None
    return Booster(package, model, steps[-1], before, False, how)


def package_of(path: Path) -> str:
    """Whose own format the file has, by its first bytes; "" for none."""
    with path.open("rb") as file:
        start = file.read(64)
    if start[:4] == b"CBM1":
        return "catboost"
    if start[:5] == b"tree\n":
        return "lightgbm"
    return "xgboost" if start.lstrip()[:1] == b"{" else ""
