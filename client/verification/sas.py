"""Comparing short strings with another person's device: the steps, kept in a table.

The one direct room of two people carries it, so all of their devices read the same
steps in the same order, and the room's order decides whatever is a race: of two that
begin at once the first in the log counts, for both; of two devices of one person that
accept, the first takes part and the other stops. Each device keeps one live row for a
room, also for what its sibling does.

What the strings are made of (`fingerprint.SasContext`): the ephemeral keys, both roots
and devices, and, at the entry that carried the request, the hash of the room's log and
the group's epoch authenticator. Both sides take these two at that very entry, so it
does not matter how many epochs pass until they compare. A hub that shows the two
different histories, or somebody who is one of them to the other, shows in the strings.

A try that got as far as the keys and was not agreed on counts, whoever ended it:
somebody in between who sees that the strings will not match could simply hang up.
After three of them nothing can be tried with that person for an hour.
"""

import hmac
import secrets
from collections.abc import Callable

from client.account.me import Me
from client.clock import Clock
from client.content.verifying import (
    END_CODES,
    SasAccept,
    SasAgree,
    SasAsk,
    SasEnd,
    SasReveal,
)
from client.errors import KeyChanged, SasRefused
from client.model import Sas, Trust
from client.rooms.groups import Groups
from client.rooms.letters import Arrival, Letters
from client.storage.store import Tx
from client.verification.comparison import (
    Role,
    by_session,
    failures,
    insert,
    select,
    shown,
    update,
)
from client.verification.rules import SAS_WORD
from client.verification.steps import PAUSE, TIMEOUT, TRIES, Steps, private_of
from client.verification.trust import known, trust_of
from protocol.fingerprint import (
    sas_commitment,
    sas_public,
)
from protocol.log import Entry, LogId

__all__ = ["Comparisons"]


