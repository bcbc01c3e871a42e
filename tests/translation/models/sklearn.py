"""Models of scikit-learn: estimators and pipelines, in skops and joblib files.

Data: UCI digits, wine and diabetes that scikit-learn ships, and rows made by a stated rule.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tests.translation.declared import Models, csv

FORMAT = "scikit-learn skops, joblib"
MODELS = Models(
    "sklearn",
    "uv:translator-sklearn",
    {
        FORMAT: {
            **dict.fromkeys(("convolutional", "recurrent", "attention"), "scikit-learn has no such layers"),
            "float16 inputs": "scikit-learn computes in float64",
            "quantised": "scikit-learn has no quantised models",
        }
    },
)
add = MODELS.add
WARM = ["great", "fine", "warm", "bright", "happy", "sunny", "kind", "good"]
COLD = ["bad", "cold", "grey", "sad", "poor", "rainy", "harsh", "dull"]


def _on_digits() -> dict[str, Callable[[], Any]]:
    from sklearn.cluster import KMeans
    from sklearn.decomposition import PCA
    from sklearn.ensemble import (
        GradientBoostingClassifier,
        HistGradientBoostingClassifier,
        IsolationForest,
        RandomForestClassifier,
    )
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression, RidgeClassifier
    from sklearn.naive_bayes import GaussianNB
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import MinMaxScaler, StandardScaler
    from sklearn.svm import SVC, LinearSVC

    return {
        "logistic_regression": lambda: LogisticRegression(max_iter=200),
        "scaled_logistic_regression": lambda: make_pipeline(StandardScaler(), LogisticRegression(max_iter=200)),
        "minmax_pca_logistic_regression": lambda: make_pipeline(
            MinMaxScaler(), PCA(12), LogisticRegression(max_iter=200)
        ),
        "imputed_logistic_regression": lambda: make_pipeline(SimpleImputer(), LogisticRegression(max_iter=200)),
        "random_forest": lambda: RandomForestClassifier(30, random_state=0, n_jobs=1),
        "gradient_boosting": lambda: GradientBoostingClassifier(n_estimators=5, random_state=0),
        "hist_gradient_boosting": lambda: HistGradientBoostingClassifier(max_iter=8, random_state=0),
        "svc": lambda: SVC(random_state=0),
        "scaled_svc_ovo": lambda: make_pipeline(StandardScaler(), SVC(kernel="poly", random_state=0)),
        "linear_svc": lambda: make_pipeline(StandardScaler(), LinearSVC(random_state=0)),
        "ridge_classifier": lambda: RidgeClassifier(),
        "mlp": lambda: MLPClassifier((16, 16), max_iter=40, random_state=0),
        "k_neighbours": lambda: KNeighborsClassifier(3),
        "gaussian_nb": lambda: make_pipeline(StandardScaler(), GaussianNB(var_smoothing=1e-3)),
        "k_means": lambda: KMeans(10, n_init=2, random_state=0),
        "isolation_forest": lambda: IsolationForest(n_estimators=20, random_state=0),
        "pca": lambda: PCA(5, random_state=0),
    }


def _on_diabetes() -> dict[str, Callable[[], Any]]:
    from sklearn.ensemble import (
        HistGradientBoostingRegressor,
        RandomForestRegressor,
    )
    from sklearn.linear_model import LinearRegression
    from sklearn.neural_network import MLPRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVR

    return {
        "linear_regression": lambda: LinearRegression(),
        "forest_regressor": lambda: RandomForestRegressor(20, random_state=0, n_jobs=1),
        "hist_gradient_boosting_regressor": lambda: HistGradientBoostingRegressor(max_iter=20, random_state=0),
        "scaled_svr": lambda: make_pipeline(StandardScaler(), SVR()),
        "scaled_mlp_regressor": lambda: make_pipeline(
            StandardScaler(), MLPRegressor(hidden_layer_sizes=(16,), max_iter=200, random_state=0)
        ),
    }


def _declare(name: str, kind: str, rows: int, estimators: Callable[[], dict[str, Callable[[], Any]]]) -> None:
    """An estimator trained on the first `rows` rows of digits or diabetes; the others are test data."""

    def train(folder: Path) -> None:
        from sklearn.datasets import load_diabetes, load_digits

        np.random.seed(0)
        x, y = (load_digits if estimators is _on_digits else load_diabetes)(return_X_y=True)
        _save(folder, estimators()[name]().fit(x[:rows], y[:rows]), name)
        csv(folder, x[rows : rows + 300], y[rows : rows + 300])

    add(FORMAT, kind, name=name, light=name in ("scaled_logistic_regression", "hist_gradient_boosting"))(train)


def _save(folder: Path, model: Any, name: str) -> None:
    import joblib
    import skops.io

    if name in ("random_forest", "svc", "text"):
        joblib.dump(model, folder / "model" / "model.joblib", compress=3 if name == "svc" else 0)
    else:
        skops.io.dump(model, folder / "model" / "model.skops")


for _name in (
    "logistic_regression",
    "scaled_logistic_regression",
    "minmax_pca_logistic_regression",
    "imputed_logistic_regression",
    "svc",
    "scaled_svc_ovo",
    "linear_svc",
    "ridge_classifier",
    "mlp",
    "k_neighbours",
    "gaussian_nb",
    "k_means",
    "pca",
):
    _declare(_name, "dense", 900, _on_digits)
for _name in ("random_forest", "gradient_boosting", "hist_gradient_boosting", "isolation_forest"):
    _declare(_name, "tree ensemble", 900, _on_digits)
for _name in ("linear_regression", "scaled_svr", "scaled_mlp_regressor"):
    _declare(_name, "dense", 350, _on_diabetes)
for _name in ("forest_regressor", "hist_gradient_boosting_regressor"):
    _declare(_name, "tree ensemble", 350, _on_diabetes)


@add(FORMAT, "dense")
def binary_wine(folder: Path) -> None:
    from sklearn.datasets import load_wine
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x, y = load_wine(return_X_y=True)
    x, y = x[y < 2], np.array(["barolo", "grignolino"])[y[y < 2]]
    _save(folder, make_pipeline(StandardScaler(), LogisticRegression()).fit(x, y), "")


@add(FORMAT, "dense")
def binary_svc(folder: Path) -> None:
    from sklearn.datasets import load_wine
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    x, y = load_wine(return_X_y=True)
    _save(folder, make_pipeline(StandardScaler(), SVC()).fit(x[y < 2], y[y < 2]), "")


@add(FORMAT, "tree ensemble")
def forest_without_test(folder: Path) -> None:
    from sklearn.datasets import load_digits
    from sklearn.ensemble import RandomForestClassifier

    x, y = load_digits(return_X_y=True)
    _save(folder, RandomForestClassifier(10, random_state=0).fit(x[:300], y[:300]), "")


@add(FORMAT, "text with strings", light=True)
def text(folder: Path) -> None:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    random = np.random.default_rng(0)
    lines = [" ".join(random.choice(WARM if i % 2 else COLD, 6)) for i in range(200)]
    _save(folder, make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(lines, [i % 2 for i in range(200)]), "")


@add(FORMAT, "dense", "several inputs or outputs")
def mixed(folder: Path) -> None:
    from sklearn.compose import ColumnTransformer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    table, y = _mixed()
    encode = ColumnTransformer([("n", StandardScaler(), [0, 1]), ("c", OneHotEncoder(handle_unknown="ignore"), [2, 3])])
    _save(folder, make_pipeline(encode, LogisticRegression()).fit(table, y), "")


@add(FORMAT, "tree ensemble", "several inputs or outputs")
def mixed_by_name(folder: Path) -> None:
    import pandas
    from sklearn.compose import ColumnTransformer
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    table, y = _mixed()
    frame = pandas.DataFrame(
        {
            "age": table[:, 0].astype(float),
            "weight": table[:, 1].astype(float),
            "city": table[:, 2],
            "mood": table[:, 3],
        }
    )
    encode = ColumnTransformer(
        [("n", StandardScaler(), ["age", "weight"]), ("c", OneHotEncoder(handle_unknown="ignore"), ["city", "mood"])]
    )
    test = folder / "test"
    test.mkdir()
    frame.assign(label=y).to_csv(test / "rows.csv", index=False)
    _save(folder, make_pipeline(encode, RandomForestClassifier(10, random_state=0)).fit(frame, y), "")


@add(FORMAT, "tree ensemble", "integer inputs")
def ordinal(folder: Path) -> None:
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OrdinalEncoder

    table, y = _mixed()
    _save(folder, make_pipeline(OrdinalEncoder(), RandomForestClassifier(10, random_state=0)).fit(table[:, 2:], y), "")


@add(FORMAT, "dense")
def folders(folder: Path) -> None:
    """Test data as folders <label>/<file>.npy, one 8×8 image a file."""
    from sklearn.datasets import load_digits
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x, y = load_digits(return_X_y=True)
    for i in range(900, 1000):
        path = folder / "test" / str(y[i])
        path.mkdir(parents=True, exist_ok=True)
        np.save(path / f"{i}.npy", x[i].reshape(8, 8))
    model = make_pipeline(StandardScaler(), MLPClassifier((16,), max_iter=30, random_state=0))
    _save(folder, model.fit(x[:900], y[:900]), "")


@add(FORMAT, "dense")
def archive(folder: Path) -> None:
    """Test data as .npz with X and y."""
    from sklearn.datasets import load_digits
    from sklearn.linear_model import LogisticRegression

    x, y = load_digits(return_X_y=True)
    (folder / "test").mkdir()
    np.savez(folder / "test" / "digits.npz", X=x[900:1100], y=y[900:1100])
    _save(folder, LogisticRegression(max_iter=100).fit(x[:900], y[:900]), "")


def _mixed() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(1)
    age, weight = random.uniform(18, 80, 300), random.normal(70, 12, 300)
    city, mood = random.choice(["Oslo", "Lima", "Pune"], 300), random.choice(["up", "down"], 300)
    y = ((age > 45) ^ (city == "Lima")).astype(int)
    return np.column_stack([age.astype(object), weight.astype(object), city.astype(object), mood.astype(object)]), y


if __name__ == "__main__":
    MODELS.main()
