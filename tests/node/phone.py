"""A node to talk to and a device that talks to it, for tests: real sockets, no client.

`Phone` knows the wire and MLS and nothing else: no outbox, no retries, no database.
"""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

import aiohttp
from msgspec import structs

from e2ee import (
    Extension,
    Group,
    KeyPackageBundle,
    PublicGroup,
    StagedCommit,
    Validator,
    key_package_info,
    new_key_package,
)
from e2ee.member import ALLOW_ALL
from node.app import Node
from protocol.account_log import revoke_device
from protocol.codec import MSGPACK, decode, decode_json, encode
from protocol.errors import Problem, refusal
from protocol.log import (
    Kind,
    LogId,
    RoomSeed,
    group_id,
    mailbox_id,
    make_submission,
    read_entry,
    read_submission,
    room_id,
)
from protocol.policy import TELEX_ROOM, Role, RoomPolicy, RoomValidator, device_of
from protocol.signature import sign_request
from protocol.wire import (
    AccountLog,
    AckFrame,
    AddressedWelcome,
    Bundle,
    Claim,
    Claimed,
    CreateRoom,
    Entries,
    FromNode,
    GroupState,
    KeyPackageCount,
    KeyPackageUpload,
    Ready,
    Receipt,
    Register,
    ResultFrame,
    Submit,
    SubmitFrame,
    Tree,
    WelcomeMail,
)
from tests.helpers.people import Person, Terminal

T = TypeVar("T")


@dataclass
class Room:
    """A room as one device sees it."""

    id: LogId
    group: Group


