"""The SDK: register, follow, fetch, verify and govern assets, with the verbs of the command line.

from polyshare import Client

client = Client()                       # the profile that polyshare up or polyshare login saved
digits = client.add_dataset(Path("digits"), name="digits", metadata={"licence": "CC BY 4.0"})
model = client.add_model(dataset=digits.id, image="uv:sklearn")
for status in client.follow(model.id): print(status.state)
client.fetch(model.id, Path("model"))
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from polyshare import api
from polyshare.assets import Visibility
from polyshare.client.endpoint import Endpoint, segment
from polyshare.client.profile import Profile as Profile
from polyshare.client.progress import Progress as Progress
from polyshare.client.progress import Silent
from polyshare.errors import Misconfigured, Mismatch, Unavailable
from polyshare.wire import Connections

if TYPE_CHECKING:
    from polyshare.client.fetch import Fetched
    from polyshare.client.folder import Source
    from polyshare.verify import Report

_LONG_POLL = 25.0  # seconds
_SILENT = Silent()
_T = TypeVar("_T")


class Client:
    """A caller of one registry. Every method raises a polyshare.errors.PolyshareError that says what to do."""

    def __init__(self, profile: Profile | None = None, *, url: str | None = None, token: str = "") -> None:
        """With a profile, or a URL template and a token; with neither, the saved profile."""
        self.profile = profile or (Profile(url, token) if url else Profile.read())
        self._connections = Connections()
        self._endpoint = Endpoint(self.profile, self._connections)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._connections.close()

    # --- register ---------------------------------------------------------------------------------------------------

    def add_dataset(
        self,
        path: Path,
        *,
        name: str | None = None,
        organisation: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        visibility: Visibility = Visibility.ORGANISATION,
        split: str | None = None,
        progress: Progress = _SILENT,
    ) -> api.Registered:
        """Register a file or a folder as a dataset; interrupted, the same call goes on where it stopped.

        `name` is a name or organisation/name; `split` a fraction or test=GLOB that sorts files under train/ and test/.
        """
        from polyshare.client import folder

        sources = folder.hash_sources(path, progress)
        if split is not None:
            sources = folder.split(sources, split)
        owner, short = self._owner(name, organisation)
        request = api.RegisterDataset(
            organisation=owner,
            name=short,
            metadata=dict(metadata or {}),
            visibility=visibility,
            files=_files(sources),
        )
        return self._register("register_dataset", "/", request, sources, progress)

    def import_model(
        self,
        path: Path,
        *,
        trained_on: tuple[str, ...] = (),
        name: str | None = None,
        organisation: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        visibility: Visibility = Visibility.ORGANISATION,
        progress: Progress = _SILENT,
    ) -> api.Registered:
        """Register a model that was trained elsewhere; it is called imported wherever it is shown.

        Its framework is recognised where the metadata does not say it.
        """
        from polyshare.client import folder
        from polyshare.translation.translators import framework_of

        sources = folder.hash_sources(path, progress)
        owner, short = self._owner(name, organisation)
        request = api.RegisterImportedModel(
            organisation=owner,
            name=short,
            metadata=({"framework": found} if (found := framework_of(path)) else {}) | dict(metadata or {}),
            visibility=visibility,
            files=_files(sources),
            trained_on=list(trained_on),
        )
        return self._register("register_model", "/imported", request, sources, progress)

    def add_model(
        self,
        *,
        dataset: str,
        image: str,
        source: Path | None = None,
        program: str = "train.py",
        parameters: Mapping[str, Any] | None = None,
        name: str | None = None,
        organisation: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        visibility: Visibility = Visibility.ORGANISATION,
        seconds: int | None = None,
        memory: int | None = None,
        allow_revoked: bool = False,
        translate: bool = True,
        progress: Progress = _SILENT,
    ) -> api.Registered:
        """Register a model and have it trained: by `program` of the code in `source`, or by the image's own trainer.

        `seconds` and `memory` (bytes) limit the training.
        """
        sources: list[Source] = []
        if source is not None:
            from polyshare.client import folder

            sources = folder.hash_sources(source, progress)
        owner, short = self._owner(name, organisation)
        request = api.RegisterModel(
            organisation=owner,
            name=short,
            metadata=dict(metadata or {}),
            visibility=visibility,
            dataset=dataset,
            image=image,
            parameters=dict(parameters or {}),
            source=_files(sources),
            program=program,
            seconds=seconds,
            memory=memory,
            allow_revoked=allow_revoked,
            translate=translate,
        )
        return self._register("register_model", "/", request, sources, progress)

    def translate(self, model: str, *, opset: int | None = None, allow_revoked: bool = False) -> api.Registered:
        """Ask for a trained model's ONNX translation; the same one again is answered with what there is."""
        body = api.Translate(model=model, opset=opset, allow_revoked=allow_revoked)
        return self._endpoint.call("POST", "translate", "/", api.Registered, body, key=secrets.token_hex(16))

    def conform(self, translation: str, statement: api.Conform) -> api.Conformance:
        """Record what was found of a translation on some hardware (polyshare.hardware.conform finds it)."""
        return self._endpoint.call(
            "POST", "translate", f"{segment(translation)}/conformance", api.Conformance, statement
        )

    def inbox_credentials(self, organisation: str | None = None) -> api.InboxCredentials:
        """An S3 key for dropping datasets in the organisation's inbox."""
        body = api.AskInboxCredentials(organisation=organisation or self.profile.organisation)
        return self._endpoint.call("POST", "register_dataset", "/inbox", api.InboxCredentials, body)

    # --- look -------------------------------------------------------------------------------------------------------

    def status(self, ref: str, *, wait: float = 0, since: int | None = None, patience: float = 2) -> api.Status:
        """How far an asset is; with `wait` seconds (at most 30), as soon as there is more than at cursor `since`."""
        query = {"wait": wait or None, "since": since}
        return self._endpoint.call("GET", "query_status", segment(ref), api.Status, query=query, patience=patience)

    def follow(self, ref: str, *, seconds: float | None = None) -> Iterator[api.Status]:
        """Each status of an asset until nothing more will happen by itself. Raises Unavailable after `seconds`."""
        end = None if seconds is None else time.monotonic() + seconds
        status = self.status(ref)
        yield status
        while not status.finished:
            left = _LONG_POLL if end is None else end - time.monotonic()
            if left <= 0:
                raise Unavailable(f"{ref} is still {status.state} after {seconds:g} seconds: polyshare status {ref}")
            status = self.status(status.id, wait=min(_LONG_POLL, left), since=status.cursor, patience=60)
            yield status

    def document(self, ref: str) -> api.AssetDocument:
        """All that a reader needs to check an asset against the ledger."""
        return self._endpoint.call("GET", "fetch_asset", segment(ref), api.AssetDocument)

    def contract(self, ref: str) -> api.ContractState:
        """What the asset's contract says now, as the server reads it."""
        return self._endpoint.call("GET", "prove", segment(ref), api.ContractState)

    def chain(self) -> api.Chain:
        """The ledger that the server says it writes to."""
        return self._endpoint.call("GET", "prove", "/trust-root", api.Chain)

    def list(
        self,
        *,
        q: str | None = None,
        kind: str | None = None,
        organisation: str | None = None,
        name: str | None = None,
        cursor: str | None = None,
        limit: int | None = None,
    ) -> api.Listing:
        """A page of the assets that the caller may read, newest first; `cursor` of one page gives the next."""
        query = {"q": q, "kind": kind, "organisation": organisation, "name": name, "cursor": cursor, "limit": limit}
        return self._endpoint.call("GET", "catalogue", "/", api.Listing, query=query)

    def lineage(self, ref: str) -> api.Lineage:
        """What an asset was made from, and what was made from it."""
        return self._endpoint.call("GET", "catalogue", segment(ref) + "/lineage", api.Lineage)

    def conformance(self, ref: str, *, cursor: str | None = None) -> api.Conformances:
        """On which hardware a translation, or the translations of a model, were found to conform, newest first."""
        path, query = f"{segment(ref)}/conformance", {"cursor": cursor}
        return self._endpoint.call("GET", "translate", path, api.Conformances, query=query)

    def by_content(self, content_root: bytes) -> api.Listing:
        """Assets that the caller may read whose files are exactly these."""
        return self._endpoint.call("GET", "catalogue", f"/content/{content_root.hex()}", api.Listing)

    # --- fetch and verify -------------------------------------------------------------------------------------------

    def fetch(
        self,
        ref: str | api.AssetDocument,
        folder: Path,
        *,
        part: str = "main",
        force: bool = False,
        progress: Progress = _SILENT,
    ) -> Fetched:
        """Bring an asset's files into a folder, verified, with its document as polyshare.json; interrupted, it goes on.

        The document is held against the pinned ledger first, so that nothing false is fetched (Mismatch).
        `part` is main, source (the training code) or report; other files in the places are only replaced with `force`.
        """
        from polyshare.client.fetch import fetch
        from polyshare.verify import Found, verify_document

        document = ref if isinstance(ref, api.AssetDocument) else self.document(ref)
        report = verify_document(Found(document, ()), self.profile)
        for check in report.checks:
            if check.outcome == "failed":
                raise Mismatch(f"nothing was fetched: what the registry says of {document.id} is wrong: {check.detail}")
        return fetch(self._endpoint, document, folder, part=part, force=force, progress=progress)

    def verify(self, path: Path, *, rpc: str | None = None, progress: Progress = _SILENT) -> Report:
        """Find out, by the pinned ledger, what a file or folder is and whether it is what was registered."""
        from polyshare.verify import verify

        return verify(path, self.profile, client=self, rpc=rpc, progress=progress)

    # --- govern -----------------------------------------------------------------------------------------------------

    def share(self, ref: str, organisation: str, *, expires: float | None = None) -> api.Grants:
        """Let an organisation read an asset, until `expires` (Unix seconds)."""
        return self._govern(ref, "share", api.Grants, api.Share(organisation=organisation, expires=expires))

    def unshare(self, ref: str, organisation: str) -> api.Grants:
        """Take that back."""
        return self._govern(ref, "unshare", api.Grants, api.Unshare(organisation=organisation))

    def set_visibility(self, ref: str, visibility: Visibility) -> api.Grants:
        """Set who may read an asset besides those it is shared with."""
        return self._govern(ref, "visibility", api.Grants, api.SetVisibility(visibility=visibility))

    def grants(self, ref: str) -> api.Grants:
        """Who may read an asset."""
        return self._endpoint.call("GET", "govern", segment(ref) + "/grants", api.Grants)

    def revoke(self, ref: str, reason: str) -> api.Governed:
        """Say for good, on the ledger, that an asset should not be used any more, and why."""
        return self._govern(ref, "revoke", api.Governed, api.Revoke(reason=reason))

    def erase(self, ref: str, *, confirm: str) -> api.Governed:
        """Delete an asset's bytes and salts for good; `confirm` is its UUID once more."""
        return self._govern(ref, "erase", api.Governed, api.Erase(confirm=confirm))

    def audit(
        self, *, organisation: str | None = None, asset: str | None = None, cursor: str | None = None
    ) -> api.AuditLog:
        """Who did what, newest first, a page at a time."""
        query = {"organisation": organisation, "asset": asset, "cursor": cursor}
        return self._endpoint.call("GET", "govern", "/audit", api.AuditLog, query=query)

    # ----------------------------------------------------------------------------------------------------------------

    def _govern(self, ref: str, action: str, kind: type[_T], body: object) -> _T:
        return self._endpoint.call("POST", "govern", f"{segment(ref)}/{action}", kind, body)

    def _register(
        self, function: str, path: str, request: object, sources: Sequence[Source], progress: Progress
    ) -> api.Registered:
        from polyshare.client.upload import register

        return register(self._endpoint, function, path, request, sources, progress)

    def _owner(self, name: str | None, organisation: str | None) -> tuple[str | None, str | None]:
        """Organisation and name of what is registered: `org/name` says both."""
        if name is not None and "/" in name:
            owner, _, name = name.partition("/")
            if organisation not in (None, owner):
                raise Misconfigured(f"the name says organisation {owner!r}, but {organisation!r} was given")
            return owner, name
        return organisation or self.profile.organisation, name


def _files(sources: Sequence[Source]) -> list[api.File]:
    if not sources:
        return []
    from polyshare.client.folder import manifest_of

    manifest = manifest_of(sources)
    data: dict[str, bytes] = {}
    if manifest.size <= api.MOST_BROUGHT and len(sources) <= api.MOST_FILES_BROUGHT:  # else straight to the store
        data = {source.path: source.read() for source in sources}
    return [
        api.File(
            path=e.path,
            size=e.size,
            digest=str(e.digest),
            parts=[part.hex() for part in e.parts],
            data=data.get(e.path),
        )
        for e in manifest.entries
    ]
