"""Devices, keys, backup and repair around the chat: what opens which panel.

Nothing here may keep the chat from opening: what cannot be read at the start is
logged and read again with the next change.
"""

import logging

from textual import on, work

from client.model import Alarm, Message, RoomMember, Trust
from client.presence.chosen import Chosen
from protocol.log import LogId
from tui.amounts import span
from tui.backend import ChatClient
from tui.cells import one_line
from tui.feed import Batch
from tui.messages import MessageAction
from tui.screens.alarms import AlarmsScreen
from tui.screens.compare import OVER, CompareScreen
from tui.screens.devices import DevicesScreen
from tui.screens.doctor import DoctorScreen, ExplainScreen
from tui.screens.open_room import OpenRoom
from tui.screens.panel import Panel
from tui.screens.password import PasswordScreen
from tui.screens.presence import PresenceScreen
from tui.screens.settings import (
    BackupScreen,
    DeleteScreen,
    MenuScreen,
    RoomScreen,
)
from tui.screens.verify import KeyChangedScreen, PeopleScreen, VerifyScreen
from tui.text import say
from tui.widgets.top_line import RESTORED, TopLine, newest_here

__all__ = ["MENU", "Care"]

LOG = logging.getLogger(__name__)

MENU = (
    *(("a", "call"), ("i", "video_call"), ("m", "sound")),
    *(("d", "devices"), ("v", "verify"), ("c", "room_settings"), ("b", "backup")),
    *(("s", "presence"), ("w", "alarms"), ("r", "doctor"), ("p", "password")),
)
"""The letters of the menu, and what they open."""

DONE_SECONDS = 8
"""How long `everything is here` stays at the top."""


