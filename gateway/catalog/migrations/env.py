"""Alembic's entry: runs the revisions on the connection that `gateway.catalog.migrate` hands over.

Rules:      1. no configuration file and no address of a database in here  2. batches are rendered, as SQLite needs
"""

from alembic import context

from gateway.catalog.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
    transaction_per_migration=True,
)
with context.begin_transaction():
    context.run_migrations()
