"""run and conform."""

from __future__ import annotations

import functools
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from polyshare.cli.output import Output, fields, following, heading, table, when, with_json
from polyshare.cli.register import duration, pairs, size
from polyshare.errors import Invalid

if TYPE_CHECKING:
    from polyshare.api import AssetDocument, Conformance, Conformances
    from polyshare.client import Client
    from polyshare.hardware.providers import Target
    from polyshare.hardware.run import Given, Ran
    from polyshare.jobs.job import Limits

_MOST_NAMED, _MOST_VALUES = 20, 8


def _on_hardware(command: Callable[..., int | None]) -> Callable[..., int | None]:
    """The options that say on what a model runs, in a command that takes them as `target` and `limits`."""

    @click.option("--provider", default="cpu", show_default=True, help="cpu, openvino, cuda or migraphx.")
    @click.option(
        "--option",
        "options",
        multiple=True,
        metavar="KEY=VALUE",
        help="Of the provider: device_id=1, device_type=GPU, …",
    )
    @click.option("--allow-cpu", is_flag=True, help="Nodes that the provider does not take run on the CPU.")
    @click.option("--gpu", is_flag=True, help="Show the sandbox this machine's GPU devices, and so their driver.")
    @click.option("--time", "limit", metavar="10m", help="Longest run: a number with s, m, h or d.")
    @click.option("--memory", metavar="4G", help="Most memory: a number with K, M, G or T.")
    @functools.wraps(command)
    def wrapped(
        out: Output,
        *,
        provider: str,
        options: tuple[str, ...],
        allow_cpu: bool,
        gpu: bool,
        limit: str | None,
        memory: str | None,
        **arguments: Any,
    ) -> int | None:
        from polyshare.hardware.providers import Target, named
        from polyshare.hardware.run import LIMITS

        given = {name: str(value) for name, value in pairs(options, "--option").items()}
        target = Target(named(provider), given, allow_cpu, gpu)
        seconds, most = duration(limit) or LIMITS.wall_seconds, size(memory) or LIMITS.memory_bytes
        limits = replace(LIMITS, wall_seconds=seconds, memory_bytes=most)
        return command(out, target=target, limits=limits, **arguments)

    return wrapped


@click.command()
@click.argument("model")
@click.option(
    "--input", "inputs", multiple=True, metavar="[NAME=]FILE", help="Of one input, or all: .npy, .npz, .json or .csv."
)
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE.npz", help="For the outputs.")
@with_json
@_on_hardware
def run(out: Output, model: str, inputs: tuple[str, ...], output: Path | None, target: Target, limits: Limits) -> None:
    """Run an ONNX file, or a translation, on a machine's hardware, and say which node ran where.

    MODEL is a .onnx file, or names an asset, which is fetched and verified first. It runs in a sandbox. A node that the
    provider does not take is an error, unless --allow-cpu: nothing falls back unsaid.
    """
    from polyshare.hardware.run import run as run_model
    from polyshare.stack.layout import Layout

    files = [_given(text) for text in inputs]
    if output is not None and output.exists():
        raise Invalid(f"{output} exists: name another file for --output, or remove it")
    with _onnx(out, model) as path, out.steps() as tell:
        cache = Layout.find().environments
        ran = run_model(path, files, target, cache=cache, output=output, limits=limits, progress=tell)
    hardware = target.hardware()

    def say() -> None:
        _say(ran, target, hardware)
        if output is not None:
            click.echo(f"{click.style('saved', fg='green', bold=True)} {output}")

    out.answer({"provider": target.provider.execution, "hardware": hardware, "ran": ran}, say)


@click.command()
@click.argument("model")
@click.option("--organisation", metavar="ORG", help="Whose statement it is, if you are in several.")
@with_json
@_on_hardware
def conform(out: Output, model: str, organisation: str | None, target: Target, limits: Limits) -> int:
    """Find out whether a translation answers on this machine's hardware as its certificate says, and record it.

    MODEL is a translation, or a model, whose newest translation is taken. The certificate's inputs are made again and
    answered by ONNX Runtime on the CPU and on the provider. Exit code 0: MATCH; 1: MISMATCH.
    """
    from polyshare.hardware.conform import conform as find_out
    from polyshare.stack.layout import Layout

    with tempfile.TemporaryDirectory(prefix="polyshare-fetch-") as folder, out.client() as client:
        document = _translation_of(client, model)
        translation, dataset = Path(folder, "translation"), Path(folder, "dataset")
        client.fetch(document, translation, progress=out.progress)
        source = _dataset_of(document)
        if source is not None:
            client.fetch(source, dataset, progress=out.progress)
        test = dataset / "test"
        with out.steps() as tell:
            cache = Layout.find().environments
            statement = find_out(
                translation, target, test=test if test.is_dir() else None, cache=cache, limits=limits, progress=tell
            )
        statement.organisation = organisation or client.profile.organisation
        record = client.conform(document.id, statement)

    def say() -> None:
        _say_statement(record)
        following(f"polyshare show {document.id}")

    out.answer(record, say)
    return 0 if statement.result == "MATCH" else 1


