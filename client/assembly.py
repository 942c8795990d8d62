"""The parts of a client, put together; `engine` makes an application's tool of them.

storage/       the encrypted database and its thread: keys, rooms, messages
account/       keys: this device's and other people's; the account's own devices
network/       signed requests to our node, one session after the other (`sync`)
rooms/         what comes in (`inbound`), what goes out (`settler`, `posting`)
verification/  who is who, and whether the node lies
archive/       history, sealed: backups, and for devices that are new
presence/      who is there and who types
calls/         who rings whom, and the legs between them
doctor/        what does not work, and what helps
"""

from __future__ import annotations

from collections.abc import Sequence

from client.account.contacts import Contacts
from client.account.devices import Devices
from client.account.linker import Linker
from client.account.me import Me
from client.account.self_group import SelfGroup
from client.archive.backup import Backups
from client.broadcast import Broadcast
from client.calls.calls import Calls
from client.clock import Clock
from client.doctor.doctor import Doctor
from client.drafts import Drafts
from client.event import Event
from client.model import Connection, ConnectionChanged, Profile
from client.network.reading import Reading, Uplink
from client.network.sync import Sync
from client.network.transport import Signer, Transport
from client.presence.presence import Presences
from client.rooms.actions import Rooms
from client.rooms.groups import Groups
from client.rooms.inbound import Inbound
from client.rooms.letters import Letters
from client.rooms.posting import Posting
from client.rooms.reader import RoomReader
from client.rooms.rejoin import Rejoin
from client.rooms.removing import Removing
from client.rooms.resending import Resending
from client.rooms.settler import Settler
from client.rooms.talk import Talk
from client.rooms.welcomes import Welcomes
from client.rooms.workers import Workers
from client.rooms.writing import Writing
from client.storage.store import Store, Tx
from client.storage.timeline import events_of
from client.verification.audit import Audit
from client.verification.verification import Verification
from e2ee import Group
from protocol.log import LogId

__all__ = ["Assembly"]


class Assembly:
    """Everything that works for one account on one device; nothing runs yet."""

    def __init__(self, profile: Profile, store: Store, me: Me) -> None:
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
        self._clock = Clock()
        self._groups = Groups(me, self._clock)
        self._transport = Transport(
            profile, me.account.node, self._clock, Signer(me.device, me.auth)
        )
        self._contacts = Contacts(store, self._transport)
        self._letters = Letters(me, self._groups)
        self._talk = Talk(me, self._letters, self._clock)
        self._workers = Workers(store, self._talk, me, self._clock)
        self._make_self_group()
        self._make_devices()
        self._make_reading()
        self._make_rooms()
        self._make_care()
        store.before_commit = events_of
        store.publish = self._published

    def _make_self_group(self) -> None:
        self.self_group = SelfGroup(self._me, self._groups, self._letters, self._clock)
        """What the account's own devices share."""
        self.self_group.wire(self._workers.poke)
        self._drafts = Drafts(self.self_group)
        self._removing = Removing(
            self._store,
            self._me,
            self._groups,
            self._letters,
            self.self_group,
            self._clock,
        )
        self._writing = Writing(self._talk, self._removing, self._drafts)

    def _make_devices(self) -> None:
        self._linker = Linker(
            self._store,
            self._transport,
            self.self_group,
            self._me,
            self._clock,
            self._workers.poke,
        )
        self.devices = Devices(
            self._store,
            self._transport,
            self._contacts,
            self._groups,
            self.self_group,
            self._linker,
            self._me,
            self._clock,
            self._workers.poke,
        )
        """The devices of this account: linking, naming, revoking."""
        self._contacts.learned.append(self.devices.learned)

    def _make_reading(self) -> None:
        welcomes = Welcomes(self._me, self._groups, self._clock)
        welcomes.entered = self._entered
        self._reader = RoomReader(
            self._me, self._groups, self._clock, welcomes, self._letters, self._talk
        )
        self._reader.changed.append(self.self_group.committed)
        self._reader.changed.append(self.devices.committed)
        self._reader.changed.append(self._linker.committed)
        self._reader.changed.append(self._removing.committed)
        self._uplink = Uplink(self._transport)
        self._reading = Reading(
            self._store,
            self._uplink,
            Inbound(self._me, self._reader, welcomes),
            self._reader,
            welcomes,
            self._workers.poke,
        )

    def _make_rooms(self) -> None:
        store, uplink, reading = self._store, self._uplink, self._reading
        groups, me, clock = self._groups, self._me, self._clock
        settler = Settler(store, uplink, reading, self._contacts, groups, me, clock)
        self._posting = Posting(store, uplink, reading, self._letters, groups, me)
        self._rejoin = Rejoin(store, uplink, reading, groups, me, clock)
        self._resending = Resending(me, groups, self._letters, clock)
        self._workers.wire(
            self._rejoin, self._resending, settler, self._posting, self.self_group.flush
        )
        self._rooms = Rooms(
            store,
            groups,
            self._letters,
            self._talk,
            self._reader,
            settler,
            self._posting,
            self._workers,
            me,
            clock,
        )

    def _make_care(self) -> None:
        store, groups, me, clock = self._store, self._groups, self._me, self._clock
        self._audit = Audit(store, self._transport, self._contacts, groups, me, clock)
        self.verification = Verification(
            store,
            self._contacts,
            groups,
            self._letters,
            self.self_group,
            self._audit,
            me,
            clock,
            self._workers.poke,
            self._rooms.start_direct,
        )
        """Who is who: fingerprints, comparisons, changed keys."""
        self._make_company()
        self._sync = Sync(
            store,
            self._uplink,
            self._reading,
            self._posting,
            self._workers,
            me,
            clock,
            self._connection_changed,
            self.self_group,
            self.devices,
            self._contacts,
            self.presence,
        )
        self.doctor = Doctor(
            store,
            groups,
            self._letters,
            self._rejoin,
            self._resending,
            self._workers,
            me,
            clock,
            self._sync.hurry,
        )
        """Says what does not work and why, and repairs it."""
        self.backup = Backups(
            store,
            self._transport,
            me,
            clock,
            self.self_group,
            lambda event: self._broadcast.publish([event]),
        )
        """Keeps the history at the node, sealed, and brings it back."""

    def _make_company(self) -> None:
        store, me = self._store, self._me
        self.presence = Presences(
            store, self._uplink, self.self_group, me, self._broadcast.publish
        )
        """Who is there, who types, and what others see of us."""
        self._talk.shows_reading = self.presence.choices.shows_reading
        self.calls = Calls(
            store,
            self._letters,
            me,
            self._clock,
            self._transport,
            self._workers.poke,
            self._broadcast.publish,
            lambda: self.presence.choice.state == "dnd",
            lambda: self._sync.hurry(),
        )
        """Calls: what rings and runs here, and what is done with it."""

    def _entered(self, tx: Tx, room: LogId, group: Group) -> None:
        self.self_group.entered(tx, room, group)
        self.devices.entered(tx, room, group)
        self._linker.entered(tx)

    def _published(self, events: Sequence[Event]) -> None:
        self._broadcast.publish(events)
        self.presence.noted(events)
        self.calls.noted(events)

    def _connection_changed(self, connection: Connection, detail: str) -> None:
        self._audit.online(connection is Connection.ONLINE)
        self.presence.connected(connection is Connection.ONLINE)
        self.calls.connected(connection is Connection.ONLINE)
        if (connection, detail) != (self.connection, self.connection_detail):
            self.connection, self.connection_detail = connection, detail
            self._broadcast.publish([ConnectionChanged(connection, detail)])
