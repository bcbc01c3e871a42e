"""Answers a certificate's inputs on one execution provider and measures how far that is from what was expected.
`conform.py --onnx FILE --signature FILE --options FILE --expected FOLDER --out FOLDER`

`expected` is what expect.py wrote; the options are providers.Asked and the tolerances. Writes conformed.json: the
measures, the nodes with their providers, and the runtime. It does not judge.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from admit import Refused
from compare import Comparison
from providers import Asked, Opened, load, runtime


def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("onnx", "signature", "options", "expected", "out"):
        parser.add_argument(f"--{name}", required=True)
    args = parser.parse_args()
    out = Path(args.out)
    try:
        signature, options = (json.loads(Path(path).read_text("utf-8")) for path in (args.signature, args.options))
        found = conform(Path(args.onnx), signature, options, Path(args.expected))
    except (Refused, ValueError, KeyError) as error:
        (out / "failure").write_text(str(error)[:4000], "utf-8")
        sys.exit(1)
    (out / "conformed.json").write_text(json.dumps(found, allow_nan=False), "utf-8")


def conform(model: Path, signature: dict[str, Any], options: dict[str, Any], expected: Path) -> dict[str, Any]:
    plan, errors = (json.loads((expected / f"{name}.json").read_text("utf-8")) for name in ("plan", "errors"))
    opened = Opened(load(model), Asked(options["provider"], options["options"], options["allow_cpu"]))
    comparison = Comparison(opened.session, signature, signature, options["tolerances"])
    with (
        np.load(expected / "inputs.npz", allow_pickle=False) as given,
        np.load(expected / "answers.npz", allow_pickle=False) as answers,
    ):
        comparison.add(plan, given, answers, errors)
    return {
        "runtime": runtime(),
        "nodes": opened.nodes,
        "milliseconds": opened.profile(),
        "measured": comparison.report(),
    }


if __name__ == "__main__":
    main()
