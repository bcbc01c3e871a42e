"""Makes hostile model files of TensorFlow and PyTorch, inside their translators' environments.
`python translation_hostile_networks.py KIND FOLDER [ARGUMENT…]`; arguments are files that it tries to read or write.
"""

from __future__ import annotations

import os
import pickle
import random
import sys
import zipfile
from pathlib import Path

os.environ.update(TF_CPP_MIN_LOG_LEVEL="3", TF_ENABLE_ONEDNN_OPTS="0")


class _Runs:
    """A pickle that, loaded, runs code."""

    def __init__(self, code: str) -> None:
        self.code = code

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return exec, (self.code,)


def keras_lambda(folder: Path, ending: str) -> None:
    import keras

    given = keras.Input((4,))
    doubled = keras.layers.Lambda(lambda x: x * 2)(given)
    keras.Model(given, keras.layers.Dense(2)(doubled)).save(folder / f"model{ending}")


def saved_model(folder: Path, secret: str, written: str) -> None:
    """A SavedModel whose initialiser, which loading runs, copies one file of the host to another."""
    import tensorflow as tf

    class Copies(tf.saved_model.experimental.TrackableResource):
        def _create_resource(self):  # type: ignore[no-untyped-def]
            return tf.raw_ops.VarHandleOp(dtype=tf.float32, shape=[])

        def _initialize(self) -> None:
            tf.raw_ops.AssignVariableOp(resource=self.resource_handle, value=1.0)
            tf.io.write_file(written, tf.io.read_file(secret))

    class Model(tf.Module):
        def __init__(self) -> None:
            self.copies = Copies()

        @tf.function(input_signature=[tf.TensorSpec([None, 4], tf.float32)])
        def serve(self, x):  # type: ignore[no-untyped-def]
            return {"y": x * tf.raw_ops.ReadVariableOp(resource=self.copies.resource_handle, dtype=tf.float32)}

    model = Model()
    tf.saved_model.save(model, str(folder / "model"), signatures=model.serve)
    tf.saved_model.load(str(folder / "model"))
    assert Path(written).is_file()  # so it does what it says
    Path(written).unlink()


def lite(folder: Path, how: str) -> None:
    """A TFLite file that is cut short, or one with a few bytes changed so that TFLite dies of it."""
    import keras
    import tensorflow as tf

    given = keras.Input((4,))
    model = keras.Model(given, keras.layers.Dense(2)(given))
    data = bytearray(tf.lite.TFLiteConverter.from_keras_model(model).convert())
    if how == "cut":
        data = data[: len(data) // 2]
    else:
        data = next(changed for seed in range(1000) if _dies(changed := _changed(data, seed), folder / "model.tflite"))
    (folder / "model.tflite").write_bytes(data)


def _changed(data: bytearray, seed: int) -> bytearray:
    drawn = random.Random(seed)
    changed = bytearray(data)
    for _ in range(3):
        changed[drawn.randrange(8, len(changed))] = drawn.choice([0, 0x7F, 0x80, 0xFF])
    return changed


def _dies(data: bytearray, path: Path) -> bool:
    """Whether a process that opens and runs the file is ended by a signal."""
    import tensorflow as tf

    path.write_bytes(data)
    child = os.fork()
    if not child:
        try:
            interpreter = tf.lite.Interpreter(model_path=str(path), num_threads=1)
            interpreter.allocate_tensors()
        finally:
            os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def keras_archive(folder: Path, how: str) -> None:
    """A Keras archive whose configuration is a gigabyte of blanks, or nests a hundred thousand deep."""
    with zipfile.ZipFile(folder / "model.keras", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("metadata.json", '{"keras_version": "3.15.1"}')
        archive.writestr("model.weights.h5", b"")
        with archive.open("config.json", "w", force_zip64=True) as member:
            if how == "deep":
                member.write(b'{"config": ' * 100_000 + b"1" + b"}" * 100_000)
            for _ in range(64 * (how == "bomb")):
                member.write(b" " * 16 * 1024**2)


def pickled(folder: Path, code: str) -> None:
    import torch

    torch.save({"weight": _Runs(code)}, folder / "model.pt")


def weights(folder: Path) -> None:
    import torch
    from safetensors.torch import save_file

    save_file(torch.nn.Linear(2, 2).state_dict(), folder / "model.safetensors")


def script(folder: Path, written: str) -> None:
    """A TorchScript module that writes a file when it is loaded."""
    import torch

    class Writes(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.path = written

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + 1

        @torch.jit.export
        def __getstate__(self) -> tuple[str, bool]:
            return self.path, self.training

        @torch.jit.export
        def __setstate__(self, state: tuple[str, bool]) -> None:
            self.path = state[0]
            self.training = state[1]
            torch.save(torch.ones(2), self.path)

    torch.jit.save(torch.jit.script(Writes()), folder / "model.pt")
    torch.jit.load(folder / "model.pt")
    assert Path(written).is_file()  # so it does what it says
    Path(written).unlink()


def exported(folder: Path, code: str) -> None:
    """An exported program with a pickle that runs code in the place of its sample inputs."""
    import torch

    whole = folder / "whole.pt2"
    torch.export.save(torch.export.export(torch.nn.Linear(2, 2), (torch.ones(1, 2),)), whole)
    with zipfile.ZipFile(whole) as old, zipfile.ZipFile(folder / "model.pt2", "w", zipfile.ZIP_STORED) as new:
        for name in old.namelist():
            data = old.read(name)
            new.writestr(name, pickle.dumps(_Runs(code)) if name.endswith("sample_inputs/model.pt") else data)
    whole.unlink()


KINDS = {
    one.__name__: one for one in (keras_lambda, saved_model, lite, keras_archive, pickled, weights, script, exported)
}

if __name__ == "__main__":
    Path(sys.argv[2]).mkdir(parents=True)
    KINDS[sys.argv[1]](Path(sys.argv[2]), *sys.argv[3:])
