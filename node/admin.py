"""What an admin does from the command line, on a node that runs or does not.

Each function opens the database for itself; SQLite lets a command write while the
node runs, and the node notices. The commands in `node.cli` parse, call one of these,
and print.
"""

import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection

from federation.ports import PeerRecord
from node.accounts.account import list_accounts, set_disabled
from node.accounts.invite import create_invite, new_code
from node.config import Settings, render
from node.keys import (
    create_keys,
    read_recovery_key,
    rotate_keys,
    write_private,
)
from node.lock import take_lock
from node.peers.log import count_pending
from node.peers.store import list_peers
from node.storage.engine import open_engine
from node.storage.schema import check_schema, migrate
from protocol.address import parse_node
from protocol.errors import TelexError
from protocol.node_identity import NodeIdentity

__all__ = [
    "AdminProblem",
    "Created",
    "account_rows",
    "certificate_end",
    "create_node",
    "database",
    "disable",
    "invite",
    "peers",
    "rotate_key",
]

RECOVERY_FILE = "recovery.key"


class AdminProblem(TelexError):
    """A command cannot be done; says why and what to do."""


@dataclass(frozen=True, slots=True)
class Created:
    """What `init` made."""

    config: Path
    data_dir: Path
    recovery: Path


def create_node(config: Path, name: str, values: dict[str, object]) -> Created:
    """Write a config file, a data directory, a key and an empty database.

    Args:
        config: where the config file goes; nothing may be there.
        name: the node's name.
        values: other settings by dotted name.

    Raises:
        AddressError: the name is none.
        AdminProblem: there is something already; it is not touched.
    """
    parse_node(name)
    config = config.absolute()
    data_dir = config.parent / str(values.get("data_dir", "data"))
    recovery = config.parent / RECOVERY_FILE
    for path in (config, data_dir / "node.key", data_dir / "node.db", recovery):
        if path.exists():
            raise AdminProblem(
                f"{path} is there already; nothing was changed. Choose another place "
                "with --config, or delete it if you are sure."
            )
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        seed = create_keys(data_dir, name, int(time.time()))
        write_private(recovery, b64encode(seed) + b"\n")
        migrate(data_dir / "node.db")
        write_private(config, render({"name": name, **values}).encode())
    except OSError as error:
        raise AdminProblem(
            f"{error.filename} cannot be written: {error.strerror}."
        ) from error
    return Created(config, data_dir, recovery)


def invite(settings: Settings, *, uses: int, lifetime: int) -> str:
    """Make an invite.

    Args:
        settings: of the node.
        uses: how many accounts it is good for.
        lifetime: seconds.

    Returns:
        The code.
    """
    code, now = new_code(), int(time.time())
    with database(settings, write=True) as connection:
        create_invite(connection, code, uses=uses, now=now, expires=now + lifetime)
    return code


def account_rows(settings: Settings) -> list[tuple[str, int, bool, int]]:
    """Name, time of creation, whether disabled, number of valid devices."""
    with database(settings) as connection:
        return list_accounts(connection)


def disable(settings: Settings, name: str, disabled: bool) -> None:
    """Shut an account out, or let it in again.

    Raises:
        AdminProblem: there is no such account.
    """
    local, _, node = name.partition("@")
    with database(settings, write=True) as connection:
        known = node in ("", settings.name) and set_disabled(
            connection, local, disabled
        )
    if not known:
        raise AdminProblem(
            f"There is no account {name!a} here; `telex-node user list` shows them."
        )


def peers(settings: Settings) -> list[tuple[PeerRecord, int]]:
    """The nodes that this one has met or wants to reach, each with the number of
    entries that wait for it."""
    with database(settings) as connection:
        known = {record.name: record for record in list_peers(connection)}
        pending = count_pending(connection)
    return [
        (known.get(name) or PeerRecord(name), pending.get(name, 0))
        for name in sorted(known.keys() | pending.keys())
    ]


def rotate_key(settings: Settings, recovery: Path | None) -> NodeIdentity:
    """Put a new node key in force; peers take it because an old key signed it.

    Args:
        settings: of the node, which must not run.
        recovery: the recovery key's file, if the node key is lost or stolen.

    Raises:
        DataInUse: the node runs.
        KeyProblem: no key here may sign for a new one; nothing was changed.
    """
    seed = None if recovery is None else read_recovery_key(recovery)
    lock = take_lock(settings.data_dir)
    try:
        return rotate_keys(settings.data_dir, settings.name, int(time.time()), seed)
    finally:
        lock.release()


def certificate_end(path: Path) -> int:
    """When the first certificate in a PEM file expires, in unix seconds.

    Raises:
        AdminProblem: there is none to read.
    """
    from cryptography import x509

    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError) as error:
        raise AdminProblem(f"{path} holds no certificate: {error}.") from error
    return int(certificate.not_valid_after_utc.timestamp())


@contextmanager
def database(settings: Settings, *, write: bool = False) -> Iterator[Connection]:
    """A connection in a transaction of its own, committed at the end.

    Raises:
        DatabaseProblem: it is missing, or of another version.
    """
    check_schema(settings.database)
    engine = open_engine(settings.database, read_only=not write)
    try:
        with engine.connect() as connection:
            connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")
            yield connection
            connection.commit()
    finally:
        engine.dispose()
