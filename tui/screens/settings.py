"""What can be set: of a room, of the backup; and the menu that leads to all of it."""

from collections.abc import Sequence
from typing import ClassVar

from textual import events, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import ProgressBar, Static
from textual.widgets.option_list import Option

from client.errors import BackupFailed
from client.model import BackupStatus, Room
from tui.amounts import DAY, HOUR, size, span
from tui.backend import ChatClient
from tui.cells import one_line
from tui.feed import Batch
from tui.layout import clock
from tui.screens.dialogs import FormDialog
from tui.screens.form import sentence
from tui.screens.panel import ListPanel, Panel
from tui.text import say
from tui.widgets.phrase import PhraseField, phrase_errors
from tui.widgets.top_line import bar

__all__ = ["BackupScreen", "DeleteScreen", "MenuScreen", "RoomScreen"]

TIMERS = (0, HOUR, DAY, 7 * DAY, 30 * DAY, 90 * DAY)
"""Seconds that people choose from; another value set elsewhere is shown too."""


class MenuScreen(ListPanel):
    """Where devices, keys, backup and repair are found; a letter or Enter opens."""

    def __init__(
        self, client: ChatClient, lines: Sequence[tuple[str, str, str]]
    ) -> None:
        """Args: lines: (key, action of the chat, what is behind it now)."""
        super().__init__(client, say("menu.title"), empty="")
        self._lines = lines

    async def options(self) -> list[Option]:
        """A line for each, with what there is to know now."""
        backup = await self._backup()
        return [
            Option(
                Content.assemble(
                    (f"{key.upper()}  ", "bold $accent"),
                    (say(f"menu.{action}"), "bold"),
                    (
                        self.indented(backup if action == "backup" else about, 3),
                        "$quiet",
                    ),
                ),
                id=action,
            )
            for key, action, about in self._lines
        ]

    async def _backup(self) -> str:
        """How the backup stands, in a line."""
        try:
            status = await self.client.backup.status()
        except Exception as error:
            return sentence(error, self.app.locations.log)
        if not status.enabled:
            return say("backup.state.off")
        if not status.last:
            return f"{say('backup.state.on')} · {say('backup.never')}"
        last = say("backup.last", time=f"{clock(status.last):%Y-%m-%d %H:%M}")
        return f"{say('backup.state.on')} · {status.error or last}"

    def key_of(self, key: str) -> str:
        """The action that a letter stands for."""
        return next((action for one, action, _ in self._lines if one == key), "")

    def on_key(self, event: events.Key) -> None:
        """A letter opens its line."""
        if action := self.key_of(event.key):
            event.stop()
            self.dismiss(action)

    def picked(self) -> None:
        """Enter opens the line under the cursor."""
        self.dismiss(self.chosen)


class RoomScreen(ListPanel):
    """The settings of one room: the timer of messages, devices that are refused."""

    def __init__(self, client: ChatClient, room: Room, title: str) -> None:
        super().__init__(client, say("roomset.title", room=title), empty="")
        self._room = room

    async def options(self) -> list[Option]:
        """The timers, then the switch."""
        room = self._room
        lines = []
        timers = sorted({*TIMERS, room.disappearing})
        for seconds in timers:
            on = seconds == room.disappearing
            title = say("roomset.keep") if not seconds else span(seconds)
            lines.append(
                Option(
                    Content.assemble(
                        ("(•) " if on else "( ) ", "bold $primary" if on else "$quiet"),
                        (say("roomset.timer", span=title), "bold" if on else ""),
                    ),
                    id=f"timer-{seconds}",
                )
            )
        for name, on in (("refuse", room.refuse_unverified), ("mute", room.muted)):
            lines.append(
                Option(
                    Content.assemble(
                        ("[x] " if on else "[ ] ", "bold $primary" if on else "$quiet"),
                        (say(f"roomset.{name}"), "bold" if on else ""),
                        (self.indented(say(f"roomset.{name}.why"), 4), "$quiet"),
                    ),
                    id=name,
                )
            )
        return lines

    def above(self) -> ComposeResult:
        """What the timer does and does not."""
        yield Static(Content(say("roomset.text")), classes="panel-why")

    def changed(self, batch: Batch) -> None:
        """The room changed, by us or somebody else."""
        room = batch.rooms.get(self._room.id)
        if room is not None and room != self._room:
            self._room = room
            self.reload()

    @work(group="roomset", exclusive=True)
    async def picked(self) -> None:  # type: ignore[override]
        """Set what is under the cursor."""
        chosen, room = self.chosen, self._room

        async def perform() -> bool:
            if chosen.startswith("timer-"):
                seconds = int(chosen.removeprefix("timer-"))
                await self.client.set_disappearing(room.id, seconds)
            elif chosen == "refuse":
                on = not room.refuse_unverified
                await self.client.set_refuse_unverified(room.id, on)
            else:
                await self.client.set_muted(room.id, not room.muted)
            return True

        if await self.trying(perform(), say("roomset.busy")):
            own = "roomset.done.own" if chosen == "mute" else "roomset.done"
            self.note(say(own), "done")


