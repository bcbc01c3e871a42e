"""Opens an ONNX model on one execution provider and says which node runs where. No node goes to the CPU unasked."""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
from admit import Refused, graphs

CPU = "CPUExecutionProvider"
_MOST_NAMED = 20
_MOST_SAID = 600


@dataclass(frozen=True)
class Asked:
    """On what to run: a provider by ONNX Runtime's name, its own options, and whether nodes may run on the CPU."""

    provider: str
    options: dict[str, str]
    allow_cpu: bool = False


class Opened:
    """A session, and `nodes`: provider, name and operator of each node after the basic optimisations."""

    def __init__(self, model: onnx.ModelProto, asked: Asked) -> None:
        """Raises Refused: no such provider in this build or on this machine, or nodes that it does not take."""
        there = onnxruntime.get_available_providers()
        if asked.provider not in there:
            raise Refused(f"this build, {runtime()}, has no {asked.provider}; it has {', '.join(sorted(there))}")
        if asked.provider == "CUDAExecutionProvider":
            onnxruntime.preload_dlls(directory="")  # CUDA's and cuDNN's libraries, from the environment's wheels
        name_nodes(model)
        self._data, self._asked = model.SerializeToString(), asked
        strict = asked.provider != CPU and not asked.allow_cpu
        try:
            self.session = self._open(strict=strict)
        except Refused:
            raise
        except Exception as error:  # ONNX Runtime's own errors have no common class
            if strict and "fallback to CPU EP has been explicitly disabled" in str(error):
                raise Refused(self._say_left_over()) from error
            raise Refused(f"{runtime()} can't run the model on {asked.provider}: {shortly(error)}") from error
        self.nodes = _nodes(self.session)
        self._profiled: dict[str, float] | None = None

    def profile(self) -> dict[str, float]:
        """Milliseconds by provider of what was run until now. Raises Refused if a node ran elsewhere than asked."""
        if self._profiled is None:
            self._profiled = _profiled(Path(self.session.end_profiling()))
            unasked = set(self._profiled) - {self._asked.provider} - ({CPU} if self._asked.allow_cpu else set())
            if unasked:
                raise Refused(f"{', '.join(sorted(unasked))} ran nodes, though {self._asked.provider} was asked for")
        return self._profiled

    def _open(self, *, strict: bool) -> onnxruntime.InferenceSession:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.enable_profiling = True
        options.profile_file_prefix = "/tmp/profile"  # noqa: S108, the sandbox's own
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
        if strict:
            options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        wanted: list[Any] = [(self._asked.provider, self._asked.options)]
        if self._asked.provider != CPU and not strict:
            wanted.append(CPU)
        with _heard() as said:
            session = onnxruntime.InferenceSession(self._data, options, providers=wanted, enable_fallback=0)
        session.disable_fallback()
        if self._asked.provider not in session.get_providers():
            raise Refused(
                f"{self._asked.provider} could not be started: its device can't be reached, or its driver or a library "
                f"is missing: {' '.join(said)[:1000]}"
            )
        return session

    def _say_left_over(self) -> str:
        left = [node for node in _nodes(self._open(strict=False)) if node["provider"] != self._asked.provider]
        operators = ", ".join(f"{count} {name}" for name, count in Counter(n["operator"] for n in left).most_common())
        names = ", ".join(node["name"] for node in left[:_MOST_NAMED])
        more = f" and {len(left) - _MOST_NAMED} more" if len(left) > _MOST_NAMED else ""
        return (
            f"{self._asked.provider} does not take {len(left)} of the nodes ({operators}): {names}{more}. "
            "--allow-cpu lets them run on the CPU; or convert the model without these operators"
        )


def load(path: Path) -> onnx.ModelProto:
    """Parse an ONNX file. What it holds is for ONNX Runtime to judge; here it runs nothing."""
    try:
        return onnx.load_model_from_string(path.read_bytes())
    except Exception as error:  # of protobuf, which has none of its own for callers
        raise Refused("the file is not ONNX: it does not parse as a protobuf of onnx.ModelProto") from error


def runtime() -> str:
    """The package and version of ONNX Runtime."""
    return f"{onnxruntime.package_name} {onnxruntime.__version__}"


def shortly(error: Exception) -> str:
    """What ONNX Runtime says, or the end of it: the cause comes last, after where in its source it was met."""
    text = " ".join(str(error).split())
    return text if len(text) <= _MOST_SAID else f"… {text[-_MOST_SAID:]}"


def name_nodes(model: onnx.ModelProto) -> None:
    """Give nodes without a name, such as all of a canonical file, their operator and number."""
    for number, node in enumerate((node for graph in graphs(model.graph) for node in graph.node), 1):
        node.name = node.name or f"{node.op_type}_{number}"


@contextmanager
def _heard() -> Iterator[list[str]]:
    """What is written to stderr meanwhile, where ONNX Runtime's own log goes."""
    said: list[str] = []
    kept = os.dup(2)
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 2)
        try:
            yield said
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            file.seek(0)
            text = file.read().decode(errors="replace")
            said += re.sub(r"\x1b\[[0-9;]*m", "", text).split()
            sys.stderr.write(text)


def _nodes(session: onnxruntime.InferenceSession) -> list[dict[str, str]]:
    return [
        {
            "provider": part.ep_name,
            "name": node.name,
            "operator": f"{node.domain}.{node.op_type}" if node.domain else node.op_type,
        }
        for part in session.get_provider_graph_assignment_info()
        for node in part.get_nodes()
    ]


def _profiled(path: Path) -> dict[str, float]:
    took: Counter[str] = Counter()
    for event in json.loads(path.read_text("utf-8")):
        if event.get("cat") == "Node" and event.get("args", {}).get("provider"):
            took[event["args"]["provider"]] += event["dur"] / 1000
    return dict(took)
