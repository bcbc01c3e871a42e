"""Bodies of HTTP requests and answers: the one description that functions check, clients use and OpenAPI is made of.

Digests are `sha256:<hex>` or `sha256-<N>:<hex>`, other byte strings hexadecimal, times Unix seconds, sizes bytes.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from polyshare.assets import Visibility

Hex32 = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
Ref = Annotated[str, Meta(min_length=1, max_length=200, description="a UUID, org/name or org/name@version")]
NAME = "^[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?$"
# What OpenAPI says of values that are checked elsewhere, where the message can name what is wrong.
Organisation = Annotated[str, Meta(extra_json_schema={"pattern": NAME})]
Fields = Annotated[
    dict[str, Any],
    Meta(
        extra_json_schema={
            "additionalProperties": {"type": ["string", "number", "boolean", "null"]},
            "propertyNames": {"minLength": 1, "maxLength": 128},
            "maxProperties": 200,
        }
    ),
]
Digest = Annotated[str, Meta(max_length=80, extra_json_schema={"pattern": "^sha256(-[0-9]+)?:[0-9a-f]{64}$"})]


class Request(Struct, forbid_unknown_fields=True, kw_only=True):
    """Unknown fields are refused, so that a typing mistake is an error and not a silence."""


MOST_BROUGHT, MOST_FILES_BROUGHT = 64 * 1024, 8  # bytes and files that come with one declaration, as `data`


class File(Request, omit_defaults=True):
    path: Annotated[str, Meta(max_length=1024)]
    size: Annotated[int, Meta(ge=0)]
    digest: Digest
    parts: list[Hex32] = []
    data: bytes | None = None  # base64: the bytes of a small file, which then needs no upload


class Registration(Request):
    """What every registration says."""

    organisation: Organisation | None = None  # may be left out by who is in one organisation only
    name: str | None = None
    metadata: Fields = {}
    visibility: Visibility = Visibility.ORGANISATION


class RegisterDataset(Registration, kw_only=True):
    files: Annotated[list[File], Meta(min_length=1)]


class RegisterImportedModel(Registration, kw_only=True):
    files: Annotated[list[File], Meta(min_length=1)]
    trained_on: Annotated[list[Ref], Meta(max_length=64)] = []  # registered datasets, by what its owner says


class RegisterModel(Registration, kw_only=True):
    dataset: Ref
    image: Annotated[str, Meta(max_length=512, description="uv:<name>[@sha256:…] or oci:<image>[:tag|@sha256:…]")]
    parameters: Fields = {}
    source: list[File] = []  # the training code, if the image takes one
    program: str = "train.py"  # which file of the source is run
    seconds: Annotated[int, Meta(ge=1, le=604_800)] | None = None  # time limit of the training
    memory: Annotated[int, Meta(ge=64 * 1024**2, le=2**50)] | None = None  # bytes
    allow_revoked: bool = False
    translate: bool = True  # to ONNX, when it is trained


class Translate(Request):
    model: Ref
    opset: Annotated[int, Meta(ge=9, le=26)] | None = None
    allow_revoked: bool = False


class Registered(Struct, kw_only=True):
    """Acknowledged: from here on nothing of it is lost. The contract's address is final, also before it is anchored."""

    id: str
    kind: str
    address: str
    anchored: bool
    organisation: str
    name: str | None
    version: int | None


class Uploading(Struct, kw_only=True):
    """Upload what is missing, by the URLs given and by those asked for, then confirm."""

    id: str
    missing: list[str]  # paths
    urls: dict[str, SignedUrl] = {}  # path → PUT of the whole file, of the first that are missing and small
    expires: float


class Part(Request, kw_only=True):
    path: str
    part: Annotated[int, Meta(ge=1, le=10_000)] = 1
    sha256: Hex32


class AskUploadUrls(Request):
    parts: Annotated[list[Part], Meta(min_length=1, max_length=500)]


class SignedUrl(Struct):
    """A request to make with exactly these headers."""

    url: str
    headers: dict[str, str] = {}


