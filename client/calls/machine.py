"""The calls of one device: what it does about what people, logs, legs and time bring.

Pure: each event comes with the time (milliseconds that only go up), and what is to be
done stands in the answer, in order. Who is in a call is the log's word (`record`); this
is about what a device makes of it: ringing, saying, and the legs.
"""

from collections import deque
from collections.abc import Iterable, Mapping

from client.calls import sentences
from client.calls.links import CONNECT, Attempt, Link
from client.calls.ongoing import BUSY_WAIT, LOST, Ongoing, Stage
from client.calls.record import RING, Fact, Heard, account_of
from client.calls.steps import Steps
from client.calls.values import Close, Leave, Open, Play, Restore, Say, Want
from client.content.calling import (
    LINE_MAX,
    LINES_MAX,
    SDP_MAX,
    CallAnswer,
    CallBusy,
    CallCandidates,
    CallDecline,
    CallInvite,
    CallOffer,
    CallRinging,
)
from client.content.calling import CallEnd as EndBody
from media.port import Candidates, Exited, LegState, PeerSays, Quality, Trouble
from protocol.log import LogId

__all__ = ["INCOMING_MAX", "Machine"]

INCOMING_MAX = 3
"""Calls that one device shows at one time; it is busy for more."""

RINGS, RINGS_TIME = 6, 60_000
"""Calls of one room that ring within a minute. More of them are told in the timeline
alone: each one that rings has a leg prepared and a word said in the log."""

RESTARTS = 2
"""Times that the media process may end by itself in one call."""

FAILURES = 3
"""Legs that may fail to be made, one after the other."""


