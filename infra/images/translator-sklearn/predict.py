"""Runs the native model on the gate's inputs.
`predict.py --model FOLDER --file NAME --signature FILE --inputs FILE --out FOLDER`

Sees no ONNX file, none of its outputs, and not where a batch comes from. Writes outputs.npz (arrays `batch/output`)
and errors.json (what the model refused, by batch); on failure a sentence to `failure`, and exits 1.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import loading
import numpy as np


def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("model", "file", "signature", "inputs", "out"):
        parser.add_argument(f"--{name}", required=True)
    args = parser.parse_args()
    out = Path(args.out)
    try:
        predict(Path(args.model) / args.file, json.loads(Path(args.signature).read_text("utf-8")), args.inputs, out)
    except Exception as error:  # everything the model's code may raise becomes the sentence that the user reads
        (out / "failure").write_text(f"{type(error).__name__}: {error}"[:4000], "utf-8")
        sys.exit(1)


def predict(file: Path, signature: dict, inputs: str, out: Path) -> None:
    model, _ = loading.load(file)
    outputs: dict[str, np.ndarray] = {}
    errors: dict[str, str] = {}
    with np.load(inputs, allow_pickle=False) as given:
        for batch in sorted({key.split("/", 1)[0] for key in given.files}):
            arrays = {one["name"]: given[f"{batch}/{one['name']}"] for one in signature["inputs"]}
            try:
                data = loading.native_batch(model, signature["inputs"], arrays)
                for one in signature["outputs"]:
                    outputs[f"{batch}/{one['name']}"] = _plain(getattr(model, one["method"])(data))
            except Exception as error:  # a refusal of this batch is an answer too
                errors[batch] = f"{type(error).__name__}: {error}"[:300]
    np.savez(out / "outputs.npz", **outputs)
    (out / "errors.json").write_text(json.dumps(errors), "utf-8")


def _plain(value: object) -> np.ndarray:
    array = np.asarray(value.toarray() if hasattr(value, "toarray") else value)
    return array.astype(str) if array.dtype.kind in "OST" else array


if __name__ == "__main__":
    main()
