"""An honest implementation of federation's ports in memory.

It outlives the `Federation` that uses it, as a database does, so a test can stop one
and start another on the same store. It checks what the ports promise: a gap, a fork
or a repeat is handled as `federation.ports` says.
"""

import asyncio
from collections.abc import Collection
from dataclasses import dataclass, field

from aiohttp import web

from federation.ports import PeerRecord, PendingStream
from protocol.codec import encode
from protocol.errors import (
    LogForked,
    Malformed,
    NotAllowed,
    Problem,
    Refused,
    UnknownAccount,
    UnknownBlob,
    UnknownRoom,
)
from protocol.limits import BATCH_ENTRIES
from protocol.log import (
    GENESIS,
    Entry,
    Kind,
    LogId,
    chain,
    event_id,
    make_submission,
    outgoing_id,
    read_entry,
    read_submission,
    room_id,
)
from protocol.presence import PeerPresence, PeerPresenceAnswer
from protocol.wire import (
    AccountLog,
    Claim,
    Claimed,
    ClaimedPackage,
    GroupState,
    Hello,
    Page,
    Receipt,
    Roster,
    Stream,
    StreamAck,
    Submit,
    Tree,
)

__all__ = ["Log", "MemoryStore"]


@dataclass
class Log:
    """Entries from some seq on, and the hash after each."""

    owner: str
    base: int = 0
    hashes: list[bytes] = field(default_factory=lambda: [GENESIS])
    entries: list[bytes] = field(default_factory=list)

    @property
    def head(self) -> int:
        return self.base + len(self.entries)

    def hash_at(self, seq: int) -> bytes:
        return self.hashes[seq - self.base]

    def add(self, entry: bytes) -> None:
        self.hashes.append(chain(self.hashes[-1], entry))
        self.entries.append(entry)

    def after(self, seq: int, limit: int) -> list[bytes]:
        start = seq - self.base
        return self.entries[start : start + limit]


