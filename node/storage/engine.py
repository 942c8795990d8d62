"""Connections to the node's SQLite file, set up the one way that is right for it.

Write-ahead log, so that readers never wait for the writer; `synchronous=FULL`, so
that what is committed survives a power cut. Transactions are begun and ended by
hand: the driver's own begin comes too late to read and write under one lock.
"""

from pathlib import Path
from typing import Any

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.pool import NullPool

__all__ = ["BUSY_TIMEOUT", "open_engine"]

BUSY_TIMEOUT = 5000
"""Milliseconds to wait for another process (`telex-node invite`, a backup) that
holds the write lock; its transactions take a few."""

_PRAGMAS = (
    f"PRAGMA busy_timeout = {BUSY_TIMEOUT}",
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA foreign_keys = ON",
    "PRAGMA temp_store = MEMORY",
    # 16 MiB of page cache in each connection; the file cache does the rest.
    "PRAGMA cache_size = -16384",
    # After a burst the write-ahead log shrinks to 64 MiB again.
    "PRAGMA journal_size_limit = 67108864",
)


def open_engine(path: Path, *, read_only: bool = False) -> Engine:
    """An engine without a pool: whoever connects owns the connection.

    Args:
        path: the database file.
        read_only: refuse every write on its connections.
    """
    engine = create_engine(
        f"sqlite:///{path}",
        poolclass=NullPool,
        connect_args={
            "isolation_level": None,
            "check_same_thread": False,
            # Statements kept compiled by the driver; we have about 80.
            "cached_statements": 256,
        },
    )

    @event.listens_for(engine, "connect")
    def _set_up(connection: Any, _record: object) -> None:
        for pragma in _PRAGMAS:
            connection.execute(pragma)
        if read_only:
            connection.execute("PRAGMA query_only = ON")

    return engine
