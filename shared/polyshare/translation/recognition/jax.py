"""JAX and Flax: Python source that imports them."""

from __future__ import annotations

import re
from pathlib import Path

from polyshare.translation.recognition import content

_IMPORTS = re.compile(rb"^\s*(import|from)\s+(jax|flax)\b", re.MULTILINE)


def recognises(path: Path) -> bool:
    return path.suffix == ".py" and _IMPORTS.search(content.head(path)) is not None
