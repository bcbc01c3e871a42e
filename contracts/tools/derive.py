"""Write the ABI and bytecode of the contracts where the library reads them, or with --check say what is stale."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

CONTRACTS = ("AssetRegistry", "Dataset", "Model", "ImportedModel", "Translation")
ROOT = Path(__file__).resolve().parents[2]
FORGE = ROOT / "node_modules" / ".bin" / "forge"
BUILT = ROOT / "contracts" / "out"
DERIVED = ROOT / "shared" / "polyshare" / "ledger" / "contracts"


def main(arguments: list[str]) -> int:
    if not FORGE.exists():
        print("forge is not installed in this checkout: run `make setup`", file=sys.stderr)
        return 1
    environ = {**os.environ, "FOUNDRY_PROFILE": "default"}  # what ships is compiled one way, whatever tests it
    command = [FORGE, "build", "--quiet", "--root", ROOT, "contracts/src"]
    built = subprocess.run(command, env=environ, check=False, timeout=300)
    if built.returncode:
        return built.returncode
    stale = []
    for name in CONTRACTS:
        path, text = DERIVED / f"{name}.json", derived(name)
        if path.exists() and path.read_text() == text:
            continue
        if "--check" in arguments:
            stale.append(path.relative_to(ROOT).as_posix())
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    if stale:
        print(
            f"not what contracts/src compiles to: {', '.join(stale)}; run `make contracts` and commit", file=sys.stderr
        )
    return 1 if stale else 0


def derived(name: str) -> str:
    """The committed form of a compiled contract: what the library needs, the same on every machine."""
    built = json.loads((BUILT / f"{name}.sol" / f"{name}.json").read_text())
    runtime = built["deployedBytecode"]
    references = runtime.get("immutableReferences", {})
    document = {
        "abi": built["abi"],
        "bytecode": built["bytecode"]["object"],
        "deployedBytecode": runtime["object"],
        # The compiler's own numbers depend on what else was compiled; here immutables count from 0 as declared.
        "immutableReferences": {str(number): references[key] for number, key in enumerate(sorted(references, key=int))},
    }
    return json.dumps(document, indent=1) + "\n"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
