"""What agreement means: the stated tolerances, and the judgement of what was measured (docs/agreement.md)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import msgspec

from polyshare.errors import Invalid

Verdict = Literal["agrees", "agrees_except", "disagrees"]

JUDGED = ("test", "random", "edge", "nan", "unknown", "searched")  # origins that count for the verdict
FEWEST_ROWS = 64  # compared rows below which nothing is certified
CONFIDENCE = 0.95


class Tolerance(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An answer is within if |onnx − native| ≤ absolute × scale + relative × |native|, scale being the size of the
    native model's ordinary answers to this output."""

    absolute: float
    relative: float

    def __post_init__(self) -> None:
        if not (0 <= self.absolute < math.inf and 0 <= self.relative < math.inf):
            raise ValueError("a tolerance is a finite number, zero or above")


# By the lowest precision that the output is computed in. They can be tightened for a translation, never loosened.
TOLERANCES: Mapping[str, Tolerance] = {
    "float16": Tolerance(absolute=5e-3, relative=5e-3),
    "float32": Tolerance(absolute=2e-5, relative=1e-4),
    "float64": Tolerance(absolute=1e-9, relative=1e-8),
}
MOST_AFFECTED = 0.001  # share of inputs on which a discontinuous model may fall on the other side of a jump


class Measures(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Counts and largest differences over some inputs."""

    rows: int
    rows_outside: int  # with an answer outside the tolerance, or a label that differs without a tie
    nonfinite_differs: int  # rows where one side is NaN or infinite and the other is not, or otherwise
    shape_differs: int
    labels_differ: int  # of scores without a label of their own: rows whose largest score is of another class
    labels_tied: int  # labels that differ where the native scores are tied within the tolerance
    max_ulp: int  # in the type of the ONNX output; at most 2^53 − 1
    max_absolute: float
    max_relative: float  # over answers above the absolute tolerance


class Answered(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How many rows of one origin each side answered."""

    rows: int
    both: int
    native_refused: int
    onnx_failed: int  # the native model answered, ONNX Runtime did not


class Output(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What was measured of one output."""

    name: str
    role: Literal["label", "scores", "values"]
    method: str  # the native method that gives it
    dtype: str
    precision: Literal["float16", "float32", "float64"]
    jumps: list[str]  # operators before it that jump; empty for a continuous output
    scale: float
    by_origin: dict[str, Measures]
    cast: Measures | None  # the native model against itself: on cast inputs and on those registered; never judged
    nan_open: list[str] = []  # operators before it of which it is open what they make of NaN: such rows are not judged
    classes: list[str] = []  # of a label, in the order of its scores
    has_classes: bool = False  # a label, or scores without a label, whose largest is taken for it

    @property
    def judged(self) -> tuple[str, ...]:
        """The origins that count for the verdict."""
        return tuple(origin for origin in JUDGED if origin != "nan" or not self.nan_open)

    @property
    def is_label(self) -> bool:
        return self.role == "label" or self.dtype == "string"


class Measured(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the gate's verify.py measured, over all rounds of inputs."""

    answered: dict[str, Answered]
    native_refusals: list[str]
    onnx_failures: list[str]
    ratios: list[float]  # of each round, the largest difference of a judged row as a multiple of what is allowed
    outputs: list[Output]


class Bound(msgspec.Struct, frozen=True):
    """Agreement of classes over independent rows, with a one-sided Clopper–Pearson bound."""

    origin: str
    rows: int
    agreeing: int
    lower_bound: float
    confidence: float = CONFIDENCE
    output: str = ""


def judge(measured: Measured, most_affected: float) -> tuple[Verdict, list[str]]:
    """Whether the translation agrees, and in words why not, or what it is excepted from."""
    reasons: list[str] = []
    excepted: list[str] = []
    compared = 0
    for origin, one in measured.answered.items():
        if origin in JUDGED:
            compared += one.both
            if one.onnx_failed:
                reasons.append(f"ONNX Runtime failed on {one.onnx_failed} of {one.rows} {origin} rows")
            if one.native_refused and origin in ("test", "random", "edge"):
                reasons.append(f"the native model refused {one.native_refused} of {one.rows} {origin} rows")
    if compared < FEWEST_ROWS:
        reasons.append(f"only {compared} rows were answered by both: at least {FEWEST_ROWS} are needed")
    continuous_scores = any(o.role == "scores" and not o.jumps for o in measured.outputs)
    for output in measured.outputs:
        judged = {origin: m for origin, m in output.by_origin.items() if origin in output.judged}
        rows, outside = sum(m.rows for m in judged.values()), sum(m.rows_outside for m in judged.values())
        if sum(m.shape_differs for m in judged.values()):
            reasons.append(f"output {output.name!r} has another shape than {output.method}() gives natively")
        elif not outside:
            continue
        elif output.jumps and not (output.is_label and continuous_scores) and _few(judged, most_affected):
            excepted.append(
                f"output {output.name!r} differs on {outside} of {rows} rows, where {', '.join(output.jumps)} jumps"
            )
        else:
            worst = max(m.max_absolute for m in judged.values())
            what = "labels differ" if output.is_label else f"differences reach {worst:.3g}"
            reasons.append(f"output {output.name!r} is outside the tolerance on {outside} of {rows} rows: {what}")
    if reasons:
        return "disagrees", reasons
    return ("agrees_except", excepted) if excepted else ("agrees", [])


def _few(judged: Mapping[str, Measures], most_affected: float) -> bool:
    """Whether few rows are outside. A search goes where jumps are, so the rows it found say nothing of the share."""
    counted = [m for origin, m in judged.items() if origin != "searched"]
    return sum(m.rows_outside for m in counted) <= most_affected * sum(m.rows for m in counted)


def bounds(measured: Measured) -> list[Bound]:
    """For outputs that tell classes: the agreement on test rows and on random rows, each with its confidence bound."""
    found = []
    for output in measured.outputs:
        for origin in ("test", "random"):
            one = output.by_origin.get(origin)
            if output.has_classes and one is not None and one.rows:
                agreeing = one.rows - one.labels_differ
                found.append(Bound(origin, one.rows, agreeing, lower_bound(agreeing, one.rows), output=output.name))
    return found


def lower_bound(agreeing: int, rows: int) -> float:
    """One-sided Clopper–Pearson lower bound of a share at CONFIDENCE (C. Clopper, E. Pearson 1934), to nine digits."""
    if agreeing == 0:
        return 0.0

    def at_least(share: float) -> float:  # P(X ≥ agreeing) for X ~ Binomial(rows, share)
        logs = [
            math.lgamma(rows + 1)
            - math.lgamma(k + 1)
            - math.lgamma(rows - k + 1)
            + k * math.log(share)
            + (rows - k) * math.log1p(-share)
            for k in range(agreeing, rows + 1)
        ]
        top = max(logs)
        return math.exp(top) * math.fsum(math.exp(one - top) for one in logs)

    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        if at_least(middle) < 1 - CONFIDENCE:
            low = middle
        else:
            high = middle
    return math.floor(low * 1e9) / 1e9


def tightened(asked: Mapping[str, object]) -> dict[str, Tolerance]:
    """The stated tolerances with those asked for in their place. Raises Invalid on one that is looser."""
    try:
        wanted = msgspec.convert(asked, dict[str, Tolerance])
    except (msgspec.ValidationError, ValueError) as error:
        raise Invalid(f"tolerances can't be read: {error}") from error
    for precision, one in wanted.items():
        stated = TOLERANCES.get(precision)
        if stated is None:
            raise Invalid(f"there is no tolerance for {precision[:50]!r}: name one of {', '.join(TOLERANCES)}")
        if one.absolute > stated.absolute or one.relative > stated.relative:
            raise Invalid(
                f"the tolerance asked for {precision} is looser than the stated one "
                f"(absolute {stated.absolute:g}, relative {stated.relative:g}): it can be tightened only"
            )
    return {**TOLERANCES, **wanted}
