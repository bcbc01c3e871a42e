"""Keras models by kind, on whichever backend KERAS_BACKEND names: `trained(kind)`. Imported with the framework only.

Data by a stated rule: ten fixed patterns of 8×8 numbers, each row one of them with noise; and rows of tokens.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers

TRAINED, TESTED = slice(0, 900), slice(900, 1200)


def rows() -> tuple[Any, Any]:
    """1,200 rows of 64 numbers from 0 to 1, and which of the ten patterns each is."""
    random = np.random.default_rng(0)
    patterns, y = random.random((10, 64)), random.integers(0, 10, 1200)
    x = np.clip(patterns[y] + 0.2 * random.standard_normal((1200, 64)), 0, 1)
    return x.astype(np.float32), y


def tokens() -> tuple[Any, Any]:
    """Rows of 12 tokens from 0 to 49, and how many quarters of them are above 24, from 0 to 3."""
    drawn = np.random.default_rng(1).integers(0, 50, (900, 12)).astype(np.int32)
    return drawn, np.minimum((drawn > 24).sum(1) // 3, 3)


def trained(kind: str) -> tuple[Any, Any]:
    """A trained model, and test rows where it takes the patterns."""
    keras.utils.set_random_seed(0)
    return KINDS[kind](*rows())


def dense(x: Any, y: Any) -> tuple[Any, Any]:
    given = keras.Input((64,), name="pixels")
    hidden = layers.Dropout(0.1)(layers.Dense(32, activation="relu")(given))
    return _fitted(given, _softmax(hidden), x, y), x[TESTED]


def convolutional(x: Any, y: Any) -> tuple[Any, Any]:
    given = keras.Input((8, 8, 1))
    hidden = layers.Conv2D(8, 3, padding="same", activation="relu")(given)
    hidden = layers.MaxPooling2D()(layers.BatchNormalization()(hidden))
    hidden = layers.SeparableConv2D(8, 3, strides=2, padding="same", activation="swish")(hidden)
    hidden = layers.UpSampling2D(2, interpolation="bilinear")(hidden)
    return _fitted(given, _softmax(layers.Flatten()(hidden)), x.reshape(-1, 8, 8, 1), y), x[TESTED]


def recurrent(x: Any, y: Any) -> tuple[Any, Any]:
    given = keras.Input((None, 8))  # of any length
    hidden = layers.LSTM(12)(layers.LSTM(12, return_sequences=True)(given))
    return _fitted(given, _softmax(hidden), x.reshape(-1, 8, 8), y), None


def gru(x: Any, y: Any) -> tuple[Any, Any]:
    given = keras.Input((8, 8))
    hidden = layers.Bidirectional(layers.GRU(12))(given)
    return _fitted(given, _softmax(hidden), x.reshape(-1, 8, 8), y), x[TESTED]


def attention(x: Any, y: Any) -> tuple[Any, Any]:
    given = keras.Input((8, 8))
    hidden = layers.Add()([layers.MultiHeadAttention(2, 4)(given, given), given])
    hidden = layers.LayerNormalization()(hidden)
    hidden = layers.Dense(16, activation="gelu")(hidden)
    hidden = layers.GlobalAveragePooling1D()(hidden)
    return _fitted(given, _softmax(hidden), x.reshape(-1, 8, 8), y), x[TESTED]


def multi(x: Any, y: Any) -> tuple[Any, Any]:
    """Two inputs and two outputs: the halves of a pattern, which it is and how light it is."""
    upper, lower = keras.Input((32,), name="upper"), keras.Input((32,), name="lower")
    hidden = layers.Concatenate()([layers.Dense(16, "tanh")(upper), layers.Dense(16, "elu")(lower)])
    model = keras.Model([upper, lower], [_softmax(hidden, "pattern"), layers.Dense(1, name="light")(hidden)])
    model.compile("adam", ["sparse_categorical_crossentropy", "mse"])
    x, y = x[TRAINED], y[TRAINED]
    model.fit([x[:, :32], x[:, 32:]], [y, x.mean(1)], epochs=4, verbose=0)
    return model, None


def integer(x: Any, y: Any) -> tuple[Any, Any]:
    """Sequences of tokens, of any length."""
    given = keras.Input((None,), dtype="int32", name="tokens")
    hidden = layers.GlobalAveragePooling1D()(layers.Embedding(50, 8)(given))
    return _fitted(given, _softmax(hidden), *tokens()), None


def half(x: Any, y: Any) -> tuple[Any, Any]:
    keras.config.set_dtype_policy("float16")
    given = keras.Input((64,), dtype="float16")
    model = keras.Model(given, layers.Dense(10)(layers.Dense(32, activation="relu")(given)))
    model.compile(keras.optimizers.SGD(0.01), "mse")
    model.fit(x[TRAINED], np.eye(10, dtype=np.float16)[y[TRAINED]], epochs=4, verbose=0)
    return model, x[TESTED]


def _fitted(given: Any, answer: Any, x: Any, y: Any) -> Any:
    model = keras.Model(given, answer)
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(x[TRAINED], y[TRAINED], epochs=4, verbose=0)
    return model


def _softmax(hidden: Any, name: str | None = None) -> Any:
    return layers.Dense(10, activation="softmax", name=name)(hidden)


KINDS = {one.__name__: one for one in (dense, convolutional, recurrent, gru, attention, multi, integer, half)}
