"""Account logs of people: fetched, checked against what is pinned, and kept.

An account log is kept as far as it was read, so a node that shows a shorter or another
one than before is caught, with both heads as evidence. The node says with each answer
how long the log is and what its chain hashes to: it stands for that with its name.
"""

import asyncio
from collections.abc import Callable
from typing import NoReturn

import msgspec

from client.account.me import get_meta, set_meta
from client.errors import KeyChanged, NodeNonsense
from client.network.transport import Transport
from client.storage.alarms import raise_alarm
from client.storage.store import Store, Tx
from client.verification.trust import check_root, own_account
from protocol.account_log import AccountState, read_account_log
from protocol.address import parse_account
from protocol.codec import decode, encode
from protocol.credential import Credential
from protocol.errors import IdentityError, Malformed
from protocol.log import GENESIS, LogId, chain
from protocol.wire import AccountLog

__all__ = ["WITHHELD", "Contacts", "check_root", "hash_at", "known_log", "save_account"]

FETCHES = 4
"""Account logs fetched at one time."""

WITHHELD = "account_log_withheld"
"""The alarm: an account log is shorter or another one than it is known to be."""


def save_account(tx: Tx, state: AccountState, entries: list[bytes]) -> None:
    """Keep an account log (all of it) to which we added ourselves, or our first.

    The devices that it adds to our own account are vouched for by this one.
    """
    _save(tx, state, entries)
    if str(state.account) == own_account(tx):
        before = own_devices(tx)
        added = set(state.devices) - before.seen
        own = OwnDevices(state.ask_serial, before.seen | added, before.vouched | added)
        set_meta(tx, "own_devices", encode(own))


def _save(tx: Tx, state: AccountState, entries: list[bytes]) -> None:
    tx.execute(
        "INSERT INTO contact (account, root, seq, head, entries) VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT (account) DO UPDATE SET seq = excluded.seq,"
        " head = excluded.head, entries = excluded.entries"
        " WHERE excluded.seq > contact.seq AND excluded.root = contact.root",
        str(state.account),
        state.root,
        state.seq,
        state.head,
        encode(entries),
    )


def known_log(tx: Tx, account: str) -> list[bytes]:
    """An account log, as far as it was read."""
    return _known(tx, account)[1]


class OwnDevices(msgspec.Struct, array_like=True, frozen=True):
    """What this device knows of its account's devices, by their short ids."""

    ask_serial: int
    """Of the account signing key when this was written."""
    seen: set[str]
    """Those that are right: from before us, or somebody said so."""
    vouched: set[str]
    """Those that this device added itself; it tells the others."""


def own_devices(tx: Tx) -> OwnDevices:
    """What this device knows of its account's devices."""
    data = get_meta(tx, "own_devices")
    return OwnDevices(0, set(), set()) if data is None else decode(data, OwnDevices)


def hash_at(entries: list[bytes], seq: int) -> bytes:
    """The chain's hash after entry `seq` of an account log."""
    head = GENESIS
    for entry in entries[:seq]:
        head = chain(head, entry)
    return head


class Contacts:
    """Fetches account logs and checks them against what is pinned."""

    def __init__(self, store: Store, transport: Transport) -> None:
        self._store = store
        self._transport = transport
        self._slots = asyncio.Semaphore(FETCHES)
        self.learned: list[Callable[[Tx, AccountState], None]] = []
        """Told of each account log that has new entries."""

    async def refresh(self, account: str, room: LogId | None = None) -> AccountState:
        """The newest account log of somebody, checked and kept.

        Args:
            room: where an alarm belongs, if there is one.

        Raises:
            Refused: there is no such account, or its node cannot be reached.
            KeyChanged: the root is not the pinned one; an alarm was raised.
            NodeNonsense: the log does not hold, or was cut short; so was it then.
        """
        address = parse_account(account)
        async with self._slots:
            pinned, entries = await self._store.run(lambda tx: _known(tx, account))
            answer = await self._ask(account, len(entries))
            shown = entries + answer.entries
            state = _read(account, shown)
            if entries and (state is None or not _stands_for(answer, state)):
                # Not the log that we know: look at all of what it is now.
                answer = await self._ask(account, 0)
                shown = answer.entries
                state = _read(account, shown)
        if state is None or not _stands_for(answer, state):
            await self._refuse(account, room, shown)
        if pinned is not None and state.root != pinned:
            await self._store.run(lambda tx: check_root(tx, account, state.root, room))
            raise KeyChanged(_changed(str(address)))
        if shown[: len(entries)] != entries:
            await self._withheld(account, room, entries, state)

        def save(tx: Tx) -> None:
            _save(tx, state, shown)
            if len(shown) > len(entries):
                for hear in self.learned:
                    hear(tx, state)

        await self._store.run(save)
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

    async def _ask(self, account: str, after: int) -> AccountLog:
        answer = await self._transport.get(
            f"/accounts/{account}/log?after={after}", AccountLog
        )
        if answer.account != account:
            raise NodeNonsense(f"The node answered for another account than {account}.")
        return answer

    async def _refuse(
        self, account: str, room: LogId | None, shown: list[bytes]
    ) -> NoReturn:
        text = (
            f"The list of devices of {account} that the node shows does not hold "
            "(a signature or its order is wrong). It is not used; tell its admin."
        )
        fact = f"{account} {hash_at(shown, len(shown)).hex()}"
        await self._store.run(
            lambda tx: raise_alarm(
                tx,
                "bad_account_log",
                fact,
                room,
                text,
                evidence=f"account: {account}\nentries shown: {len(shown)}",
            )
        )
        raise NodeNonsense(text)

    async def _withheld(
        self,
        account: str,
        room: LogId | None,
        entries: list[bytes],
        state: AccountState,
    ) -> NoReturn:
        head = hash_at(entries, len(entries))
        node = parse_account(account).node
        text = (
            f"The node shows another list of devices of {account} than before: "
            f"{len(entries)} entries were known, now there are {state.seq} that do not "
            f"go on from them. Somebody at {node} or at your node may be hiding a "
            "device that was added or revoked; what was known is still used. Tell "
            "their admins."
        )
        await self._store.run(
            lambda tx: raise_alarm(
                tx,
                WITHHELD,
                f"{account} {head.hex()} {state.head.hex()}",
                room,
                text,
                evidence=f"account: {account}\n"
                f"known: {len(entries)} {head.hex()}\n"
                f"shown: {state.seq} {state.head.hex()}",
            )
        )
        raise NodeNonsense(text)


def _read(account: str, entries: list[bytes]) -> AccountState | None:
    try:
        return read_account_log(parse_account(account), entries)
    except IdentityError:
        return None


def _stands_for(answer: AccountLog, state: AccountState) -> bool:
    """Whether the node says that this is all there is."""
    return answer.seq == state.seq and answer.hash == state.head


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
