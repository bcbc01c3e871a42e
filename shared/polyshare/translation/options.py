"""What may be asked of a translation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from polyshare.errors import Invalid
from polyshare.translation import agreement
from polyshare.translation.agreement import Tolerance


@dataclass(frozen=True, slots=True)
class Options:
    """What may be asked for. Raises Invalid on what can't be, tolerances looser than the stated ones included."""

    opset: int | None = None  # default: the newest that the converter and ONNX Runtime both take
    dtype: str | None = None  # of floating inputs; default float64 where converter and runtime take it, else float32
    rows: int | None = None  # random rows; default 1,024
    tolerances: Mapping[str, Tolerance] = field(default_factory=lambda: agreement.TOLERANCES)
    most_affected: float = agreement.MOST_AFFECTED

    def __post_init__(self) -> None:
        if self.opset is not None and not 7 <= self.opset <= 26:
            raise Invalid(f"opset {self.opset} can't be asked for: name one of 7 to 26")
        if self.dtype not in (None, "float32", "float64"):
            raise Invalid(f"dtype {str(self.dtype)[:50]!r} is not float32 or float64")
        if self.rows is not None and not agreement.FEWEST_ROWS <= self.rows <= 100_000:
            raise Invalid(f"rows must be {agreement.FEWEST_ROWS} to 100000, not {self.rows}")
        if not 0 <= self.most_affected <= agreement.MOST_AFFECTED:
            raise Invalid(f"most_affected can be tightened only: 0 to {agreement.MOST_AFFECTED}")

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Options:
        """Read a job document's options; raises Invalid on unknown names and wrong types."""
        kinds = {"opset": int, "dtype": str, "rows": int, "most_affected": (int, float), "tolerances": dict}
        known = {name: value for name, value in document.items() if value is not None}
        for name, value in known.items():
            if name not in kinds or isinstance(value, bool) or not isinstance(value, kinds[name]):  # type: ignore[arg-type]
                raise Invalid(f"translation option {name[:50]!r} = {str(value)[:50]} is not one of {', '.join(kinds)}")
        if "tolerances" in known:
            known["tolerances"] = agreement.tightened(known["tolerances"])
        return cls(**known)
