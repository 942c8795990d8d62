"""The call: the picture large, who it is and how sure that is, how well it goes.

Leaving it leaves the call alone: it goes on, and stands in the line at the top of the
chat. Only F10 and Ctrl+X hang up, at once: a call is quickly made again, and whoever
wants to be out of one must not be asked first. `Q` does not, because it closes the
panels of this program, and somebody will press it to get back to the chat.
"""

import logging
import time
from collections.abc import Awaitable, Iterator
from typing import TYPE_CHECKING, ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.timer import Timer
from textual.widgets import Static

from client.calls.model import Call
from client.model import Trust
from media.port import Frame, Levels, View
from protocol.log import LogId
from tui.backend import ChatClient
from tui.badges import COLOURS, badge
from tui.calling import (
    duration,
    end_text,
    marks,
    meter,
    quality_parts,
    state_text,
)
from tui.cells import cell_len, fit, one_line
from tui.desk import Desk, PushToTalk
from tui.feed import Batch
from tui.layout import WIDTHS
from tui.screens.call_talk import CallTalk
from tui.screens.form import sentence
from tui.screens.sound import SoundScreen
from tui.screens.verify import VerifyScreen
from tui.text import say
from tui.updates import PromptScreen
from tui.widgets.call_keys import CallKeys, offered
from tui.widgets.composer import Composer
from tui.widgets.picture import Picture
from tui.widgets.steady import redraw

if TYPE_CHECKING:
    from tui.app import TelexApp

__all__ = ["CallScreen"]

LOG = logging.getLogger(__name__)

CLOSE_SECONDS = 3.0
"""How long the screen stays after the call, to say why it ended."""

METER_SECONDS = 0.25
"""Between two looks of the levels, of which ten a second are told."""

TO_READ = ("failed", "refused", "lost")
"""Ends with a sentence that says what to do: the screen stays until it was read."""


