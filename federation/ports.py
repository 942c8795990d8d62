"""What federation needs from the node: Protocols that `node/` implements.

Federation moves bytes between nodes and checks who they are from and that a log's
chain holds. It stores nothing itself and knows nothing of rooms, accounts or MLS:
those lie behind three ports.

- `PeerStore`: one small record for each node that was met (pin, backoff).
- `LogStore`: reading our logs from a peer's cursor, and taking in a peer's logs.
- `Services`: what a peer may ask of us, one method for each endpoint.

Every method is called from one event loop. A method refuses by raising
`protocol.errors.Refused`: the peer gets that problem, of one stream or of the whole
request. Any other exception is a fault of ours: the peer gets 500 and comes again.
"""

import asyncio
import time
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal, Protocol

from aiohttp import web

from protocol.log import LogId
from protocol.presence import PeerPresence, PeerPresenceAnswer
from protocol.wire import (
    AccountLog,
    Claim,
    Claimed,
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

__all__ = [
    "Clock",
    "LogStore",
    "PeerRecord",
    "PeerStore",
    "PendingStream",
    "Services",
    "SystemClock",
    "Trust",
]


class Clock(Protocol):
    """Time as federation sees it, so that a test of a backoff need not sleep."""

    def time(self) -> float:
        """Unix seconds."""

    async def sleep(self, seconds: float) -> None:
        """Wait."""


class SystemClock:
    """The machine's clock."""

    def time(self) -> float:
        """Unix seconds."""
        return time.time()

    async def sleep(self, seconds: float) -> None:
        """Wait, on the event loop's clock."""
        await asyncio.sleep(seconds)


Trust = Literal["new", "ok", "changed"]
"""new: never reached, nothing is pinned. ok: its key log is pinned. changed: it
shows a key log that does not continue the pinned one; all traffic is held."""


@dataclass(frozen=True, slots=True)
class PeerRecord:
    """What is remembered of another node, across restarts.

    Immutable: a change is a new record, written whole by `PeerStore.store_peer`.
    Times are unix seconds; 0 means never.
    """

    name: str
    base_url: str = ""
    """`https://host[:port]` where it answers, from its document."""
    keys: tuple[bytes, ...] = ()
    """Its key log as pinned (`protocol.node_identity`), oldest revision first."""
    pinned_at: float = 0
    fetched_at: float = 0
    """When its document was last read and held."""
    trusted: Trust = "new"
    fails: int = 0
    """Failed attempts to reach it since the last success."""
    failing_since: float = 0
    next_try: float = 0
    """Nothing is pushed before this moment."""
    last_seen: float = 0
    """The last time it answered us, or a request of its own verified."""
    last_error: str = ""
    """One sentence for the admin; empty after a success."""


class PeerStore(Protocol):
    """Durable records of peers, by name."""

    async def get_peer(self, name: str) -> PeerRecord | None:
        """The record, or None for a node that was never met."""

    async def store_peer(self, record: PeerRecord) -> None:
        """Insert or replace the record of `record.name`."""

    async def list_peers(self) -> list[PeerRecord]:
        """Every record."""


@dataclass(frozen=True, slots=True)
class PendingStream:
    """Entries of one of our logs that a peer has not acked: a push's raw material."""

    log: LogId
    after: int
    """The peer's cursor."""
    previous: bytes
    """The chain's hash at `after`."""
    entries: list[bytes]
    """The stored bytes of entries after+1 and on; at least one."""
    head: int
    """The newest seq of the log that this peer may have."""
    term: int
    """Of the last entry here."""
    last_hash: bytes
    """The chain's hash at the last entry here; it is signed as a checkpoint."""
    floor: int = 0
    """Of our outgoing log: entries up to this seq are no longer held."""


class LogStore(Protocol):
    """Our logs as peers read them, and peers' logs as we take them in.

    A peer's cursor in a log is what it last acked. It exists for rooms that we are
    hub of and in which the peer has members (from the entry that brought its first
    member in) and for our outgoing log to that peer.
    """

    async def peers_with_pending(self) -> list[str]:
        """Nodes for which some log has entries beyond their cursor.

        Asked at the start and every 20 s (it catches wakes that were lost), so it
        should cost one indexed query.
        """

    async def pending_streams(
        self,
        peer: str,
        max_entries: int,
        max_bytes: int,
        exclude: Collection[LogId] = (),
    ) -> list[PendingStream]:
        """Read from the peer's cursors what fits into one push.

        Args:
            peer: the node that reads.
            max_entries: entries in all streams together.
            max_bytes: bytes of entries in all streams together; a first entry that
                is larger alone still goes, alone.
            exclude: logs that are on their way in another request, or held.

        Returns:
            At most one stream for each log, each with 1 to
            `protocol.limits.BATCH_ENTRIES` entries; empty when nothing is left.
            Take logs in turns (least recently pushed first), so that a busy room
            cannot keep a quiet one waiting.
        """

    async def record_acks(self, peer: str, acks: list[StreamAck]) -> None:
        """Store how far the peer has our logs, and outcomes of outgoing items.

        Called only with acks without `problem`, for logs that were pushed, with
        seq between 0 and the log's head. An ack below the cursor means that the
        peer lost data (restored a backup): set the cursor back, it drops repeats.
        Outcomes may come more than once; the first final one (committed, rejected)
        stands.
        """

    async def received_cursors(self, peer: str) -> dict[LogId, int]:
        """For `hello`: our heads in the logs that this peer owns (its rooms that we
        hold copies of, and its outgoing log to us)."""

    async def receive_copy(self, peer: str, stream: Stream) -> StreamAck:
        """Store entries of a room that `peer` is hub of.

        Already checked: sizes, the chain from `stream.previous` over the entries to
        the checkpoint, and the checkpoint's signature by the peer's pinned key. Not
        checked: that the log is this peer's, and what is inside the entries.

        With H = our head of the log (a log we do not have yet starts at
        `stream.after`, with `stream.previous` as its hash there):
        - `after` > H, a gap: store nothing, ack H; the hub goes back, or we pull.
        - `after` <= H: skip what we have, append the rest, ack the new head. The
          hash where both overlap must be the same, else raise `LogForked`.
        - an entry that cannot be understood is stored and passed by.
        Ack only what is on disk. Raise `NotAllowed` / `UnknownRoom` for a log that
        is not this peer's to push.
        """

    async def receive_outgoing(self, peer: str, stream: Stream) -> StreamAck:
        """Apply, one by one and in order, what `peer` asks us to append.

        Checked as for `receive_copy`; the log is `outgoing_id(peer, our name)`. Each
        entry's submission goes to its own log (a room of which we are hub, an
        account's mailbox). Overlaps as for `receive_copy`. A log that is not known
        here begins at 0, so that nothing before the stream is passed by: a gap is
        acked with our head (0), and the sender goes back. It cannot go back beyond
        `stream.floor`: where that reaches `stream.after`, the gap is passed by.

        The ack's `outcomes` hold one receipt for every entry of the stream that is
        at or below the acked seq, also for those that were applied before: the ack
        that told so may have been lost. (For the same reason federation acks no
        outgoing log beyond the stream's last entry, even if you have more.) What
        cannot be applied is a `rejected` receipt with its problem and never stops
        the stream.
        """


class Services(Protocol):
    """What a peer may ask of this node. `peer` is authenticated; whether it may ask
    this (it has members in the room, its account is the sender ...) is checked here.
    """

    async def claim(self, peer: str, claim: Claim) -> Claimed:
        """Key packages of accounts of ours."""

    async def account_log(self, peer: str, address: str, after: int) -> AccountLog:
        """Entries after+1 and on of the log of an account of ours."""

    async def submit(self, peer: str, log: LogId, submit: Submit) -> Receipt:
        """Append to a log of ours now (commits); `rejected` or `Refused` otherwise."""

    async def page(self, peer: str, log: LogId, after: int, limit: int) -> Page:
        """Entries of a log of ours that the peer may read, at most `limit` and
        `protocol.limits.BATCH_BYTES`; federation adds the signed checkpoint."""

    async def tree(self, peer: str, log: LogId, tree_hash: str) -> Tree:
        """A ratchet tree of a room of ours by its hash (64 hex digits)."""

    async def group(self, peer: str, log: LogId) -> GroupState:
        """What a device of the peer's accounts joins a room of ours by."""

    async def roster(self, peer: str, log: LogId) -> Roster:
        """To which devices the entries of a room of ours go."""

    async def blob(self, peer: str, request: web.Request) -> web.StreamResponse:
        """The blob that `{blob}` in the request's path names, if an account of ours
        keeps it, streamed as the request's `Range` asks. Not signed: its id, which
        the asker holds it against, is the hash of its bytes."""

    async def presence(self, peer: str, body: PeerPresence) -> PeerPresenceAnswer:
        """Who of the peer's people is there, and who types; who of ours shows itself
        to those that it asks for. Never stored, never waited for."""

    async def hello(self, peer: str, hello: Hello) -> None:
        """The peer is back, and says how far it has our logs.

        Move its cursors there: in rooms back as well as forward (never beyond the
        head), in the outgoing log to it **back only**. An outgoing log moves forward
        by `record_acks` alone, because the outcomes come with the ack: the one that
        the peer sent before it fell over may never have arrived. Logs that are not
        ours or that the peer may not read are passed by."""
