"""Which models and faults run in `make test`, and which in `make test-translation` (they are marked slow)."""

LIGHT = ("scaled_logistic_regression", "hist_gradient_boosting", "text")
REST = (
    "logistic_regression", "minmax_pca_logistic_regression", "imputed_logistic_regression", "random_forest",
    "gradient_boosting", "svc", "scaled_svc_ovo", "linear_svc", "ridge_classifier", "mlp", "k_neighbours",
    "gaussian_nb", "k_means", "isolation_forest", "pca", "linear_regression", "forest_regressor",
    "hist_gradient_boosting_regressor", "scaled_svr", "scaled_mlp_regressor", "binary_wine", "binary_svc",
    "forest_without_test", "mixed", "mixed_by_name", "ordinal", "folders", "archive",
)  # fmt: skip
PLANTED = (
    ("scaled_logistic_regression", "dropped_scaler"),
    ("scaled_logistic_regression", "class_order"),
    ("scaled_logistic_regression", "softmax_over_the_batch"),
)
PLANTED_MORE = (
    ("scaled_logistic_regression", "missing_softmax"),
    ("scaled_logistic_regression", "missing_bias"),
    ("scaled_logistic_regression", "epsilon"),
    ("scaled_logistic_regression", "swapped_columns"),
    ("scaled_logistic_regression", "half_precision"),
    ("mlp", "transposed_weights"),
    ("mlp", "missing_bias"),
    ("hist_gradient_boosting", "missing_values_go_right"),
    ("hist_gradient_boosting", "lost_tree"),
    ("random_forest", "missing_values_go_right"),
)