class UploadUrls(Struct):
    """In the order asked; null where the part is there already."""

    urls: list[SignedUrl | None]


class AskDownloadUrls(Request):
    paths: Annotated[list[str], Meta(min_length=1, max_length=500)]
    part: str = "main"  # main | source | report


class DownloadUrl(Struct):
    url: str
    headers: dict[str, str] = {}
    parts: list[str] = []  # digests of the file's parts, where it has more than one


class DownloadUrls(Struct):
    urls: list[DownloadUrl]


class InboxCredentials(Struct):
    """An S3 key that may put and read below the organisation's prefix of the inbox, and nothing else."""

    endpoint: str
    region: str
    bucket: str
    prefix: str
    access_key: str
    secret_key: str
    session_token: str = ""
    expires: float | None = None  # Unix seconds; null: it does not


class AskInboxCredentials(Request):
    organisation: Organisation | None = None


class Subscribed(Struct):
    """What Azure Event Grid wants back before it sends anything."""

    validationResponse: str


class Stage(Struct):
    stage: str
    at: float
    detail: str | None = None


class Status(Struct, kw_only=True):
    id: str
    kind: str
    organisation: str
    name: str | None
    version: int | None
    state: str
    address: str | None
    anchored: bool
    result_anchored: bool
    finished: bool  # nothing more will happen by itself
    reason: str | None  # why it failed
    report: bool  # whether there are files about its job: its logs, the certificate of a translation that disagrees
    position: int | None  # in the queue, 1 = next
    attempt: int | None
    revoked: bool
    erased: bool
    stages: list[Stage]
    log_tail: str
    translation: str | None  # UUID of the newest translation, of a model
    cursor: int  # give it as ?since= to wait for what comes after


class Share(Request):
    organisation: Organisation
    expires: float | None = None  # Unix seconds


class Unshare(Request):
    organisation: Organisation


class SetVisibility(Request):
    visibility: Visibility


class Revoke(Request):
    reason: Annotated[str, Meta(min_length=1, max_length=1000)]


class Erase(Request):
    confirm: Annotated[str, Meta(description="the asset's UUID once more")]


class Governed(Struct):
    id: str


class Grant(Struct):
    organisation: str
    by: str
    at: float
    expires: float | None


class Grants(Struct):
    visibility: str
    grants: list[Grant]


class Audited(Struct):
    at: float
    organisation: str
    subject: str
    action: str
    asset: str | None
    detail: dict[str, Any] | None


class AuditLog(Struct):
    entries: list[Audited]
    cursor: str | None


class Listed(Struct, kw_only=True):
    id: str
    kind: str
    organisation: str
    name: str | None
    version: int | None
    state: str
    visibility: str
    created: float
    address: str | None
    revoked: bool
    erased: bool


class Listing(Struct):
    assets: list[Listed]
    cursor: str | None


class RelativeResult(Struct):
    """What the result slot of an ancestor's contract is the digest of."""

    outcome: int
    salt: str
    content_root: str
    metadata_root: str
    provenance: str


class Relative(Struct, kw_only=True):
    """An asset in a lineage; one that the caller can't read shows its address and kind only."""

    address: str
    kind: str
    withheld: bool = False
    id: str | None = None
    organisation: str | None = None
    name: str | None = None
    version: int | None = None
    state: str | None = None
    revoked: bool = False
    record: str | None = None  # hex; its links are the addresses of its parents
    salt: str | None = None
    content_root: str | None = None  # of a model that was trained: of the job's request
    result: RelativeResult | None = None  # of a model that was trained
    parents: list[str] = []  # addresses
    roles: list[str] = []


class Lineage(Struct):
    address: str
    assets: list[Relative]  # the asset first, then its ancestors, nearest first
    children: list[Relative] = []


class Chain(Struct):
    chain_id: int
    registry: str
    definitions: dict[str, str]  # kind → address
    rpc: str | None = None  # where a client may ask the node itself


class FileDocument(Struct):
    path: str
    size: int
    digest: str


