"""One task in four frameworks: trained by the platform, translated to ONNX, and held side by side in one table.

python demo/polyglot.py [--keep]
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from demo import ROOT, TRAINER, Demo, play
from polyshare.cli.output import table
from polyshare.hardware.run import LIMITS, Workbench
from polyshare.jobs import environment

LATENCY = ROOT / "demo/polyglot/latency.py"


@dataclass(frozen=True)
class Trained:
    """How one framework trains, and in which environment its model is timed."""

    name: str
    kind: str  # of latency.py
    how: str  # arguments of `polyshare model add`
    environment: str


TENSORFLOW, TORCH = "uv:translator-tensorflow", "uv:translator-torch"
FRAMEWORKS = (
    Trained("scikit-learn", "sklearn", "--image uv:sklearn --param estimator=mlp", "uv:sklearn"),
    Trained("XGBoost", "xgboost", "--image uv:boosting --param estimator=xgboost", "uv:boosting"),
    Trained("TensorFlow", "keras", f"--image {TENSORFLOW} --source demo/polyglot/tensorflow", TENSORFLOW),
    Trained("PyTorch", "torch", f"--image {TORCH} --source demo/polyglot/torch", TORCH),
)


def show(demo: Demo) -> None:
    demo.say(f"a stack of its own in D={demo.folder}, and the UCI handwritten digits as a dataset")
    demo.run("polyshare up --detach")
    demo.run(f"uv run -q --no-project --isolated --with-requirements {TRAINER} python demo/export_digits.py $D")
    demo.run("polyshare dataset add $D/digits --name digits --meta licence='CC BY 4.0'")

    demo.say("the same task in four frameworks; an environment is installed when it is first needed")
    for one in FRAMEWORKS:
        demo.run(f"polyshare model add --dataset local/digits {one.how} --name {one.kind}")
    for one in FRAMEWORKS:
        demo.run(f"polyshare status local/{one.kind} --follow")

    demo.say("each was translated by itself; fetch both, verified, with the certificate of agreement")
    rows = []
    for one in FRAMEWORKS:
        demo.run(f"polyshare translate local/{one.kind} --wait")
        demo.run(f"polyshare fetch local/{one.kind} -o $D/{one.kind} > /dev/null")
        demo.run(
            f"polyshare fetch $(polyshare translate local/{one.kind} --json"
            f""" | python -c 'import json, sys; print(json.load(sys.stdin)["id"])') -o $D/{one.kind}-onnx > /dev/null"""
        )
        demo.run(f"polyshare verify $D/{one.kind}-onnx")
        rows.append(_row(demo, one))

    demo.say("one row at a time on one thread, natively and by ONNX Runtime; differences as certified")
    head = ["TRAINED WITH", "NATIVE", "ONNX", "NATIVE ms", "ONNX ms", "LARGEST DIFFERENCE", "CLASS AGREEMENT"]
    table(head, rows)


def _row(demo: Demo, one: Trained) -> list[str]:
    native, onnx = demo.folder / one.kind, demo.folder / f"{one.kind}-onnx"
    document = json.loads((native / "polyshare.json").read_bytes())
    size = sum(f["size"] for f in document["result"]["content"]["files"] if f["path"] != "signature.json")
    known = json.loads((onnx / "certificate.json").read_bytes())
    told = json.loads((onnx / "polyshare.json").read_bytes())["result"]["metadata"]["fields"]
    (difference,) = (field["value"] for field in told if field["name"] == "max_absolute_difference")
    classes = known["class_agreement"][0]
    return [
        one.name,
        f"{size:,} B",
        f"{known['onnx']['size']:,} B",
        f"{_latency(demo, one.kind, native, one.environment):.3f}",
        f"{_latency(demo, 'onnx', onnx, 'uv:verify'):.3f}",
        f"{difference:.2g}",
        f"{classes['agreeing']} of {classes['rows']} ({classes['origin']}), at least {classes['lower_bound']:.4f}",
    ]


def _latency(demo: Demo, kind: str, model: Path, reference: str) -> float:
    """Milliseconds for one row. In a sandbox: a native model is code."""
    prepared = environment.prepare(environment.resolve(reference), ROOT / ".make/environments")
    with Workbench(prepared, LIMITS) as bench:
        program = bench.lay(LATENCY, "latency.py")
        rows = bench.lay(demo.folder / "digits/test/digits.csv", "rows.csv")
        out = bench.run(program, kind=kind, model=bench.lay(model, "model"), rows=rows)
        return bench.read(out / "latency.json", dict[str, float])["milliseconds"]


if __name__ == "__main__":
    play(show, __doc__)
