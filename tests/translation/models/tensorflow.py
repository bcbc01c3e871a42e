"""Models of TensorFlow: Keras files, SavedModels, TFLite files. keras_layers.py says how and on what they are built."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.translation.declared import Models

KERAS, HDF5, SAVED, LITE = "Keras .keras", "Keras .h5", "TensorFlow SavedModel", "TFLite"
_NONE = {"tree ensemble": "neural networks", "text with strings": "the graph's string operators have no ONNX form"}
_FLOAT = {"quantised": "Keras computes in floats; a quantised model is a TFLite file"}
MODELS = Models(
    "tensorflow",
    "uv:translator-tensorflow",
    {
        KERAS: _NONE | _FLOAT,
        HDF5: _NONE | _FLOAT,
        SAVED: _NONE | _FLOAT,
        LITE: _NONE
        | {
            "float16 inputs": "TFLite's converter writes no model of float16 inputs",
            "recurrent": "TFLite's converter refuses the tensor lists of Keras's recurrent layers of a free batch",
        },
    },
)


def _save(model: Any, folder: Path, file: str) -> None:
    model.save(folder / file)


def _export(model: Any, folder: Path) -> None:
    model.export(folder / "model", verbose=False)


def _lite(model: Any, folder: Path, *, quantised: str = "") -> None:
    import tensorflow as tf

    from tests.translation.models import keras_layers

    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    if quantised:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if quantised == "full":
        converter.representative_dataset = lambda: ([row[None]] for row in keras_layers.rows()[0][:100])
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.int8
    (folder / "model.tflite").write_bytes(converter.convert())


def _declare(
    form: str,
    format: str,
    kinds: dict[str, str],
    save: Callable[[Any, Path], None],
    refused: str | None = None,
    light: tuple[str, ...] = (),
) -> None:
    for built, kind in kinds.items():
        _one(f"{form}_{built}", format, built, kind, save, refused, light=built in light)


def _one(
    name: str,
    format: str,
    built: str,
    kind: str,
    save: Callable[[Any, Path], None],
    refused: str | None,
    *,
    light: bool,
) -> None:
    def train(folder: Path) -> None:
        os.environ.update(TF_ENABLE_ONEDNN_OPTS="0", TF_CPP_MIN_LOG_LEVEL="3", KERAS_BACKEND="tensorflow")
        import numpy as np

        from tests.translation.models import keras_layers

        model, test = keras_layers.trained(built)
        if test is not None and "full" not in name:
            (folder / "test").mkdir()
            np.savez(folder / "test" / "rows.npz", X=test)
        save(model, folder / "model")

    MODELS.add(format, kind, name=name, light=light, refused=refused)(train)


_ALL = {
    "dense": "dense",
    "convolutional": "convolutional",
    "recurrent": "recurrent",
    "gru": "recurrent",
    "attention": "attention",
    "multi": "several inputs or outputs",
    "integer": "integer inputs",
    "half": "float16 inputs",
}
_LITE = {built: kind for built, kind in _ALL.items() if built not in ("recurrent", "gru", "half")}
_declare("keras", KERAS, _ALL, lambda model, folder: _save(model, folder, "model.keras"), light=("dense",))
_declare("h5", HDF5, _ALL, lambda model, folder: _save(model, folder, "model.h5"))
_declare("saved", SAVED, _ALL, _export)
_declare("tflite", LITE, _LITE, _lite)
_declare("tflite_full", LITE, {"dense": "quantised"}, lambda model, folder: _lite(model, folder, quantised="full"))
_declare(
    "tflite_dynamic",
    LITE,
    {"dense": "quantised"},
    lambda model, folder: _lite(model, folder, quantised="dynamic"),
    "quantised by dynamic range",
)


if __name__ == "__main__":
    MODELS.main()
