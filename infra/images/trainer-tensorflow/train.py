"""Trains a network with Keras on TensorFlow: the trainer used when no source is given (network.py says on what).

Writes model.h5, which repeats byte for byte where .keras and SavedModel do not, signature.json and metrics.json.
"""

from __future__ import annotations

import os
from typing import Any

# Thread counts and oneDNN change the order of sums, and so the weights.
os.environ.update(TF_ENABLE_ONEDNN_OPTS="0", TF_CPP_MIN_LOG_LEVEL="3", KERAS_BACKEND="tensorflow")

import data
import keras
import network
import numpy as np
import tensorflow as tf
from keras import layers

ACTIVATIONS = {"relu": "relu", "tanh": "tanh", "logistic": "sigmoid", "identity": "linear"}


def fit(plan: network.Plan, rows: network.Rows) -> tuple[network.Predict, dict[str, Any]]:
    """The trained network, saved."""
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    tf.config.experimental.enable_op_determinism()
    keras.utils.set_random_seed(plan.seed)
    given = keras.Input((rows.x.shape[1],), name="X")
    hidden = layers.Normalization(mean=rows.mean.tolist(), variance=(rows.deviation**2).tolist())(given)
    for size in plan.hidden_layer_sizes:
        hidden = layers.Dense(size, ACTIVATIONS[plan.activation])(hidden)
    if plan.classifies:
        answer = layers.Dense(rows.outputs, "softmax", name="probabilities")(hidden)
    else:
        answer = layers.Rescaling(rows.factor, rows.offset, name="prediction")(layers.Dense(1)(hidden))
    model = keras.Model(given, answer)
    loss = "sparse_categorical_crossentropy" if plan.classifies else _scaled_error(rows.factor)
    model.compile(keras.optimizers.Adam(plan.learning_rate_init), loss)
    model.fit(rows.x, rows.y, plan.batch_size, plan.max_iter, verbose=2 if plan.max_iter <= 20 else 0)
    model.compiled = False  # what the optimiser knows is no part of the model
    model.save(network.ROOT / "model" / "model.h5", include_optimizer=False)
    said = {"framework": "tensorflow", "framework_version": tf.__version__, "model": "model.h5"}
    return lambda x: np.asarray(model(x, training=False)), said


def _scaled_error(factor: float) -> Any:
    """The mean squared error of answers in units of the target's deviation, so that one rate fits all targets."""
    return lambda y, answer: keras.ops.mean(keras.ops.square((answer - y) / factor))


if __name__ == "__main__":
    data.main(lambda: network.train(fit))
