"""Indexes for many assets: on PostgreSQL small ones of what is unfinished, and those that were missing."""

from __future__ import annotations

from polyshare.catalogue.migrations.online import replace_index

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    replace_index("assets_public", "assets", ["visibility", "created", "id"], where="visibility = 'public'")
    replace_index("assets_unfinished", "assets", ["state", "created"], where="state IN ('uploading', 'registering')")
    replace_index("assets_erased", "assets", ["erased"], where="erased IS NOT NULL")
    replace_index("assets_by_result", "assets", ["result_root"], where="result_root IS NOT NULL")
    replace_index("files_by_digest", "files", ["digest", "size", "key"])
    replace_index("uploads_open", "uploads", ["closed", "expires"], where="NOT closed")
    replace_index("jobs_unfinished", "jobs", ["state", "created"], where="state NOT IN ('done', 'failed')")
    replace_index("writes_pending", "writes", ["state", "row"], where="state IN ('pending', 'sent')")
    replace_index("writes_by_transaction", "writes", ["transaction"], where="state IN ('pending', 'sent')")
    replace_index("inbox_by_time", "inbox", ["at"])
    replace_index("audit_by_asset", "audit", ["asset", "row"])
    replace_index("idempotency_by_time", "idempotency", ["at"])
    replace_index("idempotency_by_asset", "idempotency", ["asset"])
    replace_index("inbox_drops_by_asset", "inbox_drops", ["asset"])
    replace_index("inbox_drops_untold", "inbox_drops", ["asset"], where="problem IS NULL")
