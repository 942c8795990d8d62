"""Devices: the list, names, revoking, letting a new one in; seen from both sides."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from client.errors import LinkExpired
from client.model import LinkProgress, RestoreProgress
from tests.tui.fake_client import FakeBackend, FakeClient
from tests.tui.fake_trust import CODE, Wrong
from tests.tui.looking import looking
from tui.screens.chat import ChatScreen
from tui.widgets.top_line import bar, link_text, newest_here

BOB = "bob@example.org"
PHONE = "alice@example.org/bbbbbbbbbbbbbbbb"
PHRASE = " ".join(["abandon"] * 23 + ["art"])


@pytest.fixture
def client() -> FakeClient:
    made = FakeClient()
    made.add_room(BOB, direct=True)
    return made


async def test_list_and_rename(client: FakeClient, tmp_path: Path) -> None:
    async with looking(tmp_path, client=client, size=(80, 24)) as sight:
        await sight.press("ctrl+o")
        await sight.sees("Devices, keys and backup", "My devices", "Doctor")
        await sight.press("d")
        await sight.sees("laptop  this device · manager", "phone", "bbbbbbbb · since")
        await sight.press("down", "n")
        await sight.sees("Only your own devices see this name.")
        await sight.press("ctrl+a", "ctrl+k", "enter")
        await sight.sees("Give the device a name.")
        await sight.type("pocket")
        await sight.press("enter")
        # The list is told by the event, not by the dialog.
        await sight.misses("Only your own devices")
        await sight.sees("pocket")
        assert f"rename {PHONE} pocket" in client.asked


async def test_revoking_a_device_that_manages_takes_the_words(
    client: FakeClient, tmp_path: Path
) -> None:
    own, phone = client.devices.all
    client.devices.all = [own, replace(phone, manager=True)]
    async with looking(tmp_path, client=client) as sight:
        await sight.press("ctrl+o", "d")
        await sight.sees("phone  manager")
        await sight.press("x")
        await sight.sees("This is the device you are at")
        await sight.press("down", "x")
        await sight.sees("Revoke phone?", "takes your 24 words")
        await sight.type("abandon abandn ")
        await sight.sees("Word 2 is not in the list; is it “abandon”?")
        await sight.press("enter")
        await sight.sees("The phrase has 24 words; here are 2")
        await sight.press("ctrl+a", "ctrl+k")
        await sight.type(PHRASE)
        client.devices.refuse_next = Wrong("This is not the recovery phrase.")
        await sight.press("enter")
        await sight.sees("This is not the recovery phrase.")
        await sight.press("enter")
        await sight.sees("phone was revoked.", "phone  revoked · manager")
        assert f"revoke {PHONE} {PHRASE}" in client.asked
        # What is revoked cannot be revoked again.
        await sight.press("end", "x")
        await sight.rest()
        assert "Revoke phone?" not in sight.text


async def test_an_ordinary_device_is_revoked_without_the_words(
    client: FakeClient, tmp_path: Path
) -> None:
    async with looking(tmp_path, client=client) as sight:
        await sight.press("ctrl+o", "d")
        await sight.sees("phone")
        await sight.press("down", "x")
        await sight.sees("Revoke phone?")
        assert "24 words" not in sight.text
        # Without a field the safe answer has the focus.
        await sight.press("enter", "x")
        await sight.sees("Revoke phone?")
        await sight.pilot.click("#go")
        await sight.sees("phone was revoked.")
        assert f"revoke {PHONE} None" in client.asked


async def test_words_are_completed(client: FakeClient, tmp_path: Path) -> None:
    backend = FakeBackend()
    async with looking(tmp_path, backend=backend) as sight:
        await sight.sees("I have only my 24 words")
        await sight.press("up", "up", "enter")
        await sight.sees("Recover an account")
        await sight.press("down", "z", "o", "o")
        await sight.press("tab")
        await sight.press("a", "b", "a", "tab")
        await sight.sees("zoo abandon")
        await sight.sees("2 of 24 words")


async def test_recover(client: FakeClient, tmp_path: Path) -> None:
    backend = FakeBackend(client)
    async with looking(tmp_path, backend=backend) as sight:
        await sight.pilot.click("#recover")
        await sight.sees("Recover an account")
        await sight.type("alice@example.org")
        await sight.press("enter")
        await sight.type(PHRASE)
        await sight.sees("24 of 24 words")
        await sight.press("enter")
        await sight.type("correct horse")
        await sight.press("enter")
        await sight.type("correct horse")
        await sight.press("enter")
        await sight.until(lambda: isinstance(sight.app.screen, ChatScreen))
        assert backend.asked[-1]["phrase"] == PHRASE
        # History comes while one writes already.
        client.tell(RestoreProgress("messages", 1250, 5000))
        await sight.sees("25%", "1,250 of 5,000 · Your history is coming back")
        client.tell(RestoreProgress("done", 5000, 5000))
        await sight.misses("Your history is coming back")
        await sight.sees("Your history is back.")
        client.tell(RestoreProgress("failed", 0, 0))
        await sight.sees("Your backup could not be read")


async def test_approving_shows_what_is_let_in(
    client: FakeClient, tmp_path: Path
) -> None:
    async with looking(tmp_path, client=client, size=(80, 24)) as sight:
        await sight.press("ctrl+o", "d")
        await sight.sees("laptop")
        await sight.press("l")
        await sight.sees("Code of the new device")
        await sight.press("enter")
        await sight.sees("Type the code that the new device shows.")
        await sight.type("abcd-efgh")
        await sight.press("enter")
        await sight.sees("The code has 16 letters and digits; here are 8.")
        await sight.press("ctrl+a", "ctrl+k")
        await sight.type(f"telex:link:alice@example.org:{CODE}")
        client.devices.refuse_next = Wrong("No device shows this code.")
        await sight.press("enter")
        await sight.sees("No device shows this code.")
        await sight.press("enter")
        await sight.sees("Let this device in?", "tablet", "[x] Hand over my history")
        await sight.sees("[ ] It may manage devices")
        await sight.press("down", "space")
        await sight.sees("[x] It may manage devices")
        await sight.press("a")
        await sight.sees("Let in. It joins your chats now")
        assert "approve tablet manager=True history=True" in client.asked
        client.devices.progress("history", 30, 1200)
        await sight.sees("30 of 1,200")
        client.devices.progress("done")
        await sight.sees("✓ The new device has everything")


async def test_a_new_device_shows_its_code_and_waits(tmp_path: Path) -> None:
    backend = FakeBackend()
    backend.hold = asyncio.Event()
    async with looking(tmp_path, backend=backend, size=(80, 24)) as sight:
        await sight.sees("I have Telex on another device")
        await sight.press("down", "enter")
        await sight.sees("Link this device")
        for value in ("alice@example.org", "correct horse", "correct horse", ""):
            await sight.type(value)
            await sight.press("enter")
        await sight.sees(CODE, "█▀▀▀▀▀█", "Waiting for the other device")
        assert backend.asked[0]["account"] == "alice@example.org"
        # In a small window the code stays, and the picture has a key.
        await sight.pilot.resize_terminal(60, 20)
        await sight.misses("█▀▀▀▀▀█")
        assert CODE in sight.text
        await sight.press("q")
        await sight.sees("█▀▀▀▀▀█")
        await sight.press("escape")
        await sight.sees(CODE)
        backend.hold.set()
        await sight.until(lambda: isinstance(sight.app.screen, ChatScreen))
        await sight.rest()
        client = backend.client
        own, phone = client.devices.all
        client.devices.all = [replace(own, created=phone.created + 60), phone]
        client.tell_link(LinkProgress("joining", 0, 0, ""))
        await sight.sees("This device joins the chats")
        client.tell_link(LinkProgress("history", 600, 1200, ""))
        await sight.sees("50%", "600 of 1,200")
        # The receiving side counts messages and does not know how many there are.
        client.tell_link(LinkProgress("history", 900, 0, ""))
        await sight.sees("900 messages so far")
        client.tell_link(LinkProgress("done", 0, 0, ""))
        await sight.sees("✓ This device has everything")


async def test_a_code_that_nobody_takes_is_replaced(tmp_path: Path) -> None:
    backend = FakeBackend()
    async with looking(tmp_path, backend=backend) as sight:
        await sight.pilot.click("#link")
        await sight.sees("Link this device")
        backend.hold = asyncio.Event()
        for value in ("alice@example.org", "correct horse", "correct horse", ""):
            await sight.type(value)
            await sight.press("enter")
        await sight.sees(CODE)
        linking = backend.linking
        assert linking is not None
        backend.error = LinkExpired()
        backend.hold.set()
        await sight.sees("New code")
        # A spent code is not left on the screen.
        assert CODE not in sight.text and "█▀▀▀▀▀█" not in sight.text
        backend.error = None
        await sight.press("enter")
        await sight.sees("Password for this device")
        assert linking.closed


def test_the_bar_is_blocks_and_a_number() -> None:
    assert bar(0, 10, 4) == "░░░░   0%"
    assert bar(5, 10, 4) == "██░░  50%"
    assert bar(99, 10, 4) == "████ 100%"
    assert bar(1, 0) == ""


def test_the_device_that_came_last_is_the_new_one(client: FakeClient) -> None:
    own, phone = client.devices.all
    assert not newest_here([own, phone])
    late = replace(own, created=phone.created + 1)
    assert newest_here([late, phone])
    assert newest_here([own, replace(phone, revoked=True)])
    # Within one second nobody can tell.
    assert not newest_here([replace(own, created=phone.created), phone])
    history = LinkProgress("history", 600, 1200, "")
    assert "to this device" in link_text(history, here=True)
    assert "to the new device" in link_text(history, here=False)
