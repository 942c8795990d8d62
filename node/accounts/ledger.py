"""Account logs as they are stored, and the device table that follows from them.

The account log is the truth about an account's devices; everything that hangs on a
device (its cursors, key packages, places in rosters) goes with it, in the write that
stores the entry which ends it.
"""

from dataclasses import dataclass

from sqlalchemy import Connection, delete, insert, select, update

from node.event import AccountChanged
from node.storage.store import Transaction
from node.storage.tables import (
    AccountEntryRow,
    AccountRow,
    CursorRow,
    DeviceRow,
    KeyPackageRow,
    RosterRow,
    core,
)
from protocol.account_log import AccountState, read_account_log
from protocol.address import AccountAddress
from protocol.errors import BadIdentity, IdentityError
from protocol.log import GENESIS, chain, mailbox_id
from protocol.wire import AccountLog

__all__ = [
    "Standing",
    "account_exists",
    "log_answer",
    "read_entries",
    "read_standing",
    "store_devices",
    "store_entries",
    "verified",
]

_account = core(AccountRow)
_entry = core(AccountEntryRow)
_device = core(DeviceRow)
_cursor = core(CursorRow)
_package = core(KeyPackageRow)
_roster = core(RosterRow)


@dataclass(frozen=True, slots=True)
class Standing:
    """An account log as it is stored, read and verified."""

    state: AccountState
    entries: list[bytes]
    login_hash: bytes
    disabled: bool


def log_answer(
    account: AccountAddress, entries: list[bytes], after: int = 0
) -> AccountLog:
    """An account log for the wire, from all of its entries; `after`: from there on.

    Seq and hash are of the whole log: who was shown another one finds out.
    """
    digest = GENESIS
    for entry in entries:
        digest = chain(digest, entry)
    return AccountLog(str(account), entries[max(0, after) :], len(entries), digest)


def verified(
    account: AccountAddress, entries: list[bytes], after: AccountState | None = None
) -> AccountState:
    """An account log, read; slow if it is long.

    Raises:
        BadIdentity: it does not hold.
    """
    try:
        return read_account_log(account, entries, after=after)
    except IdentityError as error:
        raise BadIdentity(str(error)) from error


def account_exists(connection: Connection, name: str) -> bool:
    """Whether there is an account of this name."""
    query = select(_account.c.name).where(_account.c.name == name)
    return connection.execute(query).first() is not None


def read_entries(connection: Connection, name: str) -> list[bytes]:
    """All entries of an account log; none, if there is no such account."""
    query = select(_entry.c.data).where(_entry.c.name == name).order_by(_entry.c.seq)
    return list(connection.scalars(query))


def read_standing(connection: Connection, account: AccountAddress) -> Standing | None:
    """An account as it stands; None: there is none."""
    row = connection.execute(
        select(_account.c.login_hash, _account.c.disabled).where(
            _account.c.name == account.local
        )
    ).first()
    if row is None:
        return None
    entries = read_entries(connection, account.local)
    return Standing(verified(account, entries), entries, row[0], bool(row[1]))


def store_entries(
    connection: Connection, name: str, after: int, entries: list[bytes]
) -> None:
    """Append entries to an account log that has `after`."""
    connection.execute(
        insert(_entry),
        [
            {"name": name, "seq": after + place, "data": data}
            for place, data in enumerate(entries, 1)
        ],
    )


def store_devices(transaction: Transaction, state: AccountState, now: int) -> None:
    """Make the device table say what the account log says."""
    connection, name = transaction.connection, state.account.local
    query = select(_device.c.address).where(_device.c.name == name)
    known = set(connection.scalars(query))
    for short, device in state.devices.items():
        address = f"{state.account}/{short}"
        if address in known:
            connection.execute(  # its certificate may have been renewed
                update(_device)
                .where(_device.c.address == address)
                .values(expires=device.certificate.expires)
            )
            continue
        connection.execute(
            insert(_device).values(
                address=address,
                name=name,
                auth_key=device.certificate.auth_key,
                mls_key=device.certificate.mls_key,
                expires=device.certificate.expires,
                added=now,
                revoked=False,
            )
        )
        # A device reads its account's mailbox from the start.
        connection.execute(
            insert(_cursor).values(
                reader=address, log=mailbox_id(str(state.account)), seq=0
            )
        )
    ended = _end_devices(transaction, state)
    transaction.events.append(AccountChanged(str(state.account), ended))


def _end_devices(transaction: Transaction, state: AccountState) -> tuple[str, ...]:
    """End the devices that were revoked and still stand; their addresses.

    A device stays in the MLS groups until members remove it, but from now on it reads
    and writes nothing here, and its account's other devices see it in no roster.
    """
    connection = transaction.connection
    standing = set(
        connection.scalars(
            select(_device.c.address).where(
                _device.c.name == state.account.local, ~_device.c.revoked
            )
        )
    )
    ended = standing & {f"{state.account}/{short}" for short in state.revoked}
    for address in ended:
        connection.execute(
            update(_device).where(_device.c.address == address).values(revoked=True)
        )
        connection.execute(delete(_cursor).where(_cursor.c.reader == address))
        connection.execute(delete(_package).where(_package.c.device == address))
        connection.execute(delete(_roster).where(_roster.c.device == address))
    if ended:
        transaction.known.clear()
    return tuple(sorted(ended))
