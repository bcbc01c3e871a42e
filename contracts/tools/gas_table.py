"""Write the measured table into docs/gas.md from the committed snapshot, or with --check say that it is stale.

Also checks the goals: what a record may cost over the floor, which is what the EVM asks for creating its contract
(32,000), entering it in the map (22,100) and storing its code (200 a byte); what a result or a revocation may cost;
and the bounds that docs/gas.md gives to whoever fills a transaction.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SNAPSHOT = ROOT / "contracts" / "snapshots" / "AssetRegistry.json"
PAGE = ROOT / "docs" / "gas.md"
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"

OWN_FIELDS = {"dataset": 0, "imported model": 0, "model": 32, "translation": 34}
CLONE = 45  # bytes of code before the record
BATCH = 100

OVER_FLOOR_ALONE, OVER_FLOOR_IN_BATCH = 45_000, 12_000
WRITE_ALONE, WRITE_IN_BATCH = 70_000, 40_000
# A link is paid for in calldata too, 320 gas that the floor leaves out: records with very many miss the goals.
MOST_LINKS_WITHIN_GOAL = 7


@dataclass(frozen=True, slots=True)
class Measured:
    """One row: gas of an entry sent alone, and its share of a batch of 100. `length` is the record's, in bytes."""

    action: str
    alone: int | None
    in_batch: int
    links: int = 0
    length: int | None = None

    @property
    def floor(self) -> int | None:
        return None if self.length is None else 54_100 + 200 * (CLONE + self.length)


def main(arguments: list[str]) -> int:
    rows = list(measured(json.loads(SNAPSHOT.read_text())))
    faults = list(broken_goals(rows))
    page = PAGE.read_text()
    head, tail = page[: page.index(BEGIN)], page[page.index(END) :]
    fresh = f"{head}{BEGIN}\n{table(rows)}\n{tail}"
    if "--check" not in arguments:
        PAGE.write_text(fresh)
    elif fresh != page:
        faults.append("docs/gas.md is not what the snapshot says; run `make gas` and commit")
    for fault in faults:
        print(fault, file=sys.stderr)
    return 1 if faults else 0


def measured(snapshot: dict[str, str]) -> Iterator[Measured]:
    """The snapshot's entries as rows, in the order of their names."""
    in_batch = {name.removesuffix(f", batch of {BATCH}"): int(gas) for name, gas in snapshot.items() if "batch" in name}
    for action, gas in sorted(in_batch.items()):
        alone = snapshot.get(f"{action}, alone")
        shape = re.fullmatch(r"register ([a-z ]+), (\d+) parents?(, supersedes)?", action)
        links = int(shape[2]) + bool(shape[3]) if shape else 0
        length = 82 + 20 * links + OWN_FIELDS[shape[1]] if shape else None
        yield Measured(action, int(alone) if alone else None, round(gas / BATCH), links, length)


def broken_goals(rows: list[Measured]) -> Iterator[str]:
    """What is dearer than it may be."""
    for row in rows:
        alone = row.alone or 0
        if row.floor is None:
            if row.action.startswith(("record", "revoke")) and (alone > WRITE_ALONE or row.in_batch > WRITE_IN_BATCH):
                yield f"{row.action}: {alone:,} alone, {row.in_batch:,} in a batch"
        elif row.links <= MOST_LINKS_WITHIN_GOAL and (
            alone - row.floor > OVER_FLOOR_ALONE or row.in_batch - row.floor > OVER_FLOOR_IN_BATCH
        ):
            yield f"{row.action}: {alone - row.floor:,} over the floor alone, {row.in_batch - row.floor:,} in a batch"
        if max(alone - bound(row, 1), BATCH * row.in_batch - bound(row, BATCH)) > 0:
            yield f"{row.action}: dearer than the bound in docs/gas.md"


def bound(row: Measured, entries: int) -> int:
    """The bound of docs/gas.md on a transaction of so many entries like this one."""
    if row.action.startswith("register"):
        return 75_000 + entries * (68_000 + 217 * (row.length or 154))
    return 45_000 + entries * (33_500 if row.action.startswith("record") else 31_000)


def table(rows: list[Measured]) -> str:
    lines = [
        "| what | bytes of record | floor | alone | over the floor | in a batch of 100 | over the floor |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in rows:
        over = [None if gas is None or row.floor is None else gas - row.floor for gas in (row.alone, row.in_batch)]
        cells = (row.length, row.floor, row.alone, over[0], row.in_batch, over[1])
        lines.append(f"| {row.action} | {' | '.join('' if cell is None else f'{cell:,}' for cell in cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
