"""A client in memory: the same interface as the engine, without keys or network.

It keeps rooms and messages the way the engine does (frozen values, positions that
only grow, an event for each change), so that a screen that works with it needs to
know nothing more of the real one. What the network would do is done by the test:
`hear`, `confirm`, `refuse`, `go`.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Self

from client.errors import RoomInactive, UnknownMessage, WrongPassword
from client.event import Event
from client.model import (
    Alarm,
    Connection,
    ConnectionChanged,
    LinkChanged,
    LinkProgress,
    Message,
    MessageChanged,
    MessageId,
    MessageRemoved,
    Position,
    Profile,
    Quote,
    Room,
    RoomChanged,
    RoomMember,
    State,
    Trust,
)
from client.text import check_text
from protocol.errors import UnknownAccount
from protocol.log import LogId
from protocol.policy import Role
from tests.tui.fake_calls import FakeCalls
from tests.tui.fake_presence import FakePresence
from tests.tui.fake_trust import (
    FakeBackup,
    FakeDevices,
    FakeDoctor,
    FakeLinking,
    FakeVerification,
)

NOON = 1_795_435_200_000
"""A time in milliseconds to count from."""


class FakeClient:
    """An account with rooms that a test fills."""

    def __init__(self, account: str = "alice@example.org", *, now: int = NOON) -> None:
        self.account = account
        self.device = f"{account}/aaaaaaaaaaaaaaaa"
        self.connection = Connection.ONLINE
        self.connection_detail = ""
        self.now = now
        self.known = {"bob@example.org", "carol@example.net", "dora@example.net"}
        """Accounts that exist somewhere."""
        self.asked: list[str] = []
        self.entered = self.closed = False
        self.refuse_next: Exception | None = None
        self.keyring_trouble: Exception | None = None
        self._rooms: dict[LogId, Room] = {}
        self._messages: dict[LogId, list[Message]] = {}
        self._members: dict[LogId, list[RoomMember]] = {}
        self._position = 0
        self._count = 0
        self._listeners: list[asyncio.Queue[Event]] = []
        self._alarms: list[Alarm] = []
        self.devices = FakeDevices(self)
        self.backup = FakeBackup(self)
        self.verification = FakeVerification(self)
        self.doctor = FakeDoctor(self)
        self.presence = FakePresence(self._tell, self.asked)
        self.calls = FakeCalls(self._tell, self.asked)

    # --- what the network and other people do --------------------------------------

    def add_room(
        self,
        title: str,
        members: Sequence[str] = (),
        *,
        direct: bool = False,
        role: Role = Role.OWNER,
    ) -> LogId:
        """A room that was there before."""
        self._count += 1
        room = LogId(f"{self._count:052d}")
        people = [title] if direct else list(members)
        self._members[room] = [
            RoomMember(self.account, role, 1, True),
            *(RoomMember(person, Role.MEMBER, 1, False) for person in people),
        ]
        self._messages[room] = []
        self._rooms[room] = Room(
            id=room,
            title=title,
            direct=direct,
            unread=0,
            last=None,
            members=1 + len(people),
            active=True,
            note="",
            hub="example.org",
            order=self.now,
        )
        return room

    def hear(
        self,
        room: LogId,
        sender: str,
        text: str,
        *,
        reply_to: MessageId | None = None,
        kind: str = "text",
        seen: bool = False,
    ) -> Message:
        """Somebody's message, or a notice, arrives."""
        message = self._make(room, sender, text, reply_to)
        message = replace(
            message,
            state=State.RECEIVED,
            own=False,
            kind="notice" if kind == "notice" else "text",
        )
        return self._keep(message, unread=0 if seen or kind == "notice" else 1)

    def say(self, room: LogId, text: str, state: State = State.READ) -> Message:
        """One's own message from before."""
        return self._keep(replace(self._make(room, self.account, text), state=state))

    def confirm(self, message: MessageId, state: State) -> None:
        """A message of one's own came further."""
        self._change(message, state=state)

    def refuse(self, message: MessageId, reason: str) -> None:
        """A message of one's own was refused."""
        self._change(message, state=State.FAILED, error=reason)

    def go(self, connection: Connection, detail: str = "") -> None:
        """The connection changes."""
        self.connection, self.connection_detail = connection, detail
        self._tell(ConnectionChanged(connection, detail))

    def alarm(
        self, text: str, room: LogId | None = None, code: str = "log_fork"
    ) -> None:
        """Something is badly wrong."""
        alarm = Alarm(room, text, f"alarm-{len(self._alarms)}", code, self.now)
        self._alarms.append(alarm)
        self._tell(alarm)

    def trust(self, account: str, trust: Trust, bad_devices: int = 0) -> None:
        """What one knows of somebody's keys changes."""
        for room, members in self._members.items():
            self._members[room] = [
                replace(one, trust=trust, unverified_devices=bad_devices)
                if one.account == account
                else one
                for one in members
            ]
            others = [one.trust for one in self._members[room] if not one.own]
            if account in [one.account for one in members] and others:
                order = [Trust.CHANGED, Trust.UNVERIFIED, Trust.VERIFIED]
                self._update(room, trust=min(others, key=order.index))

    def change_room(self, room: LogId, **values: object) -> None:
        """Another device, or somebody else, changes a room."""
        self._update(room, **values)

    def tell(self, event: Event) -> None:
        """Any event."""
        self._tell(event)

    def tell_link(self, progress: LinkProgress) -> None:
        """The linking of this device goes on."""
        self._tell(LinkChanged(progress))

    def put(self, message: Message) -> None:
        """A message becomes another one."""
        messages = self._messages[message.room]
        messages[[one.id for one in messages].index(message.id)] = message
        self._tell(MessageChanged(message))

    def all_messages(self, room: LogId) -> list[Message]:
        """Everything in a room."""
        return list(self._messages[room])

    def all_members(self) -> list[RoomMember]:
        """Everybody in every room."""
        return [member for members in self._members.values() for member in members]

    # --- the interface of the engine -------------------------------------------------

    async def __aenter__(self) -> Self:
        self.entered = True
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        self.closed = True

    def reconnect(self) -> None:
        self.asked.append("reconnect")

    async def events(self) -> AsyncIterator[Event]:
        queue: asyncio.Queue[Event] = asyncio.Queue(10_000)
        self._listeners.append(queue)
        try:
            while True:
                yield await queue.get()
        finally:
            self._listeners.remove(queue)

    async def rooms(self) -> list[Room]:
        return sorted(self._rooms.values(), key=lambda room: -room.order)

    async def messages(
        self, room: LogId, *, before: Position | None = None, limit: int = 50
    ) -> list[Message]:
        self.asked.append(f"messages {before} {limit}")
        found = self._messages[room]
        if before is not None:
            found = [message for message in found if message.position < before]
        return found[-limit:]

    async def members(self, room: LogId) -> list[RoomMember]:
        return list(self._members[room])

    async def send_text(
        self, room: LogId, text: str, *, reply_to: MessageId | None = None
    ) -> Message:
        if not self._rooms[room].active:
            raise RoomInactive("You are not in this room any more.")
        if text.startswith(self._rooms[room].draft):
            self._update(room, draft="")
        return self._keep(self._make(room, self.account, check_text(text), reply_to))

    async def start_direct(self, account: str) -> Room:
        self._check(account)
        for room in self._rooms.values():
            if room.direct and room.title == account:
                return room
        room_id = self.add_room(account, direct=True)
        self._tell(RoomChanged(self._rooms[room_id]))
        return self._rooms[room_id]

    async def create_group(self, name: str, accounts: Sequence[str]) -> Room:
        for account in accounts:
            self._check(account)
        room_id = self.add_room(name, accounts)
        self._tell(RoomChanged(self._rooms[room_id]))
        return self._rooms[room_id]

    async def add_members(self, room: LogId, accounts: Sequence[str]) -> None:
        for account in accounts:
            self._check(account)
        self._members[room] += [RoomMember(a, Role.MEMBER, 1, False) for a in accounts]
        self._update(room, members=len(self._members[room]))

    async def remove_member(self, room: LogId, account: str) -> None:
        left = [member for member in self._members[room] if member.account != account]
        self._members[room] = left
        self._update(room, members=len(left))

    async def leave(self, room: LogId) -> None:
        await self.remove_member(room, self.account)
        self._update(room, active=False)

    async def rename(self, room: LogId, name: str) -> None:
        self._update(room, title=name)

    async def mark_read(self, room: LogId) -> None:
        self.asked.append(f"mark_read {room}")
        self._update(room, unread=0)

    async def retry(self, message: MessageId) -> None:
        self.asked.append(f"retry {message}")
        self._change(message, state=State.PENDING, error="")

    async def discard(self, message: MessageId) -> None:
        self.asked.append(f"discard {message}")
        room = self._find(message).room
        self._messages[room] = [m for m in self._messages[room] if m.id != message]
        self._tell(MessageRemoved(room, message))

    async def set_draft(self, room: LogId, text: str) -> int:
        self.asked.append(f"draft {text}")
        self._update(room, draft=text)
        return self._rooms[room].draft_time

    async def set_muted(self, room: LogId, on: bool) -> None:
        self.asked.append(f"muted {on}")
        self._update(room, muted=on)

    async def delete_message(self, message: MessageId, everyone: bool) -> None:
        self.asked.append(f"delete {message} {everyone}")
        room = self._find(message).room
        self._messages[room] = [m for m in self._messages[room] if m.id != message]
        self._tell(MessageRemoved(room, message))

    async def set_disappearing(self, room: LogId, seconds: int) -> None:
        self.asked.append(f"disappearing {seconds}")
        self._update(room, disappearing=seconds)

    async def set_refuse_unverified(self, room: LogId, on: bool) -> None:
        self.asked.append(f"refuse_unverified {on}")
        self._update(room, refuse_unverified=on)

    async def alarms(self) -> list[Alarm]:
        return list(self._alarms)

    async def dismiss(self, alarm: str) -> None:
        self.asked.append(f"dismiss {alarm}")
        self._alarms = [one for one in self._alarms if one.id != alarm]

    async def change_password(self, old: str | None, new: str) -> None:
        if old != "correct horse":
            raise WrongPassword
        self.asked.append(f"password {new}")

    async def use_keyring(self, on: bool) -> None:
        self.asked.append(f"keyring {on}")
        if self.keyring_trouble is not None:
            raise self.keyring_trouble

    # --- inside -----------------------------------------------------------------------

    def _check(self, account: str) -> None:
        if self.refuse_next is not None:
            error, self.refuse_next = self.refuse_next, None
            raise error
        if account not in self.known:
            raise UnknownAccount(f"{account} is not known at its node.")

    def _make(
        self,
        room: LogId,
        sender: str,
        text: str,
        reply_to: MessageId | None = None,
    ) -> Message:
        self._position += 1
        self.now += 1000
        quote = None
        if reply_to is not None:
            try:
                old = self._find(reply_to)
                quote = Quote(old.id, old.sender, old.text)
            except UnknownMessage:
                quote = Quote(reply_to, "", "")
        return Message(
            id=MessageId(f"{self._position:032x}"),
            room=room,
            position=Position(self._position),
            sender=sender,
            device=f"{sender}/aaaaaaaaaaaaaaaa",
            time=self.now,
            kind="text",
            text=text,
            state=State.PENDING,
            own=sender == self.account,
            reply_to=quote,
        )

    def _keep(self, message: Message, unread: int = 0) -> Message:
        self._messages[message.room].append(message)
        self._tell(MessageChanged(message))
        before = self._rooms[message.room].unread
        self._update(
            message.room, last=message, order=message.time, unread=before + unread
        )
        return message

    def _find(self, message: MessageId) -> Message:
        for messages in self._messages.values():
            for one in messages:
                if one.id == message:
                    return one
        raise UnknownMessage

    def _change(self, message: MessageId, **values: object) -> None:
        old = self._find(message)
        new = replace(old, **values)  # type: ignore[arg-type]
        messages = self._messages[old.room]
        messages[messages.index(old)] = new
        self._tell(MessageChanged(new))
        last = self._rooms[old.room].last
        if last is not None and last.id == message:
            self._update(old.room, last=new)

    def _update(self, room: LogId, **values: object) -> None:
        if "draft" in values:
            values.setdefault("draft_time", self._rooms[room].draft_time + 1)
        self._rooms[room] = replace(self._rooms[room], **values)  # type: ignore[arg-type]
        self._tell(RoomChanged(self._rooms[room]))

    def _tell(self, event: Event) -> None:
        for queue in self._listeners:
            queue.put_nowait(event)


