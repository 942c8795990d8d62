"""Warnings: what somebody did that must not happen, until it is dismissed."""

from typing import ClassVar

from textual import work
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets.option_list import Option

from client.model import Alarm
from tui.backend import ChatClient
from tui.feed import Batch
from tui.layout import clock
from tui.screens.panel import ListPanel
from tui.text import LANGUAGES, language, say

__all__ = ["AlarmsScreen"]


class AlarmsScreen(ListPanel):
    """All open warnings, and those dismissed since this list was opened."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "look", "key.alarm.look"),
        Binding("c", "evidence", "key.alarm.evidence"),
        Binding("d,delete", "dismiss_alarm", "key.alarm.dismiss"),
    ]

    def __init__(self, client: ChatClient, rooms: dict[str, str]) -> None:
        super().__init__(client, say("alarms.title"), empty=say("alarms.empty"))
        self._rooms = rooms
        self._alarms: dict[str, Alarm] = {}
        self._gone: dict[str, Alarm] = {}

    async def options(self) -> list[Option]:
        """The newest first; those dismissed below."""
        found = await self.client.alarms()
        self._alarms = {
            alarm.id: alarm for alarm in sorted(found, key=lambda a: -a.time)
        }
        lines = [self._line(alarm, True) for alarm in self._alarms.values()]
        for id, alarm in self._gone.items():
            if id not in self._alarms:
                lines.append(self._line(alarm, False))
        return lines

    def _line(self, alarm: Alarm, still: bool) -> Option:
        name = f"alarm.{alarm.code}"
        title = say(name if name in LANGUAGES[language()] else "alarm.other")
        state = say("alarm.open" if still else "alarm.dismissed")
        at = f"{clock(alarm.time):%Y-%m-%d %H:%M}" if alarm.time else ""
        room = self._rooms.get(alarm.room or "", "")
        facts = " · ".join(word for word in (state, room, at) if word)
        mark = ("▲ ", "bold $error") if still else ("✓ ", "$quiet")
        text = Content.assemble(
            mark,
            (title, "bold" if still else "$quiet"),
            (f"  {facts}", "$quiet"),
            (self.indented(alarm.text), "" if still else "$quiet"),
        )
        return Option(text, id=alarm.id)

    def changed(self, batch: Batch) -> None:
        """There are more of them."""
        if batch.alarms:
            self.reload()

    def pointed(self) -> None:
        """What was dismissed cannot be dismissed again."""
        alarm = self._alarms.get(self.chosen)
        off = [] if alarm is not None else ["dismiss_alarm"]
        if alarm is None or alarm.code != "key_changed":
            off.append("look")
        self.off(*off)

    def picked(self) -> None:
        """Enter: what can be done about it."""
        self.action_look()

    def action_look(self) -> None:
        """Go to where one chooses about a changed key."""
        alarm = self._alarms.get(self.chosen)
        if alarm is not None and alarm.code == "key_changed":
            self.dismiss(alarm)

    def action_evidence(self) -> None:
        """Copy the warning with what proves it, for others to look at."""
        alarm = self._alarms.get(self.chosen) or self._gone.get(self.chosen)
        if alarm is not None:
            parts = (alarm.text, alarm.evidence)
            self.app.copy_to_clipboard("\n\n".join(part for part in parts if part))
            self.note(say("done.copied"), "done")

    @work(group="alarm", exclusive=True)
    async def action_dismiss_alarm(self) -> None:
        """It was read and understood."""
        alarm = self._alarms.get(self.chosen)
        if alarm is None:
            return

        async def dismiss() -> bool:
            await self.client.dismiss(alarm.id)
            return True

        if await self.trying(dismiss()):
            self._gone[alarm.id] = alarm
            self.reload()
