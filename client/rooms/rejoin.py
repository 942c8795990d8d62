"""Coming back into a room by oneself: the external commit (RFC 9420 12.4.3.2).

A device that lost a room's keys, cannot read a commit, never got its Welcome or was
restored from an old copy reads the log to its end, fetches the group that the hub
holds, checks it as any joiner does and commits itself in, its own old leaf out. The
commit is saved with the group that it leads to before it is sent, and taken up when it
stands in the log: found by its hash, however the answer was lost.

What was sent in between stays encrypted for keys that are gone; `resending` asks for
it. Only where the hub lets nobody in like this are the others asked to do it.
"""

import asyncio
import logging
import random
import secrets
from dataclasses import dataclass
from functools import partial

from client.account.me import Me
from client.clock import Clock
from client.errors import ClientError, NodeNonsense, NodeUnreachable
from client.network.reading import Reading, Uplink
from client.network.refusals import refusal_of, says_later
from client.rooms.changes import ask_soon, may_join_after, request_to_join
from client.rooms.groups import Groups
from client.rooms.settler import note_receipt
from client.rooms.trail import (
    GroupRefused,
    Place,
    check_members,
    check_people,
    check_state,
    jump,
    place_of,
)
from client.storage.heads import check_link, fail_log, has_gap, have, start_log
from client.storage.store import Store, Tx
from client.storage.timeline import LOST_NOTE, Status, set_note, set_status
from e2ee.errors import E2eeError
from protocol.codec import decode, encode
from protocol.errors import NotFound, Refused, StaleEpoch, TelexError, UnknownRoom
from protocol.log import Kind, LogId, make_submission
from protocol.wire import Bundle, GroupState, Tree

__all__ = ["Rejoin", "must_rejoin"]

TRIES = 5
"""External commits that may lose the race against others before the room rests."""

PAUSE = 0.15
"""Seconds that a loser waits at most before its first new try; then twice that."""

