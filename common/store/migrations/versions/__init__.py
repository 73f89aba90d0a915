"""Alembic scripts, run at start."""
