"""What the database knows of blobs: small functions over one connection."""

from dataclasses import dataclass

from sqlalchemy import (
    Connection,
    delete,
    exists,
    func,
    insert,
    select,
    update,
)

from node.storage.tables import BlobHolderRow, BlobRow, BlobUploadRow, core
from protocol.blob import Blob

__all__ = [
    "Stored",
    "Upload",
    "add_holder",
    "copied",
    "drop_blobs",
    "drop_holder",
    "drop_stale_uploads",
    "drop_upload",
    "evict_copies",
    "expire",
    "find_blob",
    "find_upload",
    "holds",
    "list_held",
    "move_upload",
    "store_blob",
    "store_upload",
    "tokens",
    "touch",
    "uploads",
    "usage",
]

_blob = core(BlobRow)
_holder = core(BlobHolderRow)
_upload = core(BlobUploadRow)


_STORED = select(_blob.c.id, _blob.c.size, _blob.c.token, _blob.c.touched)


@dataclass(frozen=True, slots=True)
class Stored:
    """A blob that is here whole."""

    blob: str
    size: int
    token: str
    touched: int


@dataclass(frozen=True, slots=True)
class Upload:
    """An upload that is not finished."""

    blob: str
    size: int
    received: int
    token: str


# --- blobs ------------------------------------------------------------------------


def find_blob(
    connection: Connection, blob: str, *, held: bool = False
) -> Stored | None:
    """A blob that is here; `held`: only if an account of ours keeps it."""
    query = _STORED.where(_blob.c.id == blob)
    row = connection.execute(query.where(_blob.c.held) if held else query).first()
    return None if row is None else Stored(*row)


def store_blob(
    connection: Connection, blob: str, size: int, token: str, now: int
) -> bool:
    """Make a blob known, a copy until somebody holds it; False: it was, in another
    file."""
    if find_blob(connection, blob) is not None:
        return False
    connection.execute(
        insert(_blob).values(
            id=blob, held=False, size=size, token=token, created=now, touched=now
        )
    )
    return True


def touch(connection: Connection, blob: str, now: int) -> None:
    """It was asked for."""
    connection.execute(update(_blob).where(_blob.c.id == blob).values(touched=now))


def drop_blobs(connection: Connection, found: list[Stored]) -> list[str]:
    """Forget blobs, whoever holds them; the tokens of their files."""
    ids = [each.blob for each in found]
    connection.execute(delete(_holder).where(_holder.c.blob.in_(ids)))
    connection.execute(delete(_blob).where(_blob.c.id.in_(ids)))
    return [each.token for each in found]


def expire(connection: Connection, before: int, limit: int) -> list[str]:
    """Drop some blobs that were not asked for since; the tokens of their files."""
    query = _STORED.where(_blob.c.touched < before).limit(limit)
    return drop_blobs(connection, [Stored(*row) for row in connection.execute(query)])


def copied(connection: Connection) -> int:
    """Bytes of all copies."""
    size = func.coalesce(func.sum(_blob.c.size), 0)
    return connection.scalar(select(size).where(~_blob.c.held)) or 0


def evict_copies(connection: Connection, most: int, limit: int) -> list[str]:
    """Drop some of the copies until they fit into `most` bytes, those first that were
    asked for least lately."""
    beyond = copied(connection) - most
    gone: list[Stored] = []
    query = _STORED.where(~_blob.c.held).order_by(_blob.c.touched).limit(limit)
    for row in connection.execute(query) if beyond > 0 else ():
        if beyond <= 0:
            break
        gone.append(Stored(*row))
        beyond -= gone[-1].size
    return drop_blobs(connection, gone)


def tokens(connection: Connection, start: str) -> set[str]:
    """Of all files that some row names, those that start so."""
    end = start + "g"  # behind every hex digit
    return {
        *connection.scalars(
            select(_blob.c.token).where(_blob.c.token.between(start, end))
        ),
        *connection.scalars(
            select(_upload.c.token).where(_upload.c.token.between(start, end))
        ),
    }


# --- who keeps them ---------------------------------------------------------------


def holds(connection: Connection, name: str, blob: str) -> bool:
    """Whether an account keeps a blob."""
    of_it = (_holder.c.name == name) & (_holder.c.blob == blob)
    return bool(connection.scalar(select(exists().where(of_it))))


def add_holder(
    connection: Connection, name: str, blob: str, size: int, now: int
) -> None:
    """An account keeps a blob that it did not keep before."""
    connection.execute(
        insert(_holder).values(name=name, blob=blob, size=size, created=now)
    )
    connection.execute(update(_blob).where(_blob.c.id == blob).values(held=True))


def drop_holder(connection: Connection, name: str, blob: str) -> list[str]:
    """An account keeps a blob no more; its file's token if nobody else does."""
    gone = connection.execute(
        delete(_holder).where(_holder.c.name == name, _holder.c.blob == blob)
    )
    found = find_blob(connection, blob)
    if gone.rowcount == 0 or found is None:
        return []
    if connection.scalar(select(exists().where(_holder.c.blob == blob))):
        return []
    return drop_blobs(connection, [found])


def list_held(connection: Connection, name: str, after: str, limit: int) -> list[Blob]:
    """What an account keeps, by id."""
    rows = connection.execute(
        select(_holder.c.blob, _holder.c.size, _holder.c.created)
        .where(_holder.c.name == name, _holder.c.blob > after)
        .order_by(_holder.c.blob)
        .limit(limit)
    )
    return [Blob(*row) for row in rows]


def usage(connection: Connection, name: str) -> int:
    """Bytes that an account keeps, and those that it has announced."""
    total = 0
    for table in (_holder, _upload):
        size = func.coalesce(func.sum(table.c.size), 0)
        total += connection.scalar(select(size).where(table.c.name == name)) or 0
    return total


# --- uploads ----------------------------------------------------------------------


def find_upload(connection: Connection, name: str, blob: str) -> Upload | None:
    """An account's upload of a blob."""
    row = connection.execute(
        select(
            _upload.c.blob, _upload.c.size, _upload.c.received, _upload.c.token
        ).where(_upload.c.name == name, _upload.c.blob == blob)
    ).first()
    return None if row is None else Upload(*row)


def uploads(connection: Connection, name: str) -> int:
    """How many uploads of an account are under way."""
    count = select(func.count()).where(_upload.c.name == name)
    return connection.scalar(count) or 0


def store_upload(connection: Connection, name: str, upload: Upload, now: int) -> None:
    """Begin an upload."""
    connection.execute(
        insert(_upload).values(
            name=name,
            blob=upload.blob,
            size=upload.size,
            received=upload.received,
            token=upload.token,
            changed=now,
        )
    )


def move_upload(connection: Connection, token: str, received: int, now: int) -> bool:
    """More of an upload is on the disk; False: it was dropped meanwhile."""
    done = connection.execute(
        update(_upload)
        .where(_upload.c.token == token)
        .values(received=received, changed=now)
    )
    return done.rowcount == 1


def drop_upload(connection: Connection, name: str, blob: str) -> list[str]:
    """End an upload; its file's token."""
    found = find_upload(connection, name, blob)
    if found is None:
        return []
    connection.execute(delete(_upload).where(_upload.c.token == found.token))
    return [found.token]


def drop_stale_uploads(connection: Connection, before: int, limit: int) -> list[str]:
    """End some uploads that nobody continued since; the tokens of their files."""
    gone = list(
        connection.scalars(
            select(_upload.c.token).where(_upload.c.changed < before).limit(limit)
        )
    )
    connection.execute(delete(_upload).where(_upload.c.token.in_(gone)))
    return gone