def say_conformance(found: Conformances) -> None:
    """The matrix of translations and hardware."""
    heading("\nconformance, as recorded by those who ran it")
    rows = [
        (
            c.translation,
            c.statement.hardware.provider.removesuffix("ExecutionProvider"),
            c.statement.hardware.device,
            c.statement.hardware.driver,
            c.statement.hardware.runtime,
            c.statement.result + ("" if c.statement.inputs.as_certified else " (generated inputs only)"),
            f"{max(o.max_absolute for o in c.statement.outputs):.2g}",
            c.organisation,
            when(c.at),
        )
        for c in found.conformances
    ]
    table(["TRANSLATION", "PROVIDER", "DEVICE", "DRIVER", "RUNTIME", "RESULT", "LARGEST DIFFERENCE", "BY", "AT"], rows)
    if found.cursor:
        click.echo("and more: --json lists them a page at a time")


def _translation_of(client: Client, ref: str) -> AssetDocument:
    """The asset itself, or the newest translation of a model; raises Invalid if it holds no ONNX file."""
    from polyshare.client.fetch import files_of

    document = client.document(ref)
    translation = client.status(document.id).translation
    if document.kind in ("model", "imported_model") and not _onnx_files(document) and translation is not None:
        document = client.document(translation)
    if len(_onnx_files(document)) != 1:
        names = ", ".join(file.path for file in files_of(document)[:5]) or "none"
        raise Invalid(
            f"{ref} has no single ONNX file (files: {names}): name a translation, or polyshare translate {ref}"
        )
    return document


def _dataset_of(translation: AssetDocument) -> str | None:
    """The dataset that a translation was certified with, if the caller may read it."""
    own = next(relative for relative in translation.lineage if relative.address == translation.address)
    roles = dict(zip(own.parents, own.roles, strict=True))
    return next((r.id for r in translation.lineage if roles.get(r.address) == "dataset" and not r.withheld), None)


@contextmanager
def _onnx(out: Output, model: str) -> Iterator[Path]:
    """A file as it stands; of an asset, fetched and verified."""
    if Path(model).is_file():
        yield Path(model)
        return
    if model.endswith(".onnx"):
        raise Invalid(f"{model} does not exist")
    with tempfile.TemporaryDirectory(prefix="polyshare-fetch-") as folder, out.client() as client:
        document = _translation_of(client, model)
        client.fetch(document, Path(folder), progress=out.progress)
        yield Path(folder) / _onnx_files(document)[0]


def _onnx_files(document: AssetDocument) -> list[str]:
    from polyshare.client.fetch import files_of

    return [file.path for file in files_of(document) if file.path.endswith(".onnx")]


def _given(text: str) -> Given:
    from polyshare.hardware.run import Given

    name, equals, rest = text.partition("=")
    name, path = (name, Path(rest)) if equals and not Path(text).exists() else ("", Path(text))
    if not path.is_file():
        raise click.BadParameter(f"{path} is not a file", param_hint="--input")
    return Given(name, path)


def _say(ran: Ran, target: Target, hardware: dict[str, str]) -> None:
    done = click.style("ran", fg="green", bold=True)
    click.echo(f"{done} on {target.provider.execution} in {ran.seconds * 1000:.1f} ms")
    fields([("device", hardware["device"]), ("driver", hardware["driver"]), ("runtime", ran.runtime)])
    counted = Counter((node.provider, node.operator) for node in ran.nodes)
    click.echo()
    table(["NODES", "OPERATOR", "RAN ON"], [(n, operator, where) for (where, operator), n in counted.most_common()])
    elsewhere = [node.name for node in ran.nodes if node.provider != target.provider.execution]
    if elsewhere:
        more = f" and {len(elsewhere) - _MOST_NAMED} more" if len(elsewhere) > _MOST_NAMED else ""
        click.echo(f"not on {target.provider.execution}: {', '.join(elsewhere[:_MOST_NAMED])}{more}")
    click.echo()
    rows = [
        (
            o.name,
            f"{o.dtype}{o.shape}",
            " ".join(o.values[:_MOST_VALUES]) + (" …" if len(o.values) > _MOST_VALUES else ""),
        )
        for o in ran.outputs
    ]
    table(["OUTPUT", "TYPE", "VALUES"], rows)


def _say_statement(record: Conformance) -> None:
    statement, hardware = record.statement, record.statement.hardware
    said = click.style(statement.result, fg="green" if statement.result == "MATCH" else "red", bold=True)
    click.echo(f"{said} on {hardware.provider}, recorded for {record.organisation}")
    for reason in statement.reasons:
        click.echo(f"  {reason}")
    which = "those of the certificate" if statement.inputs.as_certified else "others than the certificate's"
    fields(
        [
            ("translation", record.translation),
            ("device", hardware.device),
            ("driver", hardware.driver),
            ("runtime", hardware.runtime),
            ("inputs", f"{sum(statement.inputs.rows.values())} rows, {which}"),
            ("on the CPU", ", ".join(statement.nodes_elsewhere[:_MOST_NAMED]) or None),
        ]
    )
    table(
        ["OUTPUT", "ROWS", "OUTSIDE", "LABELS DIFFER", "LARGEST ABSOLUTE", "LARGEST RELATIVE", "ULP"],
        [
            (
                o.name,
                o.rows,
                o.rows_outside,
                o.labels_differ,
                f"{o.max_absolute:.2g}",
                f"{o.max_relative:.2g}",
                o.max_ulp,
            )
            for o in statement.outputs
        ],
    )
