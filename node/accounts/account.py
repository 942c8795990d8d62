"""Accounts of this node: registering, logging in, and the account log.

The account log is the truth about an account's devices; the `device` table is what
follows from it, kept in the same transaction. The node verifies each entry with the
same function as every client does, so it cannot be talked into storing a log that
clients would refuse.
"""

import asyncio
from dataclasses import dataclass

from sqlalchemy import Connection, delete, func, insert, select, update

from node.accounts.invite import use_invite
from node.accounts.password import Hasher
from node.clock import Clock
from node.config import Settings
from node.event import AccountChanged
from node.limit import Buckets, LoginGuard
from node.storage.chain import MAILBOX, create_log
from node.storage.store import Store, Transaction
from node.storage.tables import (
    AccountEntryRow,
    AccountRow,
    CursorRow,
    DeviceRow,
    KeyPackageRow,
    core,
)
from protocol.account_log import AccountState, read_account_log
from protocol.address import AccountAddress, parse_account, parse_device
from protocol.credential import CLOCK_SLACK
from protocol.errors import (
    AccountDisabled,
    AccountTaken,
    BadIdentity,
    BadLogin,
    BadRequest,
    IdentityError,
    LogForked,
    RegistrationClosed,
    UnknownAccount,
    UnknownKey,
)
from protocol.log import mailbox_id
from protocol.wire import AccountLog, AddDevice, Register

__all__ = ["Accounts", "Standing"]

_account = core(AccountRow)
_entry = core(AccountEntryRow)
_device = core(DeviceRow)
_cursor = core(CursorRow)
_package = core(KeyPackageRow)

ENTRIES_AT_ONCE = 8
"""Entries appended by one request: a new signing key, a device, and room to spare."""

GUARD_ACCOUNT = 10
"""Failures of an account from everywhere count a tenth as much as from one address,
so that a stranger cannot lock somebody out with five requests."""


@dataclass(frozen=True, slots=True)
class Standing:
    """An account log as it is stored, read and verified."""

    state: AccountState
    entries: list[bytes]
    login_hash: bytes
    disabled: bool


