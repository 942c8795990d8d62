"""Messages as rows of cells: what the timeline draws, without a widget.

A row is a list of (text, style name); the widget knows what the names look like.
Rows are made once for each message, width and neighbourhood, and only when one of
these changes, so that a new message costs its own rows and no others.

    ─────────────── Today ───────────────
    ▎bob@example.org                  09:41
    ▎Hello there

    ▎You                              09:42
    ▎┃ bob: Hello there
    ▎Good morning                        ✓✓
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from client.model import Message, State
from tui.cells import cell_len, fit, literal, one_line, wrap
from tui.text import say

__all__ = [
    "GLYPHS",
    "HEIGHTS",
    "WIDTHS",
    "Block",
    "Context",
    "Row",
    "Span",
    "clock",
    "day_title",
    "lay_out",
    "person",
]

GLYPHS = {
    State.PENDING: "◷",
    State.SENT: "✓",
    State.DELIVERED: "✓✓",
    State.READ: "✓✓",
    State.FAILED: "✗",
    State.RECEIVED: "",
}

WIDTHS = ((0, "-narrow"), (64, "-normal"), (108, "-wide"), (150, "-vast"))
HEIGHTS = ((0, "-low"), (22, "-tall"), (30, "-spacious"))
"""From how many cells on a screen has which class: one, two or three columns."""

GROUP_SECONDS = 300
"""After this long the sender's name is shown again."""
MEASURE_MAX = 100
"""Cells of a message's row: longer lines are hard to read."""
TEXT_ROWS_MAX = 400
"""Rows of one message: 16 KiB of newlines would be sixteen thousand."""
META = 8
"""Cells on the right: a time (5), a space, a state (2)."""
EDGE = 3
"""Cells on the left and right that are not text: margin, bar and gap."""


MISSED_CALL = "call_missed"
"""The code of a notice that offers to call back."""

_CHROME = ("margin", "time", "state-", "own-bar", "quote-bar")
"""Styles of what is not text: left out when somebody copies with the mouse."""


@dataclass(frozen=True, slots=True)
class Span:
    """A piece of a row."""

    text: str
    style: str
    action: str = ""
    """What a click on it does."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of cells."""

    spans: tuple[Span, ...]
    fill: str = ""
    """The style of the whole row from the bar to the end of the measure."""

    @property
    def text(self) -> str:
        """What stands in it."""
        return "".join(span.text for span in self.spans)

    def words(self, start: int, end: int) -> str:
        """What somebody wrote between two characters; -1 is the end of the row."""
        kept = ""
        at = 0
        for span in self.spans:
            first, last = max(start, at), at + len(span.text)
            if end != -1:
                last = min(last, end)
            bar = span.style.startswith("person:") and not span.style.endswith(":name")
            if last > first and not bar and not span.style.startswith(_CHROME):
                kept += span.text[first - at : last - at]
            at += len(span.text)
        # The gap between the bar and the text is not text either.
        return kept.removeprefix(" ").rstrip() if start < EDGE else kept.rstrip()


@dataclass(frozen=True, slots=True)
class Block:
    """The rows of one message with what stands above it."""

    message: Message
    rows: tuple[Row, ...]
    body: int
    """The first row that belongs to the message itself."""


@dataclass(frozen=True, slots=True)
class Context:
    """What the rows of a message depend on beside the message."""

    width: int
    today: date
    node: str
    """One's own node: people there are shown without it."""
    unread: int = 0
    """How many messages the line above this one announces."""
    ailing: bool = False
    """The doctor knows why it cannot be read, and what helps."""


def clock(time: int) -> datetime:
    """Milliseconds since 1970 as local time."""
    try:
        return datetime.fromtimestamp(time / 1000)
    except (OverflowError, OSError, ValueError):
        # A hub may write any number; year 1970 is honest enough for nonsense.
        return datetime.fromtimestamp(0)


def day_title(day: date, today: date) -> str:
    """`Today`, `Yesterday` or the date in words."""
    if day == today:
        return say("day.today")
    if day == today - timedelta(days=1):
        return say("day.yesterday")
    return say(
        "day.date",
        weekday=say("weekdays").split()[day.weekday()],
        day=day.day,
        month=say("months").split()[day.month - 1],
        year=day.year,
    )


def person(account: str, node: str) -> tuple[str, str]:
    """A name and, for somebody from another node, the rest of the address."""
    local, at, rest = one_line(account).partition("@")
    return (local, "") if rest == node else (local, at + rest)


def lay_out(message: Message, previous: Message | None, context: Context) -> Block:
    """The rows of a message, which depend on the one before it."""
    rows: list[Row] = []
    day = clock(message.time).date()
    if previous is None or clock(previous.time).date() != day:
        rows += _rule(day_title(day, context.today), "day", context.width)
    if context.unread:
        key = "timeline.unread.one" if context.unread == 1 else "timeline.unread"
        rule = _rule(say(key, count=context.unread), "unread", context.width)
        rows += rule[1:] if rows else rule
    fresh = bool(rows) or previous is None or not _same_group(previous, message)
    if fresh and previous is not None and not rows:
        rows.append(Row(()))
    body = len(rows)
    if message.kind == "notice":
        rows += _notice(message, context)
    else:
        rows += _text(message, previous, fresh, context)
    return Block(message, tuple(rows), body)


def _same_group(previous: Message, message: Message) -> bool:
    if previous.kind != message.kind:
        return False
    if message.kind == "notice":
        return True
    return (
        previous.sender == message.sender
        and abs(message.time - previous.time) < GROUP_SECONDS * 1000
    )


