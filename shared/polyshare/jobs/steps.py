"""The steps of a job: fetch verified inputs, run without network, publish; in a fresh folder, as often as it takes."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from polyshare.errors import Invalid, PolyshareError, Unavailable
from polyshare.jobs import contract, environment, outputs, transfer
from polyshare.jobs.job import Job, Limits
from polyshare.jobs.record import Record
from polyshare.jobs.remote import Fenced, Remote
from polyshare.jobs.reporter import Reporter
from polyshare.jobs.sandbox import Finished, Prepared, Run, Sandbox, choose, never
from polyshare.manifest import Entry
from polyshare.metadata import check_fields

BUILDER = "urn:polyshare:runner:local:1"
_MOST_METRICS = 64


@dataclass(frozen=True, slots=True)
class Place:
    """Where and with what a job runs. `work` is an empty folder for this attempt alone, removed by the caller."""

    work: Path
    cache: Path  # of prepared environments
    cores: frozenset[int] = frozenset()
    sandbox: Callable[[str], Sandbox] = choose
    prepare: Callable[[str, Path, Callable[[str], None]], Prepared] = environment.prepare
    builder: str = BUILDER
    beside: bool = True  # whether runs of a job can go on side by side


@dataclass(frozen=True, slots=True)
class Fetched:
    """A training between its halves: what is to be run, and what the second half must know of the first."""

    run: Run
    document: Mapping[str, Any]
    begun: Mapping[str, Any]  # of the run record


def perform(job: Job, client: httpx.Client, place: Place, *, cancelled: Callable[[], bool] = never) -> None:
    """Do a job to its end and tell its outcome. What fails for good is told as the job's failure, by its reason.

    Raises errors.Unavailable when it is to be tried again later; returns quietly when this attempt does not count.
    """
    _attempt(job, client, place, _Attempt.act, cancelled=cancelled)


def fetch(job: Job, client: httpx.Client, place: Place) -> Fetched | None:
    """The first half of a training that somebody else runs. None when it ended here: told to have failed, or fenced."""
    fetched: list[Fetched] = []

    def act(attempt: _Attempt) -> None:
        fetched.append(attempt.before())

    counts = _attempt(job, client, place, act)
    return fetched[0] if fetched and counts else None


def publish(
    job: Job,
    client: httpx.Client,
    place: Place,
    document: Mapping[str, Any],
    begun: Mapping[str, Any],
    finished: Finished,
    machine: Mapping[str, str],
) -> bool:
    """The second half; the log is at log_path(place.work). False when the attempt is fenced."""

    def act(attempt: _Attempt) -> dict[str, Any]:
        return attempt.resume(begun, finished, machine)

    return _attempt(job, client, place, act, document=document)


def log_path(work: Path) -> Path:
    """Where the log of a job's run is kept."""
    return work / "log" / "run.log"


def _attempt(
    job: Job,
    client: httpx.Client,
    place: Place,
    act: Callable[[_Attempt], dict[str, Any] | None],
    *,
    cancelled: Callable[[], bool] = never,
    document: Mapping[str, Any] | None = None,
) -> bool:
    """Let `act` come to a completion, and tell it; None is not told. False when this attempt does not count."""
    remote = Remote(job, client, cancelled=cancelled)
    try:
        known = remote.start() if document is None else document
        with Reporter(remote) as reporter:
            stopped = _either(cancelled, reporter.fenced.is_set)
            attempt = _Attempt(job, known, remote, place, reporter, stopped)
            try:
                completion = act(attempt)
            except (Fenced, Unavailable):
                raise
            except PolyshareError as error:
                completion = attempt.failure(error.message)
            if stopped():
                return False
        if completion is None:
            return True
        try:
            remote.complete(completion)
        except Invalid as error:  # what it left can't be accepted: that is this job's failure
            remote.complete(attempt.failure(error.message))
    except Fenced:
        return False
    return True


class Stopped(PolyshareError):
    """The run did not end well; the message is the reason."""


