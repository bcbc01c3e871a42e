"""Loads a scikit-learn model and says what it takes and gives. Runs only inside a sandbox: loading runs its code."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from harness import Unsupported

STRINGS = ("str", "string", "object")


def load(path: Path) -> tuple[Any, dict[str, Any]]:
    """The estimator in `path` (skops, joblib or pickle) and how it was loaded. Raises Unsupported."""
    warnings.filterwarnings("ignore")
    how: dict[str, Any]
    if _is_zip(path):
        import skops.io

        # Trusting what the file asks for is safe here alone: nothing but this sandbox can be harmed, and the
        # certificate lists the types.
        asked = sorted(skops.io.get_untrusted_types(file=path))
        model = skops.io.load(path, trusted=asked)
        how = {"loaded_by": "skops", "untrusted_types": asked}
    else:
        import joblib

        model = joblib.load(path)
        how = {"loaded_by": "joblib", "untrusted_types": ["any: a pickle is a program"]}
    if not (hasattr(model, "get_params") and hasattr(model, "fit")):
        raise Unsupported(f"{path.name} holds a {type(model).__name__}, not a scikit-learn estimator or pipeline")
    return model, how


def inputs_of(model: Any, stated: list[dict[str, Any]], dtype: str) -> list[dict[str, Any]]:
    """The tensors the model takes: name, dtype, shape (null for the batch), and hints for making inputs.

    `dtype` is that of the floating inputs. What the model's description states about names and other dtypes is kept.
    """
    derived = _derived_inputs(model, dtype)
    check_stated(stated, derived)
    if len(stated) == len(derived):
        for mine, theirs in zip(derived, stated, strict=True):
            mine["name"] = str(theirs.get("name") or mine["name"])
            said = str(theirs.get("dtype", mine["dtype"]))
            if said in STRINGS:
                mine["dtype"] = "string"
            elif not said.startswith("float"):
                mine["dtype"] = "bool" if said == "bool" else "int64" if "int" in said else mine["dtype"]
    return derived


def check_stated(stated: list[dict[str, Any]], derived: list[dict[str, Any]]) -> None:
    """Raises Unsupported if the model's description states other inputs than the model has."""
    if not stated or len(stated) == len(derived) > 1:
        return
    one = (stated[0].get("shape") or [None])[1:]
    said = len(stated) if len(stated) > 1 else one[0] if len(one) == 1 else None
    takes = (
        int(np.prod([size or 1 for one in derived for size in one["shape"][1:]])) if len(derived) == 1 else len(derived)
    )
    if said is not None and said != takes and derived[0]["dtype"] != "string":
        raise Unsupported(
            f"the model's description states {said} input columns, the model takes {takes}: correct its inputs, "
            "or leave them out"
        )


def outputs_of(model: Any) -> list[dict[str, str]]:
    """The outputs a translation has: name, role (label, scores or values) and the method that gives it natively."""
    kind = getattr(model, "_estimator_type", None) or _kind(model)
    label = {"name": "label", "role": "label", "method": "predict"}
    if kind == "classifier":
        if callable(getattr(model, "predict_proba", None)):
            return [label, {"name": "probabilities", "role": "scores", "method": "predict_proba"}]
        return [label, {"name": "scores", "role": "scores", "method": "decision_function"}]
    if kind == "clusterer":
        return [label, {"name": "scores", "role": "values", "method": "transform"}]
    if kind == "outlier_detector":
        return [label, {"name": "scores", "role": "values", "method": "decision_function"}]
    if kind == "density_estimator":
        return [label, {"name": "probabilities", "role": "scores", "method": "predict_proba"}]
    if kind == "regressor":
        return [{"name": "prediction", "role": "values", "method": "predict"}]
    if hasattr(model, "transform"):
        return [{"name": "features", "role": "values", "method": "transform"}]
    raise Unsupported(f"a {type(model).__name__} neither predicts nor transforms: there is nothing to translate")


def labels(model: Any) -> list[Any]:
    """The classes in the order of their scores; none for what has no classes."""
    classes = getattr(model, "classes_", None)
    return [] if classes is None else [_plain(one) for one in classes]


def native_batch(model: Any, inputs: list[dict[str, Any]], arrays: dict[str, np.ndarray]) -> Any:
    """The arrays of one batch as the model takes them: floats widened to the float64 that scikit-learn computes in
    (exact: the numbers are the same), columns joined, a table with column names where the model selects by name."""
    if len(inputs) == 1:
        array = arrays[inputs[0]["name"]]
        if inputs[0]["dtype"] == "string":
            array = array.astype(object)
            return array.reshape(-1) if _takes_text(model) else array
        return array.astype(np.float64) if array.dtype.kind == "f" else array
    columns = [arrays[one["name"]].reshape(-1) for one in inputs]
    columns = [
        c.astype(object) if c.dtype.kind == "U" else c.astype(np.float64) if c.dtype.kind == "f" else c for c in columns
    ]
    names = getattr(model, "feature_names_in_", None)
    if names is not None:
        import pandas

        return pandas.DataFrame(dict(zip(names, columns, strict=True)))
    return np.column_stack([column.astype(object) for column in columns])


def steps(model: Any) -> list[Any]:
    """The estimators of a pipeline in order, nested ones included; a lone estimator is its own only step."""
    if hasattr(model, "steps"):
        return [inner for _, step in model.steps if step not in (None, "passthrough") for inner in steps(step)]
    return [model]


def _is_zip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"PK\x03\x04"


def _kind(model: Any) -> str:
    from sklearn.utils import get_tags

    return get_tags(model).estimator_type or ""


