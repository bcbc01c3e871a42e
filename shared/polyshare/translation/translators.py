"""The translators: which model files each takes and in which environment it runs. To add one, add it here.

Recognition reads file names and first bytes only. Nothing here loads a model: loading one runs its code.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from polyshare.errors import Invalid
from polyshare.translation import mlmodel
from polyshare.translation.recognition import boosting, content, jax, onnx, sklearn, tensorflow, torch

VERIFIER = "uv:verify"  # the environment of the gate

_MOST_SIGNATURE = 1024 * 1024


class Input(msgspec.Struct, frozen=True):
    """An input as the model's own description states it."""

    name: str = ""
    dtype: str = ""
    shape: list[int | str | None] | None = None  # null: any size; a name: the same wherever it stands


class Signature(msgspec.Struct, frozen=True):
    """What a model's own description states, as far as it is read here."""

    framework: str = ""
    model: str = ""  # file or folder of the model, relative to the folder
    target: str | int | None = None  # the column of test data that is not an input
    inputs: list[Input] = []
    stated: dict[str, Any] = {}  # all of it, for the translator
    source: str = "signature.json"  # or MLmodel


@dataclass(frozen=True, slots=True)
class Translator:
    """A framework's way to ONNX.

    Its environment's folder under infra/images has two programs, whose arguments and files docs/translation.md states:
    translate.py (native model → candidate.onnx, signature.json) and predict.py (native model, inputs → outputs.npz).
    """

    name: str
    environment: str
    frameworks: tuple[str, ...]  # what a signature.json may call it
    recognises: Callable[[Path], bool]  # of a file or a folder
    takes: str  # for the error that says what could have been given
    opset: int  # the newest that both its converter writes and ONNX Runtime takes
    within: tuple[str, ...] = ()  # frameworks whose files may be models of this one
    only_stated: bool = False  # it takes files that are another's unless the model's own description names it


@dataclass(frozen=True, slots=True)
class Native:
    """A model file, or a folder that is a model, and the translator that takes it."""

    translator: Translator
    file: str  # relative to the model's folder; "." if that is the model itself
    signature: Signature


def named(framework: str | None) -> Translator:
    """The translator of a framework by its name, as a model's metadata has it; raises Invalid, saying what to add.

    Without a name it is the first: what the files really are is looked at by `find`, where they are.
    """
    for translator in TRANSLATORS:
        if framework is None or framework.lower() in translator.frameworks:
            return translator
    known = ", ".join(t.frameworks[0] for t in TRANSLATORS)
    raise Invalid(f"models of framework {str(framework)[:100]!r} can't be translated: translated are those of {known}")


def framework_of(path: Path) -> str | None:
    """The framework of the model that a file or a folder is; None if it is not clear."""
    if content.is_file(path):
        found = [translator for translator in _unstated() if translator.recognises(path)]
        return found[0].frameworks[0] if len(found) == 1 else None
    try:
        native = find(path)
    except Invalid:
        return None
    stated = native.signature.framework
    return stated if stated.lower() in native.translator.frameworks else native.translator.frameworks[0]


def find(folder: Path) -> Native:
    """The model file in `folder` and its translator. Raises Invalid, saying what to add, if there is not one."""
    signature = _signature(folder)
    framework, source = signature.framework.lower(), signature.source
    stated = [t for t in TRANSLATORS if framework in t.frameworks or framework in t.within]
    if framework and not stated:
        raise Invalid(f"{source} says framework {signature.framework[:100]!r}; translated are: {_taken()}")
    place = _named_file(folder, signature.model, source) if signature.model else folder
    files = sorted(path for path in (place, *place.rglob("*")) if content.is_file(path))
    found = _recognised(place, stated or _unstated())
    if not found and stated and (other := _recognised(place, _unstated())):
        name, path = other[0][0].frameworks[0], other[0][1].relative_to(folder)
        raise Invalid(f"{source} says framework {signature.framework!r}, but {path} is a model of {name}: correct it")
    if not found and stated and len(files) == 1:
        found = [(stated[0], files[0])]  # stated by the owner: its sandboxed loader has the last word
    if len(found) == 1:
        return Native(found[0][0], str(found[0][1].relative_to(folder)), signature)
    if found:
        names = ", ".join(str(path.relative_to(folder)) for _, path in found[:5])
        raise Invalid(f'several files could be the model ({names}): name it in signature.json as "model"')
    names = ", ".join(str(path.relative_to(folder)) for path in files[:5]) or "no files"
    raise Invalid(
        f"no model that can be translated among {names}; taken are: {_taken()}. "
        'If one is, add a signature.json with "framework" and "model"'
    )


