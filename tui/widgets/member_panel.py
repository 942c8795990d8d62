"""Who is in the open room, with what one may do about it."""

from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.widgets import Button, OptionList, Static
from textual.widgets.option_list import Option

from client.model import RoomMember
from protocol.policy import Role
from tui.backend import PresencePort
from tui.badges import COLOURS, SIGNS
from tui.badges import word as trust_word
from tui.being import COLOURS as BEING_COLOURS
from tui.being import SIGNS as SIGNS_OF_BEING
from tui.being import word as being_word
from tui.cells import cell_len
from tui.layout import person
from tui.messages import MemberChosen
from tui.text import say
from tui.theme import person_colour

__all__ = ["MemberPanel", "role_name"]


WIDTH = 30
"""Cells, until it is laid out (telex.tcss)."""


def role_name(role: int) -> str:
    """A role in words; a number between two counts as the lower one."""
    if role >= Role.OWNER:
        return say("members.owner")
    return say("members.admin" if role >= Role.ADMIN else "members.member")


class MemberList(OptionList):
    """The members; keys act on the one under the cursor."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("a", "member('add')", "key.add"),
        Binding("x,delete", "member('remove')", "key.remove"),
        Binding("l", "member('leave')", "key.leave"),
        Binding("v,enter", "member('verify')", "key.verify.open"),
    ]

    def action_member(self, action: str) -> None:
        """Ask the screen to add, remove or leave."""
        self.post_message(MemberChosen(action, self.account))

    @property
    def account(self) -> str:
        """The member under the cursor."""
        if self.highlighted is None:
            return ""
        return self.get_option_at_index(self.highlighted).id or ""


class MemberPanel(Vertical):
    """The list of members beside the timeline."""

    def compose(self) -> ComposeResult:
        """A title, the list, and the buttons for what keys do as well."""
        yield Static(id="members-title", markup=False)
        yield MemberList(id="members-list", markup=False)
        with Horizontal(id="members-buttons"):
            yield Button("", id="members-add", compact=True)
            yield Button("", id="members-remove", compact=True)
            yield Button("", id="members-leave", compact=True)

    def on_mount(self) -> None:
        """Put the words in."""
        for name in ("add", "remove", "leave"):
            button = self.query_one(f"#members-{name}", Button)
            button.label = Content(say(f"members.{name}"))

    presence: PresencePort | None = None

    def show(
        self, members: Sequence[RoomMember], *, node: str, direct: bool, active: bool
    ) -> None:
        """Show these members; only a group's can be changed."""
        title = f"{say('members.title')} · {len(members)}"
        self.query_one("#members-title", Static).update(Content(title))
        listing = self.query_one(MemberList)
        at = listing.highlighted
        ordered = sorted(members, key=lambda m: (-m.role, m.account))
        listing.set_options([self._option(member, node) for member in ordered])
        if ordered:
            listing.highlighted = min(at or 0, len(ordered) - 1)
        me = next((member for member in members if member.own), None)
        admin = active and not direct and me is not None and me.role >= Role.ADMIN
        self.query_one("#members-add", Button).display = admin
        self.query_one("#members-remove", Button).display = admin
        self.query_one("#members-leave", Button).display = active and not direct

    def _option(self, member: RoomMember, node: str) -> Option:
        name, rest = person(member.account, node)
        dark = self.app.current_theme.dark
        colour = person_colour(member.account, dark=dark)
        sign = (
            ("  ", "")
            if member.own
            else (
                f"{SIGNS[member.trust]} ",
                COLOURS[member.trust],
            )
        )
        content = Content.assemble(sign, (name, f"bold {colour}"), (rest, "$quiet"))
        content += self._being(member, content.cell_length)
        words = [say("members.you") if member.own else trust_word(member.trust)]
        if member.role >= Role.ADMIN:
            words.append(role_name(member.role))
        if member.devices == 0:
            words.append(say("members.nodevice"))
        elif member.devices == 1:
            words.append(say("members.device"))
        else:
            words.append(say("members.devices", count=member.devices))
        second = Content.assemble(("\n  " + " · ".join(words), "$quiet"))
        if bad := member.unverified_devices:
            key = "members.unverified.one" if bad == 1 else "members.unverified"
            second += Content.styled(f"\n  ▲ {say(key, count=bad)}", "$error")
        return Option(Content.assemble(content, second), id=member.account)

    def _being(self, member: RoomMember, used: int) -> Content:
        """Whether somebody is there, beside the name or, if it is long, below it."""
        if self.presence is None or member.own:
            return Content("")
        presence = self.presence.of(member.account)
        word = being_word(presence)
        if not word:
            return Content("")
        sign = Content.styled(
            f" {SIGNS_OF_BEING[presence.state]}", BEING_COLOURS[presence.state]
        )
        # Two cells of padding at each side, and the scrollbar.
        fits = used + 3 + cell_len(word) <= (self.size.width or WIDTH) - 5
        return Content.assemble(sign, (f" {word}" if fits else f"\n  {word}", "$quiet"))

    def on_button_pressed(self, event: Button.Pressed) -> None:
        """Do what the keys do."""
        event.stop()
        action = (event.button.id or "").removeprefix("members-")
        # From here and not by the list: a message whose sender is the parent of
        # the widget it starts from goes no further.
        self.post_message(MemberChosen(action, self.query_one(MemberList).account))
