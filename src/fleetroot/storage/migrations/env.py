"""Alembic's entry: runs migrations on the connection that `fleetroot.storage.migrate` opened."""

from __future__ import annotations

from alembic import context

from fleetroot.storage.schema import metadata

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=metadata, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