def _unstated() -> list[Translator]:
    return [translator for translator in TRANSLATORS if not translator.only_stated]


def _taken() -> str:
    return "; ".join(f"{t.frameworks[0]} ({t.takes})" for t in TRANSLATORS)


def _named_file(folder: Path, name: str, source: str) -> Path:
    path, parts = folder / name, Path(name).parts
    inside = ".." not in parts and not Path(name).is_absolute()
    linked = any((folder / Path(*parts[:n])).is_symlink() for n in range(1, len(parts) + 1))
    if not inside or linked or not (content.is_file(path) or content.is_folder(path)):
        raise Invalid(f"{source} names the model file {name[:200]!r}, which is not there")
    return path


def _recognised(folder: Path, translators: list[Translator]) -> list[tuple[Translator, Path]]:
    """The models at and below `folder`; what lies within a folder that is a model belongs to it."""
    found: list[tuple[Translator, Path]] = []
    waiting = [folder]
    while waiting:
        path = waiting.pop()
        taken = [(translator, path) for translator in translators if translator.recognises(path)]
        found += taken
        if not taken and content.is_folder(path):
            waiting += path.iterdir()
    return sorted(found, key=lambda one: one[1])


def _signature(folder: Path) -> Signature:
    """The model's own description: its signature.json, else its MLmodel file."""
    name = next((one for one in ("signature.json", mlmodel.NAME) if content.is_file(folder / one)), None)
    if name is None:
        return Signature()
    with (folder / name).open("rb") as file:
        data = file.read(_MOST_SIGNATURE + 1)
    try:
        if len(data) > _MOST_SIGNATURE:
            raise ValueError(f"it is over {_MOST_SIGNATURE} bytes")
        stated = mlmodel.read(data) if name == mlmodel.NAME else msgspec.json.decode(data, type=dict[str, Any])
        return msgspec.convert({**stated, "stated": stated, "source": name}, Signature)
    except (ValueError, RecursionError) as error:  # msgspec's errors are ValueErrors
        raise Invalid(f"the model's {name} can't be read: {error}") from error


def _booster(package: str, format: str) -> Translator:
    return Translator(
        name=package,
        environment="uv:translator-boosting",
        frameworks=(package,),
        recognises=lambda path: boosting.package(path) == package,
        within=("scikit-learn", "sklearn"),
        takes=f"a model saved by {format}, or its estimator, alone or as the last step of a scikit-learn pipeline",
        opset=22,
    )


TRANSLATORS: tuple[Translator, ...] = (
    Translator(
        name="sklearn",
        environment="uv:translator-sklearn",
        frameworks=("scikit-learn", "sklearn"),
        recognises=sklearn.recognises,
        takes="an estimator or pipeline saved with skops, joblib or pickle",
        opset=22,
    ),
    _booster("xgboost", "XGBoost (.json, .ubj)"),
    _booster("lightgbm", "LightGBM (.txt)"),
    _booster("catboost", "CatBoost (.cbm)"),
    Translator(
        name="tensorflow",
        environment="uv:translator-tensorflow",
        frameworks=("tensorflow", "keras", "tflite"),
        recognises=tensorflow.recognises,
        takes="a SavedModel folder, a Keras model (.keras or .h5), a TFLite model",
        opset=18,
    ),
    Translator(
        name="torch",
        environment="uv:translator-torch",
        frameworks=("pytorch", "torch"),
        recognises=torch.recognises,
        takes="torch.export's .pt2, TorchScript, a state dict (.pt or .safetensors) with its source",
        opset=20,
    ),
    Translator(
        name="keras-torch",
        environment="uv:translator-torch",
        frameworks=("keras-torch",),
        recognises=tensorflow.is_keras,
        takes="a Keras model (.keras or .h5) on PyTorch, whose signature.json says so",
        opset=20,
        only_stated=True,
    ),
    Translator(
        name="onnx",
        environment="uv:translator-onnx",
        frameworks=("onnx",),
        recognises=onnx.recognises,
        takes="an .onnx file, with its data files beside it if it has such",
        opset=26,
    ),
    Translator(
        name="jax",
        environment="uv:translator-jax",
        frameworks=("jax", "flax"),
        recognises=jax.recognises,
        takes="model.py with a function of parameters and inputs, parameters (.npz, .safetensors), a signature.json",
        opset=23,
    ),
)
