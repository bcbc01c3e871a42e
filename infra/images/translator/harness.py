"""What the two programs of every translator share: arguments, how a failure is told, the loop over batches of inputs.

A translator's translate.py ends in `harness.translate(convert)`, its predict.py in `harness.predict(load)`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Arrays = dict[str, np.ndarray]
Answer = Callable[[Arrays], dict[str, Any]]


class Unsupported(Exception):
    """The model can't be translated; the message says why and what to change."""


def translate(convert: Callable[[Path, str, dict[str, Any]], tuple[bytes, dict[str, Any]]]) -> None:
    """`translate.py --model FOLDER --file NAME --options FILE --out FOLDER`: writes candidate.onnx and signature.json.

    `convert(folder, file, options)` gives the ONNX file's bytes and the signature. The options have `opset`, `dtype`
    (or null) and `stated`: what the model's own description says (`inputs`, and whatever else signature.json has).
    """
    args = _arguments("model", "file", "options", "out")
    out = Path(args.out)
    with _Told(out):
        options = json.loads(Path(args.options).read_text("utf-8"))
        onnx, signature = convert(Path(args.model), args.file, options)
        (out / "candidate.onnx").write_bytes(onnx)
        (out / "signature.json").write_text(json.dumps(signature), "utf-8")


def predict(load: Callable[[Path, str, dict[str, Any]], Answer]) -> None:
    """`predict.py --model FOLDER --file NAME --signature FILE --inputs FILE --out FOLDER`: the native model's answers.

    `load(folder, file, signature)` gives a function from a batch's arrays, by input, to its answers, by output. It sees
    no ONNX file, none of its outputs, and not where a batch comes from. Writes outputs.npz (arrays `batch/output`) and
    errors.json (what the model refused, by batch).
    """
    args = _arguments("model", "file", "signature", "inputs", "out")
    out = Path(args.out)
    with _Told(out):
        signature = json.loads(Path(args.signature).read_text("utf-8"))
        answer = load(Path(args.model), args.file, signature)
        outputs: Arrays = {}
        errors: dict[str, str] = {}
        with np.load(args.inputs, allow_pickle=False) as given:
            for batch in sorted({key.split("/", 1)[0] for key in given.files}):
                arrays = {one["name"]: given[f"{batch}/{one['name']}"] for one in signature["inputs"]}
                try:
                    answers = answer(arrays)
                    outputs |= {f"{batch}/{one['name']}": _plain(answers[one["name"]]) for one in signature["outputs"]}
                except Exception as error:  # a refusal of this batch is an answer too
                    errors[batch] = f"{type(error).__name__}: {error}"[:300]
        np.savez(out / "outputs.npz", **outputs)
        (out / "errors.json").write_text(json.dumps(errors), "utf-8")


class _Told:
    """Whatever the model's code raises becomes the sentence that the user reads, in the file `failure`; exit code 1."""

    def __init__(self, out: Path) -> None:
        self.out = out

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if isinstance(error, Exception):
            said = str(error) if isinstance(error, Unsupported) else f"{type(error).__name__}: {error}"
            (self.out / "failure").write_text(said[:4000], "utf-8")
            sys.exit(1)


def _arguments(*names: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    for name in names:
        parser.add_argument(f"--{name}", required=True)
    return parser.parse_args()


def _plain(value: Any) -> np.ndarray:
    array = np.asarray(value.toarray() if hasattr(value, "toarray") else value)
    return array.astype(str) if array.dtype.kind in "OST" else array
