"""Makes a certificate's inputs again, and ONNX Runtime's answers to them on the CPU.
`expect.py --onnx FILE --signature FILE [--test FOLDER] --out FOLDER`

The signature has what the certificate says of the inputs and outputs, and `rows`. Writes inputs.npz, plan.json,
answers.npz, errors.json and said.json: what was read of the test data.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import gate
import numpy as np
from admit import Refused
from compare import fed


def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("onnx", "signature", "out"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--test")
    args = parser.parse_args()
    out = Path(args.out)
    try:
        signature = json.loads(Path(args.signature).read_text("utf-8"))
        expect(Path(args.onnx).read_bytes(), signature, Path(args.test) if args.test else None, out)
    except Refused as error:
        (out / "failure").write_text(str(error)[:4000], "utf-8")
        sys.exit(1)


def expect(data: bytes, signature: dict[str, Any], test: Path | None, out: Path) -> None:
    session = gate.open_session(data)
    _, made, said = gate.inputs(data, signature, signature["rows"], test)
    gate.save(made, out / "inputs.npz")
    plan = [one for one in made.plan if not one["uncast_of"]]  # the others are of the native model alone
    answers, errors = answered(session, plan, made.arrays)
    np.savez(out / "answers.npz", **answers)
    for name, document in (("plan", plan), ("errors", errors), ("said", {"test_data": said})):
        (out / f"{name}.json").write_text(json.dumps(document), "utf-8")


def answered(session: Any, plan: list[dict[str, Any]], given: Any) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Answers by `batch/output`, and by batch what was said where there is none."""
    answers: dict[str, np.ndarray] = {}
    errors: dict[str, str] = {}
    names = [one.name for one in session.get_outputs()]
    for batch in (one["batch"] for one in plan):
        columns = {one.name: given[f"{batch}/{one.name}"] for one in session.get_inputs()}
        try:
            found = session.run(names, fed(columns))
        except Exception as error:  # ONNX Runtime's own errors have no common class
            errors[batch] = f"{type(error).__name__}: {error}"[:300]
            continue
        for name, array in zip(names, map(np.asarray, found), strict=True):
            answers[f"{batch}/{name}"] = array.astype(str) if array.dtype.kind == "O" else array
    return answers, errors


if __name__ == "__main__":
    main()
