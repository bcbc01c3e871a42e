"""Trains a small network on digits with Keras on TensorFlow: model.keras."""

import json
import os
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

MODEL = Path(os.environ["SM_MODEL_DIR"])

keras.utils.set_random_seed(0)
tf.config.experimental.enable_op_determinism()
rows = np.loadtxt(Path(os.environ["SM_CHANNEL_TRAIN"], "digits.csv"), delimiter=",", skiprows=1)
pixels = keras.Input((64,), name="pixels")
hidden = keras.layers.Dense(64, activation="relu")(keras.layers.Rescaling(1 / 16)(pixels))
model = keras.Model(pixels, keras.layers.Dense(10, activation="softmax", name="probabilities")(hidden))
model.compile(keras.optimizers.Adam(0.003), "sparse_categorical_crossentropy")
model.fit(rows[:, :-1].astype("float32"), rows[:, -1].astype("int64"), batch_size=64, epochs=40, verbose=0)
model.save(MODEL / "model.keras")
signature = {"framework": "keras", "model": "model.keras", "target": "digit"}
(MODEL / "signature.json").write_text(json.dumps(signature))