class BackupScreen(Panel):
    """The encrypted backup: how it stands, on, off, now."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("b", "now", "key.backup.now"),
        Binding("o", "switch", "key.backup.switch"),
    ]

    def __init__(self, client: ChatClient) -> None:
        super().__init__(client, say("backup.title"))
        self._status: BackupStatus | None = None

    def body(self) -> ComposeResult:
        """State, facts, how full it is, what it is."""
        with Vertical(classes="panel-text"):
            yield Static(id="backup-state", markup=False)
            yield ProgressBar(id="backup-full", show_eta=False, show_percentage=False)
            yield Static(Content(say("backup.why")), classes="panel-why -spaced")

    def on_mount(self) -> None:
        """Read how it stands."""
        self.query_one("#backup-full").display = False
        self.reload()

    def changed(self, batch: Batch) -> None:
        """A backup may have run."""
        if batch.restore is None:
            self.reload()

    @work(group="list", exclusive=True)
    async def reload(self) -> None:
        """Read how it stands."""
        try:
            self._status = await self.client.backup.status()
        except Exception as error:
            self.note(sentence(error, self.app.locations.log), "error")
            return
        self._draw(self._status)

    def _draw(self, status: BackupStatus) -> None:
        self.query_one("#backup-state", Static).update(backup_text(status))
        bar = self.query_one("#backup-full", ProgressBar)
        bar.display = bool(status.enabled and status.quota)
        bar.update(total=max(1, status.quota), progress=min(status.size, status.quota))
        self.off(*(() if status.enabled else ("now",)))

    @work(group="backup", exclusive=True)
    async def action_now(self) -> None:
        """Back up now."""
        if self._status is None or not self._status.enabled:
            return

        def progress(done: int, total: int) -> None:
            self.note(f"{say('backup.busy')} {bar(done, total)}", "busy")

        done = await self.trying(self.client.backup.now(progress), say("backup.busy"))
        if done is not None:
            self.note(say("backup.done"), "done")
        self.reload()

    @work(group="backup", exclusive=True)
    async def action_switch(self) -> None:
        """On, or off after asking."""
        if self._status is None:
            return
        on = self._status.enabled
        if on and not await self.sure("backup.off"):
            return

        self.note(say("backup.switching"), "busy")
        backup = self.client.backup
        try:
            await (backup.disable() if on else backup.enable())
        except BackupFailed as error:
            self._with_phrase(str(error))
        except Exception as error:
            self.note(sentence(error, self.app.locations.log), "error")
        else:
            self._switched(not on)

    def _switched(self, on: bool) -> None:
        self.note(say("backup.is.on" if on else "backup.is.off"), "done")
        self.reload()

    def _with_phrase(self, why: str) -> None:
        """This device has no key for backups yet: the words give it."""

        async def perform(values: dict[str, str]) -> None:
            words = " ".join(values["phrase"].lower().split())
            await self.client.backup.enable(phrase=words)
            self._switched(True)

        self.note("")
        self.app.push_screen(
            FormDialog(
                say("backup.title"),
                PhraseField(),
                text=why,
                go=say("backup.on.go"),
                busy=lambda values: say("backup.switching"),
                check=lambda values: phrase_errors(values["phrase"]),
                perform=perform,
                log=self.app.locations.log,
            )
        )


def backup_text(status: BackupStatus) -> Content:
    """How the backup stands, in lines."""
    if not status.enabled:
        state = Content.assemble(("○ ", "$error"), (say("backup.state.off"), "bold"))
    else:
        state = Content.assemble(("● ", "$success"), (say("backup.state.on"), "bold"))
    last = f"{clock(status.last):%Y-%m-%d %H:%M}" if status.last else ""
    lines = [
        state,
        Content(say("backup.last", time=last) if last else say("backup.never")),
    ]
    if status.last:
        lines.append(
            Content(
                say(
                    "backup.size",
                    messages=f"{status.messages:,}",
                    size=size(status.size),
                    quota=size(status.quota),
                )
            )
        )
    if status.error:
        lines.append(Content.styled(f"✗ {one_line(status.error)}", "$error"))
    return Content("\n").join(lines)


class DeleteScreen(ListPanel):
    """Delete one message: here, or everywhere."""

    def __init__(self, client: ChatClient, quote: str, *, own: bool) -> None:
        super().__init__(client, say("delete.title"), empty="")
        self._quote = quote
        self._own = own

    def above(self) -> ComposeResult:
        """What is about to go."""
        yield Static(Content(self._quote), classes="panel-why")

    async def options(self) -> list[Option]:
        """The mild answer first."""
        kinds = ["me", "everyone"] if self._own else ["me"]
        return [
            Option(
                Content.assemble(
                    (say(f"delete.{kind}"), "bold"),
                    (self.indented(say(f"delete.{kind}.why")), "$quiet"),
                ),
                id=kind,
            )
            for kind in kinds
        ]

    def picked(self) -> None:
        """That one."""
        self.dismiss(self.chosen)
