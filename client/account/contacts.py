"""Account logs of people: fetched, checked against what is pinned, and kept.

An account log is kept as far as it was read, so a node that shows a shorter or another
one than before is caught, with both heads as evidence. The node says with each answer
how long the log is and what its chain hashes to: it stands for that with its name.
"""

import asyncio
from collections.abc import Callable, Collection
from datetime import UTC, datetime
from typing import NoReturn

from client.account.logs import read_log
from client.account.me import set_meta
from client.account.vouching import OwnDevices, mark_unvouched, own_devices
from client.errors import KeyChanged, NodeNonsense
from client.network.transport import Transport
from client.storage.alarms import raise_alarm
from client.storage.store import Store, Tx
from client.verification.trust import check_root, own_account
from protocol.account_log import AccountState
from protocol.address import AccountAddress, DeviceAddress, parse_account
from protocol.codec import decode, encode
from protocol.credential import AskCertificate, Credential
from protocol.errors import IdentityError, Malformed
from protocol.log import GENESIS, LogId, chain
from protocol.wire import AccountLog

__all__ = [
    "RECOVERED",
    "WITHHELD",
    "Contacts",
    "check_root",
    "hash_at",
    "known_log",
    "save_account",
]

FETCHES = 4
"""Account logs fetched at one time."""

TIME_MAX = 1 << 36
"""Seconds: the latest time that can be written as one, in the year 4147."""

RECOVERED = "recovered"
"""The alarm: a device of ours was set up with the recovery phrase."""

WITHHELD = "account_log_withheld"
"""The alarm: an account log is shorter or another one than it is known to be."""


def save_account(
    tx: Tx, state: AccountState, entries: list[bytes], added: Collection[str] = ()
) -> None:
    """Keep an account log (all of it) to which we added ourselves, or our first.

    Args:
        added: the devices that our own entries added, by their short ids: this one
            vouches for them. What stood there before, or came from others, it does
            not; in the first log that a device keeps, that is no news to it either.
    """
    _save(tx, state, entries)
    if str(state.account) == own_account(tx):
        before = own_devices(tx)
        seen = before.seen
        if before.ask_serial == 0:
            seen = set(state.devices)
            if added:
                mark_unvouched(tx, state)
        own = OwnDevices(state.ask_serial, seen | {*added}, before.vouched | {*added})
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


def _heed_rotations(tx: Tx, state: AccountState) -> None:
    """Say so if somebody else used our 24 words: they set a new account signing key.

    Whoever sets one comes in with it, so the first device that it certified is that
    one; the next ones need somebody who vouches for them.
    """
    own = own_devices(tx)
    if not 0 < own.ask_serial < state.ask_serial:
        return
    seen, heard = set(own.seen), own.ask_serial
    for short, device in state.devices.items():
        ask = decode(device.ask.payload, AskCertificate)
        if ask.serial <= heard or short in seen:
            continue
        heard = ask.serial
        seen.add(short)
        address = DeviceAddress(state.account, short)
        when = datetime.fromtimestamp(min(max(0, ask.created), TIME_MAX), UTC)
        raise_alarm(
            tx,
            RECOVERED,
            f"{ask.serial} {short}",
            None,
            f"A device was set up with your 24 words at {when:%Y-%m-%d %H:%M} UTC: "
            f"{address}. If that was you, all is well. If not, somebody has your "
            "words: revoke that device now, tell the people you write with, and "
            "move to a new account, for the words of this one cannot be changed.",
            evidence=f"device: {address}\n"
            f"account key: {ask.serial}\naccount log: {state.seq} {state.head.hex()}",
        )
    noted = OwnDevices(state.ask_serial, seen, own.vouched)
    set_meta(tx, "own_devices", encode(noted))


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
            state = await asyncio.to_thread(_read, address, shown)
            if entries and (state is None or not _stands_for(answer, state)):
                # Not the log that we know: look at all of what it is now.
                answer = await self._ask(account, 0)
                shown = answer.entries
                state = await asyncio.to_thread(_read, address, shown)
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
                if account == own_account(tx):
                    _heed_rotations(tx, state)
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


def _read(account: AccountAddress, entries: list[bytes]) -> AccountState | None:
    try:
        return read_log(account, entries)
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
