"""What the two programs of every translator share: arguments, how a failure is told, the loop over batches of inputs.

A translator's translate.py ends in `harness.translate(convert)`, its predict.py in `harness.predict(load)`.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Arrays = dict[str, np.ndarray]
Answer = Callable[[Arrays], dict[str, Any]]
Ready = Callable[[dict[str, Any]], Answer]
Load = Callable[[Path, str], Ready]

_PAUSE = 0.01  # seconds between looks for the next round of inputs


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


def predict(load: Load, stages: Load | None = None) -> None:
    """`predict.py --model FOLDER --file NAME --inputs FOLDER --out FOLDER [--stages]`: the native model's answers.

    `load(folder, file)` opens the model, and gives a function from the signature to one from a batch's arrays, by
    input, to its answers, by output. They see no ONNX file, none of its outputs, and not where a batch comes from.
    `stages` likewise ends in a function to the values within the model, by a name that people understand, in the order
    in which they are computed.

    Started early, it loads while the model is converted. Then it waits in the folder of inputs for signature.json, and
    for 0.npz, 1.npz, … (arrays `batch/input`) until there is a file `end`. Each is answered by 0.json (what the model
    refused, by batch) and 0.npz (arrays `batch/output`) in the out folder.
    """
    args = _arguments("model", "file", "inputs", "out", flags=("stages",))
    inputs, out = Path(args.inputs), Path(args.out)
    with _Told(out):
        opened = stages if args.stages else load
        if opened is None:
            raise Unsupported("this translator can't show the values within a model")
        ready = opened(Path(args.model), args.file)
        while not (inputs / "signature.json").exists():
            time.sleep(_PAUSE)
        signature = json.loads((inputs / "signature.json").read_text("utf-8"))
        answer = ready(signature)
        number = 0
        while True:
            ended = (inputs / "end").exists()  # looked for first: all rounds are there before it
            if (inputs / f"{number}.npz").exists():
                _round(answer, signature, inputs / f"{number}.npz", out, all_of=args.stages)
                number += 1
            elif ended:
                break
            else:
                time.sleep(_PAUSE)


def _round(answer: Answer, signature: dict[str, Any], given: Path, out: Path, *, all_of: bool) -> None:
    outputs: Arrays = {}
    errors: dict[str, str] = {}
    with np.load(given, allow_pickle=False) as arrays:
        for batch in sorted({key.split("/", 1)[0] for key in arrays.files}):
            try:
                answers = answer({one["name"]: arrays[f"{batch}/{one['name']}"] for one in signature["inputs"]})
                names = list(answers) if all_of else [one["name"] for one in signature["outputs"]]
                outputs |= {f"{batch}/{name}": _plain(answers[name]) for name in names}
            except Exception as error:  # a refusal of this batch is an answer too
                errors[batch] = f"{type(error).__name__}: {error}"[:300]
    (out / f"{given.stem}.json").write_text(json.dumps(errors), "utf-8")
    part = out / f"{given.stem}.part"
    with part.open("wb") as file:
        np.savez(file, **outputs)
    part.rename(out / given.name)  # in its place only when it is whole


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


def _arguments(*names: str, flags: tuple[str, ...] = ()) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    for name in names:
        parser.add_argument(f"--{name}", required=True)
    for flag in flags:
        parser.add_argument(f"--{flag}", action="store_true")
    return parser.parse_args()


def _plain(value: Any) -> np.ndarray:
    array = np.asarray(value.toarray() if hasattr(value, "toarray") else value)
    return array.astype(str) if array.dtype.kind in "OST" else array
