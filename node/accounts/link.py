"""Links: where two devices of one account meet, for ten minutes, unknown to the node.

The new device leaves an offer under an id that follows from a code which its person
types into the old one; the old device leaves its answer there. Both are sealed, so
the node sees bytes; and it cannot tell whose they are, so what it limits is how many
offers come from one address and how many there are in all.
"""

import asyncio
import ipaddress
import re

from sqlalchemy import Connection, delete, func, insert, select, update

from node.clock import Clock
from node.limit import Buckets
from node.storage.store import Store, Transaction
from node.storage.tables import LinkRow, core
from protocol.errors import (
    BadRequest,
    LinkPending,
    LinkTaken,
    NodeBusy,
    TooLarge,
    TooMany,
    UnknownLink,
)
from protocol.limits import LINK_MAX, LINK_SECONDS

__all__ = ["Links", "parse_link"]

LINKS_MAX = 2000
"""Links at one time: 16 MiB, and three people a second who link a device."""

OFFERS_RATE, OFFERS_BURST = 1 / 30, 20.0
"""Offers a second, and at once, from one address or IPv6 /64: a class behind one
router. In the time that a link lives that is a fiftieth of all."""

SITE = 4
"""Times that of an IPv6 /48, of which a customer gets 65,536 networks (RFC 6177)."""

WAIT_MAX = 25.0
"""Seconds that a question for the answer waits; proxies give up after 30."""

WAITING_MAX = 2 * LINKS_MAX
"""Questions that wait at one time, each with a connection of its own."""

WAITING_PER_LINK = 2
"""Questions that wait for one answer: one, and one whose connection broke."""

_ID = re.compile(r"[0-9a-f]{32}")

_link = core(LinkRow)


def parse_link(text: str) -> str:
    """Check a link's id.

    Raises:
        BadRequest: it is not 32 hex digits.
    """
    if not _ID.fullmatch(text):
        raise BadRequest("A link's id is 32 hex digits in lower case.")
    return text


class Links:
    """The links of this node; `prune` is a chore."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._offers = Buckets(
            OFFERS_RATE, OFFERS_BURST, "Too many devices are linked at your address."
        )
        self._sites = Buckets(
            SITE * OFFERS_RATE,
            SITE * OFFERS_BURST,
            "Too many devices are linked at your site.",
        )
        self._waiting: dict[str, set[asyncio.Event]] = {}
        self._count = 0
        self._stopping = False

    def stop(self) -> None:
        """Let go of all who wait: they are told that nothing has come yet."""
        self._stopping = True
        for events in self._waiting.values():
            for event in events:
                event.set()

    async def offer(self, link: str, data: bytes, remote: str) -> None:
        """Leave an offer; the same one again changes nothing.

        Args:
            link: its id.
            data: the sealed offer.
            remote: the address or IPv6 /64 that it comes from, for the limit.

        Raises:
            BadRequest, TooLarge: it is no offer.
            LinkTaken: there is another one.
            TooMany, NodeBusy: there are too many.
        """
        parse_link(link)
        _check(data)
        now = self._clock()
        self._offers.take(remote, now)
        if remote.endswith("/64"):
            site = ipaddress.ip_network(remote).supernet(new_prefix=48)
            self._sites.take(str(site), now)

        def write(transaction: Transaction) -> None:
            connection = transaction.connection
            _expire(connection, int(now))
            row = _find(connection, link, int(now))
            if row is not None:
                if row[0] != data:
                    raise LinkTaken()
                return
            count = connection.scalar(select(func.count()).select_from(_link)) or 0
            if count >= LINKS_MAX:
                raise NodeBusy("Too many devices are being linked.", retry_after=60)
            connection.execute(
                insert(_link).values(
                    id=link, offer=data, expires=int(now) + LINK_SECONDS
                )
            )

        await self._store.write(write, size=len(data))

    async def get_offer(self, link: str) -> bytes:
        """The offer.

        Raises:
            UnknownLink: there is none, or it has expired.
        """
        return (await self._get(link))[0]

    async def answer(self, link: str, data: bytes) -> None:
        """Leave the answer to an offer, and wake who waits for it.

        Raises:
            BadRequest, TooLarge: it is no answer.
            UnknownLink: there is no such offer, or it has expired.
            LinkTaken: there is another answer.
        """
        parse_link(link)
        _check(data)
        now = int(self._clock())

        def write(transaction: Transaction) -> None:
            connection = transaction.connection
            row = _find(connection, link, now)
            if row is None:
                raise UnknownLink()
            if row[1] is not None:
                if row[1] != data:
                    raise LinkTaken()
                return
            connection.execute(
                update(_link).where(_link.c.id == link).values(answer=data)
            )

        await self._store.write(write, size=len(data))
        for event in self._waiting.get(link, ()):
            event.set()

    async def wait_answer(self, link: str, seconds: float) -> bytes:
        """The answer, waiting for it; neither a thread nor a transaction is held.

        Raises:
            UnknownLink: there is no such offer, or it has expired.
            LinkPending: nothing has come yet.
            TooMany, NodeBusy: too many wait.
        """
        parse_link(link)
        event = asyncio.Event()
        # Before the look: an answer that comes in between is not missed.
        self._enter(link, event)
        try:
            found = (await self._get(link))[1]
            if found is None and seconds > 0 and not self._stopping:
                try:
                    async with asyncio.timeout(min(seconds, WAIT_MAX)):
                        await event.wait()
                except TimeoutError:
                    pass
                found = (await self._get(link))[1]
        finally:
            self._leave(link, event)
        if found is None:
            raise LinkPending()
        return found

    async def prune(self) -> None:
        """Forget what has expired.

        Raises:
            Refused: the database's trouble.
        """
        await self._store.write(lambda t: _expire(t.connection, int(self._clock())))

    async def _get(self, link: str) -> tuple[bytes, bytes | None]:
        parse_link(link)
        now = int(self._clock())
        row = await self._store.read(lambda c: _find(c, link, now))
        if row is None:
            raise UnknownLink()
        return row

    def _enter(self, link: str, event: asyncio.Event) -> None:
        if self._count >= WAITING_MAX:
            raise NodeBusy("Too many devices wait to be linked.", retry_after=5)
        events = self._waiting.setdefault(link, set())
        if len(events) >= WAITING_PER_LINK:
            raise TooMany("This link is waited for already.", retry_after=5)
        events.add(event)
        self._count += 1

    def _leave(self, link: str, event: asyncio.Event) -> None:
        self._count -= 1
        events = self._waiting[link]
        events.discard(event)
        if not events:
            del self._waiting[link]


def _check(data: bytes) -> None:
    if not data:
        raise BadRequest("Half of a link is not empty.")
    if len(data) > LINK_MAX:
        raise TooLarge(f"Half of a link has at most {LINK_MAX} bytes.")


def _find(
    connection: Connection, link: str, now: int
) -> tuple[bytes, bytes | None] | None:
    row = connection.execute(
        select(_link.c.offer, _link.c.answer).where(
            _link.c.id == link, _link.c.expires > now
        )
    ).first()
    return None if row is None else (row[0], row[1])


def _expire(connection: Connection, now: int) -> None:
    connection.execute(delete(_link).where(_link.c.expires <= now))
