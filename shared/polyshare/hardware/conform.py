"""Whether a translation answers on this machine's hardware as its certificate says it does on the CPU.

The certificate's inputs are made again in `uv:verify` and answered there by ONNX Runtime on the CPU; then they are
answered on the asked execution provider, and both sets of answers are held together by the certificate's tolerances.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from polyshare.api import Conform, ConformedInputs, ConformedOutput, Hardware
from polyshare.errors import Invalid, Mismatch
from polyshare.hardware.providers import Target
from polyshare.hardware.run import LIMITS, Node, Told, Workbench, asked, plain
from polyshare.hashing import hash_file
from polyshare.jobs import environment, sandbox
from polyshare.jobs.job import Limits
from polyshare.translation import agreement, certificate
from polyshare.translation.translators import VERIFIER

_MEASURED = ("scale", "by_origin", "cast", "has_classes")  # of an output; the rest says what it is
_FILES = ("inputs.npz", "answers.npz", "plan.json", "errors.json")


class _Conformed(Told, frozen=True):
    runtime: str
    nodes: list[Node]
    milliseconds: dict[str, float]
    measured: agreement.Measured


def conform(
    folder: Path,
    target: Target,
    *,
    test: Path | None,
    cache: Path,
    limits: Limits = LIMITS,
    progress: Callable[[str], None] = sandbox.unheard,
) -> Conform:
    """Run a fetched translation (model.onnx, certificate.json) on `target`; the statement to record of it.

    `test` is the folder of the registered test data, None where the caller may not read it: then the inputs are others
    than the certificate's, and the statement says so. Raises Invalid if there is no certificate to go by, Mismatch if
    it is of another file, NotRun if the model does not run there.
    """
    model, known = folder / "model.onnx", _certificate(folder / "certificate.json")
    if str(hash_file(model).digest) != known.onnx.digest:
        raise Mismatch(f"{model} is not the file that its certificate is of ({known.onnx.digest})")
    signature = _signature(known)
    cpu, there = (environment.resolve(name) for name in (VERIFIER, target.provider.environment))
    with Workbench(environment.prepare(cpu, cache, progress), limits) as bench:
        progress("making the certificate's inputs again, and answering them on the CPU")
        more = {"test": bench.lay(test, "test")} if test is not None and known.inputs.test_rows else {}
        laid = {"onnx": bench.lay(model, "model.onnx"), "signature": bench.write("signature.json", signature)}
        expected = bench.take(bench.run("expect.py", **laid, **more), _FILES)
        digest = str(hash_file(expected / "inputs.npz").digest)
        prepared = environment.prepare(there, cache, progress)
        with Workbench(prepared, limits, target) as other:
            progress(f"answering them on {target.provider.execution}")
            options = {**asked(target), "tolerances": msgspec.to_builtins(known.tolerances)}
            arguments = {
                "onnx": other.lay(model, "model.onnx"),
                "signature": other.write("signature.json", signature),
                "options": other.write("options.json", options),
                "expected": other.lay(expected, "expected"),
            }
            found = other.read(other.run("conform.py", **arguments) / "conformed.json", _Conformed)
    verdict, reasons = agreement.judge(found.measured, known.most_affected)
    return Conform(
        result="MISMATCH" if verdict == "disagrees" else "MATCH",
        reasons=[_of_two_providers(reason, target.provider.execution) for reason in reasons][:50],
        hardware=Hardware(
            provider=target.provider.execution,
            options=dict(target.options),
            runtime=found.runtime,
            environment=there,
            **target.hardware(),
        ),
        onnx=known.onnx.digest,
        certificate=str(hash_file(folder / "certificate.json").digest),
        inputs=ConformedInputs(
            digest=digest,
            as_certified=digest == known.inputs.digest,
            rows={origin: one.rows for origin, one in found.measured.answered.items()},
        ),
        outputs=[_output(one) for one in found.measured.outputs],
        nodes_elsewhere=[node.name[:1000] for node in found.nodes if node.provider != target.provider.execution][:1000],
    )


def _certificate(path: Path) -> certificate.Certificate:
    if not path.is_file():
        raise Invalid("there is no certificate.json beside the model: only what polyshare translated has one")
    try:
        return certificate.decode(path.read_bytes())
    except msgspec.MsgspecError as error:
        raise Invalid(f"{path} is not a certificate of agreement: {error}") from error


def _signature(known: certificate.Certificate) -> dict[str, Any]:
    """What the certificate says of inputs and outputs, as the gate's programs read it."""
    return {
        "inputs": [
            {"name": one.name, "dtype": one.dtype, "shape": one.shape, **one.hints} for one in known.inputs.signature
        ],
        "outputs": [
            {name: value for name, value in msgspec.to_builtins(one).items() if name not in _MEASURED}
            for one in known.outputs
        ],
        "sizes": known.inputs.sizes,
        "target": known.inputs.target,
        "rows": known.inputs.rows,
        "classes": [],
    }


def _of_two_providers(reason: str, provider: str) -> str:
    """A reason of the judge, whose two sides are a native model and ONNX Runtime, in the words of this comparison."""
    for native, here in (
        ("ONNX Runtime failed", f"{provider} failed"),
        ("the native model refused", "ONNX Runtime on the CPU failed on"),
        (" natively", " on the CPU"),
    ):
        reason = reason.replace(native, here)
    return plain(reason)[:1000]


def _output(one: agreement.Output) -> ConformedOutput:
    judged = [m for origin, m in one.by_origin.items() if origin in one.judged]
    return ConformedOutput(
        name=plain(one.name),
        rows=sum(m.rows for m in judged),
        rows_outside=sum(m.rows_outside for m in judged),
        labels_differ=sum(m.labels_differ - m.labels_tied for m in judged),
        max_absolute=max((m.max_absolute for m in judged), default=0.0),
        max_relative=max((m.max_relative for m in judged), default=0.0),
        max_ulp=max((m.max_ulp for m in judged), default=0),
    )
