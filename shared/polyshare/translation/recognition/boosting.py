"""XGBoost, LightGBM and CatBoost: files of their own, and scikit-learn's files that have their estimators."""

from __future__ import annotations

from pathlib import Path

from polyshare.translation.recognition import content, sklearn


def package(path: Path) -> str | None:
    """Whose model a file is: "xgboost", "lightgbm", "catboost" or None."""
    head = content.head(path)
    if head[:4] == b"CBM1":
        return "catboost"
    if head[:13] == b"tree\nversion=":
        return "lightgbm"
    # XGBoost's JSON and UBJSON are one object with "learner" and "version".
    start = head[:64].lstrip()
    if start[:1] == b"{" and (b"learner" in start or (b"version" in start and b"learner" in head)):
        return "xgboost"
    return sklearn.booster(path)
