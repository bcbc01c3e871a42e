"""Which faults are planted in `make test`, and which in `make test-translation` (they are marked slow)."""

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
