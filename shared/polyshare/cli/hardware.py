"""run and conform."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from polyshare.cli.output import Output, fields, table, with_json
from polyshare.cli.register import duration, pairs, size
from polyshare.errors import Invalid

if TYPE_CHECKING:
    from polyshare.api import AssetDocument
    from polyshare.client import Client
    from polyshare.hardware.providers import Target
    from polyshare.hardware.run import Given, Ran
    from polyshare.jobs.job import Limits

_MOST_NAMED, _MOST_VALUES = 20, 8


@click.command()
@click.argument("model")
@click.option(
    "--input", "inputs", multiple=True, metavar="[NAME=]FILE", help="Of one input, or all: .npy, .npz, .json or .csv."
)
@click.option("--provider", default="cpu", show_default=True, help="cpu, openvino, cuda or migraphx.")
@click.option(
    "--option", "options", multiple=True, metavar="KEY=VALUE", help="Of the provider: device_id=1, device_type=GPU, …"
)
@click.option("--allow-cpu", is_flag=True, help="Nodes that the provider does not take run on the CPU.")
@click.option("--gpu", is_flag=True, help="Show the sandbox this machine's GPU devices, and so their driver.")
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE.npz", help="For the outputs.")
@click.option("--time", "limit", metavar="10m", help="Longest run: a number with s, m, h or d.")
@click.option("--memory", metavar="4G", help="Most memory: a number with K, M, G or T.")
@with_json
def run(
    out: Output,
    model: str,
    inputs: tuple[str, ...],
    provider: str,
    options: tuple[str, ...],
    allow_cpu: bool,
    gpu: bool,
    output: Path | None,
    limit: str | None,
    memory: str | None,
) -> None:
    """Run an ONNX file, or a translation, on a machine's hardware, and say which node ran where.

    MODEL is a .onnx file, or names an asset, which is fetched and verified first. It runs in a sandbox. A node that the
    provider does not take is an error, unless --allow-cpu: nothing falls back unsaid.
    """
    from polyshare.hardware.run import run as run_model
    from polyshare.stack.layout import Layout

    files = [_given(text) for text in inputs]
    if output is not None and output.exists():
        raise Invalid(f"{output} exists: name another file for --output, or remove it")
    target, limits = target_of(provider, options, allow_cpu, gpu), limits_of(limit, memory)
    with _onnx(out, model) as path, out.steps() as tell:
        cache = Layout.find().environments
        ran = run_model(path, files, target, cache=cache, output=output, limits=limits, progress=tell)
    hardware = target.hardware()

    def say() -> None:
        _say(ran, target, hardware)
        if output is not None:
            click.echo(f"{click.style('saved', fg='green', bold=True)} {output}")

    out.answer({"provider": target.provider.execution, "hardware": hardware, "ran": ran}, say)


def target_of(provider: str, options: tuple[str, ...], allow_cpu: bool, gpu: bool) -> Target:
    """On what the options say to run."""
    from polyshare.hardware.providers import Target, named

    given = {name: str(value) for name, value in pairs(options, "--option").items()}
    return Target(named(provider), given, allow_cpu, gpu)


def limits_of(limit: str | None, memory: str | None) -> Limits:
    """The limits of a run, those given in place of the stated ones."""
    from polyshare.hardware.run import LIMITS

    seconds, most = duration(limit), size(memory)
    return replace(LIMITS, wall_seconds=seconds or LIMITS.wall_seconds, memory_bytes=most or LIMITS.memory_bytes)


def translation_of(client: Client, ref: str) -> AssetDocument:
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


@contextmanager
def _onnx(out: Output, model: str) -> Iterator[Path]:
    """A file as it stands; of an asset, fetched and verified."""
    if Path(model).is_file():
        yield Path(model)
        return
    if model.endswith(".onnx"):
        raise Invalid(f"{model} does not exist")
    with tempfile.TemporaryDirectory(prefix="polyshare-fetch-") as folder, out.client() as client:
        document = translation_of(client, model)
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
