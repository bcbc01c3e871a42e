"""Models of XGBoost, LightGBM and CatBoost: files of their own, and in scikit-learn's pipelines.

Data: UCI digits, wine, breast cancer and diabetes that scikit-learn ships, and rows made by a stated rule.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.translation.declared import Models, csv

_TREES = {
    **dict.fromkeys(("dense", "convolutional", "recurrent", "attention"), "the library has trees only"),
    "text with strings": "trees take numbers: put them at the end of a scikit-learn pipeline",
    "several inputs or outputs": "one table in, one answer out",
    "integer inputs": "trees compare floats: integers are taken as such",
    "float16 inputs": "trees compare float32 or float64",
    "quantised": "trees have no quantised form",
}
_PIPELINE = {
    **dict.fromkeys(("convolutional", "recurrent", "attention", "dense"), "the last step is a tree ensemble"),
    "integer inputs": _TREES["integer inputs"],
    "float16 inputs": "scikit-learn computes in float64",
    "quantised": _TREES["quantised"],
}
XGBOOST, LIGHTGBM, CATBOOST = "XGBoost json, ubj", "LightGBM txt", "CatBoost cbm"
PIPELINE = "XGBoost, LightGBM, CatBoost in a scikit-learn pipeline"
MODELS = Models(
    "boosting",
    "uv:translator-boosting",
    {XGBOOST: _TREES, LIGHTGBM: _TREES, CATBOOST: _TREES, PIPELINE: _PIPELINE},
)
add = MODELS.add


def digits() -> tuple[Any, Any]:
    from sklearn.datasets import load_digits

    return load_digits(return_X_y=True)


def cancer() -> tuple[Any, Any]:
    from sklearn.datasets import load_breast_cancer

    return load_breast_cancer(return_X_y=True)


def diabetes() -> tuple[Any, Any]:
    from sklearn.datasets import load_diabetes

    return load_diabetes(return_X_y=True)


def with_categories() -> tuple[Any, Any]:
    """Two numbers and a category of seven; the label hangs on all three; some values are missing."""
    import numpy as np

    random = np.random.default_rng(3)
    x = np.column_stack([random.normal(size=600), random.uniform(-2, 2, 600), random.integers(0, 7, 600)])
    y = ((x[:, 0] > 0) ^ np.isin(x[:, 2], [1, 4, 5])).astype(int)
    x[random.random(600) < 0.1, 0] = np.nan
    return x, y


def _xgboost(folder: Path, data: tuple[Any, Any], file: str, rounds: int = 20, **parameters: Any) -> None:
    import xgboost

    x, y = data
    cut = len(x) * 3 // 4
    types = parameters.pop("feature_types", None)
    rows = xgboost.DMatrix(x[:cut], y[:cut], feature_types=types, enable_categorical=bool(types))
    booster = xgboost.train({"nthread": 1, "seed": 0, **parameters}, rows, rounds)
    booster.save_model(folder / "model" / file)
    csv(folder, x[cut:], y[cut:])


@add(XGBOOST, "tree ensemble", light=True)
def xgboost_digits(folder: Path) -> None:
    _xgboost(folder, digits(), "model.json", objective="multi:softprob", num_class=10, max_depth=4)


@add(XGBOOST, "tree ensemble")
def xgboost_softmax_ubj(folder: Path) -> None:
    _xgboost(folder, digits(), "model.ubj", objective="multi:softmax", num_class=10, max_depth=3)


@add(XGBOOST, "tree ensemble")
def xgboost_binary(folder: Path) -> None:
    """Named features, classes named in signature.json."""
    import xgboost

    x, y = cancer()
    rows = xgboost.DMatrix(x, y, feature_names=[f"a column {i}" for i in range(x.shape[1])])
    xgboost.train({"objective": "binary:logistic", "nthread": 1}, rows, 20).save_model(folder / "model" / "model.ubj")
    stated = {"framework": "xgboost", "inputs": [{"name": "cells"}], "classes": ["malignant", "benign"]}
    (folder / "model" / "signature.json").write_text(json.dumps(stated))


@add(XGBOOST, "tree ensemble")
def xgboost_missing_and_categories(folder: Path) -> None:
    types = ["q", "q", "c"]
    _xgboost(folder, with_categories(), "model.json", objective="binary:logistic", feature_types=types)


def _xgboost_objective(objective: str, **parameters: Any) -> None:
    def train(folder: Path) -> None:
        x, y = diabetes()
        if objective.startswith(("binary", "rank")):
            y = (y > 140).astype(int)
        if objective == "reg:logistic":
            y = y / 400
        _xgboost(folder, (x, y), "model.json", objective=objective, **parameters)

    add(XGBOOST, "tree ensemble", name="_".join(["xgboost", objective.partition(":")[2], *parameters]))(train)


for _objective in (
    "reg:squarederror", "reg:absoluteerror", "reg:logistic", "count:poisson", "reg:gamma", "binary:hinge",
    "binary:logitraw", "rank:pairwise",
):  # fmt: skip
    _xgboost_objective(_objective)
_xgboost_objective("reg:squarederror", booster="dart", rate_drop=0.3)
_xgboost_objective("reg:tweedie", num_parallel_tree=3, subsample=0.7)


@add(XGBOOST, refused="booster 'gblinear' is not translated")
def xgboost_gblinear(folder: Path) -> None:
    _xgboost(folder, diabetes(), "model.json", booster="gblinear", objective="reg:squarederror")


def _lightgbm(folder: Path, data: tuple[Any, Any], rounds: int = 20, **parameters: Any) -> None:
    import lightgbm

    x, y = data
    cut = len(x) * 3 // 4
    categories = parameters.pop("categorical_feature", "auto")
    rows = lightgbm.Dataset(x[:cut], y[:cut], categorical_feature=categories)
    fixed = {"num_threads": 1, "verbose": -1, "deterministic": True, "seed": 0, "num_leaves": 8}
    lightgbm.train({**fixed, **parameters}, rows, rounds).save_model(folder / "model" / "model.txt")
    csv(folder, x[cut:], y[cut:])


@add(LIGHTGBM, "tree ensemble")
def lightgbm_digits(folder: Path) -> None:
    _lightgbm(folder, digits(), objective="multiclass", num_class=10)


@add(LIGHTGBM, "tree ensemble")
def lightgbm_one_against_all(folder: Path) -> None:
    _lightgbm(folder, digits(), rounds=5, objective="multiclassova", num_class=10)


@add(LIGHTGBM, "tree ensemble")
def lightgbm_missing_and_categories(folder: Path) -> None:
    _lightgbm(
        folder, with_categories(), objective="binary", categorical_feature=[2], min_data_per_group=5, cat_smooth=1,
        max_cat_to_onehot=2,
    )  # fmt: skip


@add(LIGHTGBM, "tree ensemble")
def lightgbm_zero_is_missing(folder: Path) -> None:
    _lightgbm(folder, digits(), objective="multiclass", num_class=10, zero_as_missing=True, rounds=5)


def _lightgbm_objective(objective: str, **parameters: Any) -> None:
    def train(folder: Path) -> None:
        x, y = diabetes()
        if objective == "binary":
            y = (y > 140).astype(int)
        if objective.startswith("cross"):
            y = y / 400
        _lightgbm(folder, (x, y), objective=objective, **parameters)

    add(LIGHTGBM, "tree ensemble", name="_".join(["lightgbm", objective, *parameters]))(train)


for _objective in ("regression", "quantile", "poisson", "cross_entropy", "cross_entropy_lambda"):
    _lightgbm_objective(_objective)
_lightgbm_objective("regression", reg_sqrt=True)
_lightgbm_objective("binary", sigmoid=2.0)
_lightgbm_objective("binary", boosting="rf", bagging_freq=1, bagging_fraction=0.6)
_lightgbm_objective("regression", boosting="dart")


@add(LIGHTGBM, refused="linear_tree=false")
def lightgbm_linear_trees(folder: Path) -> None:
    _lightgbm(folder, diabetes(), objective="regression", linear_tree=True)


def _catboost(folder: Path, data: tuple[Any, Any], **parameters: Any) -> None:
    import catboost

    x, y = data
    cut = len(x) * 3 // 4
    fixed = {"iterations": 30, "depth": 4, "random_seed": 0, "thread_count": 1, "verbose": 0}
    model = catboost.CatBoost({**fixed, "allow_writing_files": False, **parameters})
    model.fit(x[:cut], y[:cut]).save_model(folder / "model" / "model.cbm")
    if y.dtype.kind != "U":
        csv(folder, x[cut:], y[cut:])


@add(CATBOOST, "tree ensemble")
def catboost_digits(folder: Path) -> None:
    _catboost(folder, digits(), loss_function="MultiClass")


@add(CATBOOST, "tree ensemble")
def catboost_binary(folder: Path) -> None:
    _catboost(folder, cancer(), loss_function="Logloss")


@add(CATBOOST, "tree ensemble")
def catboost_named_classes(folder: Path) -> None:
    import numpy as np

    x, y = digits()
    _catboost(folder, (x, np.array(["even", "odd"])[y % 2]), loss_function="Logloss")


@add(CATBOOST, "tree ensemble")
def catboost_missing(folder: Path) -> None:
    x, y = with_categories()
    _catboost(folder, (x, y), loss_function="Logloss")


@add(CATBOOST, "tree ensemble")
def catboost_regression(folder: Path) -> None:
    _catboost(folder, diabetes(), loss_function="RMSE")


@add(CATBOOST, "tree ensemble")
def catboost_poisson(folder: Path) -> None:
    _catboost(folder, diabetes(), loss_function="Poisson")


@add(CATBOOST, refused=r"categorical features to ONNX \(features \[2\]\).*encode them as numbers")
def catboost_categories(folder: Path) -> None:
    import catboost

    x, y = with_categories()
    rows = [[*row[:2], str(int(row[2]))] for row in x.tolist()]
    model = catboost.CatBoostClassifier(iterations=5, verbose=0, allow_writing_files=False, cat_features=[2])
    model.fit(rows, y).save_model(str(folder / "model" / "model.cbm"))


@add(PIPELINE, "tree ensemble")
def scaled_xgboost_skops(folder: Path) -> None:
    import skops.io
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from xgboost import XGBClassifier

    x, y = digits()
    model = make_pipeline(StandardScaler(), XGBClassifier(n_estimators=8, max_depth=4, n_jobs=1))
    skops.io.dump(model.fit(x[:900], y[:900]), folder / "model" / "model.skops")
    csv(folder, x[900:1200], y[900:1200])


@add(PIPELINE, "tree ensemble")
def imputed_lightgbm_joblib(folder: Path) -> None:
    import joblib
    import numpy as np
    from lightgbm import LGBMClassifier
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline

    x, y = with_categories()
    model = make_pipeline(SimpleImputer(), LGBMClassifier(n_estimators=8, num_leaves=8, n_jobs=1, verbose=-1))
    joblib.dump(model.fit(x, np.array(["no", "yes"])[y]), folder / "model" / "model.joblib", compress=3)


@add(PIPELINE, "tree ensemble", "several inputs or outputs")
def mixed_columns_catboost(folder: Path) -> None:
    """A table of numbers and words, columns selected by name."""
    import joblib
    import numpy as np
    import pandas
    from catboost import CatBoostClassifier
    from sklearn.compose import ColumnTransformer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    random = np.random.default_rng(1)
    frame = pandas.DataFrame({"age": random.uniform(18, 80, 300), "city": random.choice(["Oslo", "Lima", "Pune"], 300)})
    y = ((frame["age"] > 45) ^ (frame["city"] == "Lima")).astype(int)
    encode = ColumnTransformer([("n", StandardScaler(), ["age"]), ("c", OneHotEncoder(sparse_output=False), ["city"])])
    trees = CatBoostClassifier(iterations=20, verbose=0, allow_writing_files=False, thread_count=1)
    joblib.dump(make_pipeline(encode, trees).fit(frame, y), folder / "model" / "model.joblib")
    (folder / "test").mkdir()
    frame.assign(label=y).to_csv(folder / "test" / "rows.csv", index=False)


@add(PIPELINE, "text with strings")
def text_lightgbm(folder: Path) -> None:
    import joblib
    import numpy as np
    from lightgbm import LGBMClassifier
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.pipeline import make_pipeline

    random = np.random.default_rng(0)
    words = (["great", "fine", "warm", "bright", "happy", "sunny"], ["bad", "cold", "grey", "sad", "poor", "rainy"])
    lines = [" ".join(random.choice(words[i % 2], 4)) for i in range(300)]
    model = make_pipeline(TfidfVectorizer(), LGBMClassifier(n_estimators=8, num_leaves=8, n_jobs=1, verbose=-1))
    joblib.dump(model.fit(lines, [i % 2 for i in range(300)]), folder / "model" / "model.joblib")


@add(PIPELINE, "tree ensemble")
def xgboost_estimator_stopped_early(folder: Path) -> None:
    import joblib
    from xgboost import XGBRegressor

    x, y = diabetes()
    model = XGBRegressor(n_estimators=60, early_stopping_rounds=3, learning_rate=0.5, n_jobs=1)
    model.fit(x[:300], y[:300], eval_set=[(x[300:], y[300:])], verbose=False)
    joblib.dump(model, folder / "model" / "model.joblib")
    csv(folder, x[300:], y[300:])


if __name__ == "__main__":
    MODELS.main()
