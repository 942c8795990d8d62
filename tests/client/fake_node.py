"""A node in memory that speaks the real wire over real HTTP, and can be told to lie.

It orders rooms, keeps cursors and mailboxes, and compares epochs; it checks no
signature and no commit, so what it takes proves nothing about a node. What a client
is shown by a lying node is tested with it: a real one does not lie.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeVar

import msgspec
from aiohttp import web

from e2ee import PublicGroup, peek
from protocol.account_log import read_account_log
from protocol.address import parse_account
from protocol.codec import MSGPACK, decode, encode, encode_json
from protocol.errors import (
    AccountTaken,
    BadLogin,
    BadRecovery,
    IdentityError,
    LogForked,
    NoKeyPackage,
    NotFound,
    Refused,
    StaleEpoch,
    UnknownAccount,
    UnknownRoom,
)
from protocol.key import verify
from protocol.limits import BATCH_ENTRIES
from protocol.log import (
    GENESIS,
    Entry,
    Kind,
    LogId,
    chain,
    event_id,
    mailbox_id,
    make_submission,
    read_submission,
)
from protocol.policy import RoomValidator, account_of, device_of
from protocol.wire import (
    AccountLog,
    AckFrame,
    AddDevice,
    Bundle,
    Claim,
    Claimed,
    ClaimedPackage,
    CreateRoom,
    Entries,
    FromDevice,
    FromNode,
    GroupState,
    KeyPackageCount,
    KeyPackageUpload,
    Login,
    NodeDocument,
    Page,
    ProblemFrame,
    Ready,
    Receipt,
    Recover,
    Register,
    ResultFrame,
    Rooms,
    RoomState,
    Roster,
    Submit,
    SubmitFrame,
    Tree,
    WelcomeMail,
)
from tests.client.fake_link import FakeLinks
from tests.client.fake_vault import FakeVaults
from tests.helpers.people import key

NAME = "fake.test"
T = TypeVar("T")


@dataclass
class Log:
    """One log: its entries and hashes."""

    entries: list[bytes] = field(default_factory=list)
    hashes: list[bytes] = field(default_factory=lambda: [GENESIS])
    seen: dict[bytes, int] = field(default_factory=dict)
    epoch: int = 0
    members: set[str] = field(default_factory=set)
    trees: dict[str, bytes] = field(default_factory=dict)
    group: PublicGroup | None = None
    group_info: bytes = b""

    @property
    def head(self) -> int:
        return len(self.entries)


@dataclass
class FakeNode:
    """The node; `url` is set while it runs."""

    url: str = ""
    offset: int = 0
    """Seconds by which its clock is ahead."""
    secrets: dict[str, bytes] = field(default_factory=dict)
    accounts: dict[str, list[bytes]] = field(default_factory=dict)
    packages: dict[str, list[bytes]] = field(default_factory=lambda: defaultdict(list))
    last_resort: dict[str, bytes] = field(default_factory=dict)
    logs: dict[LogId, Log] = field(default_factory=lambda: defaultdict(Log))
    cursors: dict[tuple[str, LogId], int] = field(default_factory=dict)
    sockets: dict[str, web.WebSocketResponse] = field(default_factory=dict)
    sent: dict[tuple[str, LogId], int] = field(default_factory=dict)
    fail: dict[str, Refused] = field(default_factory=dict)
    """Answer the next submissions of a kind with this."""
    lose_answers: int = 0
    """Take so many submissions and close the socket instead of answering."""
    pending: bool = False
    """Answer messages as a follower does: `pending`, and append all the same."""
    first_page: dict[LogId, int] = field(default_factory=dict)
    """Pages of a log begin no earlier than behind this seq."""
    lie: Callable[[LogId, int, list[bytes]], list[bytes]] = lambda log, after, e: e
    """Changes the entries that are shown."""
    lie_to: dict[str, Callable[[LogId, int, list[bytes]], list[bytes]]] = field(
        default_factory=dict
    )
    """The same, for one device alone."""

    lie_of: Callable[[str, list[bytes], str], list[bytes]] = lambda a, e, d: e
    """Changes the account log that a device is shown: account, entries, device."""
    lie_about: Callable[[LogId, Roster], Roster] = lambda room, roster: roster
    """Changes the roster of a room."""

    vaults: FakeVaults = field(default_factory=FakeVaults)
    links: FakeLinks = field(default_factory=FakeLinks)

    def __post_init__(self) -> None:
        self.validator = RoomValidator(self.time)

    def time(self) -> int:
        """Unix seconds, by the node's clock."""
        return int(time.time()) + self.offset

    # --- the log -----------------------------------------------------------------

    def append(self, data: bytes) -> Receipt:
        submission = read_submission(data)
        log = self.logs[submission.log]
        id = event_id(data)
        if id not in log.seen:
            entry = encode(Entry(log.head + 1, 1, self.time() * 1000, data))
            log.entries.append(entry)
            log.hashes.append(chain(log.hashes[-1], entry))
            log.seen[id] = log.head
        seq = log.seen[id]
        return Receipt(id, "committed", seq, log.hashes[seq])

    async def submit(self, device: str, data: bytes, bundle: Bundle | None) -> Receipt:
        submission = read_submission(data)
        log = self.logs[submission.log]
        if event_id(data) not in log.seen:
            if submission.kind in self.fail:
                raise self.fail.pop(submission.kind)
            self._check(submission.kind, submission.body, log)
        new = event_id(data) not in log.seen
        receipt = self.append(data)
        if new and submission.kind == Kind.CREATE:
            body = decode(submission.body, CreateRoom)
            log.group = PublicGroup.create(
                body.group_info,
                body.ratchet_tree,
                now=self.time(),
                validator=self.validator,
            )
            log.members.add(device.partition("/")[0])
            log.group_info = body.group_info
            log.trees[log.group.tree_hash.hex()] = body.ratchet_tree
        if new and submission.kind == Kind.PROPOSAL and log.group is not None:
            log.group, _ = log.group.receive_proposal(submission.body)
        if new and submission.kind == Kind.COMMIT and bundle is not None:
            assert log.group is not None
            log.group, _ = log.group.process_commit(
                submission.body, bundle.group_info, now=self.time()
            )
            log.epoch, log.group_info = log.group.epoch, bundle.group_info
            log.trees[log.group.tree_hash.hex()] = log.group.ratchet_tree()
            log.members = {account_of(m.identity) for m in log.group.members()}
            self._welcome(submission.log, log, receipt, bundle)
        await self.flush()
        if self.pending and submission.kind == Kind.MESSAGE:
            return Receipt(receipt.event_id, "pending")
        return receipt

    def _check(self, kind: str, body: bytes, log: Log) -> None:
        if kind not in (Kind.MESSAGE, Kind.COMMIT, Kind.PROPOSAL):
            return
        epoch = peek(body).epoch or 0
        if kind != Kind.MESSAGE and epoch != log.epoch:
            raise StaleEpoch(epoch=log.epoch)
        if kind == Kind.MESSAGE and epoch < log.epoch - 2:
            raise StaleEpoch(epoch=log.epoch)

    def _welcome(self, room: LogId, log: Log, receipt: Receipt, bundle: Bundle) -> None:
        assert receipt.seq is not None and receipt.hash is not None
        for n, welcome in enumerate(bundle.welcomes):
            account = welcome.device.partition("/")[0]
            assert log.group is not None
            mail = WelcomeMail(
                room,
                NAME,
                welcome.device,
                welcome.key_package_ref,
                receipt.seq,
                receipt.hash,
                log.group.tree_hash,
                welcome.welcome,
            )
            txn = receipt.hash[:15] + bytes([n])
            self.append(
                make_submission(
                    mailbox_id(account), NAME, txn, Kind.WELCOME, encode(mail)
                )
            )

    # --- delivery ----------------------------------------------------------------

    async def flush(self) -> None:
        for device in list(self.sockets):
            for reader, log in list(self.cursors):
                if reader == device:
                    await self._stream(device, log)

    async def _stream(self, device: str, name: LogId) -> None:
        at = max(self.sent.get((device, name), 0), self.cursors[device, name])
        log = self.logs[name]
        socket = self.sockets.get(device)
        if socket is None or log.head <= at:
            return
        until = min(log.head, at + BATCH_ENTRIES)  # the rest after the next ack
        self.sent[device, name] = until
        entries = self.lie(name, at, log.entries[at:until])
        entries = self.lie_to.get(device, _honest)(name, at, entries)
        await self._frame(socket, Entries(name, at, entries, log.head))

    async def _frame(self, socket: web.WebSocketResponse, frame: FromNode) -> None:
        if not socket.closed:
            await socket.send_bytes(encode(frame))

    # --- HTTP --------------------------------------------------------------------

    async def well_known(self, request: web.Request) -> web.Response:
        document = NodeDocument(
            NAME, self.url, ["1"], "fake", "open", [key().public], self.time()
        )
        return web.Response(body=encode_json(document), content_type="application/json")

    async def register(self, request: web.Request) -> web.Response:
        body = await _body(request, Register)
        account = f"{body.name}@{NAME}"
        if account in self.accounts:
            raise AccountTaken
        self.accounts[account] = list(body.log)
        self.secrets[account] = body.login_secret
        self.cursors[_keyid(request), mailbox_id(account)] = 0
        return _answer(AccountLog(account, body.log))

    async def login(self, request: web.Request) -> web.Response:
        account = f"{request.match_info['name']}@{NAME}"
        if self.secrets.get(account) != (await _body(request, Login)).login_secret:
            raise BadLogin
        return _answer(AccountLog(account, self.accounts[account]))

    async def add_device(self, request: web.Request) -> web.Response:
        account = f"{request.match_info['name']}@{NAME}"
        self.accounts[account] += (await _body(request, AddDevice)).entries
        self.cursors[_keyid(request), mailbox_id(account)] = 0
        return _answer(AccountLog(account, self.accounts[account]))

    async def recover(self, request: web.Request) -> web.Response:
        account = f"{request.match_info['name']}@{NAME}"
        body = await _body(request, Recover)
        if account not in self.accounts:
            raise BadRecovery
        root = read_account_log(parse_account(account), self.accounts[account]).root
        try:
            verify("recover", root, body.proof.payload, body.proof.signature)
        except IdentityError:
            raise BadRecovery from None
        if body.entries:
            if body.entries[-1] not in self.accounts[account]:
                self.accounts[account] += body.entries
            self.secrets[account] = body.login_secret
            self.cursors[_keyid(request), mailbox_id(account)] = 0
        return _answer(AccountLog(account, self.accounts[account]))

    async def account_log(self, request: web.Request) -> web.Response:
        account = request.match_info["name"]
        parse_account(account)
        if account not in self.accounts:
            raise UnknownAccount
        after = int(request.query.get("after", 0))
        entries = self.lie_of(account, self.accounts[account], _keyid(request))
        return _answer(
            AccountLog(account, entries[after:], len(entries), hash_at(entries))
        )

    async def extend_log(self, request: web.Request) -> web.Response:
        if "renewal" in self.fail:
            raise self.fail.pop("renewal")
        account = request.match_info["name"]
        fresh = (await _body(request, AccountLog)).entries
        try:
            read_account_log(parse_account(account), self.accounts[account] + fresh)
        except IdentityError as error:
            raise LogForked from error
        self.accounts[account] += fresh
        for device in self._devices(account):
            self.cursors.setdefault((device, mailbox_id(account)), 0)
        return _answer(AccountLog(account, self.accounts[account]))

    async def put_packages(self, request: web.Request) -> web.Response:
        body = await _body(request, KeyPackageUpload)
        device = _keyid(request)
        self.packages[device] += body.packages
        if body.last_resort is not None:
            self.last_resort[device] = body.last_resort
        return await self.count_packages(request)

    async def count_packages(self, request: web.Request) -> web.Response:
        device = _keyid(request)
        return _answer(
            KeyPackageCount(len(self.packages[device]), device in self.last_resort)
        )

    async def claim(self, request: web.Request) -> web.Response:
        claim, claimed = await _body(request, Claim), Claimed([])
        for account in claim.accounts:
            before = len(claimed.packages)
            wanted = self._devices(account) - set(claim.skip)
            for device in sorted(wanted):
                stock = self.packages[device]
                package = stock.pop(0) if stock else self.last_resort.get(device)
                if package is not None:
                    last = not stock and package == self.last_resort.get(device)
                    claimed.packages.append(ClaimedPackage(device, package, last))
            if wanted and len(claimed.packages) == before:
                claimed.failed[account] = NoKeyPackage().problem()
        return _answer(claimed)

    def _devices(self, account: str) -> set[str]:
        if account not in self.accounts:
            return set()
        state = read_account_log(parse_account(account), self.accounts[account])
        return set(map(str, state.addresses()))

    async def rooms(self, request: web.Request) -> web.Response:
        device = _keyid(request)
        account = device.partition("/")[0]
        return _answer(
            Rooms(
                [
                    RoomState(name, NAME, log.head, self.cursors.get((device, name)))
                    for name, log in self.logs.items()
                    if account in log.members
                ]
            )
        )

    async def post_entry(self, request: web.Request) -> web.Response:
        body = await _body(request, Submit)
        return _answer(await self.submit(_keyid(request), body.submission, body.bundle))

    async def page(self, request: web.Request) -> web.Response:
        name = LogId(request.match_info["log"])
        if name not in self.logs:
            raise UnknownRoom
        log, after = self.logs[name], int(request.query["after"])
        after = max(after, self.first_page.get(name, 0))
        limit = int(request.query["limit"])
        entries = self.lie(name, after, log.entries[after : after + limit])
        entries = self.lie_to.get(_keyid(request), _honest)(name, after, entries)
        return _answer(Page(name, after, log.hashes[after], entries, log.head))

    async def tree(self, request: web.Request) -> web.Response:
        log = self.logs[LogId(request.match_info["log"])]
        found = log.trees.get(request.match_info["hash"])
        if found is None:
            raise NotFound
        return _answer(Tree(found))

    async def group(self, request: web.Request) -> web.Response:
        if "group" in self.fail:
            raise self.fail["group"]
        log = self.logs[LogId(request.match_info["log"])]
        if log.group is None or _account(request) not in log.members:
            raise UnknownRoom
        hashed = log.group.tree_hash
        return _answer(
            GroupState(log.head, log.hashes[-1], log.epoch, log.group_info, hashed)
        )

    async def roster(self, request: web.Request) -> web.Response:
        name = LogId(request.match_info["log"])
        log = self.logs[name]
        if log.group is None or _keyid(request).partition("/")[0] not in log.members:
            raise UnknownRoom
        devices = sorted(device_of(m.identity) for m in log.group.members())
        roster = Roster(log.head, devices, sorted(log.members))
        return _answer(self.lie_about(name, roster))

    async def socket(self, request: web.Request) -> web.WebSocketResponse:
        device = _keyid(request)
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self.sockets[device] = socket
        for reader, log in list(self.sent):
            if reader == device:
                del self.sent[reader, log]
        mailbox = mailbox_id(device.partition("/")[0])
        await self._frame(socket, Ready(self.time(), mailbox))
        await self.flush()
        try:
            async for message in socket:
                frame = msgspec.msgpack.decode(message.data, type=FromDevice)
                await self._handle(device, socket, frame)
        finally:
            if self.sockets.get(device) is socket:
                del self.sockets[device]
        return socket

    async def _handle(
        self, device: str, socket: web.WebSocketResponse, frame: FromDevice
    ) -> None:
        match frame:
            case AckFrame(cursors):
                for log, seq in cursors.items():
                    before = self.cursors.get((device, log), 0)
                    self.cursors[device, log] = max(seq, before)
                await self.flush()
            case SubmitFrame(id, submission):
                try:
                    receipt = await self.submit(device, submission, None)
                except Refused as error:
                    await self._frame(socket, ResultFrame(id, problem=error.problem()))
                    return
                if self.lose_answers:
                    self.lose_answers -= 1
                    await socket.close()
                    return
                await self._frame(socket, ResultFrame(id, receipt))
            case _:
                await self._frame(socket, ProblemFrame(Refused().problem()))

    def app(self) -> web.Application:
        app = web.Application(middlewares=[_problems], client_max_size=1 << 24)
        v1 = "/telex/v1"
        app.router.add_get("/.well-known/telex", self.well_known)
        app.router.add_post(f"{v1}/accounts", self.register)
        app.router.add_post(f"{v1}/accounts/{{name}}/login", self.login)
        app.router.add_post(f"{v1}/accounts/{{name}}/devices", self.add_device)
        app.router.add_get(f"{v1}/accounts/{{name}}/log", self.account_log)
        app.router.add_post(f"{v1}/accounts/{{name}}/log", self.extend_log)
        app.router.add_put(f"{v1}/key-packages", self.put_packages)
        app.router.add_get(f"{v1}/key-packages", self.count_packages)
        app.router.add_post(f"{v1}/key-packages/claim", self.claim)
        app.router.add_post(f"{v1}/accounts/{{name}}/recover", self.recover)
        app.add_routes(self.vaults.routes(v1))
        app.add_routes(self.links.routes(v1))
        app.router.add_get(f"{v1}/rooms", self.rooms)
        app.router.add_post(f"{v1}/logs/{{log}}/entries", self.post_entry)
        app.router.add_get(f"{v1}/logs/{{log}}/entries", self.page)
        app.router.add_get(f"{v1}/logs/{{log}}/tree/{{hash}}", self.tree)
        app.router.add_get(f"{v1}/logs/{{log}}/group", self.group)
        app.router.add_get(f"{v1}/logs/{{log}}/roster", self.roster)
        app.router.add_get(f"{v1}/ws", self.socket)
        return app


