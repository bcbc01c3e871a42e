"""Which trace a row belongs to, where it causes something later."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    word = sa.String(64).with_variant(sa.String(64, collation="C"), "postgresql")
    for table in ("jobs", "outbox", "writes"):
        known = {column["name"] for column in sa.inspect(op.get_bind()).get_columns(table)}
        if "traceparent" not in known:
            op.add_column(table, sa.Column("traceparent", word))
