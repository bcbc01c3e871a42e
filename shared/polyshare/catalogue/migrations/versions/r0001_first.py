"""The catalogue as it was first: a copy that never changes, whatever becomes of `tables`."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    metadata.create_all(op.get_bind(), checkfirst=False)


metadata = sa.MetaData()


def _word(length: int | None = None) -> sa.types.TypeEngine[str]:
    """Text that names something: compared and ordered byte by byte, in every database alike."""
    plain, exact = (
        (sa.String(length), sa.String(length, collation="C")) if length else (sa.Text(), sa.Text(collation="C"))
    )
    return plain.with_variant(exact, "postgresql")


Id = _word(36)
Key = sa.BigInteger().with_variant(sa.Integer, "sqlite")

assets = sa.Table(
    "assets",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("kind", sa.SmallInteger, nullable=False),
    sa.Column("organisation", _word(64), nullable=False),
    sa.Column("owner", _word(255), nullable=False),
    sa.Column("name", _word(64)),
    sa.Column("version", sa.Integer),
    sa.Column("supersedes", Id),
    sa.Column("visibility", _word(16), nullable=False),
    sa.Column("state", _word(16), nullable=False),
    sa.Column("created", sa.Double, nullable=False),
    sa.Column("fields", sa.JSON, nullable=False),
    sa.Column("salt", sa.LargeBinary(32)),
    sa.Column("content_root", sa.LargeBinary(32)),
    sa.Column("metadata", sa.JSON),
    sa.Column("record", sa.LargeBinary),
    sa.Column("address", _word(42)),
    sa.Column("request", sa.JSON),
    sa.Column("outcome", sa.SmallInteger),
    sa.Column("reason", sa.Text),
    sa.Column("result_salt", sa.LargeBinary(32)),
    sa.Column("result_root", sa.LargeBinary(32)),
    sa.Column("result_metadata", sa.JSON),
    sa.Column("run", sa.JSON),
    sa.Column("provenance", sa.LargeBinary(32)),
    sa.Column("anchored", sa.Double),
    sa.Column("result_anchored", sa.Double),
    sa.Column("revoked", sa.Double),
    sa.Column("revocation_reason", sa.Text),
    sa.Column("revocation_anchored", sa.Double),
    sa.Column("erased", sa.Double),
    sa.Column("journalled", sa.Integer, nullable=False, server_default="0"),
    sa.UniqueConstraint("organisation", "name", "version"),
    sa.Index("assets_by_organisation", "organisation", "created", "id"),
    sa.Index("assets_unfinished", "state", "created"),
    sa.Index("assets_by_content", "content_root"),
    sa.Index("assets_by_result", "result_root"),
)

parents = sa.Table(
    "parents",
    metadata,
    sa.Column("asset", Id, primary_key=True),
    sa.Column("position", sa.SmallInteger, primary_key=True),
    sa.Column("parent", Id, nullable=False),
    sa.Column("role", _word(16), nullable=False),
    sa.Index("parents_by_parent", "parent"),
)

files = sa.Table(
    "files",
    metadata,
    sa.Column("asset", Id, primary_key=True),
    sa.Column("part", _word(8), primary_key=True),
    sa.Column("position", sa.Integer, primary_key=True),
    sa.Column("path", sa.Text, nullable=False),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("digest", _word(80), nullable=False),
    sa.Column("key", _word(), nullable=False),
    sa.Index("files_by_digest", "digest", "size"),
    sa.Index("files_by_key", "key"),
)

uploads = sa.Table(
    "uploads",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("organisation", _word(64), nullable=False),
    sa.Column("files", sa.JSON, nullable=False),
    sa.Column("reused", sa.JSON, nullable=False),
    sa.Column("expires", sa.Double, nullable=False),
    sa.Column("closed", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Index("uploads_open", "closed", "expires"),
)

multiparts = sa.Table(
    "multiparts",
    metadata,
    sa.Column("key", _word(), primary_key=True),
    sa.Column("upload", Id, nullable=False),
    sa.Column("multipart", _word(), nullable=False),
    sa.Column("completed", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Index("multiparts_by_upload", "upload"),
)

parts = sa.Table(
    "parts",
    metadata,
    sa.Column("key", _word(), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("sha256", sa.LargeBinary(32), nullable=False),
)

jobs = sa.Table(
    "jobs",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("asset", Id, nullable=False),
    sa.Column("action", _word(16), nullable=False),
    sa.Column("state", _word(16), nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("token_hash", sa.LargeBinary(32)),
    sa.Column("deadline", sa.Double),
    sa.Column("heard", sa.Double),
    sa.Column("created", sa.Double, nullable=False),
    sa.Column("inbox", sa.JSON),
    sa.Column("log_tail", sa.Text, nullable=False, server_default=""),
    sa.Column("completion", sa.LargeBinary(32)),
    sa.Index("jobs_by_asset", "asset"),
    sa.Index("jobs_unfinished", "state", "created"),
)

stages = sa.Table(
    "stages",
    metadata,
    sa.Column("row", Key, primary_key=True),
    sa.Column("asset", Id, nullable=False),
    sa.Column("stage", _word(32), nullable=False),
    sa.Column("at", sa.Double, nullable=False),
    sa.Column("detail", sa.Text),
    sa.Index("stages_by_asset", "asset", "row"),
)

writes = sa.Table(
    "writes",
    metadata,
    sa.Column("row", Key, primary_key=True),
    sa.Column("asset", Id, nullable=False),
    sa.Column("action", _word(8), nullable=False),
    sa.Column("entry", sa.JSON, nullable=False),
    sa.Column("after", sa.JSON, nullable=False),
    sa.Column("state", _word(8), nullable=False),
    sa.Column("transaction", sa.LargeBinary(32)),
    sa.Column("reason", sa.Text),
    sa.Column("created", sa.Double, nullable=False),
    sa.UniqueConstraint("asset", "action"),
    sa.Index("writes_pending", "state", "row"),
    sa.Index("writes_by_transaction", "transaction"),
)

transactions = sa.Table(
    "transactions",
    metadata,
    sa.Column("hash", sa.LargeBinary(32), primary_key=True),
    sa.Column("nonce", sa.BigInteger, nullable=False),
    sa.Column("raw", sa.LargeBinary, nullable=False),
    sa.Column("state", _word(8), nullable=False),
    sa.Column("fence", sa.BigInteger, nullable=False),
    sa.Column("created", sa.Double, nullable=False),
    sa.Index("transactions_by_state", "state", "nonce"),
)

leases = sa.Table(
    "leases",
    metadata,
    sa.Column("name", _word(32), primary_key=True),
    sa.Column("holder", _word(64), nullable=False),
    sa.Column("fence", sa.BigInteger, nullable=False),
    sa.Column("expires", sa.Double, nullable=False),
)

inbox = sa.Table(
    "inbox",
    metadata,
    sa.Column("source", _word(255), primary_key=True),
    sa.Column("id", _word(255), primary_key=True),
    sa.Column("at", sa.Double, nullable=False),
)

outbox = sa.Table(
    "outbox",
    metadata,
    sa.Column("row", Key, primary_key=True),
    sa.Column("id", Id, nullable=False, unique=True),
    sa.Column("type", _word(64), nullable=False),
    sa.Column("subject", _word(255), nullable=False),
    sa.Column("data", sa.JSON, nullable=False),
    sa.Column("at", sa.Double, nullable=False),
    sa.Column("due", sa.Double, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
    sa.Index("outbox_due", "due", "row"),
)

grants = sa.Table(
    "grants",
    metadata,
    sa.Column("asset", Id, primary_key=True),
    sa.Column("organisation", _word(64), primary_key=True),
    sa.Column("by", _word(255), nullable=False),
    sa.Column("at", sa.Double, nullable=False),
    sa.Column("expires", sa.Double),
    sa.Index("grants_by_organisation", "organisation"),
)

audit = sa.Table(
    "audit",
    metadata,
    sa.Column("row", Key, primary_key=True),
    sa.Column("at", sa.Double, nullable=False),
    sa.Column("organisation", _word(64), nullable=False),
    sa.Column("subject", _word(255), nullable=False),
    sa.Column("action", _word(32), nullable=False),
    sa.Column("asset", Id),
    sa.Column("detail", sa.JSON),
    sa.Index("audit_by_organisation", "organisation", "row"),
)

idempotency = sa.Table(
    "idempotency",
    metadata,
    sa.Column("subject", _word(255), primary_key=True),
    sa.Column("key", _word(255), primary_key=True),
    sa.Column("request", sa.LargeBinary(32), nullable=False),
    sa.Column("asset", Id, nullable=False),
    sa.Column("at", sa.Double, nullable=False),
)

inbox_drops = sa.Table(
    "inbox_drops",
    metadata,
    sa.Column("prefix", _word(), primary_key=True),
    sa.Column("etag", _word(255), primary_key=True),
    sa.Column("listing", _word(64), nullable=False),
    sa.Column("asset", Id, nullable=False),
    sa.Column("problem", sa.Text),
)