class Comparisons(Steps):
    """The comparisons of this device; all state is in the database."""

    def __init__(
        self,
        me: Me,
        groups: Groups,
        letters: Letters,
        clock: Clock,
        poke: Callable[[LogId], None],
        trusted: Callable[[Tx, str], None],
    ) -> None:
        super().__init__(me, groups, letters, clock, poke, trusted)
        letters.on(SasAsk, self._asked)
        letters.on(SasAccept, self._accepted)
        letters.on(SasReveal, self._revealed)
        letters.on(SasAgree, self._agreed)
        letters.on(SasEnd, self._ended)
        letters.on_own(SasAsk, self._own_ask)
        letters.on_own(SasAccept, self._own_accept)

    # --- what people do -------------------------------------------------------------

    def start(self, tx: Tx, account: str, room: LogId) -> Sas:
        """Begin, or go on with what the two have begun already.

        Raises:
            KeyChanged: their keys changed, and it is not decided what counts.
            SasRefused: too many tries failed, or another device of ours is at it.
        """
        if trust_of(tx, account) is Trust.CHANGED:
            raise KeyChanged(
                f"The keys of {account} changed: accept the new key or keep the old "
                "one first, then compare."
            )
        live = self._live(tx, room)
        if live is not None:
            if live.role == Role.SIBLING:
                raise SasRefused(
                    f"Another device of yours is comparing with {account} right now: "
                    "go on there, or wait until it has ended."
                )
            if live.stage == "asked":
                return self.accept(tx, live.id)
            return shown(live)
        self._check_pause(tx, account)
        state = known(tx, account)
        if state is None:
            raise SasRefused(f"Nothing is known of the keys of {account} yet.")
        session, private = secrets.token_bytes(16), secrets.token_bytes(32)
        row = insert(
            tx,
            session=session,
            room=room,
            account=account,
            role=Role.INITIATOR,
            stage="waiting",
            private=private,
            root=state.root,
            began=self._clock.now_ms(),
            detail=f"Waiting for {account} to take part.",
        )
        public = sas_public(private)
        ask = SasAsk(session, sas_commitment(session, self._device, public))
        self._say(tx, row, ask)
        return shown(row)

    def accept(self, tx: Tx, id: str) -> Sas:
        """Take part in what the other one asked for.

        Raises:
            SasRefused: it is over, or was not asked.
        """
        row = self._get(tx, id, "asked")
        private = secrets.token_bytes(32)
        self._say(tx, row, SasAccept(row.session, sas_public(private)))
        row = update(
            tx,
            row,
            stage="waiting",
            private=private,
            detail=f"Waiting for the device of {row.account}.",
        )
        return shown(row)

    def agree(self, tx: Tx, id: str) -> Sas:
        """The strings are the same on both screens.

        Raises:
            SasRefused: there is nothing to agree on (any more).
        """
        row = self._get(tx, id, "compare")
        self._say(tx, row, SasAgree(row.session))
        if row.agreed:
            return self._finish(tx, row)
        row = update(
            tx,
            row,
            stage="agreed",
            detail=f"Waiting for {row.account} to say that the two are the same.",
        )
        return shown(row)

    def refuse(self, tx: Tx, id: str) -> Sas:
        """Not now; or, once there are strings: they are not the same.

        Raises:
            SasRefused: it is over already.
        """
        row = self._get(tx, id, "asked", "waiting", "compare", "agreed")
        code = {"asked": "declined", "waiting": "cancelled"}.get(row.stage, "mismatch")
        sent = self._withdraw(tx, row)
        if sent:
            self._say(tx, row, SasEnd(row.session, code))
        if code == "mismatch":
            return self._fail(tx, row, code)
        return self._end(tx, row, "refused", code, "You ended it.")

    def get(self, tx: Tx, id: str) -> Sas | None:
        """One comparison."""
        row = next(iter(select(tx, "id = ? AND role != 'sibling'", id)), None)
        return None if row is None else shown(row)

    def live(self, tx: Tx) -> list[Sas]:
        """Those that are going on."""
        rows = select(tx, "NOT ended AND role != 'sibling' ORDER BY began")
        return [shown(row) for row in rows]

    # --- what the log brings ----------------------------------------------------------

    def _own_ask(self, tx: Tx, body: SasAsk, room: LogId, entry: Entry) -> None:
        row = by_session(tx, room, body.session)
        if row is None or row.role != Role.INITIATOR:
            return  # it ended, or somebody else's came first and took its place
        update(tx, row, began=self._said(entry), **self._place(tx, room, entry))

    def _own_accept(self, tx: Tx, body: SasAccept, room: LogId, entry: Entry) -> None:
        row = by_session(tx, room, body.session)
        if row is not None and row.role == Role.RESPONDER:
            update(tx, row, accepted=1)

    def _asked(self, tx: Tx, body: SasAsk, arrival: Arrival) -> None:
        room, entry = arrival.room, arrival.entry
        said, other = self._said(entry), self._other(tx, arrival)
        if other is None:
            return
        for row in select(tx, "room = ? AND NOT ended AND seq NOT NULL", room):
            if said - row.began <= TIMEOUT:
                return  # one is going on; it came first
            self._end(tx, row, "failed", "timeout", "Another one was begun instead.")
        mine = next(iter(select(tx, "room = ? AND NOT ended", room)), None)
        state = known(tx, other)
        if state is None or self._clock.now_ms() - said > TIMEOUT:
            return  # from before; whoever asked gave up
        place = {
            "session": body.session,
            "device": arrival.device,
            "began": said,
            **self._place(tx, room, entry),
        }
        if mine is not None:
            self._withdraw(tx, mine)
        if arrival.account == self._me:
            if mine is not None:
                self._elsewhere(tx, mine)
            new = {"room": room, "account": other, "root": state.root, **place}
            insert(tx, role=Role.SIBLING, stage="waiting", **new)
            return
        place["commitment"] = body.commitment
        tried = failures(tx, other, self._clock.now_ms() - PAUSE)
        if state.other is not None or tried >= TRIES:
            self._letters.queue(tx, room, SasEnd(body.session, "paused"), SAS_WORD)
            self._poke_later(tx, room)
        elif mine is not None:
            # Both began at once and theirs is first: ours becomes the answer to it.
            mine = update(
                tx, mine, role=Role.RESPONDER, stage="asked", private=None, **place
            )
            self.accept(tx, mine.id)
        else:
            text = f"{other} asks to compare emoji, to verify each other."
            new = {"room": room, "account": other, "root": state.root, **place}
            insert(tx, role=Role.RESPONDER, stage="asked", detail=text, **new)
            arrival.lines.say(arrival.device, "sas_asked", text)

    def _accepted(self, tx: Tx, body: SasAccept, arrival: Arrival) -> None:
        row = by_session(tx, arrival.room, body.session)
        if row is None:
            return
        if arrival.account == self._me:
            if row.role == Role.RESPONDER and not row.accepted:
                self._withdraw(tx, row)
                self._elsewhere(tx, row)
            return
        if row.role != Role.INITIATOR or row.key is not None or row.private is None:
            return
        row = update(tx, row, device=arrival.device, key=body.key)
        self._say(tx, row, SasReveal(row.session, sas_public(private_of(row))))
        self._compare(tx, row)

    def _revealed(self, tx: Tx, body: SasReveal, arrival: Arrival) -> None:
        row = by_session(tx, arrival.room, body.session)
        if (
            row is None
            or row.role != Role.RESPONDER
            or row.device != arrival.device
            or row.stage != "waiting"
            or not row.accepted
        ):
            return
        promised = sas_commitment(row.session, arrival.device, body.key)
        row = update(tx, row, key=body.key)
        if not hmac.compare_digest(promised, row.commitment or b""):
            self._say(tx, row, SasEnd(row.session, "tampered"))
            self._fail(tx, row, "tampered")
            return
        self._compare(tx, row)

    def _agreed(self, tx: Tx, body: SasAgree, arrival: Arrival) -> None:
        row = by_session(tx, arrival.room, body.session)
        if row is None:
            return
        if row.role == Role.SIBLING:
            both = row.agreed | (1 if arrival.account == self._me else 2)
            row = update(tx, row, agreed=both)
            if both == 3:
                self._end(tx, row, "done", "", "")
            return
        if row.device != arrival.device or row.key is None:
            return
        row = update(tx, row, agreed=1)
        if row.stage == "agreed":
            self._finish(tx, row)

    def _ended(self, tx: Tx, body: SasEnd, arrival: Arrival) -> None:
        row = by_session(tx, arrival.room, body.session)
        if row is None:
            return
        theirs = row.device or arrival.device
        if arrival.account == self._me and arrival.device != row.device:
            if not row.accepted:
                self._withdraw(tx, row)
                self._elsewhere(tx, row)
            return
        if arrival.device != theirs:
            return
        code = body.code if body.code in END_CODES else "cancelled"
        self._withdraw(tx, row)
        if row.role != Role.SIBLING and code in ("mismatch", "tampered"):
            self._fail(tx, row, code)
            return
        reasons = {
            "declined": f"{row.account} does not want to compare now.",
            "timeout": "Ten minutes have passed; start again when both have time.",
            "paused": f"The device of {row.account} takes no more tries for an hour, "
            "or does not know which of your keys is right.",
        }
        detail = reasons.get(code, f"{row.account} ended it.")
        self._end(tx, row, "refused", code, detail)
