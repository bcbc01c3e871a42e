"""The matrix of docs/translation.md: format × kind, made of what the tests measured.

`python -m tests.translation.matrix` takes what tests kept in .make/translation into docs/translation-matrix.json and
renders the table. What a run did not measure stays as it was; what is no longer declared goes.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.translation import declared

ROOT = Path(__file__).parents[2]
KEPT = ROOT / ".make" / "translation"
RESULTS = ROOT / "docs" / "translation-matrix.json"
PAGE = ROOT / "docs" / "translation.md"
BEGIN, END = "<!-- matrix: begin -->\n", "<!-- matrix: end -->\n"


def keep(name: str, measured: dict[str, Any]) -> None:
    """Note what a test measured of a model."""
    KEPT.mkdir(parents=True, exist_ok=True)
    (KEPT / f"{name}.json").write_text(json.dumps(measured))


def results() -> dict[str, Any]:
    return json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}


def missing() -> list[str]:
    """Declared models without a result, and cells with neither a model nor a reason."""
    found, reasons, models = results(), declared.reasons(), declared.models().values()
    cells = {(model.format, kind) for model in models for kind in model.kinds}
    gaps = [f"model {model.name} was not measured" for model in models if model.name not in found]
    return gaps + [
        f"{format} × {kind} has neither a model nor a reason"
        for module in declared.modules()
        for format in module.cannot
        for kind in declared.KINDS
        if kind != "dynamic batch" and (format, kind) not in cells | reasons.keys()
    ]


def render() -> str:
    """The table, a row a kind and format: what the models that show it came to, or why there is none."""
    found, reasons, models = results(), declared.reasons(), declared.models().values()
    lines = [
        "| format | kind | translated | largest difference | same bytes again |",
        "| --- | --- | --- | --- | --- |",
    ]
    for module in declared.modules():
        for format in module.cannot:
            of = [model for model in models if model.format == format and model.name in found]
            for kind in declared.KINDS:
                shown = [found[model.name] for model in of if kind in model.kinds]
                if kind == "dynamic batch":
                    shown = [one for model in of if (one := found[model.name]).get("dynamic_batch")]
                lines.append(f"| {format} | {kind} | {_cell(shown, reasons.get((format, kind), ''))} |")
    refused = [(model, found[model.name]) for model in models if model.name in found and model.refused]
    lines += ["", "Refused, with this sentence:", "", "| format | model | why |", "| --- " * 3 + "|"]
    lines += [f"| {model.format} | {model.name} | {_text(one['refused'])} |" for model, one in refused]
    return "\n".join(lines) + "\n"


def _cell(shown: list[dict[str, Any]], reason: str) -> str:
    done = [one for one in shown if "refused" not in one]
    if not done:
        return f"no: {_text(shown[0]['refused'] if shown else reason)} | | "
    largest = max(one["max_difference"] for one in done)
    same = "yes" if all(one["deterministic"] for one in done) else "no"
    count = f"{len(done)} model{'s' * (len(done) > 1)}"
    excepted = sum(one["verdict"] == "agrees_except" for one in done)
    return f"yes, {count}{f', {excepted} with exceptions' if excepted else ''} | {largest:.1e} | {same}"


def _text(sentence: str) -> str:
    return " ".join(sentence.replace("|", "/").split())[:300]


def page() -> str:
    """docs/translation.md with the table of now."""
    before, _, rest = PAGE.read_text().partition(BEGIN)
    return before + BEGIN + render() + END + rest.partition(END)[2]


def main() -> None:
    known = declared.models()
    merged = {name: one for name, one in results().items() if name in known}
    for path in sorted(KEPT.glob("*.json")):
        if path.stem in known:
            merged[path.stem] = json.loads(path.read_text())
    lines = [f"{json.dumps(name)}: {json.dumps(merged[name], sort_keys=True)}" for name in sorted(merged)]
    RESULTS.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    PAGE.write_text(page())
    print("\n".join(missing()) or f"{RESULTS.name} and {PAGE.name} are up to date")


if __name__ == "__main__":
    main()
