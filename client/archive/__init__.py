"""What outlives a device: its history, sealed, in segments that others keep.

    segment   one sealed piece, and the chain that the pieces make
    record    what is in a piece: rooms, messages, contacts, registers
    job       archives under way, as rows: a kill costs nothing
    writer    the database into segments      `write_archive`
    reader    segments into a database        `read_archive`

Two things use it: a backup at the account's node, which grows for years, and the
transfer of history to a device that is being linked, which is written once.

    # the old device                            # the new one
    begin(tx, vault, Kind.TRANSFER, key)        begin(tx, vault, Kind.RESTORE, key)
    await write_archive(store, vault, sink)     await read_archive(store, vault, source)
"""

from client.archive.job import Kind, begin, forget, load_job
from client.archive.reader import Restored, Source, read_archive
from client.archive.segment import Head
from client.archive.writer import Sink, write_archive

__all__ = [
    "Head",
    "Kind",
    "Restored",
    "Sink",
    "Source",
    "begin",
    "forget",
    "load_job",
    "read_archive",
    "write_archive",
]
