"""Small files come with the declaration, and are kept until they are in the store."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    if "brought" not in {column["name"] for column in sa.inspect(op.get_bind()).get_columns("uploads")}:
        op.add_column("uploads", sa.Column("brought", sa.JSON))
