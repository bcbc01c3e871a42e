"""TensorFlow: a SavedModel's folder, Keras archives (.keras) and HDF5 files (.h5), TFLite's FlatBuffers."""

from __future__ import annotations

from pathlib import Path

from polyshare.translation.recognition import content

_HDF5 = b"\x89HDF\r\n\x1a\n"


def recognises(path: Path) -> bool:
    if content.is_folder(path):
        return content.is_file(path / "saved_model.pb")
    return is_keras(path) or content.head(path)[4:8] == b"TFL3"


def is_keras(path: Path) -> bool:
    return content.head(path).startswith(_HDF5) or "model.weights.h5" in content.members(path)
