"""What was found of translations on some hardware."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    def word(length: int) -> sa.types.TypeEngine[str]:
        return sa.String(length).with_variant(sa.String(length, collation="C"), "postgresql")

    op.create_table(
        "conformances",
        sa.Column("row", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
        sa.Column("id", word(64), nullable=False, unique=True),
        sa.Column("asset", word(36), nullable=False),
        sa.Column("organisation", word(64), nullable=False),
        sa.Column("subject", word(255), nullable=False),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("statement", sa.JSON, nullable=False),
        if_not_exists=True,
    )
    op.create_index("conformances_by_asset", "conformances", ["asset", "row"], if_not_exists=True)