def _takes_text(model: Any) -> bool:
    return hasattr(steps(model)[0], "build_analyzer")


def _derived_inputs(model: Any, dtype: str) -> list[dict[str, Any]]:
    first = steps(model)[0]
    if _takes_text(model):
        words = sorted(getattr(first, "vocabulary_", {}))[:200]
        return [{"name": "text", "dtype": "string", "shape": [None, 1], "text": words}]
    width = getattr(model, "n_features_in_", None)
    if width is None:
        raise Unsupported(f"a {type(first).__name__} does not say how many features it takes: fit it before saving")
    if hasattr(first, "transformers_"):
        columns = _columns(first, int(width), dtype)
        if any(column["dtype"] != dtype for column in columns) or not all(
            isinstance(spec, int | slice | np.ndarray) or _all_int(spec) for _, _, spec in first.transformers_
        ):
            return columns
    kind = _category_dtype(getattr(first, "categories_", None)) or dtype
    one: dict[str, Any] = {"name": "X", "dtype": kind, "shape": [None, int(width)]}
    one.update(_hints(model, first))
    return [one]


def _columns(transformer: Any, width: int, dtype: str) -> list[dict[str, Any]]:
    names = getattr(transformer, "feature_names_in_", None)
    names = [str(n) for n in names] if names is not None else [f"c{i}" for i in range(width)]
    columns: list[dict[str, Any]] = [{"name": n, "dtype": dtype, "shape": [None, 1]} for n in names]
    for _, inner, spec in transformer.transformers_:
        if isinstance(inner, str):
            continue
        indices = _indices(spec, names)
        first = steps(inner)[0]
        if hasattr(first, "build_analyzer"):
            for index in indices:
                columns[index].update(dtype="string", text=sorted(first.vocabulary_)[:200])
        for position, index in enumerate(indices):
            for step in steps(inner):
                categories = getattr(step, "categories_", None)
                if categories is not None and position < len(categories):
                    kind = _category_dtype([categories[position]])
                    if kind:
                        columns[index]["dtype"] = kind
                    columns[index]["categories"] = [_plain(v) for v in categories[position][:200]]
                    break
            low_high = _hints(inner, first).get("range")
            if low_high and position < len(low_high):
                columns[index]["range"] = [low_high[position]]
    return columns


def _indices(spec: Any, names: list[str]) -> list[int]:
    if isinstance(spec, str):
        return [names.index(spec)]
    if isinstance(spec, int | np.integer):
        return [int(spec)]
    if isinstance(spec, slice):
        return list(range(len(names)))[spec]
    values = list(np.asarray(spec).tolist())
    if values and all(isinstance(v, bool) for v in values):
        return [i for i, chosen in enumerate(values) if chosen]
    return [names.index(v) if isinstance(v, str) else int(v) for v in values]


def _all_int(spec: Any) -> bool:
    return isinstance(spec, list | tuple) and all(isinstance(v, int | np.integer) for v in spec)


def _category_dtype(categories: Any) -> str | None:
    if categories is None:
        return None
    kinds = {np.asarray(c).dtype.kind for c in categories}
    if kinds <= {"U", "O", "S", "T"}:
        return "string"
    return "int64" if kinds <= {"i", "u"} else None


def _hints(model: Any, first: Any) -> dict[str, Any]:
    """Where the data lay, as far as the fitted model still knows: it makes the generated inputs meaningful."""
    categories = getattr(first, "categories_", None)
    if categories is not None:
        return {"columns": [[_plain(v) for v in c[:200]] for c in categories]}
    low = high = None
    if hasattr(first, "data_min_"):
        low, high = first.data_min_, first.data_max_
    elif getattr(first, "mean_", None) is not None and getattr(first, "scale_", None) is not None:
        low, high = first.mean_ - 3 * first.scale_, first.mean_ + 3 * first.scale_
    elif hasattr(first, "cluster_centers_"):
        low, high = first.cluster_centers_.min(axis=0), first.cluster_centers_.max(axis=0)
    elif hasattr(first, "estimators_") or hasattr(first, "tree_"):
        return _tree_range(first)
    elif getattr(first, "_fit_X", None) is not None and isinstance(first._fit_X, np.ndarray):
        low, high = first._fit_X.min(axis=0), first._fit_X.max(axis=0)
    elif isinstance(getattr(first, "support_vectors_", None), np.ndarray):
        low, high = first.support_vectors_.min(axis=0), first.support_vectors_.max(axis=0)
    elif hasattr(first, "_bin_mapper"):
        edges = [t if len(t) else np.zeros(1) for t in first._bin_mapper.bin_thresholds_]
        low, high = np.array([e[0] - 1 for e in edges]), np.array([e[-1] + 1 for e in edges])
    if low is None or high is None or np.ndim(low) != 1 or not np.all(np.isfinite([low, high])):
        return {}
    return {"range": [[float(a), float(b)] for a, b in zip(low, high, strict=True)]}


def _tree_range(first: Any) -> dict[str, Any]:
    width = int(first.n_features_in_)
    low, high = np.zeros(width), np.zeros(width)
    for one in np.ravel(getattr(first, "estimators_", [first])):
        tree = getattr(one, "tree_", None)
        if tree is not None:
            inner = tree.feature >= 0
            np.minimum.at(low, tree.feature[inner], tree.threshold[inner])
            np.maximum.at(high, tree.feature[inner], tree.threshold[inner])
    return {"range": [[float(a) - 1, float(b) + 1] for a, b in zip(low, high, strict=True)]}


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value if isinstance(value, int | float) else str(value)
