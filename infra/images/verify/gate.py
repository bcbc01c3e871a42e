"""The gate: refuses an ONNX file or makes it canonical, runs it, and makes the inputs for both sides."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import batches
import facts
import numpy as np
import onnx
import onnxruntime
import testdata
from admit import MOST_BYTES, Refused, admit
from canonical import canonical
from compare import fed
from rows import Signature


@dataclass(frozen=True)
class Gated:
    """A model that passed."""

    data: bytes  # the canonical file
    facts: dict[str, Any]
    session: onnxruntime.InferenceSession
    signature: Signature
    made: batches.Made
    seed: int


def gate(file: Path, signature: dict[str, Any], options: dict[str, Any], test: Path | None) -> Gated:
    """Pass a candidate through the gate; raises Refused."""
    if file.stat().st_size > MOST_BYTES:
        raise Refused(f"the ONNX file has {file.stat().st_size} bytes, over the limit of {MOST_BYTES}")
    model = admit(file.read_bytes())
    try:
        onnx.checker.check_model(model, full_check=True)
        data = canonical(model)
        model = onnx.load_model_from_string(data)
        onnx.checker.check_model(model, full_check=True)
        inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    except Exception as error:
        raise Refused(f"the ONNX checker refuses the model: {str(error)[:2000]}") from error
    found = facts.facts(model, inferred, signature)
    if found["opset"]["ai.onnx"] != options["opset"]:
        raise Refused(f"opset {options['opset']} was asked for, the model has {found['opset']['ai.onnx']}")
    session = open_session(data)
    known, made, said = inputs(data, signature, options.get("rows"), test)
    _run_once(session, made)
    found["canonical_again"] = canonical(model) == data
    found["test_data"] = said
    found["test_rows"] = 0 if known.test is None else len(next(iter(known.test.values())))
    return Gated(data, found, session, known, made, _seed(data))


def inputs(
    data: bytes, signature: dict[str, Any], rows: int | None, test: Path | None
) -> tuple[Signature, batches.Made, str]:
    """The inputs of a canonical ONNX file: always the same for the same file, signature and test data.

    With them, what is known of the values, and a sentence on the test data. Raises Refused.
    """
    Signature.of(signature, None)  # what no rows can be made for is refused before test data is read
    registered, said = testdata.read(test, signature) if test else (None, "none")
    known = Signature.of(signature, registered)
    return known, batches.make(known, registered, _seed(data), rows), said


def save(made: batches.Made, path: Path) -> None:
    """Write the inputs as inputs.npz; the same inputs give the same bytes."""
    with path.open("wb") as file:
        np.savez(file, **made.arrays)


def _seed(data: bytes) -> int:
    return int.from_bytes(hashlib.sha256(data).digest()[:8], "big")


def open_session(data: bytes) -> onnxruntime.InferenceSession:
    """ONNX Runtime on the CPU alone, one thread so that sums are always in one order; raises Refused."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.use_deterministic_compute = True
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise Refused(f"ONNX Runtime can't run the model: {str(error)[:2000]}") from error
    session.disable_fallback()
    if session.get_providers() != ["CPUExecutionProvider"]:
        raise Refused(f"ONNX Runtime fell back to {session.get_providers()}")
    return session


def _run_once(session: onnxruntime.InferenceSession, made: batches.Made) -> None:
    first = made.plan[0]["batch"]
    try:
        session.run(None, fed({one.name: made.arrays[f"{first}/{one.name}"] for one in session.get_inputs()}))
    except Exception as error:
        raise Refused(f"ONNX Runtime can't run the model on an ordinary input: {str(error)[:2000]}") from error
