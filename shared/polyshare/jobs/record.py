"""The run record: an in-toto Statement v1 with a SLSA provenance v1 predicate (slsa.dev/spec/v1.0).

What two runs must have in common to be compared, and what then must be the same, is separable from times and names:
`comparable` takes it out.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from polyshare.jobs.job import Limits
from polyshare.jobs.sandbox import Finished, Wheel
from polyshare.manifest import Entry

STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://slsa.dev/provenance/v1"


@dataclass(slots=True)
class Record:
    """What is known of a run so far; steps fill it in as they go."""

    job: str
    attempt: int
    action: str
    builder: str
    started: float = field(default_factory=time.time)
    asset: str = ""
    environment: str = ""
    program: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    limits: Limits | None = None
    inputs: list[tuple[str, Entry]] = field(default_factory=list)  # channel, file
    machine: Mapping[str, str] = field(default_factory=dict)
    wheels: Sequence[Wheel] = ()
    sandbox: str = ""
    gaps: Sequence[str] = ()
    finished: Finished | None = None
    log: Path | None = None

    def begun(self) -> dict[str, Any]:
        """What is known before the run, as JSON, for a step that goes on elsewhere."""
        inputs = [[channel, entry.to_json()] for channel, entry in self.inputs]
        return {"started": self.started, "inputs": inputs, "sandbox": self.sandbox, "gaps": list(self.gaps)}

    def resume(self, begun: Mapping[str, Any]) -> None:
        """Take over what another step noted before the run."""
        self.started, self.sandbox, self.gaps = float(begun["started"]), begun["sandbox"], begun["gaps"]
        self.inputs = [(channel, Entry.from_json(entry)) for channel, entry in begun["inputs"]]

    def statement(self, outputs: Sequence[Entry], *, now: float | None = None) -> dict[str, Any]:
        """The statement about these outputs, as JSON; `now` is when the run ended, in Unix seconds."""
        dependencies = dependencies_on(self.inputs)
        if "@sha256:" in self.environment:
            name, _, digest = self.environment.partition("@sha256:")
            dependencies.append({"name": name, "digest": {"sha256": digest}})
        internal: dict[str, Any] = {
            "class": dict(self.machine),
            "wheels": [{"name": w.name, "version": w.version, "sha256": w.sha256} for w in self.wheels],
            "limits": self.limits.to_json() if self.limits else {},
            "sandbox": {"name": self.sandbox, "gaps": list(self.gaps)},
        }
        external = {"asset": self.asset, "parameters": dict(self.parameters), "program": self.program}
        details: dict[str, Any] = {
            "builder": {"id": self.builder},
            "metadata": {
                "invocationId": f"{self.job}/{self.attempt}",
                "startedOn": _time(self.started),
                "finishedOn": _time(time.time() if now is None else now),
            },
        }
        if self.log is not None and self.log.is_file():
            digest = hashlib.sha256(self.log.read_bytes()).hexdigest()
            details["byproducts"] = [{"name": "log", "digest": {"sha256": digest}}]
        if self.finished is not None:
            details["metadata"]["polyshare"] = {
                "status": self.finished.status,
                "exitCode": self.finished.exit_code,
                "seconds": round(self.finished.seconds, 3),
                "cpuSeconds": round(self.finished.cpu_seconds, 3),
                "peakMemory": self.finished.peak_memory,
            }
        return {
            "_type": STATEMENT,
            "subject": [{"name": entry.path, **_descriptor(entry)} for entry in outputs],
            "predicateType": PREDICATE,
            "predicate": {
                "buildDefinition": {
                    "buildType": f"urn:polyshare:job:{self.action}:1",
                    "externalParameters": external,
                    "internalParameters": internal,
                    "resolvedDependencies": dependencies,
                },
                "runDetails": details,
            },
        }


def dependencies_on(inputs: Sequence[tuple[str, Entry]]) -> list[dict[str, Any]]:
    """What a run says of the inputs (channel, file) that it verified before it used them."""
    return [{"name": f"{channel}/{entry.path}", **_descriptor(entry)} for channel, entry in inputs]


def comparable(statement: Mapping[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """(what two runs must share to be compared: inputs, parameters, class, wheels; the outputs then compared)."""
    definition = statement["predicate"]["buildDefinition"]
    internal = definition["internalParameters"]
    conditions = {
        "parameters": definition["externalParameters"]["parameters"],
        "program": definition["externalParameters"]["program"],
        "dependencies": definition["resolvedDependencies"],
        "class": internal["class"],
        "wheels": internal["wheels"],
    }
    return conditions, list(statement["subject"])


def _descriptor(entry: Entry) -> dict[str, Any]:
    """A resource descriptor. Only a file of one part has a plain SHA-256; the composite goes by a name of its own."""
    if entry.digest.parts == 1:
        return {"digest": {"sha256": entry.digest.sha256.hex()}, "annotations": {"size": entry.size}}
    name = f"sha256Composite{entry.digest.parts}"
    return {"digest": {name: entry.digest.sha256.hex()}, "annotations": {"size": entry.size}}


def _time(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
