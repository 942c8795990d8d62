"""The client: an account on this device, its rooms and messages.

This is the one class that applications use; `assembly` puts its parts together.

Reading calls (`rooms`, `messages`) ask the database and never the network.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Sequence
from types import TracebackType
from typing import Self

from client import enrol
from client.account.me import Me
from client.assembly import Assembly
from client.enrol.linking import Linking
from client.event import Event
from client.model import (
    Alarm,
    Connection,
    Message,
    MessageId,
    PersonPresence,
    Position,
    Profile,
    Room,
    RoomMember,
)
from client.presence.chosen import Chosen
from client.rooms import talk
from client.storage.alarms import dismiss, list_alarms
from client.storage.hardening import harden
from client.storage.store import Store
from client.storage.timeline import (
    list_messages,
    list_rooms,
)
from client.text import check_text
from protocol.log import LogId

__all__ = ["Client"]

logger = logging.getLogger(__name__)


class Client(Assembly):
    """An account on this device. `async with` runs it in the background."""

    def __init__(self, profile: Profile, store: Store, me: Me) -> None:
        """Use `register`, `login`, `recover`, `link` or `open`."""
        super().__init__(profile, store, me)
        self._background: asyncio.Task[None] | None = None

    @classmethod
    async def register(
        cls,
        profile: Profile,
        account: str,
        *,
        invite: str,
        password: str,
        device_name: str = "",
        backup: bool = True,
    ) -> tuple[Client, list[str]]:
        """Make an account.

        Args:
            backup: whether its history is kept at the node, sealed by the phrase.

        Returns:
            The client, and the 24 words of the recovery phrase: show them now, they
            are stored nowhere.

        Raises:
            AddressError, BadText: the address or the password cannot be used.
            ProfileExists, ProfileInUse: the folder is taken.
            Refused, ClientError: the node refused, or cannot be reached.
        """
        store, words = await enrol.register(
            profile,
            account,
            invite=invite,
            password=password,
            device_name=device_name,
            backup=backup,
        )
        return await cls._start(profile, store), words

    @classmethod
    async def login(
        cls, profile: Profile, account: str, *, password: str, phrase: str
    ) -> Client:
        """Make this machine a new device of an account that exists.

        Raises:
            AddressError, WrongPhrase: what was typed cannot be right.
            ProfileExists, ProfileInUse: the folder is taken.
            Refused, ClientError: the node refused (`BadLogin`), or cannot be reached.
        """
        store = await enrol.log_in(profile, account, password=password, phrase=phrase)
        return await cls._start(profile, store)

    @classmethod
    async def recover(
        cls,
        profile: Profile,
        account: str,
        *,
        phrase: str,
        password: str,
        device_name: str = "",
    ) -> Client:
        """Come back to an account with its 24 words alone.

        This machine becomes a new device of it, `password` its password from now on;
        all its other devices stay. Rooms are joined again and history comes from the
        backup once the client runs (`RestoreProgress`).

        Raises:
            AddressError, BadText, WrongPhrase: what was typed cannot be right.
            ProfileExists, ProfileInUse: the folder is taken.
            Refused, ClientError: the node refused (`BadRecovery`), or is not there.
        """
        store = await enrol.recover(
            profile, account, phrase=phrase, password=password, device_name=device_name
        )
        return await cls._start(profile, store)

    @classmethod
    def link(
        cls, profile: Profile, account: str, *, password: str, device_name: str = ""
    ) -> Linking[Client]:
        """Make this machine a device of an account that has another one at hand.

        Args:
            password: what the profile on this machine is opened with.

        Returns:
            An async context, open while `request` is shown; `wait` gives the client
            once a device of the account has confirmed (`devices.look`, `approve`).

        Raises:
            AddressError, BadText: what was typed cannot be used.
            ProfileExists: the folder is taken.
        """
        return Linking(profile, account, password, device_name, cls._start)

    @classmethod
    async def open(cls, profile: Profile, *, password: str | None = None) -> Client:
        """Open what was set up here; works without network.

        Args:
            password: None lets the system's keyring open it (`Profile.by_keyring`).

        Raises:
            NoProfile, WrongPassword, ProfileInUse, ProfileDamaged, ProfileTooNew.
            KeyringFailed: the keyring does not; the password still opens it.
        """
        store = await asyncio.to_thread(Store.open, profile.directory, password)
        return await cls._start(profile, store)

    @classmethod
    async def _start(cls, profile: Profile, store: Store) -> Client:
        harden()
        try:
            return cls(profile, store, await store.run(Me.load))
        except BaseException:
            await store.close()
            raise

    async def __aenter__(self) -> Self:
        await self.calls.begin()
        self._background = asyncio.create_task(self.run(), name="telex client")
        self._background.add_done_callback(_report)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def run(self) -> None:
        """Connect, read, send, and again, until cancelled or closed."""
        await self._store.run(self.doctor.read_anew)
        try:
            async with asyncio.TaskGroup() as tasks:
                self._workers.start(tasks)
                tasks.create_task(self._linker.run(), name="linking")
                tasks.create_task(
                    self.backup.run(lambda: self.connection is Connection.ONLINE),
                    name="backup",
                )
                tasks.create_task(self.verification.run(), name="verification")
                tasks.create_task(self._removing.run(), name="removing")
                tasks.create_task(self.presence.run(), name="presence")
                tasks.create_task(self.calls.run(), name="calls")
                await self._sync.run()
        finally:
            self._workers.stop()
            self._connection_changed(Connection.OFFLINE, "Not connected.")

    async def close(self) -> None:
        """Stop everything and close the database; twice does no harm."""
        await self.calls.farewell()
        await self.presence.farewell()
        await self._stop()
        await self._transport.close()
        await self._store.close()
        self._broadcast.close()

    async def _stop(self) -> None:
        task, self._background = self._background, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await task

    async def change_password(self, old: str | None, new: str) -> None:
        """Open this device's database by another password from now on.

        The account's password at the node stays what it is.

        Args:
            old: the one so far; None asks the system's keyring instead.

        Raises:
            BadText: the new one is too short.
            WrongPassword, KeyringFailed: the old one does not open it.
        """
        enrol.check_password(new)
        await self._store.change_password(old, new)

    async def use_keyring(self, on: bool) -> None:
        """Let the system's keyring open the database without typing, or no more.

        The password opens it in either case, so that a lost keyring loses nothing.

        Raises:
            KeyringFailed: there is no keyring, or it refused; nothing changed.
        """
        await self._store.use_keyring(on=on)

    def reconnect(self) -> None:
        """Try to connect now, without waiting for the next attempt."""
        self._sync.hurry()

    def events(self) -> AsyncIterator[Event]:
        """What changes from now on; a slow reader gets newer, fewer events."""
        return self._broadcast.subscribe()

    # --- looking --------------------------------------------------------------

    async def rooms(self) -> list[Room]:
        """All rooms, the one with the newest message first."""
        return await self._store.run(list_rooms)

    async def messages(
        self, room: LogId, *, before: Position | None = None, limit: int = 50
    ) -> list[Message]:
        """The last messages (before a position), oldest first."""
        return await self._store.run(lambda tx: list_messages(tx, room, before, limit))

    async def members(self, room: LogId) -> list[RoomMember]:
        """The accounts in a room, ourselves first; empty once we are out."""
        return await self._rooms.members(room)

    async def alarms(self) -> list[Alarm]:
        """Alarms that were not dismissed, oldest first."""
        return await self._store.run(list_alarms)

    async def dismiss(self, alarm: str) -> None:
        """Show an alarm no more, by its id; it is not raised for the same again.

        Raises:
            UnknownAlarm: there is none.
        """
        await self._store.run(lambda tx: dismiss(tx, alarm))

    # --- messages -------------------------------------------------------------

    async def send_text(
        self, room: LogId, text: str, *, reply_to: MessageId | None = None
    ) -> Message:
        """Store a message and send it as soon as that is possible.

        Raises:
            BadText: it is empty, too long or holds control characters.
            UnknownRoom, RoomInactive: nothing can be written there.
            UnknownMessage: there is no message to answer.
        """
        text = check_text(text)
        message = await self._store.run(
            lambda tx: self._writing.write(tx, room, text, reply_to)
        )
        self._sync.hurry()
        self._workers.poke(room)
        return message

    async def mark_read(self, room: LogId) -> None:
        """Everything in this room was seen."""
        if await self._store.run(lambda tx: self._writing.mark_read(tx, room)):
            self._workers.poke(room, talk.RECEIPT_DELAY)
            self._removing.wake()

    async def delete_message(self, message: MessageId, everyone: bool) -> None:
        """Delete a message here and on our other devices, or for everyone.

        Raises:
            UnknownMessage: there is none.
            NotAllowed, RoomInactive: not for everyone, and why.
        """
        self._workers.poke(
            await self._store.run(
                lambda tx: self._removing.delete(tx, message, everyone=everyone)
            )
        )

    async def set_disappearing(self, room: LogId, seconds: int) -> None:
        """Let messages vanish so long after they were read; 0: they stay.

        Raises:
            BadText: longer than a year.
            UnknownRoom, RoomInactive, NotAllowed: not here, and why.
        """
        await self._store.run(lambda tx: self._removing.set_timer(tx, room, seconds))
        self._workers.poke(room)

    async def set_draft(self, room: LogId, text: str) -> int:
        """Keep what is being written in a room (`Room.draft`), on all our devices.

        Returns:
            Its `Room.draft_time`: what has an earlier one was written before.

        Raises:
            BadText: it is too long to be sent.
            UnknownRoom: there is no such room here.
        """
        return await self._store.run(lambda tx: self._drafts.set_draft(tx, room, text))

    async def set_muted(self, room: LogId, on: bool) -> None:
        """Let a room be quiet (`Room.muted`) on all our devices, or not.

        Raises:
            UnknownRoom: there is no such room here.
        """
        await self._store.run(lambda tx: self._drafts.set_muted(tx, room, on))

    async def retry(self, message: MessageId) -> None:
        """Send a message that failed once more.

        Raises:
            UnknownMessage: it is not one that failed.
        """
        room = await self._store.run(lambda tx: self._writing.retry(tx, message))
        self._workers.poke(room)

    async def discard(self, message: MessageId) -> None:
        """Drop a message that failed, or was not sent yet.

        Raises:
            UnknownMessage: it is on its way or was sent.
        """
        await self._store.run(lambda tx: self._writing.discard(tx, message))

    # --- being there ------------------------------------------------------------

    async def set_presence(self, state: Chosen) -> None:
        """Choose how others see us, on all our devices (`presence` has more)."""
        await self.presence.set_state(state)

    def presence_of(self, account: str) -> PersonPresence:
        """How somebody is, as far as it shows itself to us."""
        return self.presence.of(account)

    def typing(self, room: LogId, on: bool = True) -> None:
        """We type in a room, or have stopped; call it with each key."""
        self.presence.type(room, on)

    # --- rooms ----------------------------------------------------------------

    async def start_direct(self, account: str) -> Room:
        """The direct chat with somebody; makes it if there is none.

        Raises:
            AddressError, BadText: it is no address, or our own.
            Refused, ClientError: there is no such account, or nobody answers.
        """
        return await self._rooms.start_direct(account)

    async def create_group(self, name: str, accounts: Sequence[str]) -> Room:
        """Make a group; nothing is made if one of the accounts cannot be added.

        Raises:
            AddressError, BadText: an address or the name cannot be used.
            Refused, ClientError: somebody cannot be added, or nobody answers.
        """
        return await self._rooms.create_group(name, accounts)

    async def add_members(self, room: LogId, accounts: Sequence[str]) -> None:
        """Bring people into a group.

        Raises:
            RoomInactive, Refused, ClientError: it did not come through, and why.
        """
        await self._rooms.add(room, accounts)

    async def remove_member(self, room: LogId, account: str) -> None:
        """Take somebody out of a group.

        Raises:
            RoomInactive, Refused, ClientError: it did not come through, and why.
        """
        await self._rooms.remove(room, account)

    async def leave(self, room: LogId) -> None:
        """Leave a room; what was said stays readable here.

        Raises:
            UnknownRoom: there is no such room here.
        """
        await self._rooms.leave(room)

    async def set_refuse_unverified(self, room: LogId, on: bool) -> None:
        """Let a room wait with messages while somebody in it is not verified, or not.

        Raises:
            NotAllowed: only admins may, in a group.
            RoomInactive, Refused, ClientError: it did not come through, and why.
        """
        await self._rooms.set_refuse_unverified(room, on)

    async def rename(self, room: LogId, name: str) -> None:
        """Give a group another name.

        Raises:
            BadText, RoomInactive: it cannot have this name.
        """
        await self._rooms.rename(room, name)


def _report(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception() is not None:
        logger.error("the client stopped: %s", type(task.exception()).__name__)
