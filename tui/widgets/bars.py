"""The one-line parts of the screen: room header, reply, jump and status lines."""

from textual import events
from textual.content import Content
from textual.widgets import Static

from client.model import (
    Connection,
    Message,
    MessageId,
    PersonPresence,
    Room,
    State,
)
from tui.advice import advised
from tui.amounts import span
from tui.badges import COLOURS, SIGNS, badge
from tui.being import COLOURS as BEING_COLOURS
from tui.being import being
from tui.cells import cell_len, fit, one_line
from tui.layout import GLYPHS, person
from tui.messages import MessageAction
from tui.text import say
from tui.widgets.room_list import room_title

__all__ = ["ActionBar", "JumpBar", "ReplyBar", "RoomHeader", "StatusBar"]

LINK_SIGNS = {
    Connection.OFFLINE: ("○", "$error"),
    Connection.CONNECTING: ("◌", "$warning"),
    Connection.SYNCING: ("◍", "$warning"),
    Connection.ONLINE: ("●", "$success"),
}


class RoomHeader(Static):
    """The open room's title and what it is."""

    _shown: tuple[Room | None, str] = (None, "")
    _being: PersonPresence | None = None

    def show(
        self, room: Room | None, node: str, being: PersonPresence | None = None
    ) -> None:
        """Show this room and, of a direct chat, whether the other one is there."""
        self._shown = (room, node)
        self._being = being
        self._draw()

    def on_resize(self, event: events.Resize) -> None:
        """The width changed."""
        self._draw()

    def _draw(self) -> None:
        room, node = self._shown
        if room is None:
            self.update("")
            return
        name, rest = room_title(room, node)
        if not room.active:
            kind = say("room.left")
        elif room.direct:
            kind = say("room.direct")
        elif room.members == 1:
            kind = say("room.members.one")
        else:
            kind = say("room.members", count=room.members)
        trust = badge(room.trust)
        timer = ""
        if room.disappearing:
            timer = f" · {say('room.timer', span=span(room.disappearing))}"
        width = max(1, self.size.width)
        title = fit(name, min(cell_len(name), width))
        rest = fit(rest, min(cell_len(rest), max(0, width - cell_len(title))))
        left = width - cell_len(title) - cell_len(rest) - cell_len(trust) - 2
        presence = self._being if room.direct and room.active else None
        there = being(presence) if presence is not None else ""
        before, after = _fitting(room, f"{there or kind} · ", timer, left, bool(there))
        # Who it is and how sure that is stay to the last.
        trust = trust if left >= 0 else SIGNS[room.trust]
        self.update(
            Content.assemble(
                (title, "bold"),
                (rest, "$quiet"),
                ("  ", ""),
                *_coloured(before, presence, bool(there)),
                (trust, COLOURS[room.trust]),
                (after, "$quiet"),
                end="",
            )
        )


def _coloured(
    before: str, presence: PersonPresence | None, there: bool
) -> list[tuple[str, str]]:
    """What stands before the badge, with the sign of being there in its colour."""
    if presence is None or not there or not before:
        return [(before, "$quiet")]
    return [(before[:1], BEING_COLOURS[presence.state]), (before[1:], "$quiet")]


def _fitting(
    room: Room, kind: str, timer: str, left: int, there: bool
) -> tuple[str, str]:
    """What stands before and after the badge, as much as there is room for."""
    full = f"{timer} · {say('room.encrypted')}"
    short = f"{timer} · {say('room.encrypted.short')}"
    ways = [(kind, full), (kind, short), (kind, timer)]
    if there:
        # Whether somebody is there comes before how it is encrypted.
        ways += [(kind, ""), (f"{kind[:1]} ", short), (f"{kind[:1]} ", timer)]
        ways.append((f"{kind[:1]} ", ""))
    elif room.direct and room.active:
        # That it is of two is seen anyway: the address is its title.
        ways = [(kind, full), (kind, short), ("", full), ("", short)]
    for before, after in (*ways, ("", timer)):
        if cell_len(before) + cell_len(after) <= left:
            return before, after
    return "", ""


