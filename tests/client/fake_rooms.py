"""Rooms of the fake node: it orders them, and compares epochs.

It checks no signature and no commit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from aiohttp import web

from e2ee import PublicGroup, peek
from protocol.codec import decode, encode
from protocol.errors import NotFound, StaleEpoch, UnknownRoom
from protocol.log import (
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
    Bundle,
    CreateRoom,
    GroupState,
    Page,
    Receipt,
    Rooms,
    RoomState,
    Roster,
    Tree,
    WelcomeMail,
)
from tests.client.fake_state import (
    NAME,
    FakeState,
    Log,
    account_in,
    answer,
    device_in,
)

Lie = Callable[[LogId, int, list[bytes]], list[bytes]]
"""Changes entries that are shown: of which log, behind which seq."""


@dataclass
class FakeRooms(FakeState):
    """Logs of rooms and mailboxes, and how they are read by pages."""

    first_page: dict[LogId, int] = field(default_factory=dict)
    """Pages of a log begin no earlier than behind this seq."""
    lie: Lie = lambda log, after, entries: entries
    """Changes the entries that are shown."""
    lie_to: dict[str, Lie] = field(default_factory=dict)
    """The same, for one device alone."""
    lie_about: Callable[[LogId, Roster], Roster] = lambda room, roster: roster
    """Changes the roster of a room."""

    def __post_init__(self) -> None:
        self.validator = RoomValidator(self.time)

    def room_routes(self, v1: str) -> list[web.RouteDef]:
        """What they answer."""
        one = f"{v1}/logs/{{log}}"
        return [
            web.get(f"{v1}/rooms", self.rooms),
            web.get(f"{one}/entries", self.page),
            web.get(f"{one}/tree/{{hash}}", self.tree),
            web.get(f"{one}/group", self.group),
            web.get(f"{one}/roster", self.roster),
        ]

    def shown(self, device: str, log: LogId, after: int, until: int) -> list[bytes]:
        """Entries of a log, as a device gets to see them."""
        entries = self.lie(log, after, self.logs[log].entries[after:until])
        lie = self.lie_to.get(device)
        return entries if lie is None else lie(log, after, entries)

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

    def take(self, device: str, data: bytes, bundle: Bundle | None) -> Receipt:
        """Put a submission into its log, and do what it says to the group."""
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

    async def rooms(self, request: web.Request) -> web.Response:
        device = device_in(request)
        account = device.partition("/")[0]
        return answer(
            Rooms(
                [
                    RoomState(name, NAME, log.head, self.cursors.get((device, name)))
                    for name, log in self.logs.items()
                    if account in log.members
                ]
            )
        )

    async def page(self, request: web.Request) -> web.Response:
        name = LogId(request.match_info["log"])
        if name not in self.logs:
            raise UnknownRoom
        log, after = self.logs[name], int(request.query["after"])
        after = max(after, self.first_page.get(name, 0))
        limit = int(request.query["limit"])
        entries = self.shown(device_in(request), name, after, after + limit)
        return answer(Page(name, after, log.hashes[after], entries, log.head))

    async def tree(self, request: web.Request) -> web.Response:
        log = self.logs[LogId(request.match_info["log"])]
        found = log.trees.get(request.match_info["hash"])
        if found is None:
            raise NotFound
        return answer(Tree(found))

    async def group(self, request: web.Request) -> web.Response:
        if "group" in self.fail:
            raise self.fail["group"]
        log = self.logs[LogId(request.match_info["log"])]
        if log.group is None or account_in(request) not in log.members:
            raise UnknownRoom
        hashed = log.group.tree_hash
        return answer(
            GroupState(log.head, log.hashes[-1], log.epoch, log.group_info, hashed)
        )

    async def roster(self, request: web.Request) -> web.Response:
        name = LogId(request.match_info["log"])
        log = self.logs[name]
        if log.group is None or account_in(request) not in log.members:
            raise UnknownRoom
        devices = sorted(device_of(m.identity) for m in log.group.members())
        roster = Roster(log.head, devices, sorted(log.members))
        return answer(self.lie_about(name, roster))
