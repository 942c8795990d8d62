"""Alembic's way in: runs the migrations on the connection it is handed.

Only `node.storage.schema` calls it, with an open connection in the configuration's
attributes; there is no alembic.ini and no way to run it on a database by accident.
"""

from alembic import context

from node.storage.tables import METADATA

connection = context.config.attributes["connection"]
# SQLite cannot alter a table in place: batch mode copies it.
context.configure(
    connection=connection,
    target_metadata=METADATA,
    render_as_batch=True,
    compare_type=True,
)
with context.begin_transaction():
    context.run_migrations()