class MemoryStore:
    """`PeerStore`, `LogStore` and `Services` of one node."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.peers: dict[str, PeerRecord] = {}
        self.logs: dict[LogId, Log] = {}
        self.copies: dict[LogId, Log] = {}
        self.cursors: dict[tuple[str, LogId], int] = {}
        self.receipts: dict[bytes, Receipt] = {}
        self.outcomes: dict[bytes, Receipt] = {}
        self.hellos: list[tuple[str, Hello]] = []
        self.turn: dict[LogId, int] = {}
        self.calls = 0
        """Writes that changed something: a refused request must not move it."""

    # --- what a test does ----------------------------------------------------

    def room(self, seed: str, peers: Collection[str], start: int = 0) -> LogId:
        """A room of ours that these peers follow from `start` on."""
        log = room_id(seed.encode())
        self.logs.setdefault(log, Log(self.name))
        for peer in peers:
            self.cursors[peer, log] = start
        return log

    def append(self, log: LogId, *bodies: bytes) -> None:
        for body in bodies:
            self._append(log, self.submission(log, body))

    def submission(self, log: LogId, body: bytes) -> bytes:
        txn = len(self.logs.get(log, Log("")).entries).to_bytes(16, "big")
        sender = f"alice@{self.name}/aaaaaaaaaaaaaaaa"
        return make_submission(log, sender, txn, Kind.MESSAGE, body)

    def send_out(self, peer: str, submission: bytes) -> bytes:
        """Put a submission into the outgoing log for a peer; its event id."""
        log = outgoing_id(self.name, peer)
        self.logs.setdefault(log, Log(self.name))
        self.cursors.setdefault((peer, log), 0)
        self._append(log, submission)
        return event_id(submission)

    def _append(self, log: LogId, submission: bytes) -> int:
        own = self.logs[log]
        own.add(encode(Entry(own.head + 1, 1, 0, submission)))
        return own.head

    # --- PeerStore -----------------------------------------------------------

    async def get_peer(self, name: str) -> PeerRecord | None:
        await asyncio.sleep(0)
        return self.peers.get(name)

    async def store_peer(self, record: PeerRecord) -> None:
        await asyncio.sleep(0)
        self.peers[record.name] = record

    async def list_peers(self) -> list[PeerRecord]:
        await asyncio.sleep(0)
        return list(self.peers.values())

    # --- LogStore: ours ------------------------------------------------------

    async def peers_with_pending(self) -> list[str]:
        await asyncio.sleep(0)
        return sorted(
            {p for (p, log), seq in self.cursors.items() if seq < self.logs[log].head}
        )

    async def pending_streams(
        self,
        peer: str,
        max_entries: int,
        max_bytes: int,
        exclude: Collection[LogId] = (),
    ) -> list[PendingStream]:
        await asyncio.sleep(0)
        mine = [log for p, log in self.cursors if p == peer and log not in exclude]
        found: list[PendingStream] = []
        for log in sorted(mine, key=lambda log: self.turn.get(log, 0)):
            own, after = self.logs[log], self.cursors[peer, log]
            entries: list[bytes] = []
            for entry in own.after(after, min(BATCH_ENTRIES, max_entries)):
                if len(entry) > max_bytes and (found or entries):
                    break
                max_bytes -= len(entry)
                entries.append(entry)
            max_entries -= len(entries)
            if entries:
                last = after + len(entries)
                self.turn[log] = max(self.turn.values(), default=0) + 1
                found.append(
                    PendingStream(
                        log=log,
                        after=after,
                        previous=own.hash_at(after),
                        entries=entries,
                        head=own.head,
                        term=1,
                        last_hash=own.hash_at(last),
                    )
                )
        return found

    async def record_acks(self, peer: str, acks: list[StreamAck]) -> None:
        await asyncio.sleep(0)
        for ack in acks:
            assert ack.problem is None
            assert 0 <= ack.seq <= self.logs[ack.log].head
            self.cursors[peer, ack.log] = ack.seq
            for receipt in ack.outcomes:
                self.outcomes.setdefault(receipt.event_id, receipt)

    # --- LogStore: theirs ----------------------------------------------------

    async def received_cursors(self, peer: str) -> dict[LogId, int]:
        await asyncio.sleep(0)
        return {i: log.head for i, log in self.copies.items() if log.owner == peer}

    async def receive_copy(self, peer: str, stream: Stream) -> StreamAck:
        await asyncio.sleep(0)
        if stream.log in self.logs:
            raise NotAllowed("This room is ours.")
        self._store(peer, stream)
        return StreamAck(stream.log, self.copies[stream.log].head)

    async def receive_outgoing(self, peer: str, stream: Stream) -> StreamAck:
        await asyncio.sleep(0)
        copy = self._store(peer, stream, whole=True)
        last = stream.after + len(stream.entries)
        outcomes = [
            self._apply(peer, entry) for entry in copy.entries[stream.after : last]
        ]
        return StreamAck(stream.log, copy.head, outcomes)

    def _store(self, peer: str, stream: Stream, whole: bool = False) -> Log:
        copy = self.copies.get(stream.log)
        if copy is None:
            base, digest = (0, GENESIS) if whole else (stream.after, stream.previous)
            copy = self.copies[stream.log] = Log(peer, base, [digest])
            self.calls += 1
        if copy.owner != peer:
            raise NotAllowed("This room has another hub.")
        if not copy.base <= stream.after <= copy.head:
            return copy
        if copy.hash_at(stream.after) != stream.previous:
            raise LogForked()
        digest = stream.previous
        for seq, entry in enumerate(stream.entries, stream.after + 1):
            digest = chain(digest, entry)
            if seq <= copy.head:
                if copy.hash_at(seq) != digest:
                    raise LogForked()
            else:
                copy.add(entry)
                self.calls += 1
        return copy

    def _apply(self, peer: str, data: bytes) -> Receipt:
        """Append what an outgoing entry asks for; once, whatever happens."""
        try:
            submission = read_entry(data).submission
            name = event_id(submission)
        except Malformed as error:
            return Receipt(
                event_id(data), "rejected", problem=Problem("bad", str(error), 400)
            )
        known = self.receipts.get(name)
        if known is None:
            known = self.receipts[name] = self._decide(submission, name)
            self.calls += 1
        return known

    def _decide(self, submission: bytes, name: bytes) -> Receipt:
        try:
            log = read_submission(submission).log
            if log not in self.logs:
                raise UnknownRoom()
        except Malformed as error:
            return Receipt(name, "rejected", problem=Problem("bad", str(error), 400))
        except Refused as error:
            return Receipt(name, "rejected", problem=error.problem())
        seq = self._append(log, submission)
        return Receipt(name, "committed", seq, self.logs[log].hash_at(seq))

    # --- Services ------------------------------------------------------------

    async def claim(self, peer: str, claim: Claim) -> Claimed:
        failed = {a: UnknownAccount().problem() for a in claim.accounts if a[0] == "x"}
        packages = [
            ClaimedPackage(f"{account}/aaaaaaaaaaaaaaaa", peer.encode())
            for account in claim.accounts
            if account not in failed
        ]
        self.calls += 1
        return Claimed(packages, failed)

    async def account_log(self, peer: str, address: str, after: int) -> AccountLog:
        if address.startswith("nobody@"):
            raise UnknownAccount()
        return AccountLog(address, [b"one", b"two", b"three"][after:])

    async def submit(self, peer: str, log: LogId, submit: Submit) -> Receipt:
        if log not in self.logs:
            raise UnknownRoom()
        self.calls += 1
        return self._decide(submit.submission, event_id(submit.submission))

    async def page(self, peer: str, log: LogId, after: int, limit: int) -> Page:
        own = self.logs.get(log)
        if own is None:
            raise UnknownRoom()
        after = min(after, own.head)
        entries = own.after(after, limit)
        return Page(log, after, own.hash_at(after), entries, own.head)

    async def tree(self, peer: str, log: LogId, tree_hash: str) -> Tree:
        if tree_hash == "0" * 64:
            raise RuntimeError("planted-word")
        return Tree(bytes.fromhex(tree_hash))

    async def group(self, peer: str, log: LogId) -> GroupState:
        own = self.logs.get(log)
        if own is None:
            raise UnknownRoom()
        return GroupState(own.head, own.hashes[-1], 1, b"info", bytes(32))

    async def presence(self, peer: str, body: PeerPresence) -> PeerPresenceAnswer:
        return PeerPresenceAnswer(body.run)

    async def roster(self, peer: str, log: LogId) -> Roster:
        own = self.logs.get(log)
        if own is None:
            raise UnknownRoom()
        return Roster(own.head, [], [f"alice@{peer}"])

    async def blob(self, peer: str, request: web.Request) -> web.StreamResponse:
        raise UnknownBlob()

    async def hello(self, peer: str, hello: Hello) -> None:
        self.hellos.append((peer, hello))
        for log, seq in hello.cursors.items():
            cursor = self.cursors.get((peer, log))
            if cursor is None or seq > self.logs[log].head:
                continue
            if log != outgoing_id(self.name, peer) or seq < cursor:
                self.cursors[peer, log] = seq