def _rule(title: str, style: str, width: int) -> list[Row]:
    """A line across with words in the middle, and air around it."""
    measure = min(width - 1, MEASURE_MAX)
    title = f" {fit(title, min(cell_len(title), max(1, measure - 8)))} "
    left = max(0, (measure - cell_len(title)) // 2 - 1)
    right = max(0, measure - 2 - left - cell_len(title))
    line = f"{style}-line"
    spans = (
        Span(" " + "─" * left, line),
        Span(title, style),
        Span("─" * right, line),
    )
    return [Row(()), Row(spans), Row(())]


def _notice(message: Message, context: Context) -> list[Row]:
    measure = min(context.width - 1, MEASURE_MAX)
    text = literal(message.text)[:2000]
    at = f"{clock(message.time):%H:%M}"
    missed = message.code == MISSED_CALL
    first = "☎ " if message.code.startswith("call_") else "· "
    style = "failed" if missed else "notice"
    rows = []
    for number, line in enumerate(wrap(f"{text} · {at}", max(8, measure - 8))):
        mark = first if number == 0 else "  "
        left = max(1, (measure - cell_len(line) - 2) // 2)
        rows.append(Row((Span(" " * left + mark + line, style),)))
    if context.ailing:
        rows.append(_offer(f"E {say('bar.explain')}", f"explain:{message.id}", measure))
    if missed:
        rows.append(_offer(f"F9 {say('call.key.back')}", f"call:{message.id}", measure))
    return rows


def _offer(text: str, action: str, measure: int) -> Row:
    """What can be done about the line above."""
    left = max(1, (measure - cell_len(text)) // 2)
    return Row((Span(" " * left, "margin"), Span(text, "action", action)))


def _text(
    message: Message, previous: Message | None, fresh: bool, context: Context
) -> list[Row]:
    measure = min(context.width - 1, MEASURE_MAX)
    width = max(4, measure - META - EDGE - 1)
    fill = "own" if message.own else "other"
    lines: list[tuple[Span, ...]] = []
    if fresh:
        lines.append(_name(message, width, context))
    if message.reply_to is not None:
        lines.append(_quote(message, width, context))
    words = wrap(literal(message.text), width)
    if len(words) > TEXT_ROWS_MAX:
        words = [*words[: TEXT_ROWS_MAX - 1], "…"]
    lines += [(Span(line, "text"),) for line in words]
    at = f"{clock(message.time):%H:%M}"
    show_time = fresh or previous is None or f"{clock(previous.time):%H:%M}" != at
    rows = []
    last = len(lines) - 1
    for number, spans in enumerate(lines):
        time = at if number == 0 and show_time else ""
        state = message.state if number == last and message.own else None
        rows.append(_row(message, spans, width, _meta(time, state), fill))
    if message.state is State.FAILED:
        rows += _failure(message, width, fill)
    return rows


def _row(
    message: Message,
    spans: Sequence[Span],
    width: int,
    meta: tuple[Span, ...],
    fill: str,
) -> Row:
    used = sum(cell_len(span.text) for span in spans)
    gap = Span(" " * max(0, width - used + 1), "text")
    bar = Span("▎", "own-bar" if message.own else f"person:{message.sender}")
    return Row((Span(" ", "margin"), bar, Span(" ", "text"), *spans, gap, *meta), fill)


def _meta(time: str, state: State | None) -> tuple[Span, ...]:
    if state is None:
        return (Span(time.rjust(META), "time"),)
    glyph = GLYPHS[state]
    return (
        Span(time.rjust(META - 3) + " ", "time"),
        Span(" " * (2 - cell_len(glyph)) + glyph, f"state-{state.name.lower()}"),
    )


def _name(message: Message, width: int, context: Context) -> tuple[Span, ...]:
    if message.own:
        return (Span(say("timeline.you"), "own-name"),)
    name, rest = person(message.sender, context.node)
    name = fit(name, min(cell_len(name), width))
    room = width - cell_len(name)
    spans = [Span(name, f"person:{message.sender}:name")]
    if rest and room > 3:
        spans.append(Span(fit(rest, min(cell_len(rest), room)), "quiet"))
    return tuple(spans)


def _quote(message: Message, width: int, context: Context) -> tuple[Span, ...]:
    quote = message.reply_to
    assert quote is not None
    if quote.sender:
        who = person(quote.sender, context.node)[0]
        text = f"{who}: {one_line(quote.text)}"
    else:
        text = say("timeline.gone")
    text = fit(text, min(cell_len(text), max(1, width - 2)))
    return (Span("┃ ", "quote-bar"), Span(text, "quote", f"jump:{quote.id}"))


def _failure(message: Message, width: int, fill: str) -> list[Row]:
    reason = one_line(message.error) or say("failed.unknown")
    meta = _meta("", None)
    rows = [
        _row(message, (Span(line, "failed"),), width, meta, fill)
        for line in wrap(say("failed.line", reason=reason), width)
    ]
    retry, discard = say("failed.mouse"), say("failed.discard")
    spans = [
        Span(f"S {retry}", "action", f"retry:{message.id}"),
        Span("   ", "text"),
        Span(f"D {discard}", "action", f"discard:{message.id}"),
    ]
    if sum(cell_len(span.text) for span in spans) <= width:
        rows.append(_row(message, spans, width, meta, fill))
    return rows