WORDS = [f"word{number}" for number in range(1, 25)]


class FakeBackend:
    """What opens accounts; a test says what goes wrong."""

    def __init__(self, client: FakeClient | None = None) -> None:
        self.client = client or FakeClient()
        self.password = "correct horse"
        self.error: Exception | None = None
        self.keyring: Exception | None = None
        """Why the keyring does not open the profile."""
        self.hold: asyncio.Event | None = None
        """Wait for this before answering: something takes long."""
        self.asked: list[dict[str, str]] = []
        self.linking: FakeLinking | None = None

    async def _answer(self, **values: str) -> FakeClient:
        self.asked.append(values)
        if self.hold is not None:
            await self.hold.wait()
        if self.error is not None:
            raise self.error
        return self.client

    async def register(
        self,
        profile: Profile,
        account: str,
        *,
        invite: str,
        password: str,
        device_name: str = "",
    ) -> tuple[FakeClient, list[str]]:
        client = await self._answer(account=account, invite=invite, password=password)
        return client, list(WORDS)

    async def login(
        self, profile: Profile, account: str, *, password: str, phrase: str
    ) -> FakeClient:
        return await self._answer(account=account, password=password, phrase=phrase)

    async def link(
        self, profile: Profile, account: str, *, password: str, device_name: str = ""
    ) -> FakeLinking:
        if self.error is not None:
            raise self.error
        self.asked.append({"account": account, "name": device_name})
        self.linking = FakeLinking(account, self._answer)
        return self.linking

    async def recover(
        self,
        profile: Profile,
        account: str,
        *,
        phrase: str,
        password: str,
        device_name: str = "",
    ) -> FakeClient:
        return await self._answer(account=account, password=password, phrase=phrase)

    async def open(
        self, profile: Profile, *, password: str | None = None
    ) -> FakeClient:
        if password is None and self.keyring is not None:
            raise self.keyring
        if password not in (None, self.password):
            raise WrongPassword
        return await self._answer(password=str(password))