class Accounts:
    """What can be done with accounts of this node."""

    def __init__(
        self, store: Store, settings: Settings, clock: Clock, hasher: Hasher
    ) -> None:
        """`close` closes the hasher too."""
        self._store = store
        self._node = settings.name
        self._registration = settings.registration
        self._clock = clock
        self._hasher = hasher
        attempts = settings.limits.login_attempts
        self._guard = LoginGuard(attempts)
        self._account_guard = LoginGuard(attempts * GUARD_ACCOUNT)
        per_hour = settings.limits.registrations_per_hour
        self._registrations = Buckets(
            per_hour / 3600, per_hour, "Too many accounts were made from your address."
        )

    def close(self) -> None:
        """End the hashing threads."""
        self._hasher.close()

    # --- registering -----------------------------------------------------------

    def read_registration(self, request: Register) -> AccountState:
        """Check what a registration says, without looking at the database.

        The caller then checks that the request is signed by one of the state's
        devices, and calls `register`.

        Raises:
            AddressError, BadIdentity, BadRequest: what is wrong with it.
        """
        account = self._address(request.name)
        if not 0 < len(request.log) <= ENTRIES_AT_ONCE:
            raise BadRequest("An account begins with its genesis and first device.")
        state = _verified(account, request.log)
        if not state.devices:
            raise BadIdentity("The account log adds no device.")
        if len(request.login_secret) != 32:
            raise BadRequest("A login secret has 32 bytes.")
        self._check_dates(state)
        return state

    async def register(
        self, request: Register, state: AccountState, remote: str
    ) -> AccountLog:
        """Make an account. The same request again answers the same.

        Args:
            request: with the invite, where one is needed.
            state: what `read_registration` gave for it.
            remote: the address that asks, for limits.

        Raises:
            RegistrationClosed, BadInvite, AccountTaken, TooMany.
        """
        name, now = state.account.local, int(self._clock())
        answer = AccountLog(str(state.account), request.log)
        if await self._store.read(lambda c: _entries(c, name)) == request.log:
            return answer
        if self._registration == "closed":
            raise RegistrationClosed()
        self._registrations.take(remote, now)
        hashed = await self._hasher.make(request.login_secret)

        def write(transaction: Transaction) -> None:
            connection = transaction.connection
            if _exists(connection, name):
                raise AccountTaken()
            if self._registration == "invite":
                use_invite(connection, request.invite, now)
            connection.execute(
                insert(_account).values(
                    name=name,
                    login_hash=hashed,
                    root=state.root,
                    created=now,
                    disabled=False,
                )
            )
            address = str(state.account)
            create_log(
                connection,
                mailbox_id(address),
                MAILBOX,
                self._node,
                party=address,
                now=now,
            )
            _store_entries(connection, name, 0, request.log)
            _store_devices(transaction, state, now)

        await self._store.write(write)
        return answer

    # --- logging in ------------------------------------------------------------

    async def login(self, name: str, secret: bytes, remote: str) -> AccountLog:
        """Answer the account log to whoever knows the login secret.

        Raises:
            BadLogin, AccountDisabled, TooMany.
        """
        standing = await self._authenticate(name, secret, remote)
        return AccountLog(str(standing.state.account), standing.entries)

    async def read_addition(
        self, name: str, request: AddDevice, remote: str
    ) -> AccountState:
        """Check the login secret and the entries that add a device.

        The caller then checks that the request is signed by one of the new devices
        and calls `append`.

        Raises:
            BadLogin, AccountDisabled, TooMany, BadIdentity, LogForked.
        """
        standing = await self._authenticate(name, request.login_secret, remote)
        return await self._continued(standing, request.entries)

    async def _authenticate(self, name: str, secret: bytes, remote: str) -> Standing:
        account = self._address(name)
        now = self._clock()
        pair, alone = (f"{name}|{remote}",), (name,)
        self._guard.check(pair, now)
        self._account_guard.check(alone, now)
        # Counted before the slow part, or a hundred could be tried side by side.
        self._guard.failed(pair, now)
        self._account_guard.failed(alone, now)
        standing = await self._store.read(lambda c: _standing(c, account))
        stored = standing.login_hash if standing else None
        if not await self._hasher.check(stored, secret) or standing is None:
            raise BadLogin()
        self._guard.succeeded(pair)
        self._account_guard.succeeded(alone)
        if standing.disabled:
            raise AccountDisabled()
        return standing

    # --- the account log -------------------------------------------------------

    async def read_continuation(
        self, account: AccountAddress, entries: list[bytes]
    ) -> AccountState:
        """Check entries that a device of the account wants to append.

        Raises:
            UnknownAccount, BadIdentity, LogForked, BadRequest.
        """
        standing = await self._store.read(lambda c: _standing(c, account))
        if standing is None:
            raise UnknownAccount()
        return await self._continued(standing, entries)

    async def append(self, state: AccountState, entries: list[bytes]) -> AccountLog:
        """Append entries to an account log, and follow what they say of devices.

        Args:
            state: after the entries, as `read_addition` or `read_continuation` gave.
            entries: what leads there.

        Raises:
            LogForked: somebody else appended meanwhile; read the log and try again.
        """
        name, now = state.account.local, int(self._clock())

        def write(transaction: Transaction) -> list[bytes]:
            connection = transaction.connection
            stored = _entries(connection, name)
            if stored[len(stored) - len(entries) :] == entries:
                return stored
            if len(stored) + len(entries) != state.seq:
                raise LogForked("Another device changed the account; read it again.")
            _store_entries(connection, name, len(stored), entries)
            _store_devices(transaction, state, now)
            return stored + entries

        stored = await self._store.write(write)
        return AccountLog(str(state.account), stored)

    async def log(self, account: AccountAddress, after: int) -> AccountLog:
        """The log of an account of this node, after its first `after` entries.

        Raises:
            UnknownAccount: there is none.
        """
        entries = await self._store.read(lambda c: _entries(c, account.local))
        if not entries or account.node != self._node:
            raise UnknownAccount()
        return AccountLog(str(account), entries[max(0, after) :])

    async def _continued(
        self, standing: Standing, entries: list[bytes]
    ) -> AccountState:
        if not 0 < len(entries) <= ENTRIES_AT_ONCE:
            raise BadRequest(f"Append 1 to {ENTRIES_AT_ONCE} entries at once.")
        stored = standing.entries
        if stored[-len(entries) :] == entries:
            return standing.state  # the same request came before
        state = await asyncio.to_thread(
            _verified, standing.state.account, entries, standing.state
        )
        self._check_dates(state)
        return state

    def _address(self, name: str) -> AccountAddress:
        return parse_account(f"{name}@{self._node}")

    def _check_dates(self, state: AccountState) -> None:
        now = self._clock()
        for device in state.devices.values():
            if device.certificate.created - CLOCK_SLACK > now:
                raise BadIdentity("A device's certificate begins in the future.")


