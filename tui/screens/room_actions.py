"""What changes rooms: new ones, members, names, leaving; each with its dialog."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from textual import on, work

from client.model import Room, RoomMember
from protocol.log import LogId
from tui.backend import ChatClient
from tui.layout import WIDTHS
from tui.messages import MemberChosen
from tui.screens.dialogs import (
    Confirm,
    FormDialog,
    accounts_in,
    check_account,
    check_accounts,
    check_name,
)
from tui.screens.form import Field, sentence
from tui.text import say
from tui.updates import PromptScreen
from tui.widgets.room_list import room_title

if TYPE_CHECKING:
    from tui.app import TelexApp

__all__ = ["RoomActions"]


class RoomActions(PromptScreen[None]):
    """The part of the chat screen that changes rooms."""

    app: "TelexApp"

    def __init__(self, client: ChatClient) -> None:
        super().__init__()
        self.client = client
        self.node = client.account.partition("@")[2]
        self.rooms: dict[LogId, Room] = {}
        self.room_id: LogId | None = None
        self.members_shown: Sequence[RoomMember] = ()

    @property
    def is_current(self) -> bool:
        """Whether anything of it is to be seen.

        Textual takes what lies right below any screen for visible, and draws the whole
        of the one in front for each change here: for a cursor, twice a second.
        """
        if not super().is_current:
            return False
        front = self.app.screen
        return front is self or front.styles.background.a < 1

    @property
    def room(self) -> Room | None:
        """The open room."""
        return None if self.room_id is None else self.rooms.get(self.room_id)

    @property
    def narrow(self) -> bool:
        """Whether only one column fits."""
        return self.app.size.width < WIDTHS[1][0]

    @property
    def wide(self) -> bool:
        """Whether three columns fit."""
        return self.app.size.width >= WIDTHS[2][0]

    def title_of(self, room: Room) -> str:
        """A room's title, short."""
        return room_title(room, self.node)[0]

    def open_room(self, room: LogId) -> None:
        """Show a room."""
        raise NotImplementedError

    def verify_member(self, account: str) -> None:
        """Compare keys with a member."""
        raise NotImplementedError

    async def confirm(self, what: str, **values: object) -> bool:
        """Ask whether to do something that cannot be undone."""
        answer = await self.app.push_screen_wait(
            Confirm(
                say(f"{what}.title", **values),
                say(f"{what}.text", **values),
                say(f"{what}.go"),
            )
        )
        return bool(answer)

    def _opened(self, room: object) -> None:
        """A dialog ended; open the room it made."""
        if isinstance(room, Room):
            self.rooms.setdefault(room.id, room)
            self.open_room(room.id)

    def action_new_direct(self) -> None:
        """Write to somebody."""

        async def perform(values: dict[str, str]) -> object:
            return await self.client.start_direct(values["account"].strip())

        self.app.push_screen(
            FormDialog(
                say("new.direct"),
                Field("account", say("field.address"), say("field.address.hint")),
                text=say("new.direct.text"),
                go=say("new.direct.go"),
                busy=lambda v: say("new.direct.busy", account=v["account"].strip()),
                check=lambda values: {
                    "account": check_account(values["account"], self.client.account)
                },
                perform=perform,
                log=self.app.locations.log,
            ),
            self._opened,
        )

    def action_new_group(self) -> None:
        """Make a group."""

        def check(values: dict[str, str]) -> dict[str, str]:
            return {
                "name": check_name(values["name"]),
                "members": check_accounts(values["members"], self.client.account),
            }

        async def perform(values: dict[str, str]) -> object:
            return await self.client.create_group(
                values["name"].strip(), accounts_in(values["members"])
            )

        self.app.push_screen(
            FormDialog(
                say("new.group"),
                Field("name", say("new.group.name"), say("new.group.name.hint")),
                Field(
                    "members",
                    say("new.group.members"),
                    say("new.group.members.hint"),
                ),
                go=say("new.group.go"),
                busy=lambda values: say("new.group.busy"),
                check=check,
                perform=perform,
                log=self.app.locations.log,
            ),
            self._opened,
        )

    def _group(self) -> Room | None:
        """The open room, if its members can be changed; says why not."""
        room = self.room
        if room is None:
            self.notify(say("only.room"))
        elif not room.active:
            self.notify(say("only.active"))
        elif room.direct:
            self.notify(say("only.group"))
        else:
            return room
        return None

    def action_add_members(self) -> None:
        """Bring people into the open group."""
        if (room := self._group()) is None:
            return

        async def perform(values: dict[str, str]) -> None:
            await self.client.add_members(room.id, accounts_in(values["members"]))
            self.notify(say("done.added", room=self.title_of(room)), markup=False)

        self.app.push_screen(
            FormDialog(
                say("add.title", room=self.title_of(room)),
                Field(
                    "members",
                    say("new.group.members"),
                    say("new.group.members.hint"),
                ),
                go=say("add.go"),
                busy=lambda values: say("add.busy"),
                check=lambda values: {
                    "members": check_accounts(values["members"], self.client.account)
                },
                perform=perform,
                log=self.app.locations.log,
            )
        )

    def action_rename(self) -> None:
        """Give the open group another name."""
        if (room := self._group()) is None:
            return

        async def perform(values: dict[str, str]) -> None:
            await self.client.rename(room.id, values["name"].strip())

        self.app.push_screen(
            FormDialog(
                say("rename.title", room=self.title_of(room)),
                Field("name", say("new.group.name"), value=self.title_of(room)),
                go=say("rename.go"),
                busy=lambda values: say("rename.busy"),
                check=lambda values: {"name": check_name(values["name"])},
                perform=perform,
                log=self.app.locations.log,
            )
        )

    @on(MemberChosen)
    def _member_chosen(self, event: MemberChosen) -> None:
        if event.action == "add":
            self.action_add_members()
        elif event.action == "verify":
            self.verify_member(event.account)
        elif event.action == "leave" or event.account == self.client.account:
            self.action_leave()
        elif event.account:
            self._remove(event.account)

    @work(group="room-change")
    async def _remove(self, account: str) -> None:
        if (room := self._group()) is None:
            return
        if await self.confirm("remove", who=account):
            try:
                await self.client.remove_member(room.id, account)
            except Exception as error:
                self._failed(error)
                return
            self.notify(say("done.removed", who=account), markup=False)

    @work(group="room-change")
    async def action_leave(self) -> None:
        """Leave the open group, after asking."""
        if (room := self._group()) is None:
            return
        title = self.title_of(room)
        if await self.confirm("leave", room=title):
            try:
                await self.client.leave(room.id)
            except Exception as error:
                self._failed(error)
                return
            self.notify(say("done.left", room=title), markup=False)

    def _failed(self, error: Exception) -> None:
        text = sentence(error, self.app.locations.log)
        self.notify(text, severity="error", markup=False)