def _honest(log: LogId, after: int, entries: list[bytes]) -> list[bytes]:
    return entries


@asynccontextmanager
async def running(
    node: FakeNode | None = None, port: int = 0
) -> AsyncIterator[FakeNode]:
    """A fake node (or the one from before) on a port (or a free one)."""
    node = node or FakeNode()
    runner = web.AppRunner(node.app(), shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port, reuse_address=True)
    await site.start()
    port = runner.addresses[0][1]
    node.url = f"http://127.0.0.1:{port}"
    try:
        yield node
    finally:
        for socket in list(node.sockets.values()):
            await socket.close()
        await runner.cleanup()


@web.middleware
async def _problems(
    request: web.Request,
    handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
) -> web.StreamResponse:
    try:
        return await handler(request)
    except Refused as error:
        return web.Response(
            status=error.status,
            body=encode_json(error.problem()),
            content_type="application/problem+json",
        )


async def _body(request: web.Request, kind: type[T]) -> T:
    return decode(await request.read(), kind)


def hash_at(entries: list[bytes]) -> bytes:
    """The chain's hash over an account log."""
    head = GENESIS
    for entry in entries:
        head = chain(head, entry)
    return head


def _answer(value: object) -> web.Response:
    return web.Response(body=encode(value), content_type=MSGPACK)


def _account(request: web.Request) -> str:
    return _keyid(request).partition("/")[0]


def _keyid(request: web.Request) -> str:
    """The device that says that it signed; nothing is checked."""
    return request.headers["Signature-Input"].partition('keyid="')[2].partition('"')[0]
