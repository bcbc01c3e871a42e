"""Runs the ONNX model on the gate's inputs and measures how far it is from the native model's answers.
`agree.py --onnx FILE --inputs FILE --plan FILE --facts FILE --signature FILE --options FILE --native FOLDER
--out FOLDER`

Writes measures.json: counts and largest differences by output and origin of the inputs. It does not judge.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import measure
import numpy as np
from admit import Refused
from gate import open_session

MOST_ERRORS = 5


def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("onnx", "inputs", "plan", "facts", "signature", "options", "native", "out"):
        parser.add_argument(f"--{name}", required=True)
    args = parser.parse_args()
    out = Path(args.out)
    try:
        found = agree(args)
    except (Refused, ValueError, KeyError, OSError) as error:
        (out / "failure").write_text(f"{type(error).__name__}: {error}"[:4000], "utf-8")
        sys.exit(1)
    (out / "measures.json").write_text(json.dumps(found, allow_nan=False), "utf-8")


def agree(args: argparse.Namespace) -> dict[str, Any]:
    plan, facts, signature, options = (
        json.loads(Path(path).read_text("utf-8")) for path in (args.plan, args.facts, args.signature, args.options)
    )
    native_errors = json.loads((Path(args.native) / "errors.json").read_text("utf-8"))
    outputs = [{**one, **fact} for one, fact in zip(signature["outputs"], facts["outputs"], strict=True)]
    measures = {one["name"]: measure.Output(one, options["tolerances"], signature["classes"]) for one in outputs}
    answered: dict[str, dict[str, int]] = {}
    said: dict[str, list[str]] = {"native": [], "onnx": []}
    session = open_session(Path(args.onnx).read_bytes())
    with (
        np.load(args.inputs, allow_pickle=False) as given,
        np.load(Path(args.native) / "outputs.npz", allow_pickle=False) as native,
    ):
        batches = [_Batch(one, given, native, native_errors, session, outputs) for one in plan]
        by_name = {batch.name: batch for batch in batches}
        for batch in batches:
            batch.count(answered, said)
        for one in outputs:
            pairs = [b.pair(one["name"]) for b in batches if b.both and not b.uncast_of]
            measures[one["name"]].scale_from([p for p in pairs if p is not None])
        scores = next((one["name"] for one in outputs if one["role"] == "scores"), None)
        for batch in batches:
            if batch.uncast_of and batch.native is not None and (cast := by_name[batch.uncast_of]).native is not None:
                rows = [i for i, origin in enumerate(batch.origins) if origin == "uncast"]
                for name, one in measures.items():
                    one.add_cast(cast.native[name][rows], batch.native[name][rows])
            elif batch.both and not batch.uncast_of:
                for name, one in measures.items():
                    beside = batch.native[scores] if scores and batch.native is not None else None
                    one.add(batch.origins, *batch.pair(name), beside)
    return {
        "answered": answered,
        "native_refusals": said["native"],
        "onnx_failures": said["onnx"],
        "outputs": [one.report() for one in measures.values()],
    }


class _Batch:
    """One batch with the answers of both sides."""

    def __init__(self, plan: dict, given: Any, native: Any, errors: dict, session: Any, outputs: list[dict]) -> None:
        self.name, self.origins, self.uncast_of = plan["batch"], plan["origins"], plan["uncast_of"]
        self.two_sided = {one["name"] for one in outputs if one["method"] == "decision_function"}
        self.native: dict[str, np.ndarray] | None = None
        self.onnx: dict[str, np.ndarray] | None = None
        self.error_native = str(errors[self.name])[:300] if self.name in errors else ""
        self.error_onnx = ""
        if not self.error_native:
            self.native = {one["name"]: self._native(native, one["name"]) for one in outputs}
        if not self.uncast_of:
            feed = {one.name: given[f"{self.name}/{one.name}"] for one in session.get_inputs()}
            feed = {key: array.astype(object) if array.dtype.kind == "U" else array for key, array in feed.items()}
            try:
                answers = session.run([one["name"] for one in outputs], feed)
                self.onnx = {one["name"]: np.asarray(a) for one, a in zip(outputs, answers, strict=True)}
            except Exception as error:  # ONNX Runtime's own errors have no common class
                self.error_onnx = f"{type(error).__name__}: {error}"[:300]

    @property
    def both(self) -> bool:
        return self.native is not None and self.onnx is not None

    def pair(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        native, onnx = self.native[name], self.onnx[name]  # type: ignore[index]
        if name in self.two_sided and native.ndim == 1 and onnx.ndim == 2 and onnx.shape[1] == 2:
            # scikit-learn gives the decision for the second of two classes; ONNX a column for each.
            native = np.stack([-native, native], axis=1)
        return native, onnx

    def count(self, answered: dict[str, dict[str, int]], said: dict[str, list[str]]) -> None:
        if self.uncast_of:
            return
        for origin in self.origins or ["empty"]:
            one = answered.setdefault(origin, {"rows": 0, "both": 0, "native_refused": 0, "onnx_failed": 0})
            one["rows"] += 1
            one["both"] += self.both
            one["native_refused"] += self.native is None
            one["onnx_failed"] += self.native is not None and self.onnx is None
        where = ",".join(sorted(set(self.origins))) or "empty"
        for side, error in (("native", self.error_native), ("onnx", self.error_onnx)):
            if error and len(said[side]) < MOST_ERRORS:
                said[side].append(f"{where}: {error}")

    def _native(self, native: Any, output: str) -> np.ndarray:
        array = native[f"{self.name}/{output}"]
        if array.ndim == 0 or array.shape[0] != len(self.origins) or array.dtype.kind not in "fiubU":
            raise ValueError(f"the native model gave {array.dtype} of shape {array.shape} for {len(self.origins)} rows")
        return array


if __name__ == "__main__":
    main()
