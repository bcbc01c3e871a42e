"""The gate and the comparison, request by request.
`verify.py --requests FOLDER [--test FOLDER] --out FOLDER`

Requests are n.json with "do" and, beside it, n.<name>; each is answered, in the out folder, by n.<name>
and, last, n.json:

- gate: candidate.onnx, signature.json, options.json → model.onnx, inputs.npz; {"facts": …} or {"refused": a sentence};
- compare: answers.npz, errors.json of the native side to the inputs of the answer before → {"measures": …, "more": what
  for there are inputs.npz}: "search", for the round of the search that the request names; "where", with a row that is
  outside the tolerance; or "";
- find: stages.npz of the native side's answer to the row furthest outside → {"first": where they come apart}.

Ends when there is a file `end` and all is answered. What fails here is written to `failure`, and exits 1.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import where
from admit import Refused
from batches import Made
from compare import Comparison
from gate import Gated, gate, save
from search import searched

PAUSE = 0.01  # seconds between looks for the next request


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--requests", required=True)
    parser.add_argument("--test")
    parser.add_argument("--out", required=True)
    args = parser.parse_args()
    requests, out = Path(args.requests), Path(args.out)
    work = _Work(requests, Path(args.test) if args.test else None, out)
    number = 0
    try:
        while True:
            ended = (requests / "end").exists()  # looked for first: all requests are there before it
            if (requests / f"{number}.json").exists():
                answer = work.answer(number)
                part = out / f"{number}.part"
                part.write_text(json.dumps(answer, allow_nan=False), "utf-8")
                os.rename(part, out / f"{number}.json")
                number += 1
            elif ended:
                return
            else:
                time.sleep(PAUSE)
    except Exception as error:  # what the converter and the native side wrote may be anything
        (out / "failure").write_text(f"{type(error).__name__}: {error}"[:4000], "utf-8")
        sys.exit(1)


class _Work:
    """What one request leaves for the next."""

    def __init__(self, requests: Path, test: Path | None, out: Path) -> None:
        self.requests, self.test, self.out = requests, test, out
        self.options: dict[str, Any] = {}
        self.document: dict[str, Any] = {}
        self.gated: Gated
        self.comparison: Comparison
        self.asked: Made

    def answer(self, number: int) -> dict[str, Any]:
        request = json.loads(self._given(number, "json").read_text("utf-8"))
        return {"gate": self._gate, "compare": self._compare, "find": self._find}[request["do"]](number, request)

    def _gate(self, number: int, _request: dict[str, Any]) -> dict[str, Any]:
        self.options = json.loads(self._given(number, "options.json").read_text("utf-8"))
        self.document = json.loads(self._given(number, "signature.json").read_text("utf-8"))
        try:
            self.gated = gate(self._given(number, "candidate.onnx"), self.document, self.options, self.test)
        except Refused as error:
            return {"refused": str(error)[:4000]}
        self.comparison = Comparison(self.gated.session, self.document, self.gated.facts, self.options["tolerances"])
        (self.out / f"{number}.model.onnx").write_bytes(self.gated.data)
        self._ask(number, self.gated.made)
        return {"facts": self.gated.facts}

    def _compare(self, number: int, request: dict[str, Any]) -> dict[str, Any]:
        errors = json.loads(self._given(number, "errors.json").read_text("utf-8"))
        with np.load(self._given(number, "answers.npz"), allow_pickle=False) as answers:
            self.comparison.add(self.asked.plan, self.asked.arrays, answers, errors)
        more = ""
        if request["search"] is not None and not self.comparison.settled:
            made = searched(self.gated.signature, self.comparison.worst, self.gated.seed, request["search"])
            more = "search" if made.plan else ""
        if not more and self.comparison.outside:
            made = where.asked(self.gated.signature, self.comparison.outside)
            more = "where"
        if more:
            self._ask(number, made)
        return {"measures": self.comparison.report(), "more": more}

    def _find(self, number: int, _request: dict[str, Any]) -> dict[str, Any]:
        with np.load(self._given(number, "stages.npz"), allow_pickle=False) as stages:
            first = where.first_disagreement(self.gated.data, self.asked, stages, self.options["tolerances"])
        return {"first": first}

    def _ask(self, number: int, made: Made) -> None:
        self.asked = made
        save(made, self.out / f"{number}.inputs.npz")

    def _given(self, number: int, name: str) -> Path:
        return self.requests / f"{number}.{name}"


if __name__ == "__main__":
    main()