class Machine(Steps):
    """The calls that ring and run at one device."""

    # --- what people do -----------------------------------------------------------

    def start(
        self, id: str, room: LogId, invited: Iterable[str], video: bool, now: int
    ) -> list[Want]:
        """Call the others in a room; `id` is 32 random hex digits."""
        self._refuse_others(id, now)
        call = Ongoing(id, room, self._me, video, Stage.ASKING, now, own=True)
        call.invited = tuple(invited)
        call.until = now + RING
        self.calls[id] = call
        self._show(call)
        self._out += self._link(call, "").offer(0, now)
        return self._wants()

    def accept(self, id: str, now: int) -> list[Want]:
        """The person takes a call that rings."""
        call = self.calls[id]
        if not call.incoming:
            return []
        self._refuse_others(id, now)
        self._accepted(call, now)
        self._take(call, now)
        self._show(call)
        return self._wants()

    def decline(self, id: str, now: int) -> list[Want]:
        """The person does not want to."""
        call = self.calls[id]
        if not call.incoming:
            return self.hang_up(id, now)
        self._say(call, CallDecline(bytes.fromhex(id)))
        self._finish(call, "declined", "", now)
        return self._wants()

    def hang_up(self, id: str, now: int) -> list[Want]:
        """The person has had enough."""
        call = self.calls[id]
        if call.incoming:
            return self.decline(id, now)
        self._leave(call, "cancelled" if call.asking else "hung_up", "", now)
        return self._wants()

    # --- what the log says --------------------------------------------------------

    def read(
        self,
        heard: Heard,
        changed: Mapping[str, Fact],
        age: int,
        now: int,
        *,
        quiet: bool = False,
        may_ring: bool = True,
    ) -> list[Want]:
        """A content has its place in the log; our own as those of others.

        Args:
            changed: the calls that it changed, as `record.follow` says.
            age: how long ago it was sent, in milliseconds.
            quiet: whether a call is shown and makes no sound.
            may_ring: whether a call from there can be taken at all.
        """
        for fact in changed.values():
            self._learn(fact, now)
        call = self._in_room(heard.call, heard.room)
        others = heard.account != self._account
        match heard.body:
            case CallInvite(offer=offer):
                new = changed.get(heard.call)
                if new is not None and new.rings and others:
                    if age <= RING and may_ring:
                        self._invited(new, offer, max(0, age), quiet, now)
                elif new is None and call is not None and heard.device == self._me:
                    self._finish(call, "elsewhere", sentences.ELSEWHERE, now)
            case CallRinging() if call is not None and call.asking and others:
                self._rings(call)
            case CallBusy() if call is not None and call.asking and others:
                if not call.rung:
                    call.busy_since = call.busy_since or now
            case CallOffer(to=to) if call is not None and heard.device == self._me:
                if to in call.links:
                    call.links[to].note(heard.body.generation)
            case _ if call is not None and heard.device != self._me:
                self._about_leg(call, heard, now)
        return self._wants()

    def forget(self, id: str) -> None:
        """The end of this call was said before: by this device, when it ran last."""
        self._left.append(id)

    # --- what legs do -------------------------------------------------------------

    def described(self, leg: str, sdp: str, now: int) -> list[Want]:
        """Our side of a leg is described, as `Offer` or `Answer` wanted it."""
        found = self._find(leg)
        if found is None:
            return [Close(leg)]
        if len(sdp.encode()) > SDP_MAX:
            return self.failed(leg, sentences.TOO_LONG, now)
        call, link, attempt = found
        attempt.mine = sdp
        call.failures = 0
        id = bytes.fromhex(call.id)
        if attempt.generation > 0:
            number = attempt.generation
            if attempt.offered:
                self._say(call, CallOffer(id, link.device, sdp, number))
            else:
                self._say(call, CallAnswer(id, link.device, sdp, number))
                self._out.append(Open(attempt.leg))
        elif attempt.offered and call.asking:
            call.said = True
            self._say(call, CallInvite(id, sdp, call.video))
        elif not attempt.offered and not call.incoming:
            self._take(call, now)
        self._tell_found(call, link, attempt)
        return self._wants()

    def failed(self, leg: str, text: str, now: int) -> list[Want]:
        """A leg could not be made, and why."""
        found = self._find(leg)
        if found is None:
            return self._wants()
        call, link, attempt = found
        call.failures += 1
        self._out += link.drop(attempt)
        if call.incoming:
            call.detail = text  # it rings on, and may be declined
        elif call.stage is Stage.ACCEPTED and not call.said:
            self._cannot(call, text, now)
        elif call.asking or call.failures >= FAILURES:
            self._leave(call, "failed", text, now)
        else:
            self._lose(call, link, now)
        self._show(call)
        return self._wants()

    def media(
        self, event: LegState | Candidates | PeerSays | Quality, now: int
    ) -> list[Want]:
        """Something happened on a leg."""
        found = self._find(event.leg)
        if found is None:
            return self._wants()
        call, link, attempt = found
        match event:
            case Candidates(lines=lines):
                few = [line for line in lines if len(line.encode()) <= LINE_MAX]
                attempt.found += few[: max(0, 4 * LINES_MAX - len(attempt.found))]
                self._tell_found(call, link, attempt)
                return self._wants()
            case Quality():
                link.quality = event
            case PeerSays(bye=True):
                self._bye(call, link, attempt, now)
            case PeerSays():
                link.says = event
            case LegState():
                self._leg_state(call, link, attempt, event, now)
        if not call.end:
            self._show(call)
        return self._wants()

    def trouble(self, event: Trouble) -> list[Want]:
        """A device is missing, or is there again."""
        self.missing.pop(event.kind, None)
        if event.text:
            self.missing[event.kind] = event.text
        for call in self.calls.values():
            self._show(call)
        return self._wants()

    def exited(self, event: Exited, now: int) -> list[Want]:
        """The media process is gone, and all legs with it."""
        self.missing.clear()
        for call in list(self.calls.values()):
            call.restarts += 1
            for link in call.links.values():
                self._out += link.drop_all()  # one may be in the new process already
            if call.incoming:
                self._prepare(call, now)
            elif call.restarts > RESTARTS:
                self._leave(call, "failed", event.detail, now)
            else:
                self._out.append(Restore())
                self._again(call, now)
                self._show(call)
        if self._tone != "none":
            self._out.append(Play(self._tone))
        return self._wants()

    # --- time ---------------------------------------------------------------------

    def due(self) -> int | None:
        """When `tick` has something to do."""
        times = [due for due, _ in self._owed.values()]
        if self._parting is not None:
            times.append(self._parting[1])
        for call in self.calls.values():
            times += call.times()
        return min(times, default=None)

    def tick(self, now: int) -> list[Want]:
        """Time has passed."""
        if self._parting is not None and self._parting[1] <= now:
            self._parting = None
        for id, (due, say) in list(self._owed.items()):
            if due <= now:
                del self._owed[id]
                self._left.append(id)
                self._out.append(say)
        for call in list(self.calls.values()):
            self._tick(call, now)
        return self._wants()

    def _tick(self, call: Ongoing, now: int) -> None:
        if call.until is not None and call.until <= now:
            if call.incoming:
                self._finish(call, "unanswered", "", now)
            elif call.read:
                self._leave(call, "unanswered", "", now)
            else:
                self._leave(call, "failed", sentences.NODE_AWAY, now)
        elif call.busy_since is not None and call.busy_since + BUSY_WAIT <= now:
            self._leave(call, "busy", sentences.OF_OTHERS["busy"], now)
        elif call.lost_since is not None and call.lost_since + LOST <= now:
            text = sentences.LOST if call.connected_at else sentences.NO_WAY
            self._leave(call, "lost", text, now)
        else:
            for link in list(call.links.values()):
                if link.byes_until is not None and link.byes_until <= now:
                    self._gone(call, link, now)
                elif link.offer_at is not None and link.offer_at <= now:
                    self._offer(call, link, now)

    # --- how: the log -------------------------------------------------------------

    def _in_room(self, id: str, room: LogId) -> Ongoing | None:
        """A call by its id, if this room is the one that may speak of it."""
        call = self.calls.get(id)
        return None if call is None or call.room != room else call

    def _learn(self, fact: Fact, now: int) -> None:
        call = self._in_room(fact.id, fact.room)
        if fact.over:
            self._owed.pop(fact.id, None)
            if call is not None:
                self._over(call, fact, now)
            return
        inside = self._me in fact.inside
        if call is None:
            if inside and fact.id not in self._left:
                # This device ran before, or went another way: it is not in this call.
                self._left.append(fact.id)
                code = "lost" if fact.answered else "cancelled"
                body = EndBody(bytes.fromhex(fact.id), code)
                self._out.append(Say(fact.room, fact.id, body))
            return
        call.read, call.began, call.caller = True, fact.began, fact.caller
        if not fact.answered:
            return
        if inside:
            self._joined(call, fact, now)
        elif self._account in map(account_of, fact.inside):
            self._finish(call, "elsewhere", sentences.ELSEWHERE, now)

    def _joined(self, call: Ongoing, fact: Fact, now: int) -> None:
        """The log says that this device is in an answered call."""
        if call.asking:
            call.since = call.lost_since = now
            call.until = call.busy_since = None
        call.stage, call.inside = Stage.INSIDE, True
        for device in fact.inside:
            if device == self._me:
                continue
            if device not in call.links:
                link = call.links.pop("", None) or self._link(call, device)
                link.device = device
                call.links[device] = link
            link = call.links[device]
            if not link.connected:
                link.offer_at = now + CONNECT if link.attempts else now
        self._show(call)

    def _over(self, call: Ongoing, fact: Fact, now: int) -> None:
        own = account_of(fact.by) == self._account
        if own and fact.by != self._me and not call.inside:
            self._finish(call, "elsewhere", sentences.ELSEWHERE, now)
        else:
            detail = "" if own else sentences.OF_OTHERS.get(fact.over, "")
            self._finish(call, fact.over, detail, now)

    def _invited(self, fact: Fact, offer: str, age: int, quiet: bool, now: int) -> None:
        if self._account not in fact.invited or fact.id in self.calls:
            return
        for mine in self.calls.values():
            if mine.asking and mine.room == fact.room and not mine.read:
                self._cross(mine, fact, offer, now)
                return
        if not self._patient(fact.room, now):
            return
        busy = self.occupied or len(self.calls) >= INCOMING_MAX
        call = Ongoing(fact.id, fact.room, fact.caller, fact.video, Stage.INCOMING, now)
        call.began, call.read, call.offer, call.quiet = fact.began, True, offer, quiet
        call.until = now + RING - age
        self.calls[call.id] = call
        if busy:
            self._refuse(call, now)
            return
        self._say(call, CallRinging(bytes.fromhex(fact.id)))
        self._show(call)
        self._prepare(call, now)

    def _refuse(self, call: Ongoing, now: int) -> None:
        """This device is in another call; its person sees that somebody called."""
        self._say(call, CallBusy(bytes.fromhex(call.id)))
        self._finish(call, "busy", "", now)

    def _refuse_others(self, id: str, now: int) -> None:
        """The person is in this call from now on: no other one rings here."""
        for other in list(self.calls.values()):
            if other.id != id and other.incoming:
                self._refuse(other, now)

    def _patient(self, room: LogId, now: int) -> bool:
        """Whether a call from this room may ring; counts it."""
        rang = self._rang.setdefault(room, deque(maxlen=RINGS))
        if len(rang) == RINGS and rang[0] + RINGS_TIME > now:
            return False
        rang.append(now)
        return True

    def _cross(self, call: Ongoing, fact: Fact, offer: str, now: int) -> None:
        """Both called, and theirs is first: ours becomes the answer to it."""
        for link in call.links.values():
            self._out += link.drop_all()
        call.links.clear()
        self._out.append(Leave(call.room, call.id, None))
        del self.calls[call.id]
        self.calls[fact.id] = call
        call.id, call.caller, call.began = fact.id, fact.caller, fact.began
        call.read, call.said, call.offer = True, False, offer
        self._accepted(call, now)
        self._prepare(call, now)
        self._show(call)

    def _accepted(self, call: Ongoing, now: int) -> None:
        call.stage, call.since, call.lost_since = Stage.ACCEPTED, now, now
        call.until = call.busy_since = None
        call.prepared = 0

    def _rings(self, call: Ongoing) -> None:
        call.busy_since = None
        if not call.rung:
            call.rung = True
            self._show(call)

    def _about_leg(self, call: Ongoing, heard: Heard, now: int) -> None:
        """What another device says of its side of a leg."""
        link = call.links.get(heard.device)
        if link is None:
            return
        match heard.body:
            case CallAnswer(to=to) as body if to == self._me and call.inside:
                self._out += link.heard_answer(body, now)
            case CallOffer(to=to) as body if to == self._me and call.inside:
                self._out += link.heard_offer(self._me, body, now)
            case CallCandidates(to=to) as body if to in ("", self._me):
                self._out += link.heard_candidates(body)

    # --- how: legs ----------------------------------------------------------------

    def _leg_state(
        self, call: Ongoing, link: Link, attempt: Attempt, event: LegState, now: int
    ) -> None:
        match event.state:
            case "connected":
                self._out += link.stands(attempt, now)
                call.lost_since = None
                call.connected_at = call.connected_at or now
                call.detail = ""
            case "silent":
                attempt.connected, attempt.silent = False, True
                self._lose(call, link, now)
            case "failed" | "closed":
                self._out += link.drop(attempt)
                self._again(call, now)
            case "refused" if call.incoming:
                self._out += link.drop(attempt)
            case "refused":
                text = event.detail or sentences.REFUSED
                self._leave(call, "refused", text, now)

    def _again(self, call: Ongoing, now: int) -> None:
        """Legs are gone that are needed: make them anew."""
        if call.asking:
            if not call.said and not self._link(call, "").attempts:
                self._out += self._link(call, "").offer(0, now)
        elif call.said:
            for link in call.links.values():
                self._lose(call, link, now)
        elif 0 not in self._link(call, call.caller).attempts:
            self._prepare(call, now)

    def _offer(self, call: Ongoing, link: Link, now: int) -> None:
        link.offer_at = None
        if link.connected:
            self._out += link.prune()
        elif call.inside and (number := link.next) is not None:
            self._out += link.offer(number, now)
        elif call.inside:
            link.later(now)