@dataclass
class Phone:
    """A device, its account and its HTTP session."""

    http: aiohttp.ClientSession
    name: str
    """Of its node."""
    base: str
    person: Person
    terminal: Terminal
    rooms: dict[LogId, Room] = field(default_factory=dict)
    bundles: list[KeyPackageBundle] = field(default_factory=list)

    @property
    def address(self) -> str:
        """The device's address."""
        return str(self.terminal.address)

    @property
    def account(self) -> str:
        """The account's address."""
        return self.person.address

    @property
    def mailbox(self) -> LogId:
        """The account's mailbox."""
        return mailbox_id(self.account)

    # --- requests ---------------------------------------------------------------

    def headers(
        self,
        method: str,
        path: str,
        /,
        query: str = "",
        body: bytes = b"",
        **changes: Any,
    ) -> dict[str, str]:
        """The headers of a signed request; `changes` spoil them."""
        arguments: dict[str, Any] = {
            "method": method,
            "authority": self.name,
            "path": path,
            "query": query,
            "content_type": MSGPACK if body else None,
            "body": body,
            "destination": self.name,
            "keyid": self.address,
            "private_key": self.terminal.auth.seed,
            "created": int(time.time()),
        }
        return sign_request(**(arguments | changes)) | {"Host": self.name}

    async def send(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        *,
        query: str = "",
        headers: dict[str, str] | None = None,
    ) -> tuple[int, str, bytes]:
        """One request: status, content type and body of the answer."""
        if headers is None:
            headers = self.headers(method, path, query, body)
        url = f"{self.base}{path}" + (f"?{query}" if query else "")
        async with self.http.request(
            method, url, data=body or None, headers=headers
        ) as answer:
            return answer.status, answer.content_type, await answer.read()

    async def call(
        self,
        method: str,
        path: str,
        body: object = None,
        answer: type[T] | None = None,
        *,
        query: str = "",
    ) -> T:
        """A request and its answer; a problem is raised as the refusal it is."""
        data = b"" if body is None else encode(body)
        status, kind, content = await self.send(method, path, data, query=query)
        if status != 200:
            assert kind == "application/problem+json", (status, kind, content)
            raise refusal(decode_json(content, Problem))
        return decode(content, cast("type[T]", answer))

    async def register(self, invite: str = "") -> AccountLog:
        """Make the account."""
        body = Register(
            name=self.account.partition("@")[0],
            login_secret=b"s" * 32,
            log=self.person.log,
            invite=invite,
        )
        return await self.call("POST", "/telex/v1/accounts", body, AccountLog)

    async def submit(self, data: bytes, bundle: Bundle | None = None) -> Receipt:
        """Submit over HTTP."""
        log = read_submission(data).log
        return await self.call(
            "POST", f"/telex/v1/logs/{log}/entries", Submit(data, bundle), Receipt
        )

    async def upload_packages(self, count: int = 2) -> KeyPackageCount:
        """Make and upload key packages, and a last-resort one."""
        made = [self.key_package() for _ in range(count)]
        last = self.key_package(last_resort=True)
        body = KeyPackageUpload([b.key_package for b in made], last.key_package)
        self.bundles += [*made, last]
        return await self.call("PUT", "/telex/v1/key-packages", body, KeyPackageCount)

    def key_package(self, *, last_resort: bool = False) -> KeyPackageBundle:
        """A fresh key package."""
        now = int(time.time())
        return new_key_package(
            signature_private=self.terminal.mls.seed,
            identity=self.terminal.credential,
            not_before=now - 3600,
            not_after=now + 30 * 86400,
            last_resort=last_resort,
        )

    async def claim(self, *accounts: str) -> Claimed:
        """Claim key packages."""
        body = Claim(os.urandom(16), list(accounts))
        return await self.call("POST", "/telex/v1/key-packages/claim", body, Claimed)

    # --- rooms ------------------------------------------------------------------

    def room_bytes(self, **changes: Any) -> tuple[bytes, Room]:
        """A `create` submission and the room it makes; `changes` are the policy's."""
        now = int(time.time())
        seed = encode(RoomSeed(1, self.account, os.urandom(16), now * 1000))
        room = room_id(seed)
        policy = RoomPolicy(1, room, False, {self.account: int(Role.OWNER)})
        policy = structs.replace(policy, **changes)
        group = Group.create(
            group_id=group_id(room),
            signature_private=self.terminal.mls.seed,
            identity=self.terminal.credential,
            extensions=[Extension(TELEX_ROOM, policy.encode())],
            now=now,
            validator=RoomValidator(lambda: int(time.time())),
        )
        body = CreateRoom(seed, group.group_info(), group.ratchet_tree())
        data = make_submission(
            room, self.address, os.urandom(16), Kind.CREATE, encode(body)
        )
        return data, Room(room, group)

    async def create_room(self) -> Room:
        """Make a room on the own node."""
        data, room = self.room_bytes()
        receipt = await self.submit(data)
        assert (receipt.state, receipt.seq) == ("committed", 1)
        self.rooms[room.id] = room
        return room

    def message(self, room: Room, text: bytes = b"hello") -> bytes:
        """A submission with an encrypted message."""
        return make_submission(
            room.id,
            self.address,
            os.urandom(16),
            Kind.MESSAGE,
            room.group.encrypt(text),
        )

    def commit(
        self,
        room: Room,
        *,
        add: list[tuple[str, bytes]] | None = None,
        remove: list[str] | None = None,
    ) -> tuple[bytes, Bundle, StagedCommit]:
        """A commit that adds (device, key package) and removes devices."""
        add = add or []
        leaves = [
            member.leaf
            for member in room.group.members()
            if device_of(member.identity) in (remove or [])
        ]
        staged = room.group.commit(
            add=[package for _, package in add], remove=leaves, now=int(time.time())
        )
        devices = {key_package_info(package).ref: device for device, package in add}
        bundle = Bundle(
            staged.group_info,
            [AddressedWelcome(devices[ref], ref, w) for ref, w in staged.welcomes],
        )
        data = make_submission(
            room.id, self.address, os.urandom(16), Kind.COMMIT, staged.commit
        )
        return data, bundle, staged

    async def add(self, room: Room, *accounts: str) -> Receipt:
        """Claim packages of accounts and bring them into a room."""
        claimed = await self.claim(*accounts)
        assert not claimed.failed, claimed.failed
        packages = [(p.device, p.package) for p in claimed.packages]
        data, bundle, staged = self.commit(room, add=packages)
        receipt = await self.submit(data, bundle)
        room.group.apply_own(staged)
        return receipt

    async def join(self, mail: WelcomeMail) -> Room:
        """Join the room of a Welcome, with the tree from the node."""
        path = f"/telex/v1/logs/{mail.room}/tree/{mail.tree_hash.hex()}"
        tree = await self.call("GET", path, None, Tree)
        group = Group.join(
            mail.welcome,
            self.bundles,
            signature_private=self.terminal.mls.seed,
            ratchet_tree=tree.ratchet_tree,
            now=int(time.time()),
            validator=RoomValidator(lambda: int(time.time())),
        )
        room = Room(mail.room, group)
        self.rooms[mail.room] = room
        return room

    async def group_state(self, room: LogId) -> tuple[GroupState, bytes]:
        """A room as it is now, and its tree."""
        path = f"/telex/v1/logs/{room}"
        state = await self.call("GET", f"{path}/group", None, GroupState)
        path = f"{path}/tree/{state.tree_hash.hex()}"
        tree = await self.call("GET", path, None, Tree)
        return state, tree.ratchet_tree

    def external_commit(
        self,
        room: LogId,
        state: tuple[GroupState, bytes],
        *,
        remove: str | None = None,
        validator: Validator | None = None,
    ) -> tuple[bytes, Bundle, Room]:
        """A commit by which this device joins a room, and the room after it.

        `remove` is a device whose leaf goes; a lying client judges by `ALLOW_ALL`.
        """
        rules = validator or RoomValidator(lambda: int(time.time()))
        now, (found, tree) = int(time.time()), state
        public = PublicGroup.create(
            found.group_info, tree, now=now, validator=ALLOW_ALL
        )
        leaves = {device_of(m.identity): m.leaf for m in public.members()}
        group, staged = Group.join_external(
            found.group_info,
            ratchet_tree=tree,
            signature_private=self.terminal.mls.seed,
            identity=self.terminal.credential,
            remove=None if remove is None else leaves[remove],
            validator=rules,
        )
        data = make_submission(
            room, self.address, os.urandom(16), Kind.COMMIT, staged.commit
        )
        return data, Bundle(staged.group_info), Room(room, group)

    async def vault(
        self,
        method: str,
        path: str = "",
        data: bytes = b"",
        *,
        kind: str = "backup",
        media: str = "application/octet-stream",
    ) -> tuple[int, bytes]:
        """A request about vaults: the answer's bytes; a problem is raised."""
        path = f"/telex/v1/vaults{path}"
        query = f"kind={kind}" if data else ""
        headers = self.headers(
            method, path, query, data, content_type=media if data else None
        )
        status, media, content = await self.send(
            method, path, data, query=query, headers=headers
        )
        if status != 200:
            assert media == "application/problem+json", (status, content)
            raise refusal(decode_json(content, Problem))
        return status, content

    async def append_log(self, *entries: bytes) -> AccountLog:
        """Continue the own account's log."""
        path = f"/telex/v1/accounts/{self.account}/log"
        body = AccountLog(self.account, list(entries))
        return await self.call("POST", path, body, AccountLog)

    # --- the WebSocket ----------------------------------------------------------

    @asynccontextmanager
    async def session(self) -> AsyncIterator["Socket"]:
        """A WebSocket session, past its `ready`."""
        path = "/telex/v1/ws"
        async with self.http.ws_connect(
            f"{self.base}{path}", headers=self.headers("GET", path), max_msg_size=0
        ) as connection:
            opened = Socket(connection)
            ready = await opened.receive()
            assert isinstance(ready, Ready) and ready.mailbox == self.mailbox
            yield opened