class ReplyBar(Static):
    """What is being answered; a click or Esc cancels."""

    _shown: tuple[Message, str] | None = None

    def show(self, message: Message, node: str) -> None:
        """Quote this message."""
        self._shown = (message, node)
        self._draw()

    def on_resize(self, event: events.Resize) -> None:
        """The width changed."""
        self._draw()

    def _draw(self) -> None:
        if self._shown is None:
            return
        message, node = self._shown
        who = say("timeline.you") if message.own else person(message.sender, node)[0]
        text = say("composer.reply", who=who, text=one_line(message.text))
        cancel = say("composer.reply.cancel")
        width = max(8, self.size.width - cell_len(cancel) - 4)
        self.update(
            Content.assemble(
                ("┃ ", "$accent"), (fit(text, width), ""), ("  " + cancel, "$quiet")
            )
        )

    def on_click(self) -> None:
        """Cancel."""
        self.post_message(MessageAction("unreply", MessageId("")))


class JumpBar(Static):
    """Says that there is more below; a click goes there."""

    def show(self, count: int) -> None:
        """Count the messages below."""
        key = ("timeline.jump", "timeline.jump.one")[count] if count < 2 else ""
        self.update(Content(say(key or "timeline.jump.new", count=count)))

    def on_click(self) -> None:
        """Go to the newest message."""
        self.post_message(MessageAction("newest", MessageId("")))


class ActionBar(Static):
    """What can be done with the chosen message, for keys and for the mouse."""

    _message: Message | None = None

    def show(self, message: Message) -> None:
        """Show what applies to this message."""
        self._message = message
        self._draw()

    def on_resize(self, event: events.Resize) -> None:
        """The width changed."""
        self._draw()

    def _draw(self) -> None:
        message = self._message
        if message is None:
            return
        state = say(f"state.{message.state.name.lower()}")
        why = say(f"state.{message.state.name.lower()}.why") if message.own else ""
        actions = [("r", "reply"), ("c", "copy"), ("d", "delete")]
        if message.kind == "notice":
            actions = [("e", "explain"), ("c", "copy")]
        elif message.state is State.FAILED:
            actions = [("s", "retry"), ("d", "discard"), ("c", "copy")]
        parts: list[Content] = []
        for key, action in actions:
            word = say(f"bar.{action}")
            label = Content.assemble((key.upper(), "bold $accent"), f" {word}  ")
            parts.append(label.stylize(f"@click=act('{action}')"))
        parts.append(Content.assemble(("Esc", "bold $accent"), f" {say('back')}"))
        words = Content("").join(parts)
        left = self.size.width - words.cell_length - 2
        if message.own:
            glyph = GLYPHS[message.state]
            for text in (f"{glyph} {state}: {why}", f"{glyph} {state}"):
                if cell_len(text) <= left:
                    gap = " " * (left - cell_len(text) + 2)
                    words = words + Content(gap) + Content(text).stylize("$quiet")
                    break
        self.update(words)

    def action_act(self, action: str) -> None:
        """A word was clicked."""
        if self._message is not None:
            self.post_message(MessageAction(action, self._message.id))


class StatusBar(Static):
    """The connection, the account and the two keys that lead to all others."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._link = (Connection.OFFLINE, "")
        self._account = ""
        self._unread = 0
        self._mode = "online"

    def show(
        self,
        link: Connection,
        detail: str,
        account: str,
        unread: int,
        mode: str = "online",
    ) -> None:
        """Show how things stand; `mode`: how others are told that we are."""
        self._mode = mode
        self._link = (link, one_line(advised(detail)))
        self._account = account
        self._unread = unread
        self._draw()

    def on_resize(self, event: events.Resize) -> None:
        """The width changed."""
        self._draw()

    def _draw(self) -> None:
        link, detail = self._link
        sign, colour = LINK_SIGNS[link]
        width = max(1, self.size.width)
        state = say(f"link.{link.value}")
        left = f"{state} · {self._account}"
        if link is Connection.OFFLINE:
            left = f"{state}: {detail}" if detail else f"{state} · {say('link.queue')}"
        elif self._mode != "online":
            left += f" · {say(f'mode.{self._mode}')}"
        if self._unread:
            left += f" · {say('status.unread', count=self._unread)}"
        # What happened comes first; the keys stand where there is room for them.
        space = width - 2
        keys = ""
        for keys in (
            f"{say('status.help')}  {say('status.palette')}",
            say("status.help"),
        ):
            if space - cell_len(left) >= cell_len(keys) + 2:
                break
        else:
            keys = ""
        space -= cell_len(keys) + 2 if keys else 0
        self.update(
            Content.assemble(
                (f"{sign} ", colour),
                (fit(left, space), ""),
                ("  " + keys if keys else "", "$quiet"),
            )
        )