class ContentDocument(Struct, kw_only=True):
    """Files and what ties them to the ledger: commitment = sha256("polyshare/content/1" ‖ salt ‖ root)."""

    salt: str
    root: str
    files: list[FileDocument]


class RequestDocument(Struct, kw_only=True):
    """What a job was asked to do; root = sha256 of the request's RFC 8785 form, committed as content is."""

    salt: str
    root: str
    request: dict[str, Any]


class ResultDocument(Struct, kw_only=True):
    outcome: int
    anchored: bool
    content: ContentDocument
    metadata: dict[str, Any]  # the sealed document
    provenance: str
    run: dict[str, Any]


class RevokedDocument(Struct):
    reason: str
    at: int
    anchored: bool


class AssetDocument(Struct, kw_only=True):
    """All that its reader needs to check an asset against the ledger; `polyshare fetch` keeps it as polyshare.json."""

    schema: str
    id: str
    kind: str
    organisation: str
    name: str | None
    version: int | None
    state: str
    created: float
    registrant: str
    address: str
    anchored: bool
    chain: Chain
    record: str
    metadata: dict[str, Any]  # the sealed document
    content: ContentDocument | None  # of a dataset or an imported model
    request: RequestDocument | None  # of a model or a translation
    result: ResultDocument | None
    source: list[FileDocument]
    report: list[FileDocument]
    lineage: list[Relative]
    revoked: RevokedDocument | None
    erased: bool
    reason: str | None = None


class ContractState(Struct, kw_only=True):
    """The contract's own words, read from the ledger's node now."""

    id: str
    kind: str
    address: str
    chain: Chain
    anchored: bool
    block: int
    schema: int | None = None
    commitment: str | None = None
    metadata_root: str | None = None
    parents: list[str] = []
    supersedes: str | None = None
    environment: str | None = None
    opset: int | None = None
    result: str | None = None
    revocation: str | None = None


# --- conformance --------------------------------------------------------------------------------------------------

# No control characters: what one organisation records is shown on the terminals of others.
Text = Annotated[str, Meta(max_length=1000, pattern=r"^[^\x00-\x1f\x7f-\x9f]*$(?!\n)")]
Count = Annotated[int, Meta(ge=0, le=2**53 - 1)]
Difference = Annotated[float, Meta(ge=0)]


class Hardware(Request, kw_only=True):
    """The class of environment that a model ran in."""

    provider: Text  # of execution, by ONNX Runtime's name
    options: Annotated[dict[Text, Text], Meta(max_length=50)] = {}  # of the provider
    runtime: Text  # package and version of ONNX Runtime
    environment: Text  # pinned: uv:<name>@sha256:…
    device: Text
    driver: Text  # "none" of a CPU
    architecture: Text
    cpu: Text  # the level of its instructions


class ConformedInputs(Request, kw_only=True):
    digest: Digest  # of the file with all of them
    as_certified: bool  # whether they are those of the certificate; not where its test data can't be read
    rows: Annotated[dict[Text, Count], Meta(max_length=20)]  # by origin


class ConformedOutput(Request, kw_only=True):
    """How far an output is from ONNX Runtime's on the CPU, over the rows that are judged."""

    name: Text
    rows: Count
    rows_outside: Count  # outside the certificate's tolerance
    labels_differ: Count  # ties apart
    max_absolute: Difference
    max_relative: Difference
    max_ulp: Count


class Statement(Request, kw_only=True):
    """That a translation on some hardware answered the certificate's inputs as ONNX Runtime does on the CPU, or not."""

    result: Literal["MATCH", "MISMATCH"]
    reasons: Annotated[list[Text], Meta(max_length=50)]
    hardware: Hardware
    onnx: Digest  # of the ONNX file that ran
    certificate: Digest  # of the file certificate.json
    inputs: ConformedInputs
    outputs: Annotated[list[ConformedOutput], Meta(min_length=1, max_length=256)]
    nodes_elsewhere: Annotated[list[Text], Meta(max_length=1000)]  # that ran on the CPU, where that was allowed