ASKED_NOTE = (
    "This device lost the room's keys and asked the others for new ones; what you "
    "write is sent when one of them is online."
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Staged:
    submission: bytes
    bundle: Bundle


class Rejoin:
    """Brings this device back into rooms; one call at a time for each room."""

    def __init__(
        self,
        store: Store,
        uplink: Uplink,
        reading: Reading,
        groups: Groups,
        me: Me,
        clock: Clock,
    ) -> None:
        self._store = store
        self._uplink = uplink
        self._reading = reading
        self._groups = groups
        self._me = me
        self._clock = clock

    async def rejoin(self, room: LogId) -> int:
        """Come back into a room, if there is need.

        Returns:
            Milliseconds to wait until it may be tried; 0 if there is nothing to do.

        Raises:
            Refused, ClientError: not now; it is tried again.
        """
        for lost in range(TRIES):
            if not await self._store.run(
                lambda tx: must_rejoin(tx, self._groups, room)
            ):
                return 0
            staged = await self._store.run(lambda tx: _load(tx, room))
            if staged is None:
                # First what came before: its keys are gone once we have come in anew.
                await self._catch_up(room)
                if not await self._store.run(
                    lambda tx: must_rejoin(tx, self._groups, room)
                ):
                    return 0
                wait = await self._store.run(
                    lambda tx: may_join_after(tx, self._clock, room)
                )
                if wait and not lost:
                    return wait
                try:
                    staged = await self._stage(room)
                except StaleEpoch:
                    await asyncio.sleep(random.uniform(0, PAUSE * 2.0**lost))
                    continue
                if staged is None:
                    return await self._store.run(
                        lambda tx: may_join_after(tx, self._clock, room)
                    )
            if await self._send(room, staged):
                continue
            await asyncio.sleep(random.uniform(0, PAUSE * 2.0**lost))
        raise NodeUnreachable("This room changes too fast to be joined again.")

    async def _catch_up(self, room: LogId) -> None:
        if await self._store.run(lambda tx: have(tx, room)) is not None:
            await self._reading.catch_up(room)

    async def _stage(self, room: LogId) -> _Staged | None:
        """Build the commit and save it; None if others must let us in.

        Raises:
            StaleEpoch: somebody committed while we read the group.
            Refused, ClientError: not now.
        """
        try:
            place = await self._store.run(lambda tx: place_of(tx, room))
            state, tree = await self._fetch(room)
            return await self._store.run(
                lambda tx: self._build(tx, room, state, tree.ratchet_tree, place)
            )
        except (ClientError, StaleEpoch):
            raise
        except GroupRefused as error:
            await self._store.run(partial(self._refuse, room=room, why=error))
        except Refused as error:
            if says_later(error):
                raise
            await self._ask_others(room, error)
        except (E2eeError, TelexError) as error:
            await self._ask_others(room, error)
        return None

    async def _fetch(self, room: LogId) -> tuple[GroupState, Tree]:
        transport = self._uplink.transport
        state = await transport.get(f"/logs/{room}/group", GroupState)
        path = f"/logs/{room}/tree/{state.tree_hash.hex()}"
        try:
            return state, await transport.get(path, Tree)
        except NotFound as error:
            raise StaleEpoch from error  # its tree is the present one's no more

    async def _send(self, room: LogId, staged: _Staged) -> bool:
        """Send the commit; whether it was taken, or refused for good."""
        try:
            receipt = await self._uplink.submit(room, staged.submission, staged.bundle)
            if receipt.state == "rejected":
                raise (
                    Refused()
                    if receipt.problem is None
                    else refusal_of(receipt.problem)
                )
        except StaleEpoch:
            await self._store.run(lambda tx: _unstage(tx, room))
            return False
        except Refused as error:
            if says_later(error):
                raise
            await self._store.run(lambda tx: _unstage(tx, room))
            await self._ask_others(room, error)
            return True
        if receipt.state == "committed":
            await self._store.run(lambda tx: note_receipt(tx, room, receipt))
        await self._reading.wait_for(room, lambda tx: _load(tx, room) is None)
        return True

    async def _ask_others(self, room: LogId, why: Exception) -> None:
        logger.warning("no joining of %s by ourselves: %s", room, type(why).__name__)

        def ask(tx: Tx) -> None:
            now = self._clock.now_ms()
            if isinstance(why, UnknownRoom):
                # An invitation can be here before the room is at our node.
                tx.execute("UPDATE room SET asked = ? WHERE id = ?", now, room)
                ask_soon(tx, room, now)
                return
            self._groups.drop(tx, room)
            set_status(tx, room, Status.ASKED, ASKED_NOTE)
            request_to_join(tx, self._me, self._clock, room)

        await self._store.run(ask)

    def _refuse(self, tx: Tx, room: LogId, why: GroupRefused) -> None:
        """The hub lies: alarm, stay out, and look again in an hour."""
        logger.warning("the group of %s is not joined: %s", room, why.code)
        why.alarm(tx, room)
        set_note(tx, room, str(why))
        tx.execute("UPDATE room SET asked = ? WHERE id = ?", self._clock.now_ms(), room)

    def _build(
        self, tx: Tx, room: LogId, state: GroupState, tree: bytes, place: Place
    ) -> _Staged | None:
        info = state.group_info
        proven = check_state(tx, self._groups, room, info, state.seq, place)
        group, staged = self._groups.join_external(tx, room, info, tree)
        check_people(tx, room, group, str(self._me.account))
        if not proven:
            check_members(tx, room, group.epoch - 1, group.members())
            if has_gap(tx, room):
                jump(tx, self._groups, room)
                set_status(tx, room, Status.ASKED, LOST_NOTE)
        self._check_place(tx, room, state)
        submission = make_submission(
            room,
            str(self._me.device),
            secrets.token_bytes(16),
            Kind.COMMIT,
            staged.commit,
        )
        bundle = Bundle(staged.group_info, [])
        tx.execute(
            "INSERT OR REPLACE INTO staged_join VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            room,
            staged.hash,
            staged.epoch,
            submission,
            encode(bundle),
            staged.encode(),
            group.dump_epoch(),
            group.dump_ratchets(),
        )
        tx.execute("UPDATE room SET asked = ? WHERE id = ?", self._clock.now_ms(), room)
        return _Staged(submission, bundle)

    def _check_place(self, tx: Tx, room: LogId, state: GroupState) -> None:
        """Hold the place that the hub names against the log, or begin there."""
        if state.seq < 1 or len(state.hash) != 32 or len(state.tree_hash) != 32:
            raise NodeNonsense("The hub sent what is no state of a group.")
        known = tx.one("SELECT broken FROM log WHERE id = ?", room)
        if known is None or (not known[0] and has_gap(tx, room)):
            # Nothing was read here before, or nothing more of it is shown.
            start_log(tx, room, state.seq, state.hash)
            return
        seen = (have(tx, room) or 0) >= state.seq
        if not check_link(tx, room, state.seq, state.hash, seen=seen):
            fail_log(tx, room, f"entry {state.seq} is another one now")
            raise NodeNonsense("The hub shows another history than before.")


def must_rejoin(tx: Tx, groups: Groups, room: LogId) -> bool:
    """Whether this device has to come back; notes it if its keys are gone."""
    row = tx.one("SELECT status, rewound FROM room WHERE id = ?", room)
    if row is None or row[0] not in (Status.ACTIVE, Status.ASKED):
        return False
    if row[0] == Status.ASKED or row[1]:
        return True
    group = groups.get(tx, room)
    if group is not None and group.active:
        return False
    groups.drop(tx, room)
    set_status(tx, room, Status.ASKED, LOST_NOTE)
    return True


def _load(tx: Tx, room: LogId) -> _Staged | None:
    row = tx.one("SELECT submission, bundle FROM staged_join WHERE room = ?", room)
    return (
        None if row is None else _Staged(bytes(row[0]), decode(bytes(row[1]), Bundle))
    )


def _unstage(tx: Tx, room: LogId) -> None:
    tx.execute("DELETE FROM staged_join WHERE room = ?", room)
