"""The queue can be ordered, an attempt can differ from its spec, and the end of a job is told once."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("job", sa.Column("rank", sa.Double(), nullable=True))
    op.add_column("job", sa.Column("notified_at", sa.Double(), nullable=True))
    op.execute("UPDATE job SET notified_at = finished_at WHERE finished_at IS NOT NULL")
    op.add_column("attempt", sa.Column("overrides", sa.JSON(), nullable=True))
