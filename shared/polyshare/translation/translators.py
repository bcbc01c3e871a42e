"""The translators: which model files each takes and in which environment it runs. To add one, add it here.

Recognition reads file names and first bytes only. Nothing here loads a model: loading one runs its code.
"""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from polyshare.errors import Invalid

VERIFIER = "uv:verify"  # the environment of the gate

_HEAD = 256 * 1024  # bytes of a file's beginning that recognition may look at
_TAIL = 1024 * 1024
_MOST_SIGNATURE = 1024 * 1024


class Signature(msgspec.Struct, frozen=True):
    """What a model's own signature.json states, as far as translation needs it."""

    framework: str = ""
    model: str = ""  # file of the model, relative to the folder
    target: str | int | None = None  # the column of test data that is not an input


@dataclass(frozen=True, slots=True)
class Translator:
    """A framework's way to ONNX.

    Its environment's folder under infra/images has two programs, whose arguments and files docs/translation.md states:
    translate.py (native model → candidate.onnx, signature.json) and predict.py (native model, inputs → outputs.npz).
    """

    name: str
    environment: str
    frameworks: tuple[str, ...]  # what a signature.json may call it
    recognises: Callable[[Path], bool]
    takes: str  # for the error that says what could have been given
    opset: int  # the newest that both its converter writes and ONNX Runtime takes


@dataclass(frozen=True, slots=True)
class Native:
    """A model file and the translator that takes it."""

    translator: Translator
    file: str  # relative to the model's folder
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


def find(folder: Path) -> Native:
    """The model file in `folder` and its translator. Raises Invalid, saying what to add, if there is not one."""
    signature = _signature(folder)
    stated = [t for t in TRANSLATORS if signature.framework.lower() in t.frameworks]
    if signature.framework and not stated:
        raise Invalid(
            f"signature.json says framework {signature.framework[:100]!r}; translated are: "
            + "; ".join(f"{t.frameworks[0]} ({t.takes})" for t in TRANSLATORS)
        )
    if signature.model:
        files = [folder / signature.model]
        if ".." in Path(signature.model).parts or Path(signature.model).is_absolute() or not _is_file(files[0]):
            raise Invalid(f"signature.json names the model file {signature.model[:200]!r}, which is not there")
    else:
        files = sorted(path for path in folder.rglob("*") if _is_file(path))
    found = [(t, path) for path in files for t in TRANSLATORS if (not stated or t in stated) and t.recognises(path)]
    if not found and stated and len(files) == 1:
        found = [(stated[0], files[0])]  # stated by the owner: its sandboxed loader has the last word
    if len(found) == 1:
        return Native(found[0][0], str(found[0][1].relative_to(folder)), signature)
    if found:
        names = ", ".join(str(path.relative_to(folder)) for _, path in found[:5])
        raise Invalid(f'several files could be the model ({names}): name it in signature.json as "model"')
    names = ", ".join(str(path.relative_to(folder)) for path in files[:5]) or "no files"
    raise Invalid(
        f"no model that can be translated among {names}; taken are: "
        + "; ".join(f"{t.frameworks[0]} ({t.takes})" for t in TRANSLATORS)
        + '. If one is, add a signature.json with "framework" and "model"'
    )


def _is_file(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


def _signature(folder: Path) -> Signature:
    path = folder / "signature.json"
    if not _is_file(path):
        return Signature()
    with path.open("rb") as file:
        data = file.read(_MOST_SIGNATURE + 1)
    try:
        if len(data) > _MOST_SIGNATURE:
            raise ValueError(f"it is over {_MOST_SIGNATURE} bytes")
        return msgspec.json.decode(data, type=Signature)
    except (ValueError, RecursionError) as error:  # msgspec's errors are ValueErrors
        raise Invalid(f"the model's signature.json can't be read: {error}") from error


def _is_sklearn(path: Path) -> bool:
    head = _head(path)
    if head.startswith(b"PK\x03\x04"):
        return _is_skops(path)
    pickle = _unpacked(head)
    return pickle[:1] == b"\x80" and pickle[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05") and b"sklearn." in pickle


def _is_skops(path: Path) -> bool:
    """A zip whose directory, at its end, lists schema.json, the file that skops writes. The zip is not opened."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _TAIL))
        tail = file.read(_TAIL)
    return b"PK\x05\x06" in tail and b"schema.json" in tail


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_HEAD)


def _unpacked(head: bytes) -> bytes:
    """The first bytes of what joblib compressed, in bounded memory; the bytes themselves if they are not compressed."""
    try:
        if head[:1] == b"\x78":
            return zlib.decompressobj().decompress(head, _HEAD)
        if head[:2] == b"\x1f\x8b":
            return zlib.decompressobj(wbits=31).decompress(head, _HEAD)
        if head[:3] == b"BZh":
            return bz2.BZ2Decompressor().decompress(head, _HEAD)
        if head[:6] == b"\xfd7zXZ\x00" or head[:3] == b"\x5d\x00\x00":
            return lzma.LZMADecompressor(memlimit=128 * 1024 * 1024).decompress(head, _HEAD)
    except (zlib.error, OSError, lzma.LZMAError, EOFError):
        return b""
    return head


TRANSLATORS: tuple[Translator, ...] = (
    Translator(
        name="sklearn",
        environment="uv:translator-sklearn",
        frameworks=("scikit-learn", "sklearn"),
        recognises=_is_sklearn,
        takes="an estimator or pipeline saved with skops, joblib or pickle",
        opset=22,
    ),
)
