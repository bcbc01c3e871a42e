"""scikit-learn: skops archives, pickles and joblib files that name its modules."""

from __future__ import annotations

import re
from pathlib import Path

from polyshare.translation.recognition import content

_BOOSTERS = re.compile(rb"xgboost|lightgbm|catboost")
_MOST_SCHEMA = 8 * 1024 * 1024


def recognises(path: Path) -> bool:
    """Estimators and pipelines, but those with boosted trees of another package."""
    said = _said(path)
    return said is not None and not _BOOSTERS.search(said)


def booster(path: Path) -> str | None:
    """Whose boosted trees are among a file's estimators: "xgboost", "lightgbm", "catboost" or None."""
    said = _said(path)
    found = _BOOSTERS.search(said) if said is not None else None
    return found[0].decode() if found else None


def _said(path: Path) -> bytes | None:
    """What of a skops archive, a pickle or a joblib file names the modules of its objects; None if it is none."""
    schema = content.member(path, "schema.json", _MOST_SCHEMA)  # the member that skops writes
    if schema is not None:
        return schema
    pickle = content.unpacked(content.head(path))
    named = b"sklearn." in pickle or _BOOSTERS.search(pickle)
    return pickle if content.is_pickle(pickle) and named else None
