"""A request remembers on which host it is worked on."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("request", sa.Column("taken_by", sa.Text(), nullable=True))
    op.add_column("worker", sa.Column("waits_for", sa.Text(), nullable=True))
