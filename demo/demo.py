"""The whole path of polyshare on real data, command by command, as a user would type them.

python demo/demo.py [--keep]
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TRAINER = "infra/images/trainer-sklearn/requirements.txt"


class Demo:
    """Runs commands in the checkout, shows each before its output, stops at the first that surprises."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environ = {
            **os.environ,
            "PATH": f"{ROOT / '.venv/bin'}:{os.environ['PATH']}",
            "POLYSHARE_DATA": str(folder / "data"),
            "POLYSHARE_CONFIG": str(folder / "profile.json"),
            "POLYSHARE_ENVIRONMENTS": str(ROOT / ".make/environments"),  # installed once, not for each demo
            "D": str(folder),
        }
        self.bold, self.plain = ("\033[1m", "\033[0m") if sys.stdout.isatty() else ("", "")

    def say(self, text: str) -> None:
        print(f"\n{self.bold}# {text}{self.plain}", flush=True)

    def run(self, command: str, *, expect: int = 0) -> None:
        print(f"{self.bold}$ {command}{self.plain}", flush=True)
        status = subprocess.run(["/bin/sh", "-c", command], cwd=ROOT, env=self.environ, check=False).returncode
        if status != expect:
            sys.exit(
                f"demo: that ended with {status}, where {expect} was expected; the stack's log is in {self.folder}"
            )


def play(show: Callable[[Demo], None], about: str | None) -> None:
    """Show something on a stack of its own, which is ended and removed after it unless --keep says not to."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--keep", action="store_true", help="leave the stack running")
    keep = parser.parse_args().keep
    folder = Path(tempfile.mkdtemp(prefix="polyshare-demo-"))
    demo = Demo(folder)
    started = time.monotonic()
    try:
        show(demo)
    except BaseException:
        keep = False
        raise
    finally:
        if keep:
            exports = " ".join(f"{k}={shlex.quote(demo.environ[k])}" for k in ("POLYSHARE_DATA", "POLYSHARE_CONFIG"))
            demo.say(f"the stack runs on; to use it: export {exports}; to end it: .venv/bin/polyshare down")
        else:
            demo.say("end the stack")
            demo.run("polyshare down")
            subprocess.run(["rm", "-rf", "--", folder], check=False)
    print(f"\nall of it took {time.monotonic() - started:.0f} s")


def show(demo: Demo) -> None:
    demo.say(f"a stack of its own in D={demo.folder}: S3 store, ledger, functions, runner")
    demo.run("polyshare up --detach")

    demo.say("the UCI handwritten digits that scikit-learn ships, as files")
    demo.run(f"uv run -q --no-project --isolated --with-requirements {TRAINER} python demo/export_digits.py $D")

    demo.say("register them as a dataset")
    demo.run("polyshare dataset add $D/digits --name digits --meta licence='CC BY 4.0' --meta source=UCI")

    demo.say("register a model on it: its contract's address is final at once, and training starts by itself")
    train = "polyshare model add --dataset local/digits --image uv:sklearn --name digits-forest"
    parameters = "--param estimator=random_forest --param n_estimators=50"
    demo.run(f"{train} {parameters}")
    demo.run("polyshare status local/digits-forest --follow")

    demo.say("fetch it, with its contract metadata and lineage, and check it against the ledger")
    demo.run("polyshare fetch local/digits-forest -o $D/model")
    demo.run("polyshare verify $D/model")

    demo.say("flip one byte: it is refused (exit code 1)")
    demo.run("cp -r $D/model $D/flipped")
    demo.run("printf X | dd of=$D/flipped/model.skops bs=1 seek=1000 conv=notrunc status=none")
    demo.run("polyshare verify $D/flipped", expect=1)

    demo.say("train again with the same inputs: the same bytes")
    demo.run(f"{train} {parameters} --no-translate")
    demo.run("polyshare status local/digits-forest@2 --follow")
    demo.run("polyshare fetch local/digits-forest@2 -o $D/again > /dev/null")
    demo.run("sha256sum $D/model/model.skops $D/again/model.skops")
    demo.run("cmp $D/model/model.skops $D/again/model.skops && echo identical")

    demo.say("its translation to ONNX followed by itself; fetch it with its certificate of agreement")
    demo.run("polyshare translate local/digits-forest@1 --wait")
    demo.run(
        "polyshare fetch $(polyshare translate local/digits-forest@1 --json"
        """ | python -c 'import json, sys; print(json.load(sys.stdin)["id"])') -o $D/onnx"""
    )
    demo.run("polyshare verify $D/onnx")

    demo.say("classify a digit with ONNX Runtime alone: no scikit-learn, no polyshare")
    demo.run("python demo/classify.py $D/onnx/model.onnx $D/digit.csv")


if __name__ == "__main__":
    play(show, __doc__)
