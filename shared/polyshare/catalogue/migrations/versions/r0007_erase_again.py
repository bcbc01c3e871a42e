"""Erasing has an end of its own. Whatever was erased before is looked at once more."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from polyshare.catalogue.migrations.online import add_column

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    add_column("assets", sa.Column("erase_again", sa.Double))
    op.execute("UPDATE assets SET erase_again = erased WHERE erased IS NOT NULL")