class Conform(Statement, kw_only=True):
    """Record a statement."""

    organisation: Organisation | None = None  # whose statement it is; left out by who is in one only


class Conformance(Struct, kw_only=True):
    """A statement that was recorded: that of its subject, for its organisation. It is their word, and no proof."""

    id: str  # the same statement of the same organisation on the same translation has the same
    translation: str
    organisation: str
    subject: str
    at: float
    statement: Statement


class Conformances(Struct):
    """Of a translation, or of all translations of a model, newest first."""

    conformances: list[Conformance]
    cursor: str | None


# --- jobs ---------------------------------------------------------------------------------------------------------


class StartJob(Request):
    attempt: int


class AskInputUrls(Request):
    files: Annotated[list[InputFile], Meta(min_length=1, max_length=500)]


class InputFile(Request):
    channel: str
    path: str


class InputUrls(Struct):
    urls: list[SignedUrl]


class JobProgress(Request):
    attempt: int
    stage: str
    log_tail: Annotated[str, Meta(max_length=65_536)] = ""

    def __post_init__(self) -> None:
        self.log_tail = self.log_tail.replace("\0", "\N{REPLACEMENT CHARACTER}")  # training code may print anything


class OutputPart(Request, kw_only=True):
    path: str
    size: Annotated[int, Meta(ge=0, le=2**53)]
    part: Annotated[int, Meta(ge=1, le=10_000)] = 1
    sha256: Hex32


class AskOutputUrls(Request):
    parts: Annotated[list[OutputPart], Meta(min_length=1, max_length=500)]


class CompleteJob(Request):
    attempt: int
    outcome: str  # trained | translated | ingested | failed
    reason: Annotated[str, Meta(max_length=4000)] = ""
    files: list[File] = []
    report: list[File] = []  # files about the run that are not its result: certificate of a failed translation, logs
    metadata: dict[str, Any] = {}
    run: dict[str, Any] = {}

    def __post_init__(self) -> None:
        self.reason = self.reason.replace("\0", "\N{REPLACEMENT CHARACTER}")


class JobDocument(Struct, kw_only=True):
    """What a job's steps need; URLs are asked for one by one, just before they are used."""

    job: str
    attempt: int
    action: str
    asset: str
    organisation: str
    deadline: float
    environment: str | None = None
    program: str | None = None
    parameters: dict[str, Any] = {}
    limits: dict[str, int] = {}
    channels: dict[str, list[dict[str, Any]]] = {}
    verifier: str | None = None  # the environment of the gate, of a translation
    translate: dict[str, Any] | UnsetType = UNSET  # its options
    traceparent: str = ""  # W3C: what the steps ask with, so that they belong to the registration


class Problem(Struct, kw_only=True):
    """RFC 9457."""

    type: str
    title: str
    status: int
    detail: str


def decode(body: bytes, kind: type[Any]) -> Any:
    """Read a JSON body as `kind`; raises errors.Invalid naming the field.

    Refused besides: what readers of JSON take in different ways (a field given twice), and NUL characters, which
    PostgreSQL can't hold.
    """
    from polyshare.errors import Invalid

    try:
        value = msgspec.json.decode(body or b"{}", type=kind)
        json.loads(body or b"{}", object_pairs_hook=_once, parse_int=len, parse_float=len)
        if b"\\u0000" in body and _has_nul(msgspec.to_builtins(value)):
            raise ValueError("there is a NUL character (\\u0000) in it")
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise Invalid(f"the body is not a valid {kind.__name__}: {error}") from error
    return value


def _once(pairs: list[tuple[str, object]]) -> None:
    names = [name for name, _ in pairs]
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"field {twice[:100]!r} is given twice")


def _has_nul(value: object) -> bool:
    match value:
        case str():
            return "\0" in value
        case dict():
            return any(_has_nul(name) or _has_nul(inner) for name, inner in value.items())
        case list():
            return any(_has_nul(inner) for inner in value)
    return False