class CallScreen(PromptScreen[None]):
    """A call that rings or runs."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("m", "mute", "key.call.mute"),
        Binding("h", "hold", "key.call.hold"),
        Binding("c", "camera", "key.call.camera"),
        Binding("s", "share", "key.call.share"),
        Binding("d", "devices", "key.call.devices"),
        Binding("p", "push", "key.call.push"),
        Binding("space", "talk", "key.call.talk", key_display="Space"),
        Binding("f7", "verify", "key.call.verify", priority=True),
        Binding("ctrl+x", "end", "key.call.end", key_display="F10 / Ctrl+X"),
        Binding("tab", "write", "key.call.write", key_display="Tab"),
        Binding("escape", "leave", "key.call.back"),
    ]

    AUTO_FOCUS = ""

    app: "TelexApp"

    def __init__(self, desk: Desk, client: ChatClient) -> None:
        super().__init__()
        self._desk = desk
        self._client = client
        self._ready = False
        """Whether its widgets are there."""
        self._showing = ""
        self._last: Call | None = None
        self._levels = Levels(0, 0)
        self._metered = ("", "", 0)
        self._peak = Levels(0, 0)
        """The loudest since the levels were drawn."""
        self._meter_due = 0.0
        self._space = PushToTalk()
        self._released: Timer | None = None
        self._leaving: Timer | None = None
        self._view = View()
        self._ended = 0
        """When the call was over, in milliseconds since 1970."""

    def compose(self) -> ComposeResult:
        """Who, picture, what is wrong, levels, quality, keys."""
        yield Static("", id="call-who", markup=False)
        with Horizontal(id="call-stage"):
            with Vertical(id="call-main"):
                yield Static("", id="call-card", markup=False)
                yield Picture(setting=self.app.settings.video, id="call-picture")
            with Vertical(id="call-aside"):
                yield CallTalk(self._client, id="call-talk")
                yield Picture(setting=self.app.settings.video, id="call-own")
        yield Static("", id="call-trouble", markup=False)
        yield Static("", id="call-levels", markup=False)
        yield Static("", id="call-quality", markup=False)
        yield CallKeys(id="call-keys")

    def on_mount(self) -> None:
        """Show it, and see levels and pictures from now on."""
        if not self.query("#call-picture"):
            return  # the key was pressed once more: it was left before it was there
        self._picture = self.query_one("#call-picture", Picture)
        self._own = self.query_one("#call-own", Picture)
        self._ready = True
        self._desk.watch(self._see)
        self.changed()

    async def on_unmount(self) -> None:
        """Nobody looks any more; another call screen may be there already."""
        try:
            # Here nothing tells any more that the space bar was let go.
            call = self._live
            if self._released is not None and call is not None and self._desk.push:
                await self._desk.mute(call, True)
            await self._desk.look_away(self._see)
        except Exception:
            LOG.exception("what the call screen began could not be stopped")

    # --- drawing --------------------------------------------------------------------

    @property
    def call(self) -> Call | None:
        """The call that is shown: the one that runs, rings, or ended last."""
        return self._desk.book.shown or self._last

    def changed(self) -> None:
        """Something about the calls changed, or a second went by."""
        if not self._ready:
            return
        call = self.call
        if call is None:
            self._leave_soon(0.1)
            return
        if call.id != self._showing:
            self._showing = call.id
            self._space.release()
        self._last = call
        if call.state != "ended":
            self._ended = 0
        elif not self._ended:
            self._ended = _now_ms()
        self._draw_who(call)
        self._draw_pictures(call)
        self._draw_card(call)
        self._draw_trouble(call)
        self._draw_levels()
        self._draw_quality(call)
        self.query_one(CallKeys).show(offered(call, self._desk, wide=self._wide))
        if call.state == "ended" and call.end not in TO_READ:
            self._leave_soon(CLOSE_SECONDS)
        elif self._leaving is not None:
            self._leaving.stop()
            self._leaving = None

    def take(self, batch: Batch) -> None:
        """Messages of the chat beside it."""
        if not self._ready:
            return
        self.query_one(CallTalk).take(batch)

    def on_resize(self) -> None:
        """The width changed."""
        self.call_after_refresh(self.changed)

    def _draw_who(self, call: Call) -> None:
        line = self.query_one("#call-who", Static)
        width = max(10, self.size.width - 2)
        trust = self._desk.trust(call)
        state = state_text(call, _now_ms())
        push = self._desk.push and not self._talking
        words = marks(call, push=push, screen=self._desk.sharing(call))
        right: list[tuple[str, str] | str] = []
        for word, colour in words if call.state != "ended" else ():
            right += [(word, colour), " · "]
        right.append((state, "bold"))
        tail = Content.assemble(*right)
        sign, who = badge(trust), self._desk.who(call)
        if tail.cell_length + cell_len(sign) + cell_len(who) + 6 > width:
            tail = Content(state).stylize("bold")
        space = width - tail.cell_length - cell_len(sign) - 5
        who = fit(who, max(3, min(cell_len(who), space)))
        head = Content.assemble(
            ("☎ ", "$success"), (who, "bold"), "  ", (sign, COLOURS[trust])
        )
        gap = max(1, width - head.cell_length - tail.cell_length)
        redraw(line, head + Content(" " * gap) + tail)

    def _draw_pictures(self, call: Call) -> None:
        """Which pictures there are; the card stands where the large one is missing."""
        live = call.state in ("running", "reconnecting") and not call.held
        theirs = live and any(leg.camera and not leg.held for leg in call.legs)
        ours = live and bool(call.camera)
        for picture, there in ((self._picture, theirs), (self._own, ours)):
            if picture.display and not there:
                picture.clear()
            picture.display = there
        self._picture.placeholder = say("call.says.picture")
        self.query_one("#call-card").display = not theirs
        talk = self.query_one(CallTalk)
        talk.display = self._wide and call.state not in ("ended", "incoming")
        if talk.display:
            talk.show(call.room)
        self.query_one("#call-aside").display = ours or talk.display
        self._ask_for_pictures()

    @property
    def _wide(self) -> bool:
        """Whether the chat has room beside the picture."""
        return self.app.size.width >= WIDTHS[2][0] and self.app.size.height >= 22

    def shows(self, room: LogId) -> bool:
        """Whether the messages of a room are to be seen here."""
        if not self._ready:
            return False
        talk = self.query_one(CallTalk)
        return self._on_top and talk.display and talk.room == room

    @on(Picture.WantedChanged)
    def _ask_for_pictures(self) -> None:
        """Have as many pixels sent as the larger of the two pictures has room for."""
        views = [one.wanted for one in (self._picture, self._own) if one.display]
        view = max(views, key=lambda one: one.width * one.height, default=View())
        if view != self._view:
            self._view = view
            self._send_view()

    @work(group="view", exclusive=True)
    async def _send_view(self) -> None:
        try:
            await self._desk.port.set_view(self._view)
        except Exception:
            # Nobody asked for it: the picture keeps its size, or does not come.
            LOG.exception("the size of pictures could not be told")

    def _draw_card(self, call: Call) -> None:
        """What stands where no picture is."""
        card = self.query_one("#call-card", Static)
        if not card.display:
            return
        desk = self._desk
        low = self.size.height < 16
        who, account = desk.who(call), one_line(desk.account(call))
        lines = [Content(who).stylize("bold")]
        if account and account != who and not low:
            lines.append(Content(account).stylize("$quiet"))
        if call.state == "ended":
            lines = [Content(end_text(call, who)).stylize("bold")]
            if time_text := duration(call, self._ended):
                lines.append(Content(time_text).stylize("$quiet"))
        else:
            lines.append(Content(self._says(call)).stylize("$accent"))
            lines += [] if low else [Content("")]
            lines += list(self._sure(desk.trust(call)))
        redraw(card, Content("\n").join(lines))

    def _says(self, call: Call) -> str:
        if call.state == "running" and call.held:
            return say("call.says.held")
        if call.state == "running":
            silent = [leg for leg in call.legs if leg.held]
            if silent:
                return say("call.says.holds", who=self._desk.who(call))
        return state_text(call, _now_ms())

    def _sure(self, trust: Trust) -> Iterator[Content]:
        """Whether it is really them, and the key to find out."""
        yield Content(say(f"call.trust.{trust.value}")).stylize(COLOURS[trust])

    def _draw_trouble(self, call: Call) -> None:
        over = call.state == "ended"
        texts = [] if over else [one_line(t) for t in (call.detail, *call.trouble) if t]
        trouble = self.query_one("#call-trouble", Static)
        trouble.display = bool(texts)
        redraw(trouble, Content("\n".join(f"! {text}" for text in texts)))

    def _draw_levels(self) -> None:
        call = self.call
        line = self.query_one("#call-levels", Static)
        live = call is not None and call.state in ("running", "reconnecting")
        line.display = live
        if call is None or not live:
            return
        width = self.size.width - 2
        you, them = say("timeline.you"), self._desk.who(call).partition("@")[0]
        cells = max(4, min(20, (width - cell_len(you) - cell_len(them) - 8) // 2))
        silent = call.muted or call.held
        ours = "·" * cells if silent else meter(self._levels.microphone, cells)
        theirs = meter(self._levels.speaker, cells)
        if (ours, theirs, width) == self._metered:
            return  # ten times a second: only what is seen to change is drawn
        self._metered = (ours, theirs, width)
        line.update(
            Content.assemble(
                (f"{you} ", "$quiet"),
                (ours, "$quiet" if silent else "$success"),
                "    ",
                (f"{them} ", "$quiet"),
                (theirs, "$primary"),
            ),
            layout=False,
        )

    def _draw_quality(self, call: Call) -> None:
        line = self.query_one("#call-quality", Static)
        known = [leg.quality for leg in call.legs if leg.quality is not None]
        # On hold nothing is sent, and what is missing is not lost.
        still = call.held or any(leg.held for leg in call.legs)
        live = call.state in ("running", "reconnecting") and not still
        line.display = bool(known) and live
        if known:
            parts = quality_parts(known[0], self.size.width - 2)
            redraw(line, Content(" · ".join(parts)))

    # --- what comes in --------------------------------------------------------------

    def _see(self, value: Frame | Levels) -> None:
        """A picture, or how loud it is."""
        if isinstance(value, Levels):
            self._hear(value)
            return
        picture = self._picture if value.leg else self._own
        if picture.display:
            picture.show(value)

    def _hear(self, levels: Levels) -> None:
        self._peak = Levels(
            max(levels.microphone, self._peak.microphone),
            max(levels.speaker, self._peak.speaker),
        )
        now = time.monotonic()
        if now >= self._meter_due:
            self._meter_due = now + METER_SECONDS
            self._levels, self._peak = self._peak, Levels(0, 0)
            self._draw_levels()

    def _leave_soon(self, seconds: float) -> None:
        if self._leaving is None:
            self._leaving = self.set_timer(seconds, self._over)

    def _over(self) -> None:
        """The call ended a while ago."""
        self._leaving = None
        call = self._desk.book.active or self._desk.book.incoming
        if call is None and self._on_top:
            self.dismiss(None)

    @property
    def _on_top(self) -> bool:
        # `is_current` holds below a panel too, and what goes would be the panel.
        return self.app.screen is self

    def on_screen_resume(self) -> None:
        """A panel over the call was closed; the call may be over by now."""
        if self._last is not None:
            for picture in (self._picture, self._own):
                picture.set_setting(self.app.settings.video)
            self.changed()
            self.query_one(CallTalk).see()

    def on_app_focus(self) -> None:
        """Somebody came back to the terminal."""
        if self._ready:
            self.query_one(CallTalk).see()

    # --- keys -----------------------------------------------------------------------

    @work(group="call-keys")
    async def _do(self, doing: Awaitable[None]) -> None:
        try:
            await doing
        except Exception as error:
            text = sentence(error, self.app.locations.log)
            self.notify(text, severity="warning", markup=False, timeout=8)

    @property
    def _live(self) -> Call | None:
        call = self.call
        return None if call is None or call.state in ("ended", "incoming") else call

    @property
    def _talking(self) -> bool:
        return self._space.left(time.monotonic()) > 0

    def action_mute(self) -> None:
        """Be heard, or not."""
        if (call := self._live) is not None:
            self._space.release()
            self._do(self._desk.mute(call, not call.muted))

    def action_hold(self) -> None:
        """Neither hear nor be heard, or go on."""
        if (call := self._live) is not None:
            self._do(self._desk.hold(call))

    def action_camera(self) -> None:
        """Be seen, or not."""
        if (call := self._live) is not None:
            self._do(self._desk.show(call, "camera"))

    def action_share(self) -> None:
        """Show one's screen, or not."""
        if (call := self._live) is not None:
            self._do(self._desk.show(call, "screen"))

    def action_devices(self) -> None:
        """Choose devices."""
        self.app.push_screen(SoundScreen(self._client))

    def action_push(self) -> None:
        """Be heard only while Space is held, or always."""
        on = not self._desk.push
        self.app.change(push_to_talk=on)
        self._space.release()
        if (call := self._live) is not None:
            self._do(self._desk.mute(call, on))
        self.notify(say(f"call.push.{'on' if on else 'off'}"), timeout=8)
        self.changed()

    def action_talk(self) -> None:
        """The space bar is held: the microphone opens until its repeats stop."""
        call = self._live
        if call is None or not self._desk.push:
            return
        was = self._talking
        self._space.press(time.monotonic())
        if not was:
            self._do(self._desk.mute(call, False))
        if self._released is None:
            self._wait_for_release()

    def _wait_for_release(self) -> None:
        left = self._space.left(time.monotonic())
        if left > 0:
            self._released = self.set_timer(left, self._wait_for_release)
            return
        self._released = None
        call = self._live
        if call is not None and self._desk.push:
            self._do(self._desk.mute(call, True))

    def action_verify(self) -> None:
        """Compare keys with the other one."""
        call = self.call
        if call is not None and (account := self._desk.account(call)):
            trust = self._desk.trust(call)
            self.app.push_screen(VerifyScreen(self._client, account, trust))

    def action_end(self) -> None:
        """Hang up."""
        if (call := self._desk.book.active) is not None:
            self._do(self._desk.port.hang_up(call.id))

    def action_write(self) -> None:
        """Write in the chat beside the picture; Esc ends it."""
        talk = self.query_one(CallTalk)
        if talk.display:
            talk.query_one(Composer).focus()

    def action_leave(self) -> None:
        """Back to the chat; the call goes on."""
        if self._on_top:
            self.dismiss(None)


def _now_ms() -> int:
    return int(time.time() * 1000)
