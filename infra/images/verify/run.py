"""Runs an ONNX model once on one execution provider: `run.py --onnx FILE --options FILE --out FOLDER`

The options have provider, options, allow_cpu (providers.Asked) and `inputs`: name, path and what the user called it.
Writes outputs.npz and ran.json; what is refused is a sentence in `failure`, and exit code 1.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import given
import numpy as np
from admit import Refused
from providers import Asked, Opened, load, runtime, shortly

_SHOWN = 100  # numbers of an output


def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("onnx", "options", "out"):
        parser.add_argument(f"--{name}", required=True)
    args = parser.parse_args()
    out = Path(args.out)
    try:
        options = json.loads(Path(args.options).read_text("utf-8"))
        asked = Asked(options["provider"], options["options"], options["allow_cpu"])
        found = run(Path(args.onnx), options["inputs"], asked, out)
    except Refused as error:
        (out / "failure").write_text(str(error)[:4000], "utf-8")
        sys.exit(1)
    (out / "ran.json").write_text(json.dumps(found), "utf-8")


def run(model: Path, inputs: list[dict[str, str]], asked: Asked, out: Path) -> dict[str, Any]:
    opened = Opened(load(model), asked)
    session = opened.session
    feed = given.read(inputs, session.get_inputs())
    begun = time.perf_counter()
    try:
        answers = session.run(None, feed)
    except Exception as error:  # ONNX Runtime's own errors have no common class
        raise Refused(f"the run failed: {shortly(error)}; {given.describe(session.get_inputs())}") from error
    seconds = time.perf_counter() - begun
    named = dict(zip((one.name for one in session.get_outputs()), answers, strict=True))
    arrays = {name: _plain(name, answer) for name, answer in named.items()}
    np.savez(out / "outputs.npz", **arrays)
    return {
        "runtime": runtime(),
        "seconds": seconds,
        "nodes": opened.nodes,
        "milliseconds": opened.profile(),
        "outputs": [_shown(name, array) for name, array in arrays.items()],
    }


def _plain(name: str, answer: Any) -> np.ndarray:
    if not isinstance(answer, np.ndarray):
        raise Refused(f"output {name!r} is a {type(answer).__name__}, not a tensor: only tensors can be written")
    return answer.astype(str) if answer.dtype.kind == "O" else answer


def _shown(name: str, array: np.ndarray) -> dict[str, Any]:
    dtype = "string" if array.dtype.kind == "U" else str(array.dtype)
    values = [str(value)[:100] for value in array.ravel()[:_SHOWN]]
    return {"name": name, "dtype": dtype, "shape": list(array.shape), "values": values}


if __name__ == "__main__":
    main()