def signing_key(state: AccountState, keyid: str) -> bytes:
    """The request key of the device that signs, out of an account log.

    Raises:
        UnknownKey: the log has no such valid device.
    """
    address = parse_device(keyid)
    device = state.devices.get(address.device)
    if device is None or address.account != state.account:
        raise UnknownKey("Sign with a device that the account log adds.")
    return device.certificate.auth_key


def set_disabled(connection: Connection, name: str, disabled: bool) -> bool:
    """Shut an account out, or let it in again; whether there is such an account."""
    result = connection.execute(
        update(_account).where(_account.c.name == name).values(disabled=disabled)
    )
    return result.rowcount == 1


def list_accounts(connection: Connection) -> list[tuple[str, int, bool, int]]:
    """Name, time of creation, whether disabled, number of valid devices."""
    devices = (
        select(func.count())
        .select_from(_device)
        .where(_device.c.name == _account.c.name, ~_device.c.revoked)
        .scalar_subquery()
    )
    rows = connection.execute(
        select(
            _account.c.name, _account.c.created, _account.c.disabled, devices
        ).order_by(_account.c.name)
    )
    return [(row[0], row[1], bool(row[2]), row[3]) for row in rows]


def _verified(
    account: AccountAddress, entries: list[bytes], after: AccountState | None = None
) -> AccountState:
    try:
        return read_account_log(account, entries, after=after)
    except IdentityError as error:
        raise BadIdentity(str(error)) from error


def _exists(connection: Connection, name: str) -> bool:
    query = select(_account.c.name).where(_account.c.name == name)
    return connection.execute(query).first() is not None


def _entries(connection: Connection, name: str) -> list[bytes]:
    query = select(_entry.c.data).where(_entry.c.name == name).order_by(_entry.c.seq)
    return list(connection.scalars(query))


def _standing(connection: Connection, account: AccountAddress) -> Standing | None:
    row = connection.execute(
        select(_account.c.login_hash, _account.c.disabled).where(
            _account.c.name == account.local
        )
    ).first()
    if row is None:
        return None
    entries = _entries(connection, account.local)
    return Standing(_verified(account, entries), entries, row[0], bool(row[1]))


def _store_entries(
    connection: Connection, name: str, after: int, entries: list[bytes]
) -> None:
    connection.execute(
        insert(_entry),
        [
            {"name": name, "seq": after + place, "data": data}
            for place, data in enumerate(entries, 1)
        ],
    )


def _store_devices(transaction: Transaction, state: AccountState, now: int) -> None:
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
    for short in state.revoked:
        address = f"{state.account}/{short}"
        connection.execute(
            update(_device).where(_device.c.address == address).values(revoked=True)
        )
        connection.execute(delete(_cursor).where(_cursor.c.reader == address))
        connection.execute(delete(_package).where(_package.c.device == address))
    transaction.events.append(AccountChanged(str(state.account)))
