"""How inputs are made and differences measured, shown inside the gate's environment.
`translation_measures.py PROGRAMS`
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

TOLERANCES = {kind: {"absolute": 2e-5, "relative": 1e-4} for kind in ("float16", "float32", "float64")}


def main() -> None:
    sys.path.insert(0, sys.argv[1])
    for check in (
        ulps_are_steps_between_neighbours, missing_values_count_where_they_are_taken, ties_are_counted_apart,
        scores_without_a_label_have_classes, integers_must_be_equal, axes_of_size_1_may_differ_and_no_others,
        an_output_without_rows_is_compared_as_a_whole, inputs_are_the_same_again, inputs_keep_to_what_is_stated,
        a_fixed_batch_is_kept, free_dimensions_have_several_sizes, a_search_keeps_to_what_is_stated,
    ):  # fmt: skip
        check()


def ulps_are_steps_between_neighbours() -> None:
    import measure

    for kind in (np.float16, np.float32, np.float64):
        x = np.array([1.0, -2.5, 1000.0, 3e-5], dtype=kind)
        for steps in (1, 7):
            y = x
            for _ in range(steps):
                y = np.nextafter(y, kind(np.inf))
            assert measure._ulps(x.astype(np.float64), y) == steps
    tiny = np.finfo(np.float32).smallest_subnormal
    assert measure._ulps(np.array([-float(tiny)]), np.array([tiny])) == 2  # through zero
    assert (
        _add("values", [1.0, 2.0], np.array([1.0, np.nextafter(np.float32(2), np.float32(3))], np.float32))["max_ulp"]
        == 1
    )


def missing_values_count_where_they_are_taken() -> None:
    assert _add("values", [np.nan, 2.0], [1.0, 2.0], origin="nan")["rows_outside"] == 0  # NaN natively: not taken
    assert _add("values", [1.0, 2.0], [np.nan, 2.0], origin="nan")["rows_outside"] == 1
    assert _add("values", [np.nan, 2.0], [1.0, 2.0], origin="random")["rows_outside"] == 1
    assert _add("values", [np.nan, np.inf], [np.nan, np.inf])["rows_outside"] == 0


def ties_are_counted_apart() -> None:
    scores = np.array([[0.5, 0.5], [0.9, 0.1]])
    found = _add("label", ["a", "a"], ["b", "b"], classes=["a", "b"], scores=scores)
    assert (found["labels_differ"], found["labels_tied"], found["rows_outside"]) == (2, 1, 1)


def scores_without_a_label_have_classes() -> None:
    found = _add("scores", [[0.1, 0.9], [0.6, 0.4]], [[0.9, 0.1], [0.6, 0.4]])
    assert (found["labels_differ"], found["labels_tied"]) == (1, 0)


def integers_must_be_equal() -> None:
    found = _add("values", np.array([3, 4, 5]), np.array([3, 5, 5]), dtype="uint8")
    assert (found["rows_outside"], found["max_absolute"]) == (1, 1.0)


def axes_of_size_1_may_differ_and_no_others() -> None:
    assert _add("values", np.ones((3, 1, 2)), np.ones((3, 2)))["shape_differs"] == 0
    assert _add("values", np.ones((3, 2, 3)), np.ones((3, 3, 2)))["shape_differs"] == 3
    assert _add("values", np.ones((3, 2)), np.ones((2, 3)))["rows_outside"] == 3


def an_output_without_rows_is_compared_as_a_whole() -> None:
    assert _add("values", np.ones(2), np.ones(2), rows=5)["rows_outside"] == 0
    assert _add("values", np.array(1.0), np.array(2.0), rows=5)["rows_outside"] == 5


def inputs_are_the_same_again() -> None:
    import gate

    made = [gate.inputs(b"onnx", _signature(), None, None)[1] for _ in range(2)]
    other = gate.inputs(b"another", _signature(), None, None)[1]
    first, second, third = (_saved(gate, one) for one in (*made, other))
    assert first == second != third


def inputs_keep_to_what_is_stated() -> None:
    made = _made(_signature())
    tokens, image = _all(made, "tokens"), _all(made, "image")
    assert (tokens.min(), tokens.max()) == (0, 49)
    assert (image.min(), image.max(), image.dtype) == (0, 255, np.uint8)
    share = _all(made, "share")
    ordinary = share[np.isfinite(share) & (np.abs(share) < 1e30)]
    assert 0 <= ordinary.min() <= ordinary.max() <= 1


def a_fixed_batch_is_kept() -> None:
    made = _made({"inputs": [{"name": "x", "dtype": "float32", "shape": [5, 2]}]})
    assert {array.shape for array in made.arrays.values()} == {(5, 2)}
    assert all(len(one["origins"]) == 5 for one in made.plan)


def free_dimensions_have_several_sizes() -> None:
    made = _made(_signature())
    sizes = {array.shape[1] for key, array in made.arrays.items() if key.endswith("/tokens")}
    assert sizes == {4, 9}
    for one in made.plan:  # of one name, of one size
        assert made.arrays[f"{one['batch']}/tokens"].shape[1] == made.arrays[f"{one['batch']}/share"].shape[1]


def a_search_keeps_to_what_is_stated() -> None:
    from rows import Signature, generated
    from search import searched

    signature = Signature.of(_signature(), None)
    rows = generated(signature, 20, np.random.Generator(np.random.PCG64(1)))
    worst = [(1.0 / (i + 1), {name: array[[i]] for name, array in rows.items()}) for i in range(16)]
    made, again = searched(signature, worst, 7, 0), searched(signature, worst, 7, 0)
    assert all(np.array_equal(again.arrays[key], array) for key, array in made.arrays.items())
    for name, most in (("tokens", 49), ("share", 1)):
        assert 0 <= _all(made, name).min() <= _all(made, name).max() <= most
    origins = [origin for one in made.plan for origin in one["origins"]]
    assert (origins.count("searched"), origins.count("random")) == (192, 64)
    assert not searched(signature, [], 7, 0).plan


def _signature() -> dict[str, Any]:
    return {
        "inputs": [
            {"name": "tokens", "dtype": "int64", "shape": [None, "length"], "between": [0, 49]},
            {"name": "share", "dtype": "float32", "shape": [None, "length", 2], "between": [0, 1]},
            {"name": "image", "dtype": "uint8", "shape": [None, 4, 4, 1]},
        ],
        "sizes": {"length": [4, 9]},
    }


def _made(document: dict[str, Any]) -> Any:
    import batches
    from rows import Signature

    return batches.make(Signature.of(document, None), None, 7, None)


def _all(made: Any, name: str) -> np.ndarray:
    return np.concatenate([array.ravel() for key, array in made.arrays.items() if key.endswith(f"/{name}")])


def _saved(gate: Any, made: Any) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        gate.save(made, Path(folder, "inputs.npz"))
        return Path(folder, "inputs.npz").read_bytes()


def _add(
    role: str, native: Any, onnx: Any, *, origin: str = "random", dtype: str = "float32", scores: Any = None,
    classes: list[str] | None = None, rows: int | None = None,
) -> dict[str, Any]:  # fmt: skip
    import measure

    about = {
        "name": "y",
        "role": role,
        "method": "m",
        "dtype": dtype,
        "precision": "float32",
        "jumps": [],
        "nan_open": [],
    }
    one = measure.Output(about, TOLERANCES, classes)
    native, onnx = np.asarray(native), np.asarray(onnx)
    one.scale_from([(native, onnx)])
    one.add([origin] * (len(native) if rows is None else rows), native, onnx, scores)
    found: dict[str, Any] = one.report()["by_origin"][origin]
    return found


if __name__ == "__main__":
    main()
