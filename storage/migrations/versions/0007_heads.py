"""A checkpoint tells what its model gives, and what it is compared by where that is not the evaluation loss."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("checkpoint", sa.Column("head", sa.Text(), server_default="language", nullable=False))
    op.add_column("checkpoint", sa.Column("score", sa.Double(), nullable=True))
