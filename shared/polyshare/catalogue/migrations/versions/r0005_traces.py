"""Which trace a row belongs to, where it causes something later."""

from __future__ import annotations

import sqlalchemy as sa

from polyshare.catalogue.migrations.online import add_column

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    word = sa.String(64).with_variant(sa.String(64, collation="C"), "postgresql")
    for table in ("jobs", "outbox", "writes"):
        add_column(table, sa.Column("traceparent", word))