class _Attempt:
    def __init__(
        self,
        job: Job,
        document: Mapping[str, Any],
        remote: Remote,
        place: Place,
        reporter: Reporter,
        stopped: Callable[[], bool],
    ) -> None:
        self._document = document
        self._remote = remote
        self._place = place
        self._report = reporter
        self._stopped = stopped
        self._action = job.action
        self._limits = Limits.from_json(document.get("limits") or {})
        self._layout = contract.Layout(place.work)
        self._log = log_path(place.work)
        self._log.parent.mkdir(exist_ok=True)
        self._record = Record(job.id, job.attempt, job.action, place.builder, limits=self._limits, log=self._log)
        self._record.asset = str(document.get("asset") or "")
        self._record.parameters = dict(document.get("parameters") or {})
        self._record.program = str(document.get("program") or "")
        self._record.environment = str(document.get("environment") or "")
        self._record.machine = environment.machine_class(self._limits.cpus)

    def act(self) -> dict[str, Any]:
        """The completion of the job. Raises PolyshareError with the reason it failed for."""
        if self._action == "ingest":
            return self._ingest()
        if self._action == "train":
            return self._train()
        return self._translate()

    def failure(self, reason: str, report: list[Entry] | None = None) -> dict[str, Any]:
        """The completion of a job that failed."""
        return self._completion("failed", [], {}, reason[:4000], report or [])

    def _ingest(self) -> dict[str, Any]:
        self._report.stage("fetching")
        channels = self._document.get("channels") or {}
        files = [(str(item["path"]), int(item["size"])) for item in channels.get("inbox") or ()]
        if not files:
            raise Invalid("the inbox has no files for this dataset")
        stated = {str(item["path"]): str(item["hash"]) for item in channels["inbox"] if "hash" in item}
        return self._completion("ingested", transfer.copy(self._remote, "inbox", files, stated), {})

    def before(self) -> Fetched:
        """Prepare the environment and bring the inputs of a training."""
        prepared = self._prepare(self._record.environment)
        self._layout.make()
        channels = self._fetch()
        parameters = self._record.parameters
        named = [name for name in channels if name != contract.CODE]
        contract.write_config(self._layout, parameters, named)
        program = self._record.program or None
        command = contract.command(prepared, self._layout, program)
        code = self._layout.code.is_dir()
        environ = contract.environ(parameters, named, self._limits, program, code=code)
        mounts = contract.mounts(self._layout, named)
        run = Run(prepared, command, mounts, environ, self._limits, self._log, self._place.cores)
        return Fetched(run, self._document, self._record.begun())

    def resume(self, begun: Mapping[str, Any], finished: Finished, machine: Mapping[str, str]) -> dict[str, Any]:
        """Go on with a training that ran elsewhere."""
        self._record.resume(begun)
        self._record.machine = machine
        self._record.finished = finished
        return self._after(finished)

    def _train(self) -> dict[str, Any]:
        run = self.before().run
        sandbox = self._place.sandbox(self._record.environment)
        self._report.stage("running")
        return self._after(self._execute(sandbox, run))

    def _after(self, finished: Finished) -> dict[str, Any]:
        self._report.stage("publishing")
        report = self._publish(self._log.parent, "there is no log")
        if finished.status != "done":
            said = outputs.read_small(self._layout.output, "failure", 4096) if finished.status == "failed" else None
            told = _sentence(said) if said else ""
            return self.failure(f"the training failed: {told or finished.reason}", report)
        try:
            entries = self._publish(self._layout.model, "the training wrote no file to /opt/ml/model")
        except Invalid as error:
            return self.failure(f"the training failed: {error.message}", report)
        return self._completion("trained", entries, self._metadata(), report=report)

    def _translate(self) -> dict[str, Any]:
        from polyshare.translation import pipeline, translators

        asked = dict(self._document.get("translate") or {})
        pinned = [str(self._record.environment), str(self._document.get("verifier") or "")]
        options = pipeline.Options.from_json({name: value for name, value in asked.items() if value is not None})
        sandbox = self._place.sandbox("uv:")
        self._record.sandbox, self._record.gaps = sandbox.name, sandbox.gaps
        self._layout.make()
        channels = self._fetch()
        if "model" not in channels:
            raise Invalid("a translation needs a model")
        self._report.stage("running")
        work = self._place.work / "translation"
        work.mkdir()
        wheels: dict[str, Any] = {}

        def prepare(reference: str) -> Prepared:
            named = next((pin for pin in pinned if pin.startswith(reference + "@")), None)
            if named is None and reference != translators.VERIFIER:
                model = translators.framework_of(self._layout.channel("model"))
                raise pipeline.TranslationFailed(
                    f"the files are a model of {model}, which {reference} translates, but its metadata says otherwise: "
                    f"register it with framework={model} in its metadata"
                )
            reference = named or environment.resolve(reference)
            prepared = self._place.prepare(reference, self._place.cache, self._report.say)
            wheels.update({f"{w.name}=={w.version}": w for w in prepared.wheels})
            return prepared

        def execute(run: Run, ended: Callable[[], bool] = never) -> Finished:
            return self._execute(sandbox, run, ended)

        test = self._layout.channel("test")
        try:
            translated = pipeline.translate(
                execute,
                work=work,
                model=self._layout.channel("model"),
                test=test if test.is_dir() else None,
                options=options,
                prepare=prepare,
                limits=self._limits,
                beside=self._place.beside,
            )
        except pipeline.TranslationFailed as error:
            folder = work / "report"
            folder.mkdir()
            for path in (*work.glob("*.log"), *([error.report] if error.report else [])):
                path.rename(folder / path.name)
            report = self._publish(folder, "there is no report") if any(folder.iterdir()) else []
            return self.failure(error.message, report)
        finally:
            self._record.wheels = tuple(wheels[name] for name in sorted(wheels))
        self._report.stage("publishing")
        entries = self._publish(translated.model.parent, "the translation has no files")
        return self._completion("translated", entries, dict(translated.metadata))

    def _prepare(self, reference: str) -> Prepared:
        self._report.stage("preparing")
        try:
            sandbox = self._place.sandbox(reference)
        except Unavailable as error:
            raise Stopped(error.message) from error  # trying again on this machine would not help
        prepared = self._place.prepare(reference, self._place.cache, self._report.say)
        self._record.sandbox, self._record.gaps = sandbox.name, sandbox.gaps
        self._record.wheels = prepared.wheels
        return prepared

    def _fetch(self) -> list[str]:
        self._report.stage("fetching")
        channels = self._document.get("channels") or {}
        files = []
        for channel, items in channels.items():
            folder = self._layout.channel(channel)
            for item in items:
                entry = Entry.from_json({key: item.get(key) for key in ("path", "size", "digest", "parts")})
                files.append((channel, entry, folder / entry.path))
                self._record.inputs.append((channel, entry))
        transfer.fetch(self._remote, files)
        return [channel for channel, items in channels.items() if items]

    def _execute(self, sandbox: Sandbox, run: Run, ended: Callable[[], bool] = never) -> Finished:
        finished = sandbox.run(run, cancelled=_either(self._stopped, ended), on_log=self._report.say)
        if finished.status == "cancelled":
            if ended():
                return finished
            raise Fenced("the job was cancelled")
        self._record.finished = finished
        return finished

    def _publish(self, folder: Path, missing: str) -> list[Entry]:
        found = outputs.collect(folder, most_bytes=self._limits.disk_bytes)
        if not found:
            raise Invalid(missing)
        entries = list(outputs.manifest(folder, found).entries)
        if self._stopped():
            raise Fenced("the job was cancelled")
        transfer.publish(self._remote, folder, found, entries)
        return entries

    def _metadata(self) -> dict[str, Any]:
        """Fields from what the training wrote: numbers of metrics.json, framework of signature.json or of the files."""
        from polyshare.translation.translators import framework_of

        fields: dict[str, Any] = {}
        metrics = _object(outputs.read_small(self._layout.output, "metrics.json"))
        for name in sorted(metrics)[:_MOST_METRICS]:
            if isinstance(metrics[name], int | float) and not isinstance(metrics[name], bool):
                fields[f"metric_{name}"[:100]] = metrics[name]
        signature = _object(outputs.read_small(self._layout.model, "signature.json", 1024 * 1024))
        for name in ("framework", "framework_version"):
            if isinstance(signature.get(name), str):
                fields[name] = signature[name][:100]
        if found := framework_of(self._layout.model):  # what the files are has the last word
            fields["framework"] = found[:100]
        kept: dict[str, Any] = {}
        for name, value in fields.items():
            try:
                kept |= check_fields({name: value})
            except Invalid:  # not a number that metadata can hold: NaN, say
                continue
        return kept

    def _completion(
        self,
        outcome: str,
        entries: list[Entry],
        metadata: Mapping[str, Any],
        reason: str = "",
        report: list[Entry] | None = None,
    ) -> dict[str, Any]:
        return {
            "outcome": outcome,
            "reason": reason,
            "files": [entry.to_json() for entry in entries],
            "report": [entry.to_json() for entry in report or ()],
            "metadata": dict(metadata),
            "run": self._record.statement(entries),
        }


def _either(one: Callable[[], bool], other: Callable[[], bool]) -> Callable[[], bool]:
    return lambda: one() or other()


def _object(data: bytes | None) -> dict[str, Any]:
    """Hostile JSON as an object; empty if it is none."""
    try:
        value = json.loads(data or b"{}")
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _sentence(data: bytes) -> str:
    """Hostile text, printable and short."""
    text = data.decode(errors="replace")
    return "".join(c if c.isprintable() else " " for c in text).strip()[:2000]