class Socket:
    """A WebSocket session."""

    def __init__(self, connection: aiohttp.ClientWebSocketResponse) -> None:
        self.connection = connection
        self._results = 0
        self._kept: list[Entries] = []

    async def receive(self, seconds: float = 5) -> FromNode:
        """The next frame."""
        async with asyncio.timeout(seconds):
            message = await self.connection.receive()
        assert message.type is aiohttp.WSMsgType.BINARY, message
        return decode(message.data, cast("type[FromNode]", FromNode))

    async def entries(self, log: LogId, count: int) -> list[bytes]:
        """The next entries of one log; other frames are an error."""
        found: list[bytes] = []
        while len(found) < count:
            frame = self._kept.pop(0) if self._kept else await self.receive()
            assert isinstance(frame, Entries), frame
            if frame.log == log:
                found += frame.entries
        assert len(found) == count
        return found

    async def ack(self, **cursors: int) -> None:
        """Say how far logs are on disk."""
        frame = AckFrame({LogId(log): seq for log, seq in cursors.items()})
        await self.connection.send_bytes(encode(frame))

    async def submit(self, data: bytes, bundle: Bundle | None = None) -> Receipt:
        """Submit and wait for the receipt; entries that come first are kept."""
        self._results += 1
        frame = SubmitFrame(self._results, data, bundle)
        await self.connection.send_bytes(encode(frame))
        while True:
            answer = await self.receive()
            if isinstance(answer, Entries):
                self._kept.append(answer)
            if isinstance(answer, ResultFrame):
                assert answer.id == self._results
                if answer.problem is not None:
                    raise refusal(answer.problem)
                assert answer.receipt is not None
                return answer.receipt


@asynccontextmanager
async def phone(
    node: Node, name: str, *, person: Person | None = None, tls: Any = None
) -> AsyncIterator[Phone]:
    """A device of a (new) account, not registered yet."""
    person = person or Person(f"{name}@{node.settings.name}", now=int(time.time()))
    scheme = "https" if node.settings.tls.cert_file else "http"
    connector = aiohttp.TCPConnector(ssl=tls if tls is not None else True)
    async with aiohttp.ClientSession(connector=connector) as http:
        base = f"{scheme}://127.0.0.1:{node.port}"
        yield Phone(http, node.settings.name, base, person, person.device())


@asynccontextmanager
async def further_phone(
    node: Node, first: Phone, *, tls: Any = None
) -> AsyncIterator[Phone]:
    """Another device of an account, which the first has added to its log."""
    async with phone(node, "", person=first.person, tls=tls) as second:
        await first.append_log(first.person.log[-1])
        yield second


def revocation(first: Phone, gone: Phone) -> bytes:
    """An account log entry that ends a device."""
    person, short = first.person, gone.terminal.address.device
    return revoke_device(person.state, person.ask, short, int(time.time()))


def mail(entry: bytes) -> WelcomeMail:
    """The Welcome in a mailbox's entry."""
    submission = read_submission(read_entry(entry).submission)
    assert submission.kind == Kind.WELCOME
    return decode(submission.body, WelcomeMail)


def body(entry: bytes) -> bytes:
    """What a submission in an entry holds."""
    return read_submission(read_entry(entry).submission).body
