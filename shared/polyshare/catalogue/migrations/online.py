"""Changes of the schema that let the functions go on meanwhile.

The rule for every migration: what runs now works with the schema before and after it. A column is added nullable or
with a constant default; what is not needed any more is dropped in a later release. Each may be run again after it was
cut short.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from alembic import op


def replace_index(name: str, table: str, columns: Sequence[str], *, where: str | None = None) -> None:
    """Make an index anew, on PostgreSQL without a lock that writers wait for; `where` counts there only.

    A concurrent build that was cut short leaves an invalid index under the name, so what has it is dropped first.
    """
    if op.get_bind().dialect.name != "postgresql":
        op.drop_index(name, if_exists=True)
        op.create_index(name, table, list(columns))
        return
    part = sa.text(where) if where else None
    with op.get_context().autocommit_block():
        op.drop_index(name, postgresql_concurrently=True, if_exists=True)
        op.create_index(name, table, list(columns), postgresql_concurrently=True, postgresql_where=part)


def add_column(table: str, column: sa.Column[Any]) -> None:
    """Add a nullable column, which takes no time whatever is in the table; one that is there is left as it is."""
    if column.name not in {known["name"] for known in sa.inspect(op.get_bind()).get_columns(table)}:
        op.add_column(table, column)
