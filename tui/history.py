"""The loaded part of one room's timeline: a window that moves over the log.

A room may hold a million messages; this holds some hundreds. Scrolling up asks the
client for the page before the window and lets the newest fall out at the other end;
what fell out is remembered as marks (where a page ends, how many it holds), so that
scrolling down again asks for exactly those pages. Pure data: no widget, no I/O.
"""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from client.model import Message, MessageId, Position

__all__ = ["PAGE", "WINDOW", "History", "Page"]

PAGE = 100
"""Messages asked for at once: two screens of the largest terminal."""
WINDOW = 600
"""Messages kept: laying all of them out again for another width takes a tenth of a
second at most."""


@dataclass(frozen=True, slots=True)
class Page:
    """Which messages to ask the client for."""

    before: Position | None
    """None means the newest there are."""
    limit: int


class History:
    """Messages in the order of their positions, without gaps inside the window."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.has_older = False
        """There may be messages before the first one here."""
        self._cut: list[Page] = []
        """Pages after the window: the nearest last, the room's end first."""
        self._begin = Position(0)
        """The position of the first message after the window, if there is one."""
        self._newest = Position(0)
        """The highest position counted after the window."""

    @property
    def at_end(self) -> bool:
        """Whether the newest message of the room is in the window."""
        return not self._cut

    @property
    def missing(self) -> int:
        """How many messages come after the window."""
        return sum(page.limit for page in self._cut)

    def older(self) -> Page:
        """The page to ask for when somebody scrolls up."""
        first = self.messages[0].position if self.messages else None
        return Page(first, PAGE)

    def newer(self) -> Page:
        """The page to ask for when somebody scrolls down; only if not `at_end`."""
        page = self._cut[-1]
        return Page(page.before, max(page.limit, 1))

    def reset(self, messages: Sequence[Message], asked: int) -> None:
        """Begin again with the newest page, of which `asked` were asked for."""
        self.messages = list(messages)
        self.has_older = len(messages) >= asked
        self._cut = []

    def put_older(self, messages: Sequence[Message], asked: int) -> int:
        """Add the page before the window.

        Returns:
            How many messages are new.
        """
        fresh = self._fresh(messages)
        if self.messages:
            first = self.messages[0].position
            fresh = [message for message in fresh if message.position < first]
        self.messages[:0] = fresh
        self.has_older = len(messages) >= asked and bool(fresh)
        while len(self.messages) > WINDOW:
            self._cut_tail()
        return len(fresh)

    def put_newer(self, messages: Sequence[Message]) -> int:
        """Add the page that `newer` asked for.

        Returns:
            How many messages fell out at the top.
        """
        page = self._cut.pop()
        if page.before is not None:
            self._begin = page.before
        fresh = self._fresh(messages)
        if self.messages:
            last = self.messages[-1].position
            fresh = [message for message in fresh if message.position > last]
        self.messages += fresh
        return self.drop_head()

    def drop_head(self) -> int:
        """Let the oldest fall out until the window has its size; returns how many."""
        over = max(0, len(self.messages) - WINDOW)
        if over:
            del self.messages[:over]
            self.has_older = True
        return over

    def put(self, message: Message) -> bool:
        """Take a new or changed message.

        Returns:
            Whether anything in the window changed.
        """
        index = self.index(message.id)
        if index is not None:
            if self.messages[index].position == message.position:
                self.messages[index] = message
                return True
            # A message that was waiting got its place in the room's order.
            del self.messages[index]
            self._insert(message)
            return True
        if self._after_window(message):
            self._count(message)
            return False
        if (
            self.has_older
            and self.messages
            and message.position < self.messages[0].position
        ):
            return False
        self._insert(message)
        if len(self.messages) > 2 * WINDOW:
            # Somebody reads above while hundreds arrive below.
            while len(self.messages) > WINDOW:
                self._cut_tail()
        return True

    def remove(self, message: MessageId) -> bool:
        """Forget a message that was discarded."""
        index = self.index(message)
        if index is None:
            return False
        del self.messages[index]
        return True

    def last_text(self) -> Message | None:
        """The newest message in the window that somebody wrote."""
        for message in reversed(self.messages):
            if message.kind == "text":
                return message
        return None

    def first_unread(self, unread: int) -> tuple[MessageId, int] | None:
        """The message from which on so many are new, and how many these are."""
        left = unread
        for message in reversed(self.messages):
            if message.own or message.kind != "text" or left <= 0:
                continue
            left -= 1
            if left == 0:
                return message.id, unread
        return None

    def index(self, message: MessageId) -> int | None:
        """Where a message stands in the window."""
        # From the end: what changes is nearly always among the last few.
        for index in range(len(self.messages) - 1, -1, -1):
            if self.messages[index].id == message:
                return index
        return None

    def _fresh(self, messages: Iterable[Message]) -> list[Message]:
        known = {message.id for message in self.messages}
        return [message for message in messages if message.id not in known]

    def _insert(self, message: Message) -> None:
        if self._after_window(message):
            self._count(message)
            return
        place = bisect_left(
            self.messages, message.position, key=lambda other: other.position
        )
        self.messages.insert(place, message)

    def _after_window(self, message: Message) -> bool:
        return bool(
            self._cut
            and self.messages
            and message.position > self.messages[-1].position
        )

    def _count(self, message: Message) -> None:
        """Note one more message after the window.

        One that is counted twice (its position changed when it was confirmed) only
        makes a page overlap the next, which costs nothing.
        """
        if message.position <= self._newest:
            return
        self._newest = message.position
        last = self._cut[0]
        if last.limit < PAGE:
            self._cut[0] = Page(None, last.limit + 1)
        else:
            self._cut[0] = Page(message.position, last.limit)
            self._cut.insert(0, Page(None, 1))

    def _cut_tail(self) -> None:
        """Let the newest page fall out and remember where it ends."""
        count = min(PAGE, len(self.messages) - WINDOW)
        if not self._cut:
            self._cut.append(Page(None, count))
            self._newest = self.messages[-1].position
        elif self._cut[-1].limit + count <= PAGE:
            nearest = self._cut[-1]
            self._cut[-1] = Page(nearest.before, nearest.limit + count)
        else:
            self._cut.append(Page(self._begin, count))
        self._begin = self.messages[-count].position
        del self.messages[-count:]
