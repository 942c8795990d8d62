"""The client: an account on this device, its rooms and messages.

This is the one class that applications use. It puts the parts together and owns them:

    storage/   the encrypted database and its thread: keys, rooms, messages
    account/   keys: this device's and other people's
    network/   signed requests to our node, and one session after the other (`sync`)
    rooms/     what comes in (`inbound`), what goes out (`settler`, `posting`)

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
from client.account.contacts import Contacts
from client.account.devices import Devices
from client.account.linker import Linker
from client.account.me import Me
from client.account.self_group import SelfGroup
from client.archive.backup import Backups
from client.broadcast import Broadcast
from client.clock import Clock
from client.doctor.doctor import Doctor
from client.drafts import Drafts
from client.enrol.linking import Linking
from client.errors import RoomInactive, UnknownMessage
from client.model import (
    Alarm,
    Connection,
    ConnectionChanged,
    Event,
    Message,
    MessageId,
    MessageRemoved,
    Position,
    Profile,
    Room,
    RoomMember,
    State,
)
from client.network.reading import Reading, Uplink
from client.network.sync import Sync
from client.network.transport import Signer, Transport
from client.rooms.actions import Rooms
from client.rooms.groups import Groups
from client.rooms.inbound import Inbound
from client.rooms.letters import Letters, Stage
from client.rooms.posting import Posting
from client.rooms.reader import RoomReader
from client.rooms.rejoin import Rejoin
from client.rooms.removing import Removing
from client.rooms.resending import Resending
from client.rooms.settler import Settler
from client.rooms.talk import Talk
from client.rooms.welcomes import Welcomes
from client.rooms.workers import Workers
from client.storage.alarms import dismiss, list_alarms
from client.storage.hardening import harden
from client.storage.store import Store, Tx
from client.storage.timeline import (
    TWIN_NOTE,
    Status,
    events_of,
    get_message,
    is_twin,
    list_messages,
    list_rooms,
)
from client.text import check_text
from client.verification.audit import Audit
from client.verification.verification import Verification
from e2ee import Group
from protocol.errors import UnknownRoom
from protocol.log import LogId

__all__ = ["Client"]

logger = logging.getLogger(__name__)


class Client:
    """An account on this device. `async with` runs it in the background."""

    def __init__(self, profile: Profile, store: Store, me: Me) -> None:
        """Use `register`, `login` or `open`."""
        self.profile = profile
        self.account = str(me.account)
        """`alice@example.org`."""
        self.device = str(me.device)
        """The address of this device."""
        self.connection = Connection.OFFLINE
        self.connection_detail = "Not connected yet."
        """One sentence why it is offline, if it is."""
        self._store = store
        self._broadcast = Broadcast()
        self._me = me
        self._clock = clock = Clock()
        self._groups = groups = Groups(me, clock)
        self._transport = Transport(
            profile, me.account.node, clock, Signer(me.device, me.auth)
        )
        uplink = Uplink(self._transport)
        self._letters = Letters(me, groups)
        self._talk = talk = Talk(me, self._letters, clock)
        welcomes = Welcomes(me, groups, clock)
        reader = RoomReader(me, groups, clock, welcomes, self._letters, talk)
        inbound = Inbound(me, reader, welcomes)
        self.self_group = SelfGroup(me, groups, self._letters, clock)
        reader.changed.append(self.self_group.committed)
        self._workers = Workers(store, talk, me, clock)
        self.self_group.wire(self._workers.poke)
        reading = Reading(store, uplink, inbound, reader, welcomes, self._workers.poke)
        self._reading = reading
        contacts = Contacts(store, self._transport)
        linker = Linker(
            store, self._transport, self.self_group, me, clock, self._workers.poke
        )
        self.devices = Devices(
            store,
            self._transport,
            contacts,
            groups,
            self.self_group,
            linker,
            me,
            clock,
            self._workers.poke,
        )
        """The devices of this account: linking, naming, revoking."""
        self._linker = linker
        contacts.learned.append(self.devices.learned)
        reader.changed.append(linker.committed)
        welcomes.entered = self._entered
        self._drafts = Drafts(self.self_group)
        settler = Settler(store, uplink, reading, contacts, groups, me, clock)
        posting = Posting(store, uplink, reading, self._letters, groups, me)
        rejoin = Rejoin(store, uplink, reading, groups, me, clock)
        self._removing = Removing(
            store, me, groups, self._letters, self.self_group, clock
        )
        reader.changed.append(self._removing.committed)
        resending = Resending(me, groups, self._letters, clock)
        self.doctor = Doctor(
            store,
            groups,
            self._letters,
            rejoin,
            resending,
            self._workers,
            me,
            clock,
            self.reconnect,
        )
        """Says what does not work and why, and repairs it."""
        self._workers.wire(rejoin, resending, settler, posting, self.self_group.flush)
        self._rooms = Rooms(
            store,
            groups,
            self._letters,
            talk,
            reader,
            settler,
            posting,
            self._workers,
            me,
            clock,
        )
        self._audit = Audit(store, self._transport, contacts, groups, me, clock)
        self.verification = Verification(
            store,
            contacts,
            groups,
            self._letters,
            self.self_group,
            self._audit,
            me,
            clock,
            self._workers.poke,
            self.start_direct,
        )
        """Who is who: fingerprints, comparisons, changed keys."""
        self._sync = Sync(
            store,
            uplink,
            reading,
            posting,
            self._workers,
            me,
            clock,
            self._connection_changed,
            self.self_group,
            self.devices,
            contacts,
        )
        self.backup = Backups(
            store,
            self._transport,
            me,
            clock,
            self.self_group,
            lambda event: self._broadcast.publish([event]),
        )
        """Keeps the history at the node, sealed, and brings it back."""
        self._background: asyncio.Task[None] | None = None
        store.before_commit = events_of
        store.publish = self._broadcast.publish

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
                await self._sync.run()
        finally:
            self._workers.stop()
            self._connection_changed(Connection.OFFLINE, "Not connected.")

    async def close(self) -> None:
        """Stop everything and close the database; twice does no harm."""
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

    def _entered(self, tx: Tx, room: LogId, group: Group) -> None:
        self.self_group.entered(tx, room, group)
        self.devices.entered(tx, room, group)
        self._linker.entered(tx)

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

    def _connection_changed(self, connection: Connection, detail: str) -> None:
        self._audit.online(connection is Connection.ONLINE)
        if (connection, detail) != (self.connection, self.connection_detail):
            self.connection, self.connection_detail = connection, detail
            self._broadcast.publish([ConnectionChanged(connection, detail)])

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

        def write(tx: Tx) -> Message:
            row = tx.one("SELECT status, note FROM room WHERE id = ?", room)
            if row is None:
                raise UnknownRoom
            if row[0] not in (Status.ACTIVE, Status.ASKED, Status.CREATING):
                raise RoomInactive(row[1] or "You are not in this room any more.")
            if is_twin(tx, room):
                raise RoomInactive(TWIN_NOTE)
            if reply_to is not None and get_message(tx, reply_to) is None:
                raise UnknownMessage
            id = self._talk.write(tx, room, text, reply_to)
            self._removing.written(tx, room, id)
            self._drafts.sent(tx, room)
            return _found(get_message(tx, id))

        message = await self._store.run(write)
        self._sync.hurry()
        self._workers.poke(room)
        return message

    async def mark_read(self, room: LogId) -> None:
        """Everything in this room was seen."""

        def mark(tx: Tx) -> bool:
            changed = tx.execute(
                "UPDATE room SET read = (SELECT max(seq) FROM message m"
                "  WHERE m.room = room.id)"
                " WHERE id = ? AND read < (SELECT max(seq) FROM message m"
                "  WHERE m.room = room.id)",
                room,
            )
            if changed:
                tx.rooms.add(room)
                self._drafts.seen(tx, room)
            return bool(changed)

        if await self._store.run(mark):
            self._workers.poke(room)
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

    async def set_draft(self, room: LogId, text: str) -> None:
        """Keep what is being written in a room (`Room.draft`), on all our devices.

        Raises:
            BadText: it is too long to be sent.
            UnknownRoom: there is no such room here.
        """
        await self._store.run(lambda tx: self._drafts.set_draft(tx, room, text))

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

        def again(tx: Tx) -> LogId:
            row = tx.one(
                "SELECT n, room FROM outbox WHERE message = ? AND state = ?",
                message,
                Stage.FAILED,
            )
            if row is None:
                raise UnknownMessage
            # The bytes that failed are forgotten: they may be of an old epoch.
            tx.execute(
                "UPDATE outbox SET state = ?, submission = NULL, event_id = NULL,"
                " tries = 0 WHERE n = ?",
                Stage.WAITING,
                row[0],
            )
            tx.execute(
                "UPDATE message SET state = ?, error = '' WHERE id = ?",
                int(State.PENDING),
                message,
            )
            tx.messages[message] = None
            return LogId(row[1])

        self._workers.poke(await self._store.run(again))

    async def discard(self, message: MessageId) -> None:
        """Drop a message that failed, or was not sent yet.

        Raises:
            UnknownMessage: it is on its way or was sent.
        """

        def drop(tx: Tx) -> None:
            row = tx.one(
                "SELECT n, room FROM outbox WHERE message = ? AND state IN (?, ?)",
                message,
                Stage.FAILED,
                Stage.WAITING,
            )
            if row is None:
                raise UnknownMessage
            tx.execute("DELETE FROM outbox WHERE n = ?", row[0])
            tx.execute("DELETE FROM message WHERE id = ?", message)
            tx.rooms.add(LogId(row[1]))
            tx.events.append(MessageRemoved(LogId(row[1]), message))

        await self._store.run(drop)

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


def _found(message: Message | None) -> Message:
    if message is None:
        raise UnknownMessage
    return message


def _report(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception() is not None:
        logger.error("the client stopped: %s", type(task.exception()).__name__)