class Care(OpenRoom):
    """The part of the chat screen that leads to the panels."""

    top: TopLine

    def __init__(self, client: ChatClient) -> None:
        super().__init__(client)
        self._comparing: set[str] = set()

    # --- what happened ----------------------------------------------------------

    @work(group="care", exclusive=True)
    async def look_around(self) -> None:
        """Read which keys changed and which warnings are open."""
        try:
            news = self.top.news
            news.changed = tuple(await self.client.verification.changed())
            news.alarms = len(await self.client.alarms())
            for sas in await self.client.verification.comparisons():
                if sas.stage == "asked" and sas.id not in self._comparing:
                    news.asked = news.asked or sas
        except Exception:
            LOG.exception("keys and warnings could not be read")
        self.top.draw()

    def take_care(self, batch: Batch) -> None:
        """Say at the top what is new, and tell the panels above the chat."""
        news = self.top.news
        if batch.alarms or any(
            room.trust is Trust.CHANGED for room in batch.rooms.values()
        ):
            self.look_around()
        if batch.link is not None:
            if news.link is None:
                self._look_who_is_linked()
            news.link = batch.link
            if batch.link.stage == "done":
                self.set_timer(DONE_SECONDS, self._link_done)
        if batch.restore is not None:
            over = batch.restore.stage in RESTORED
            news.restore = None if over else batch.restore
            if over:
                bad = batch.restore.stage == "failed"
                text = say(f"restore.{batch.restore.stage}")
                self.notify(text, severity="warning" if bad else "information")
        for sas in batch.comparisons.values():
            if sas.stage == "asked" and sas.id not in self._comparing:
                news.asked = sas
                self.app.ring()
            elif news.asked is not None and sas.id == news.asked.id:
                news.asked = None if sas.stage in OVER else news.asked
            if sas.stage == "done" and self.room_id is not None:
                self.load_members(self.room_id)
        self.top.draw()
        for screen in self.app.screen_stack:
            if isinstance(screen, Panel) and screen.is_mounted:
                screen.changed(batch)

    @work(group="care-link", exclusive=True)
    async def _look_who_is_linked(self) -> None:
        try:
            self.top.news.here = newest_here(await self.client.devices.list())
        except Exception:
            LOG.exception("one's own devices could not be read")
        self.top.draw()

    def _link_done(self) -> None:
        link = self.top.news.link
        if link is not None and link.stage == "done":
            self.top.news.link = None
            self.top.draw()

    # --- the menu and what is behind it -------------------------------------------

    def action_menu(self) -> None:
        """Devices, keys, backup and repair."""
        room = self.room
        about = {
            action: say(f"menu.{action}.about", **self._now(action))
            for _, action in MENU
            if action != "backup"  # the menu itself asks how that stands
        }
        if room is None or not room.direct:
            about["call"] = about["video_call"] = say("menu.call.none")
        if room is None:
            about["room_settings"] = say("menu.room_settings.none")
        if room is None or not room.direct:
            about["verify"] = say("menu.verify.none")
        lines = [(key, action, about.get(action, "")) for key, action in MENU]
        self.app.push_screen(MenuScreen(self.client, lines), self.open_panel)

    def _now(self, action: str) -> dict[str, object]:
        room = self.room
        if action == "presence":
            return {"mode": say(f"mode.{self.client.presence.mode}")}
        if action == "alarms":
            return {"count": self.top.news.alarms}
        if action in ("verify", "call", "video_call"):
            return {"who": room.title if room is not None else ""}
        if action == "room_settings" and room is not None:
            timer = room.disappearing
            on = "on" if room.refuse_unverified else "off"
            return {
                "timer": span(timer) if timer else say("menu.timer.off"),
                "refuse": say(f"menu.refuse.{on}"),
            }
        return {"timer": "", "refuse": ""}

    def open_panel(self, action: object) -> None:
        """Open what the menu or the palette named."""
        opener = getattr(self, f"open_{action}", None) if action else None
        if opener is not None:
            opener()

    def open_devices(self) -> None:
        """My devices."""
        self.app.push_screen(DevicesScreen(self.client))

    def open_backup(self) -> None:
        """The encrypted backup."""
        self.app.push_screen(BackupScreen(self.client))

    def open_doctor(self) -> None:
        """What does not work."""
        self.app.push_screen(DoctorScreen(self.client, self.room_id, self._titles()))

    def open_alarms(self) -> None:
        """Warnings."""
        titles = {str(room): title for room, title in self._titles().items()}
        self.app.push_screen(AlarmsScreen(self.client, titles), self._after_alarms)

    def _after_alarms(self, result: object) -> None:
        self.look_around()
        if isinstance(result, Alarm):
            self._choose_key()

    def open_room_settings(self) -> None:
        """The settings of the open room."""
        if (room := self.room) is None:
            self.notify(say("only.room"))
        elif not room.active:
            self.notify(say("only.active"))
        else:
            self.app.push_screen(RoomScreen(self.client, room, self.title_of(room)))

    def open_presence(self) -> None:
        """How others see us."""
        room = self.room
        who = room.title if room is not None and room.direct else ""
        self.app.push_screen(PresenceScreen(self.client, who))

    @work(group="presence", exclusive=True)
    async def be(self, state: Chosen) -> None:
        """Choose how others see us."""

        async def choose() -> bool:
            await self.client.presence.set_state(state)
            return True

        if await self._try(choose()):
            self.notify(say(f"presence.done.{state}"), timeout=3)

    def open_password(self) -> None:
        """Another password for this device."""
        self.app.push_screen(PasswordScreen(self.client))

    def _titles(self) -> dict[LogId, str]:
        return {room.id: self.title_of(room) for room in self.rooms.values()}

    # --- people --------------------------------------------------------------------

    @on(TopLine.Pressed)
    def action_verify(self) -> None:
        """What the line at the top asks; else verify who is in the open room."""
        news = self.top.news
        match news.action:
            case "sas":
                self._answer_comparison()
            case "changed":
                self._choose_key()
            case "alarms":
                self.open_alarms()
            case _:
                self.open_verify()

    def _answer_comparison(self) -> None:
        sas, self.top.news.asked = self.top.news.asked, None
        self.top.draw()
        if sas is not None:
            self._comparing.add(sas.id)
            self.app.push_screen(CompareScreen(self.client, sas.id, sas.account, sas))

    @work(group="care-open", exclusive=True)
    async def _choose_key(self) -> None:
        changes = await self._try(self.client.verification.changed())
        self.top.news.changed = tuple(changes or ())
        change = self.top.news.pressing
        if change is None and changes:
            change = changes[0]
        if change is None:
            self.top.draw()
            return
        titles = self._titles()
        rooms = tuple(titles[room] for room in change.rooms if room in titles)
        await self.app.push_screen_wait(KeyChangedScreen(self.client, change, rooms))
        # Left open or chosen: the line does not stand there for ever.
        self.top.news.skipped.add(change.account)
        self.look_around()

    def open_verify(self) -> None:
        """Compare keys with the other one, or with somebody of the group."""
        room = self.room
        others = [member for member in self.members_shown if not member.own]
        if room is None:
            self.notify(say("only.room"))
        elif room.direct:
            known = next((m for m in others if m.account == room.title), None)
            self._verify(known, room.title, room.trust)
        else:
            people = PeopleScreen(self.client, tuple(others), self.node)
            self.app.push_screen(people, self._verify_account)

    def _verify_account(self, account: object) -> None:
        if isinstance(account, str):
            self.verify_member(account)

    def verify_member(self, account: str) -> None:
        """Compare keys with a member of the open room."""
        for member in self.members_shown:
            if member.account == account and not member.own:
                self._verify(member, member.account, member.trust)

    def _verify(self, member: RoomMember | None, account: str, trust: Trust) -> None:
        trust = member.trust if member is not None else trust
        if trust is Trust.CHANGED:
            self.top.news.skipped.discard(account)
            self._choose_key()
            return
        self.app.push_screen(
            VerifyScreen(self.client, account, trust), self._after_verify
        )

    def _after_verify(self, result: object) -> None:
        if self.room_id is not None:
            self.load_members(self.room_id)

    # --- messages ------------------------------------------------------------------

    @on(MessageAction)
    def _care_for_message(self, event: MessageAction) -> None:
        if event.action == "explain":
            self._explain(event.id)
        elif event.action == "delete":
            message = self.timeline.message(event.id)
            if message is not None and message.kind == "text":
                self._delete(message)

    @work(group="message", exclusive=True)
    async def _explain(self, message: str) -> None:
        room = self.room_id
        if room is None:
            return
        found = await self._try(self.client.doctor.examine(room))
        for ailment in found or ():
            if ailment.message == message:
                self.app.push_screen(ExplainScreen(self.client, ailment))
                return
        if found is not None:
            self.notify(say("explain.gone"))

    @work(group="message", exclusive=True)
    async def _delete(self, message: Message) -> None:
        quote = one_line(message.text)[:200]
        screen = DeleteScreen(self.client, quote, own=message.own)
        kind = await self.app.push_screen_wait(screen)
        if not kind:
            return
        everyone = kind == "everyone"
        if everyone and not await self.confirm("delete.everyone"):
            return

        async def delete() -> bool:
            await self.client.delete_message(message.id, everyone)
            return True

        if await self._try(delete()):
            self.timeline.choose(None)
            self.notify(say("delete.done"))
            if not everyone and self.room_id is not None:
                self._fetch(self.room_id)
