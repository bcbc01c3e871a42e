"""Trains the models of the translation tests, inside the translator's environment (it alone has scikit-learn).
`python translation_models.py NAME FOLDER`: writes FOLDER/model/… and, where the model has test data, FOLDER/test/…

Data: the UCI digits and the wine recognition data that scikit-learn ships, and rows made by a stated rule.
"""

from __future__ import annotations

import sys
from pathlib import Path

import joblib
import numpy as np
import skops.io
from sklearn.cluster import KMeans
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_diabetes, load_digits, load_wine
from sklearn.decomposition import PCA
from sklearn.ensemble import (
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    IsolationForest,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression, RidgeClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, OneHotEncoder, OrdinalEncoder, StandardScaler
from sklearn.svm import SVC, SVR, LinearSVC

DIGITS = {
    "logistic_regression": lambda: LogisticRegression(max_iter=200),
    "scaled_logistic_regression": lambda: make_pipeline(StandardScaler(), LogisticRegression(max_iter=200)),
    "minmax_pca_logistic_regression": lambda: make_pipeline(MinMaxScaler(), PCA(12), LogisticRegression(max_iter=200)),
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
DIABETES = {
    "linear_regression": lambda: LinearRegression(),
    "forest_regressor": lambda: RandomForestRegressor(20, random_state=0, n_jobs=1),
    "hist_gradient_boosting_regressor": lambda: HistGradientBoostingRegressor(max_iter=20, random_state=0),
    "scaled_svr": lambda: make_pipeline(StandardScaler(), SVR()),
    "scaled_mlp_regressor": lambda: make_pipeline(
        StandardScaler(), MLPRegressor(hidden_layer_sizes=(16,), max_iter=200, random_state=0)
    ),
}
WARM = ["great", "fine", "warm", "bright", "happy", "sunny", "kind", "good"]
COLD = ["bad", "cold", "grey", "sad", "poor", "rainy", "harsh", "dull"]


def main() -> None:
    name, folder = sys.argv[1], Path(sys.argv[2])
    (folder / "model").mkdir(parents=True)
    np.random.seed(0)
    if name in DIGITS:
        x, y = load_digits(return_X_y=True)
        model = DIGITS[name]().fit(x[:900], y[:900])
        _csv(folder / "test", x[900:1200], y[900:1200])
    elif name in DIABETES:
        x, y = load_diabetes(return_X_y=True)
        model = DIABETES[name]().fit(x[:350], y[:350])
        _csv(folder / "test", x[350:], y[350:])
    else:
        model = SPECIAL[name](folder)
    if name in ("random_forest", "svc", "text"):
        joblib.dump(model, folder / "model" / "model.joblib", compress=3 if name == "svc" else 0)
    else:
        skops.io.dump(model, folder / "model" / "model.skops")


def binary_wine(folder: Path) -> object:
    x, y = load_wine(return_X_y=True)
    x, y = x[y < 2], np.array(["barolo", "grignolino"])[y[y < 2]]
    return make_pipeline(StandardScaler(), LogisticRegression()).fit(x, y)


def binary_svc(folder: Path) -> object:
    x, y = load_wine(return_X_y=True)
    return make_pipeline(StandardScaler(), SVC()).fit(x[y < 2], y[y < 2])


def forest_without_test(folder: Path) -> object:
    x, y = load_digits(return_X_y=True)
    return RandomForestClassifier(10, random_state=0).fit(x[:300], y[:300])


def text(folder: Path) -> object:
    random = np.random.default_rng(0)
    lines = [" ".join(random.choice(WARM if i % 2 else COLD, 6)) for i in range(200)]
    return make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(lines, [i % 2 for i in range(200)])


def mixed(folder: Path) -> object:
    table, y = _mixed()
    encode = ColumnTransformer([("n", StandardScaler(), [0, 1]), ("c", OneHotEncoder(handle_unknown="ignore"), [2, 3])])
    return make_pipeline(encode, LogisticRegression()).fit(table, y)


def mixed_by_name(folder: Path) -> object:
    import pandas

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
    return make_pipeline(encode, RandomForestClassifier(10, random_state=0)).fit(frame, y)


def ordinal(folder: Path) -> object:
    table, y = _mixed()
    return make_pipeline(OrdinalEncoder(), RandomForestClassifier(10, random_state=0)).fit(table[:, 2:], y)


def folders(folder: Path) -> object:
    """Test data as folders <label>/<file>.npy, one 8×8 image a file."""
    x, y = load_digits(return_X_y=True)
    for i in range(900, 1000):
        path = folder / "test" / str(y[i])
        path.mkdir(parents=True, exist_ok=True)
        np.save(path / f"{i}.npy", x[i].reshape(8, 8))
    return make_pipeline(StandardScaler(), MLPClassifier((16,), max_iter=30, random_state=0)).fit(x[:900], y[:900])


def archive(folder: Path) -> object:
    """Test data as .npz with X and y."""
    x, y = load_digits(return_X_y=True)
    (folder / "test").mkdir()
    np.savez(folder / "test" / "digits.npz", X=x[900:1100], y=y[900:1100])
    return LogisticRegression(max_iter=100).fit(x[:900], y[:900])


SPECIAL = {one.__name__: one for one in (
    binary_wine, binary_svc, forest_without_test, text, mixed, mixed_by_name, ordinal, folders, archive,
)}  # fmt: skip


def _mixed() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(1)
    age, weight = random.uniform(18, 80, 300), random.normal(70, 12, 300)
    city, mood = random.choice(["Oslo", "Lima", "Pune"], 300), random.choice(["up", "down"], 300)
    y = ((age > 45) ^ (city == "Lima")).astype(int)
    return np.column_stack([age.astype(object), weight.astype(object), city.astype(object), mood.astype(object)]), y


def _csv(folder: Path, x: np.ndarray, y: np.ndarray) -> None:
    folder.mkdir()
    header = ",".join([f"x{i}" for i in range(x.shape[1])] + ["target"])
    np.savetxt(folder / "rows.csv", np.column_stack([x, y]), delimiter=",", header=header, comments="", fmt="%.17g")


if __name__ == "__main__":
    main()
