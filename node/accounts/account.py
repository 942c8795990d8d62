"""Accounts of this node: registering, logging in, and the account log.

The node verifies each entry with the
same function as every client does, so it cannot be talked into storing a log that
clients would refuse.
"""

import asyncio

from sqlalchemy import Connection, func, insert, select, update

from node.accounts.invite import use_invite
from node.accounts.ledger import (
    Standing,
    account_exists,
    log_answer,
    read_entries,
    read_standing,
    store_devices,
    store_entries,
    verified,
)
from node.accounts.password import Hasher
from node.clock import Clock
from node.config import Settings
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
from protocol.account_log import AccountState
from protocol.address import AccountAddress, parse_account, parse_device
from protocol.credential import CLOCK_SLACK
from protocol.errors import (
    AccountDisabled,
    AccountTaken,
    BadIdentity,
    BadLogin,
    BadRequest,
    LogForked,
    RegistrationClosed,
    UnknownAccount,
    UnknownKey,
)
from protocol.log import mailbox_id
from protocol.wire import AccountLog, AddDevice, Register

__all__ = ["Accounts", "list_accounts", "set_disabled", "signing_key"]

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
        state = verified(account, request.log)
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
        answer = log_answer(state.account, request.log)
        if await self._store.read(lambda c: read_entries(c, name)) == request.log:
            return answer
        if self._registration == "closed":
            raise RegistrationClosed()
        self._registrations.take(remote, now)
        hashed = await self._hasher.make(request.login_secret)

        def write(transaction: Transaction) -> None:
            connection = transaction.connection
            if account_exists(connection, name):
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
            store_entries(connection, name, 0, request.log)
            store_devices(transaction, state, now)

        await self._store.write(write)
        return answer

    # --- logging in ------------------------------------------------------------

    async def login(self, name: str, secret: bytes, remote: str) -> AccountLog:
        """Answer the account log to whoever knows the login secret.

        Raises:
            BadLogin, AccountDisabled, TooMany.
        """
        standing = await self._authenticate(name, secret, remote)
        return log_answer(standing.state.account, standing.entries)

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
        return await self.continued(standing, request.entries)

    async def _authenticate(self, name: str, secret: bytes, remote: str) -> Standing:
        account = self._address(name)
        now = self._clock()
        pair, alone = (f"{name}|{remote}",), (name,)
        self._guard.check(pair, now)
        self._account_guard.check(alone, now)
        # Counted before the slow part, or a hundred could be tried side by side.
        self._guard.failed(pair, now)
        self._account_guard.failed(alone, now)
        standing = await self._store.read(lambda c: read_standing(c, account))
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
        standing = await self._store.read(lambda c: read_standing(c, account))
        if standing is None:
            raise UnknownAccount()
        return await self.continued(standing, entries)

    async def append(
        self,
        state: AccountState,
        entries: list[bytes],
        *,
        login_hash: bytes | None = None,
    ) -> AccountLog:
        """Append entries to an account log, and follow what they say of devices.

        Args:
            state: after the entries, as `read_addition` or `read_continuation` gave.
            entries: what leads there.
            login_hash: takes the place of the one before.

        Raises:
            LogForked: somebody else appended meanwhile; read the log and try again.
        """
        name, now = state.account.local, int(self._clock())

        def write(transaction: Transaction) -> list[bytes]:
            connection = transaction.connection
            stored = read_entries(connection, name)
            if login_hash is not None:
                connection.execute(
                    update(_account)
                    .where(_account.c.name == name)
                    .values(login_hash=login_hash)
                )
            if stored[len(stored) - len(entries) :] == entries:
                return stored
            if len(stored) + len(entries) != state.seq:
                raise LogForked("Another device changed the account; read it again.")
            store_entries(connection, name, len(stored), entries)
            store_devices(transaction, state, now)
            return stored + entries

        stored = await self._store.write(write)
        return log_answer(state.account, stored)

    async def log(self, account: AccountAddress, after: int) -> AccountLog:
        """The log of an account of this node, after its first `after` entries.

        Raises:
            UnknownAccount: there is none.
        """
        entries = await self._store.read(lambda c: read_entries(c, account.local))
        if not entries or account.node != self._node:
            raise UnknownAccount()
        return log_answer(account, entries, after)

    async def continued(self, standing: Standing, entries: list[bytes]) -> AccountState:
        """Check entries that are to continue an account log as it stands.

        Raises:
            BadIdentity, BadRequest: what is wrong with them.
        """
        if not 0 < len(entries) <= ENTRIES_AT_ONCE:
            raise BadRequest(f"Append 1 to {ENTRIES_AT_ONCE} entries at once.")
        stored = standing.entries
        if stored[-len(entries) :] == entries:
            return standing.state  # the same request came before
        state = await asyncio.to_thread(
            verified, standing.state.account, entries, standing.state
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
