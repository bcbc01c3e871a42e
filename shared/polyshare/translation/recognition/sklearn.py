"""scikit-learn: skops archives, pickles and joblib files that name its modules."""

from __future__ import annotations

from pathlib import Path

from polyshare.translation.recognition import content


def recognises(path: Path) -> bool:
    if content.lists_member(path, "schema.json"):  # the member that skops writes
        return True
    pickle = content.unpacked(content.head(path))
    return content.is_pickle(pickle) and b"sklearn." in pickle
