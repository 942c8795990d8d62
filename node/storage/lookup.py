"""Rows by many keys at once."""

from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

from sqlalchemy import Column, Connection

__all__ = ["LOOKED_UP", "batches", "look_up"]

T = TypeVar("T")

LOOKED_UP = 100
"""Keys in one question to the database, which takes so many values at once."""


def look_up(
    connection: Connection,
    keys: Sequence[Column[Any]],
    wanted: Sequence[tuple[Any, ...]],
    columns: Sequence[Column[Any]],
    where: str = "",
) -> Iterator[tuple[Any, ...]]:
    """Columns of a table's rows whose keys are among many.

    Each key is looked up in the table's index. Of `(a, b) IN (VALUES ...)` SQLite
    makes a scan of the whole table, hence the join in this order.

    Args:
        connection: any.
        keys: columns of one table that begin one of its indexes.
        wanted: values of these.
        columns: what is asked for.
        where: a further condition, in SQL.
    """
    table = keys[0].table.name
    names = ", ".join(column.name for column in keys)
    asked = ", ".join(f"{table}.{column.name}" for column in columns)
    equal = [f"{table}.{column.name} = wanted.{column.name}" for column in keys]
    condition = " AND ".join([*equal, where] if where else equal)
    marks = f"({', '.join('?' * len(keys))})"
    for some in batches(wanted, LOOKED_UP):
        rows = connection.exec_driver_sql(
            f"WITH wanted({names}) AS (VALUES {', '.join([marks] * len(some))}) "
            f"SELECT {asked} FROM wanted CROSS JOIN {table} WHERE {condition}",
            tuple(value for key in some for value in key),
        )
        yield from (tuple(row) for row in rows)


def batches(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """The items in order, some at a time."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
