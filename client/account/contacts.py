"""People's keys: the root that each account had when we first met it is pinned.

A root key *is* a person. The first one we see is trusted (and shown as unverified),
every other one later is an alarm, and nothing is sent to that person's rooms until
it is settled. Account logs are kept as far as they were read: a node that shows a
shorter or another one than before is caught.
"""

import asyncio
from collections.abc import Iterable

from client.errors import KeyChanged, NodeNonsense
from client.model import Alarm
from client.network.transport import Transport
from client.storage.store import Store, Tx
from protocol.account_log import AccountState, read_account_log
from protocol.address import parse_account
from protocol.codec import decode, encode
from protocol.credential import Credential
from protocol.errors import IdentityError, Malformed
from protocol.log import GENESIS, LogId
from protocol.wire import AccountLog

__all__ = ["Contacts", "check_root", "known_log", "save_account"]

FETCHES = 4
"""Account logs fetched at one time."""


def check_root(tx: Tx, account: str, root: bytes, room: LogId | None) -> bool:
    """Compare a root key with the pinned one; pins it if there is none.

    Returns:
        Whether it is the one known so far. If it is not, an alarm was raised.
    """
    row = tx.one("SELECT root, other_root FROM contact WHERE account = ?", account)
    if row is None:
        tx.execute(
            "INSERT INTO contact (account, root, head, entries) VALUES (?, ?, ?, ?)",
            account,
            root,
            GENESIS,
            encode([]),
        )
        return True
    if bytes(row[0]) == root:
        return True
    if row[1] is None or bytes(row[1]) != root:
        tx.execute("UPDATE contact SET other_root = ? WHERE account = ?", root, account)
    tx.events.append(Alarm(room, _changed(account)))
    return False


def has_changed(tx: Tx, accounts: Iterable[str]) -> str | None:
    """The first of some accounts whose root key was seen to change."""
    for account in accounts:
        row = tx.one(
            "SELECT 1 FROM contact WHERE account = ? AND other_root IS NOT NULL",
            account,
        )
        if row is not None:
            return account
    return None


def save_account(tx: Tx, state: AccountState, entries: list[bytes]) -> None:
    """Keep an account log that was read (all of it)."""
    tx.execute(
        "INSERT INTO contact (account, root, seq, head, entries) VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT (account) DO UPDATE SET seq = excluded.seq,"
        " head = excluded.head, entries = excluded.entries",
        str(state.account),
        state.root,
        state.seq,
        state.head,
        encode(entries),
    )


def known_log(tx: Tx, account: str) -> list[bytes]:
    """An account log, as far as it was read."""
    return _known(tx, account)[1]


class Contacts:
    """Fetches account logs and checks them against what is pinned."""

    def __init__(self, store: Store, transport: Transport) -> None:
        self._store = store
        self._transport = transport
        self._slots = asyncio.Semaphore(FETCHES)

    async def refresh(self, account: str, room: LogId | None = None) -> AccountState:
        """The newest account log of somebody, checked and kept.

        Raises:
            Refused: there is no such account, or its node cannot be reached.
            KeyChanged: the root is not the pinned one; an alarm was raised.
            NodeNonsense: the log does not hold, or was cut short.
        """
        address = parse_account(account)
        pinned, entries = await self._store.run(lambda tx: _known(tx, account))
        async with self._slots:
            answer = await self._transport.get(
                f"/accounts/{account}/log?after={len(entries)}", AccountLog
            )
        if answer.account != account:
            raise NodeNonsense(f"The node answered for another account than {account}.")
        entries = entries + answer.entries
        try:
            state = read_account_log(address, entries)
        except IdentityError as error:
            await self._alarm(
                room, f"The keys of {account} do not hold: {error} Do not trust it."
            )
            raise NodeNonsense(f"The keys of {account} do not hold: {error}") from error
        if pinned is not None and state.root != pinned:
            await self._store.run(lambda tx: check_root(tx, account, state.root, room))
            raise KeyChanged(_changed(account))
        await self._store.run(lambda tx: save_account(tx, state, entries))
        return state

    async def check_device(self, credential: Credential, room: LogId) -> None:
        """Check that a credential's device stands, unrevoked, in its account's log.

        Raises:
            IdentityError: it does not; and what `refresh` raises.
        """
        state = await self.refresh(str(credential.account), room)
        device = state.devices.get(credential.device.device)
        if credential.root != state.root:
            await self._store.run(
                lambda tx: check_root(
                    tx, str(credential.account), credential.root, room
                )
            )
            raise KeyChanged(_changed(str(credential.account)))
        if (
            device is None
            or device.certificate.auth_key != credential.auth_key
            or device.certificate.mls_key != credential.mls_key
        ):
            raise IdentityError(f"{credential.device} is no device of its account.")

    async def _alarm(self, room: LogId | None, text: str) -> None:
        await self._store.run(lambda tx: tx.events.append(Alarm(room, text)))


def _known(tx: Tx, account: str) -> tuple[bytes | None, list[bytes]]:
    row = tx.one("SELECT root, entries FROM contact WHERE account = ?", account)
    if row is None:
        return None, []
    try:
        return bytes(row[0]), decode(bytes(row[1]), list[bytes])
    except Malformed:
        return bytes(row[0]), []


def _changed(account: str) -> str:
    return (
        f"The keys of {account} are not the ones known so far. It may be a new start "
        "of theirs, or somebody between you: ask them another way. Nothing is sent."
    )
