"""New chats, groups and their members: the dialogs and the member list."""

import asyncio
from pathlib import Path

import pytest

from protocol.errors import NoKeyPackage
from tests.tui.fake_client import FakeClient
from tests.tui.looking import looking
from tui.screens.chat import ChatScreen

BOB = "bob@example.org"
CAROL = "carol@example.net"


@pytest.fixture
def client() -> FakeClient:
    return FakeClient()


async def test_new_chat(client: FakeClient, tmp_path: Path) -> None:
    async with looking(tmp_path, client=client) as sight:
        await sight.sees("No chats yet", "Ctrl+N")
        await sight.press("ctrl+n")
        await sight.sees("To whom do you want to write?")
        for wrong, text in (
            ("bob", "is not an address"),
            ("alice@example.org", "That is your own address"),
            ("nobody@example.org", "There is no such account"),
        ):
            await sight.press("ctrl+a", "ctrl+k")
            await sight.type(wrong)
            await sight.press("enter")
            await sight.sees(text)
        await sight.press("ctrl+a", "ctrl+k")
        await sight.type(BOB)
        await sight.press("enter")
        await sight.until(lambda: isinstance(sight.app.screen, ChatScreen))
        await sight.sees("bob", "direct chat", "end-to-end encrypted")
        assert sight.app.focused is sight.chat.composer


async def test_escape_leaves_a_dialog_without_doing_anything(
    client: FakeClient, tmp_path: Path
) -> None:
    async with looking(tmp_path, client=client) as sight:
        await sight.press("ctrl+n")
        await sight.type(BOB)
        await sight.press("escape")
        await sight.misses("To whom")
        assert await client.rooms() == []


async def test_new_group_and_its_errors(client: FakeClient, tmp_path: Path) -> None:
    async with looking(tmp_path, client=client) as sight:
        await sight.press("ctrl+g", "enter", "enter")
        await sight.sees("Give the group a name", "Write at least one address")
        await sight.type("Garden")
        await sight.press("enter")
        await sight.type(f"{BOB}, {CAROL}")
        client.refuse_next = NoKeyPackage(f"{BOB} has no device.")
        await sight.press("enter")
        await sight.sees("no device that can be added right now")
        await sight.press("enter")
        await sight.until(lambda: isinstance(sight.app.screen, ChatScreen))
        await sight.sees("Garden", "3 members")


async def test_members_on_a_wide_terminal(client: FakeClient, tmp_path: Path) -> None:
    client.add_room("Garden", [BOB, CAROL])
    async with looking(tmp_path, client=client, size=(140, 30)) as sight:
        await sight.sees("Members · 3", "you · owner", "carol@example.net", "1 device")
        await sight.press("f3")
        await sight.misses("Members · 3")
        assert not sight.app.settings.members
        await sight.press("ctrl+t")
        await sight.sees("Members · 3")


async def test_add_remove_and_leave(client: FakeClient, tmp_path: Path) -> None:
    room = client.add_room("Garden", [BOB])
    async with looking(tmp_path, client=client, size=(140, 30)) as sight:
        await sight.press("f3", "f3")
        await sight.sees("Members · 2")
        await sight.press("a")
        await sight.sees("Add members to Garden")
        await sight.type(CAROL)
        await sight.press("enter")
        await sight.sees("Members · 3", "Added to Garden.")
        await sight.press("down", "x")
        await sight.sees("Remove bob@example.org?")
        # The safe answer has the focus; the other one is one key away.
        await sight.press("enter", "x")
        assert len(await client.members(room)) == 3
        await sight.press("left", "enter")
        await sight.sees("Members · 2", "bob@example.org was removed")
        await sight.pilot.click("#members-leave")
        await sight.sees("Leave Garden?")
        await sight.pilot.click("#go")
        await sight.sees("You left Garden.", "You are not in this room any more")
        assert sight.chat.composer.read_only


async def test_rename(client: FakeClient, tmp_path: Path) -> None:
    client.add_room("Garden", [BOB])
    async with looking(tmp_path, client=client) as sight:
        await sight.press("f4")
        await sight.sees("Rename Garden")
        await sight.press("ctrl+a", "ctrl+k")
        await sight.type("Orchard")
        await sight.press("enter")
        await sight.misses("Rename Garden")
        await sight.sees("Orchard")


async def test_a_direct_chat_cannot_be_changed(
    client: FakeClient, tmp_path: Path
) -> None:
    client.add_room(BOB, direct=True)
    async with looking(tmp_path, client=client) as sight:
        for key in ("f4", "f5", "f8"):
            await sight.press(key)
            assert isinstance(sight.app.screen, ChatScreen)
        await sight.sees("This is a direct chat")


async def test_the_mouse_opens_rooms_and_chooses_messages(
    client: FakeClient, tmp_path: Path
) -> None:
    client.add_room(CAROL, direct=True)
    bob = client.add_room(BOB, direct=True)
    failed = client.say(bob, "oops")
    client.refuse(failed.id, "Too large.")
    async with looking(tmp_path, client=client) as sight:
        await sight.pilot.click("#rooms", offset=(3, 2))
        await sight.sees("carol@example.net", "Nothing here yet")
        await sight.pilot.click("#rooms", offset=(3, 0))
        await sight.sees("Send again")
        y = next(i for i, r in enumerate(sight.part("#timeline")) if "Send again" in r)
        await sight.pilot.click("#timeline", offset=(6, y))
        await sight.until(lambda: f"retry {failed.id}" in client.asked)
        await sight.sees("◷")
        # Two clicks on one cell within half a second would mark the text.
        await asyncio.sleep(0.6)
        y = next(i for i, row in enumerate(sight.part("#timeline")) if "oops" in row)
        await sight.pilot.click("#timeline", offset=(6, y))
        await sight.sees("R reply")
        x = sight.part("#actions")[0].index("R reply")
        await sight.pilot.click("#actions", offset=(x + 3, 0))
        await sight.sees("Reply to You: oops")
        await sight.pilot.click("#reply", offset=(5, 0))
        await sight.misses("Reply to You")


async def test_a_text_longer_than_its_field_is_read_to_its_end(
    client: FakeClient, tmp_path: Path
) -> None:
    async with looking(tmp_path, client=client, size=(80, 24)) as sight:
        await sight.press("ctrl+n")
        await sight.sees("To whom do you want to write?")
        await sight.type("a" * 70)
        await sight.type("@b.c")
        await sight.sees("aaaa@b.c")
