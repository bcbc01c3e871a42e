"""Small files come with the declaration, and are kept until they are in the store."""

from __future__ import annotations

import sqlalchemy as sa

from polyshare.catalogue.migrations.online import add_column

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    add_column("uploads", sa.Column("brought", sa.JSON))
