"""The catalogue's tables. The truth is ledger + store: all here but sessions and delivery marks can be rebuilt."""

from __future__ import annotations

import sqlalchemy as sa

from polyshare.catalogue.engine import purpose
from polyshare.tracing import traceparent

REVISION = "0007"  # of migrations/versions that ends in these tables
metadata = sa.MetaData()


def create(engine: sa.Engine) -> None:
    """Make the tables in an empty database, at the newest revision. One that has tables is left as it is."""
    if sa.inspect(engine).has_table(assets.name):
        return
    with engine.connect() as connection:
        purpose(connection, writes=True)
        with connection.begin():
            if not sa.inspect(connection).has_table(assets.name):
                metadata.create_all(connection, checkfirst=False)
                revisions.create(connection, checkfirst=False)
                connection.execute(revisions.insert().values(version_num=REVISION))


def _word(length: int | None = None) -> sa.types.TypeEngine[str]:
    """Text that names something: compared and ordered byte by byte, in every database alike."""
    plain, exact = (
        (sa.String(length), sa.String(length, collation="C")) if length else (sa.Text(), sa.Text(collation="C"))
    )
    return plain.with_variant(exact, "postgresql")


_Json = sa.JSON(none_as_null=True)  # None is SQL's NULL, not JSON's null
Id = _word(36)  # a UUID as text
Key = sa.BigInteger().with_variant(sa.Integer, "sqlite")  # SQLite numbers rows by itself only in INTEGER


def _trace() -> sa.Column[str | None]:
    """The trace (W3C) of what wrote the row; what the row causes goes on with it."""
    return sa.Column("traceparent", _word(64), default=traceparent)


def _part(name: str, *columns: str, where: str) -> sa.Index:
    """An index of the rows that are looked for, on PostgreSQL; of all on SQLite, whose planner would not use it."""
    return sa.Index(name, *columns, postgresql_where=sa.text(where))


assets = sa.Table(
    "assets",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("kind", sa.SmallInteger, nullable=False),
    sa.Column("organisation", _word(64), nullable=False),
    sa.Column("owner", _word(255), nullable=False),  # subject of the registrant
    sa.Column("name", _word(64)),
    sa.Column("version", sa.Integer),
    sa.Column("supersedes", Id),
    sa.Column("visibility", _word(16), nullable=False),
    sa.Column("state", _word(16), nullable=False),
    sa.Column("created", sa.Double, nullable=False),  # Unix seconds, as all times here
    sa.Column("fields", _Json, nullable=False),  # metadata as given, before it is sealed
    # frozen at registration
    sa.Column("salt", sa.LargeBinary(32)),
    sa.Column("content_root", sa.LargeBinary(32)),  # of the files, or of the job request for models and translations
    sa.Column("metadata", _Json),  # the sealed document, with salts
    sa.Column("record", sa.LargeBinary),
    sa.Column("address", _word(42)),
    sa.Column("request", _Json),  # the job request of a model or a translation
    # the result of its job
    sa.Column("outcome", sa.SmallInteger),  # 1 completed, 2 failed
    sa.Column("reason", sa.Text),
    sa.Column("result_salt", sa.LargeBinary(32)),
    sa.Column("result_root", sa.LargeBinary(32)),
    sa.Column("result_metadata", _Json),
    sa.Column("run", _Json),  # the run record
    sa.Column("provenance", sa.LargeBinary(32)),  # sha256 of its RFC 8785 form
    # what the ledger says
    sa.Column("anchored", sa.Double),
    sa.Column("result_anchored", sa.Double),
    # governing
    sa.Column("revoked", sa.Double),
    sa.Column("revocation_reason", sa.Text),
    sa.Column("revocation_anchored", sa.Double),
    sa.Column("erased", sa.Double),
    sa.Column("erase_again", sa.Double),  # when what is left of it in the store is looked for and deleted, once more
    sa.Column("journalled", sa.Integer, nullable=False, server_default="0"),  # journal objects written for it
    sa.UniqueConstraint("organisation", "name", "version"),
    sa.Index("assets_by_organisation", "organisation", "created", "id"),
    _part("assets_public", "visibility", "created", "id", where="visibility = 'public'"),
    _part("assets_unfinished", "state", "created", where="state IN ('uploading', 'registering')"),
    _part("assets_erased", "erased", where="erased IS NOT NULL"),
    sa.Index("assets_by_content", "content_root"),
    _part("assets_by_result", "result_root", where="result_root IS NOT NULL"),
)

