"""Which key signed a transaction: the ledger's writer gets a new one now and then, and each has nonces of its own."""

from __future__ import annotations

import sqlalchemy as sa

from polyshare.catalogue.migrations.online import add_column

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    add_column("transactions", sa.Column("sender", sa.LargeBinary(20)))
