"""Bodies of the original platform's REST interface, which the function `mlaas` serves: docs/mlaas.md."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from polyshare.api import Request

Type = Literal["model", "model_unverified", "dataset"]
Organisation = str | int  # the original's ids were numbers too; here it is the organisation's name
Developer = Annotated[str, Meta(max_length=255)] | int
_HASH = {"pattern": "^(sha256(-[0-9]+)?:)?[0-9a-fA-F]{64}$"}
Hash = Annotated[str, Meta(max_length=80, extra_json_schema=_HASH, description="of the one file: SHA-256, or a digest")]
Bytes = Annotated[int, Meta(ge=1, le=5 * 1024**4)]


class ReserveDataset(Request):
    organization_id: Organisation
    samples_dimension: Any  # a number, a text, or a list of them
    size_bytes: Bytes | None = None
    hash: Hash | None = None


class DatasetReserved(Struct):
    """The id; its bytes are put in the inbox below the prefix."""

    dataset_id: str
    inbox: str


class ModelParameters(Request):
    developer_id: Developer
    organization_id: Organisation
    train_image: Annotated[str, Meta(min_length=1, max_length=512)]
    res_hash: Hash | None = None


class DataParameters(Request):
    dataset_id: Annotated[str, Meta(min_length=1, max_length=200)]


class ReserveModel(Request):
    model_params: ModelParameters
    data_params: DataParameters


class ReserveUnverified(Request):
    developer_id: Developer
    organization_id: Organisation
    hash: Hash | None = None


class ModelReserved(Struct):
    """The id. Nothing is registered before the model is trained or put."""

    model_id: str


class ModelAccepted(Struct):
    """Registered: its contract's address is final, and from here on nothing of it is lost."""

    model_id: str
    state: str
    contract: str


class ModelDescription(Struct, kw_only=True):
    """What is known of a model."""

    model_id: str
    type: Type
    state: str
    organization_id: str
    developer_id: str | int | None
    dataset_id: str | None
    train_image: str | None
    params: dict[str, Any]
    contract: str | None
    anchored: bool
    reason: str | None
    files: list[dict[str, Any]]
    metadata: dict[str, Any]


class FindContract(Request, omit_defaults=True):
    """Which asset's contract: one of these."""

    id: str | None = None
    model_id: str | None = None
    dataset_id: str | None = None


class ContractFound(Struct):
    """The contract that registering made."""

    type: Type
    id: str
    address: str
    anchored: bool


class Checked(Struct):
    name: str
    outcome: str
    detail: str


class ContractVerified(Struct, kw_only=True):
    """Whether the contract stands for bytes with this hash, and what that was found from."""

    address: str
    id: str
    type: Type
    res_hash: str
    verified: bool
    revoked: bool
    checks: list[Checked]