parents = sa.Table(
    "parents",
    metadata,
    sa.Column("asset", Id, primary_key=True),
    sa.Column("position", sa.SmallInteger, primary_key=True),
    sa.Column("parent", Id, nullable=False),
    sa.Column("role", _word(16), nullable=False),  # dataset | model
    sa.Index("parents_by_parent", "parent"),
)

files = sa.Table(
    "files",
    metadata,
    sa.Column("asset", Id, primary_key=True),
    sa.Column("part", _word(8), primary_key=True),  # content | source | result | report
    sa.Column("position", sa.Integer, primary_key=True),
    sa.Column("path", sa.Text, nullable=False),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("digest", _word(80), nullable=False),
    sa.Column("key", _word(), nullable=False),  # of the blob that holds it
    sa.Index("files_by_digest", "digest", "size", "key"),
    sa.Index("files_by_key", "key"),
)

uploads = sa.Table(
    "uploads",
    metadata,
    sa.Column("id", Id, primary_key=True),  # of the asset, or of the job, that it is for
    sa.Column("organisation", _word(64), nullable=False),
    sa.Column("files", _Json, nullable=False),  # the declared manifest
    sa.Column("reused", _Json, nullable=False),  # path → key of a blob that the caller may read
    sa.Column("expires", sa.Double, nullable=False),
    sa.Column("closed", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("brought", _Json),  # path → base64 of files that came with the declaration, until they are in the store
    _part("uploads_open", "closed", "expires", where="NOT closed"),
)

multiparts = sa.Table(
    "multiparts",
    metadata,
    sa.Column("key", _word(), primary_key=True),
    sa.Column("upload", Id, nullable=False),
    sa.Column("multipart", _word(), nullable=False),  # the store's name for it
    sa.Column("completed", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Index("multiparts_by_upload", "upload"),
)

parts = sa.Table(
    "parts",
    metadata,
    sa.Column("key", _word(), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("sha256", sa.LargeBinary(32), nullable=False),  # the only bytes ever signed for this part
)

jobs = sa.Table(
    "jobs",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("asset", Id, nullable=False),
    sa.Column("action", _word(16), nullable=False),  # ingest | train | translate
    sa.Column("state", _word(16), nullable=False),  # waiting | queued | running | publishing | done | failed
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("token_hash", sa.LargeBinary(32)),
    sa.Column("deadline", sa.Double),
    sa.Column("heard", sa.Double),  # when the runner last told of it
    sa.Column("created", sa.Double, nullable=False),
    sa.Column("inbox", _Json),  # of an ingest: the objects as they were listed, [{path, key, size, etag}]
    sa.Column("log_tail", sa.Text, nullable=False, server_default=""),
    sa.Column("completion", sa.LargeBinary(32)),  # digest of the completion that was accepted
    _trace(),
    sa.Index("jobs_by_asset", "asset"),
    _part("jobs_unfinished", "state", "created", where="state NOT IN ('done', 'failed')"),
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
    "writes",  # to the ledger
    metadata,
    sa.Column("row", Key, primary_key=True),
    sa.Column("asset", Id, nullable=False),
    sa.Column("action", _word(8), nullable=False),  # register | result | revoke
    sa.Column("entry", _Json, nullable=False),  # the fields of ports.Register, Result or Revocation, bytes as hex
    sa.Column("after", _Json, nullable=False),  # ids of the assets that must be anchored before
    sa.Column("state", _word(8), nullable=False),  # pending | sent | done | rejected
    sa.Column("transaction", sa.LargeBinary(32)),
    sa.Column("reason", sa.Text),
    sa.Column("created", sa.Double, nullable=False),
    _trace(),
    sa.UniqueConstraint("asset", "action"),
    _part("writes_pending", "state", "row", where="state IN ('pending', 'sent')"),
    _part("writes_by_transaction", "transaction", where="state IN ('pending', 'sent')"),
)

transactions = sa.Table(
    "transactions",
    metadata,
    sa.Column("hash", sa.LargeBinary(32), primary_key=True),
    sa.Column("nonce", sa.BigInteger, nullable=False),
    sa.Column("sender", sa.LargeBinary(20)),  # whose nonce it is; not noted by older releases
    sa.Column("raw", sa.LargeBinary, nullable=False),
    sa.Column("state", _word(8), nullable=False),  # signed | mined | failed | lost (its nonce went to another)
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
    "inbox",  # of events
    metadata,
    sa.Column("source", _word(255), primary_key=True),
    sa.Column("id", _word(255), primary_key=True),
    sa.Column("at", sa.Double, nullable=False),
    sa.Index("inbox_by_time", "at"),
)

outbox = sa.Table(
    "outbox",  # of events
    metadata,
    sa.Column("row", Key, primary_key=True),
    sa.Column("id", Id, nullable=False, unique=True),
    sa.Column("type", _word(64), nullable=False),
    sa.Column("subject", _word(255), nullable=False),
    sa.Column("data", _Json, nullable=False),
    sa.Column("at", sa.Double, nullable=False),
    sa.Column("due", sa.Double, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
    _trace(),
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
    sa.Column("organisation", _word(64), nullable=False),  # of the asset
    sa.Column("subject", _word(255), nullable=False),
    sa.Column("action", _word(32), nullable=False),
    sa.Column("asset", Id),
    sa.Column("detail", _Json),
    sa.Index("audit_by_organisation", "organisation", "row"),
    sa.Index("audit_by_asset", "asset", "row"),
)

conformances = sa.Table(
    "conformances",  # what was found of translations on some hardware
    metadata,
    sa.Column("row", Key, primary_key=True),
    sa.Column("id", _word(64), nullable=False, unique=True),  # digest of asset, organisation and statement
    sa.Column("asset", Id, nullable=False),
    sa.Column("organisation", _word(64), nullable=False),
    sa.Column("subject", _word(255), nullable=False),
    sa.Column("at", sa.Double, nullable=False),
    sa.Column("statement", _Json, nullable=False),
    sa.Index("conformances_by_asset", "asset", "row"),
)

idempotency = sa.Table(
    "idempotency",
    metadata,
    sa.Column("subject", _word(255), primary_key=True),
    sa.Column("key", _word(255), primary_key=True),
    sa.Column("request", sa.LargeBinary(32), nullable=False),  # digest of what was asked
    sa.Column("asset", Id, nullable=False),
    sa.Column("at", sa.Double, nullable=False),
    sa.Index("idempotency_by_time", "at"),
    sa.Index("idempotency_by_asset", "asset"),
)

inbox_drops = sa.Table(
    "inbox_drops",  # datasets dropped in the inbox bucket that became an ingest
    metadata,
    sa.Column("prefix", _word(), primary_key=True),  # <org>/<name>/
    sa.Column("etag", _word(255), primary_key=True),  # of its dataset.json, with when that was put
    sa.Column("listing", _word(64), nullable=False),  # digest of all its objects' keys and etags
    sa.Column("asset", Id, nullable=False),
    sa.Column("problem", sa.Text),
    sa.Index("inbox_drops_by_asset", "asset"),
    _part("inbox_drops_untold", "asset", where="problem IS NULL"),
)

revisions = sa.Table(  # as Alembic makes it
    "alembic_version",
    sa.MetaData(),
    sa.Column("version_num", sa.String(32), nullable=False),
    sa.PrimaryKeyConstraint("version_num", name="alembic_version_pkc"),
)
