"""Doctor, deleting, timers, drafts, backup: what a person sees and does."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from client.errors import BackupFailed
from client.model import Ailment, Message, RoomChanged
from protocol.log import LogId
from tests.tui.fake_client import FakeClient
from tests.tui.looking import looking
from tui.amounts import size, span

BOB = "bob@example.org"
CAROL = "carol@example.net"
PHRASE = " ".join(["abandon"] * 23 + ["art"])


@pytest.fixture
def client() -> FakeClient:
    return FakeClient()


def unreadable(client: FakeClient, room: LogId) -> Message:
    """A line that could not be read, with what the doctor says about it."""
    line = client.hear(room, BOB, "A message of bob could not be read.", kind="notice")
    line = replace(line, code="secret_gone")
    client.put(line)
    client.doctor.ailments["1"] = Ailment(
        "1",
        room,
        line.id,
        "secret_gone",
        "Its key was used already.",
        f"{BOB}/7kq2abcd",
        "ask_resend",
        "Ask bob's device to send it again.",
        "open",
    )
    return line


async def test_an_unreadable_line_explains_itself_and_is_repaired(
    client: FakeClient, tmp_path: Path
) -> None:
    room = client.add_room("Garden", [BOB])
    unreadable(client, room)
    async with looking(tmp_path, client=client, size=(80, 24)) as sight:
        await sight.sees("E why, and repair")
        await sight.press("up")
        await sight.sees("E why, and repair  C copy")
        await sight.press("e")
        await sight.sees("Why this cannot be read", "Its key was used already.")
        await sight.sees(f"{BOB}/7kq2abcd", "Ask bob's device to send it again.")
        await sight.press("r")
        await sight.sees("✓ Repaired.", "✓ repaired")
        await sight.press("escape")
        # People's comings and goings are no trouble, and can not be chosen.
        client.put(replace(client.hear(room, BOB, "bob left.", kind="notice")))
        await sight.sees("bob left.")
        assert sight.text.count("E why, and repair") == 2
        client.doctor.ailments.clear()
        client.hear(room, BOB, "carol left.", kind="notice")
        await sight.sees("carol left.")
        await sight.until(lambda: sight.text.count("E why, and repair") < 2)


async def test_doctor_for_one_room_and_all(client: FakeClient, tmp_path: Path) -> None:
    other = client.add_room(CAROL, direct=True)
    room = client.add_room("Garden", [BOB])
    unreadable(client, room)
    first = client.doctor.ailments["1"]
    client.doctor.ailments["2"] = replace(
        first, id="2", room=other, message=None, repair="wait", cause="Carol is away."
    )
    async with looking(tmp_path, client=client) as sight:
        await sight.press("alt+1", "ctrl+o", "r")
        await sight.sees("All chats", "Garden · secret_gone", "carol · secret_gone")
        await sight.press("a")
        await sight.sees("Only ", "Garden · secret_gone")
        await sight.misses("Carol is away.")
        await sight.press("a")
        await sight.sees("Carol is away.")
        await sight.press("R")
        await sight.sees("✓ repaired")
        assert "repair_all" in client.asked
        client.doctor.ailments.clear()
        await sight.press("e")
        await sight.sees("Everything can be read and sent.")


async def test_delete_for_me_and_for_everyone(
    client: FakeClient, tmp_path: Path
) -> None:
    room = client.add_room(BOB, direct=True)
    theirs = client.hear(room, BOB, "their words", seen=True)
    mine = client.say(room, "my words")
    async with looking(tmp_path, client=client) as sight:
        await sight.press("up", "d")
        await sight.sees("Delete this message?", "my words", "For everyone")
        await sight.press("down", "enter")
        await sight.sees("Delete it for everyone?")
        await sight.press("enter")
        await sight.rest()
        assert not any(call.startswith("delete") for call in client.asked)
        await sight.press("d", "down", "enter")
        await sight.sees("Delete it for everyone?")
        await sight.press("left", "enter")
        await sight.until(lambda: f"delete {mine.id} True" in client.asked)
        await sight.sees("Deleted.")
        await sight.press("up", "d")
        await sight.sees("Delete this message?", "their words")
        # What others wrote can only be deleted here.
        assert "For everyone" not in sight.text
        await sight.press("enter")
        await sight.until(lambda: f"delete {theirs.id} False" in client.asked)


async def test_room_settings(client: FakeClient, tmp_path: Path) -> None:
    client.add_room(BOB, direct=True)
    async with looking(tmp_path, client=client) as sight:
        await sight.press("ctrl+o")
        await sight.sees("messages: kept; unverified devices: let in")
        await sight.press("c")
        await sight.sees("(•) Messages vanish: never")
        await sight.press("down", "down", "enter")
        await sight.sees("(•) Messages vanish: after 1 day", "Changed, for everybody")
        await sight.press("end", "enter")
        await sight.sees("[x] Mute", "Changed, on all your devices.")
        await sight.press("up", "enter")
        await sight.sees("[x] Refuse unverified devices")
        await sight.press("escape")
        await sight.sees("vanishing after 1 day")
        assert client.asked[-2:] == ["muted True", "refuse_unverified True"]
        # A muted room adds no note in the corner.
        other = client.add_room(CAROL, direct=True)
        client.change_room(other, muted=True)
        client.hear(other, CAROL, "psst")
        await sight.sees("psst")
        assert sight.text.count("psst") == 1


@pytest.mark.parametrize("way", ["signal", "ctrl+q"])
async def test_what_was_typed_last_is_kept_when_the_window_closes(
    client: FakeClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    monkeypatch.setattr("tui.screens.open_room.DRAFT_SECONDS", 600.0)
    async with looking(tmp_path, client=client, first_room=BOB) as sight:
        await sight.until(lambda: sight.chat.room_id is not None)
        await sight.type("half a thought")
        await sight.until(lambda: sight.chat.composer.text == "half a thought")
        assert not any(call.startswith("draft") for call in client.asked)
        if way == "signal":
            sight.app.exit()  # what the handlers of SIGHUP and SIGTERM do
        else:
            await sight.press("ctrl+q")
    assert client.closed and client.asked.count("draft half a thought") == 1
    assert [room.draft for room in await client.rooms() if room.direct].count(
        "half a thought"
    ) == 1


async def test_a_draft_that_was_being_stored_survives_the_exit(
    client: FakeClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, begun = client.set_draft, asyncio.Event()

    async def slow(room: LogId, text: str) -> int:
        if not begun.is_set():
            begun.set()
            await asyncio.Event().wait()  # until the exit ends this worker
        return await kept(room, text)

    monkeypatch.setattr(client, "set_draft", slow)
    monkeypatch.setattr("tui.screens.open_room.DRAFT_SECONDS", 0.01)
    async with looking(tmp_path, client=client, first_room=BOB) as sight:
        await sight.until(lambda: sight.chat.room_id is not None)
        await sight.type("half a thought")
        await sight.until(begun.is_set)
        sight.app.exit()
    assert client.closed and "draft half a thought" in client.asked


async def test_drafts_are_kept_shown_and_brought_back(
    client: FakeClient, tmp_path: Path
) -> None:
    carol = client.add_room(CAROL, direct=True)
    bob = client.add_room(BOB, direct=True)
    client.change_room(carol, draft="from my phone")
    async with looking(tmp_path, client=client) as sight:
        sight.chat.open_room(bob)
        await sight.sees("Draft: from my phone")
        await sight.type("half a thought")
        await sight.until(lambda: "draft half a thought" in client.asked)
        sight.chat.open_room(carol)
        await sight.until(lambda: sight.chat.composer.text == "from my phone")
        await sight.sees("Draft: half a thought")
        # It was sent from the phone: gone here too.
        client.change_room(carol, draft="")
        await sight.until(lambda: sight.chat.composer.text == "")
        sight.chat.open_room(bob)
        await sight.until(lambda: sight.chat.composer.text == "half a thought")
        await sight.press("enter")
        await sight.until(lambda: client.asked[-1] == "draft ")
        # What the phone writes does not overwrite what is being written here.
        await sight.type("new words")
        client.change_room(bob, draft="other words")
        await sight.rest()
        assert sight.chat.composer.text == "new words"


async def test_news_from_before_takes_no_typed_word(
    client: FakeClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A room's news may have been read before its draft was stored."""
    monkeypatch.setattr("tui.screens.open_room.DRAFT_SECONDS", 0.01)
    bob = client.add_room(BOB, direct=True)
    async with looking(tmp_path, client=client, first_room=BOB) as sight:
        await sight.until(lambda: sight.chat.room_id is not None)
        (before,) = [room for room in await client.rooms() if room.id == bob]
        await sight.type("tuesday")
        await sight.until(lambda: "draft tuesday" in client.asked)
        client.tell(RoomChanged(before))
        await sight.rest()
        assert sight.chat.composer.text == "tuesday"
        await sight.press("enter")
        await sight.sees("You", "tuesday")


async def test_the_next_message_may_be_typed_before_the_last_one_is_taken(
    client: FakeClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was sent is no draft any more; what begins like it and stands here is."""
    monkeypatch.setattr("tui.screens.open_room.DRAFT_SECONDS", 0.01)
    client.add_room(BOB, direct=True)
    async with looking(tmp_path, client=client, first_room=BOB) as sight:
        await sight.until(lambda: sight.chat.room_id is not None)
        for next_one, due in (("tuesday", False), ("t", True)):
            sight.chat.composer.put("tuesday?")
            sight.chat.composer.action_send()
            sight.chat.composer.put(next_one)
            if due:  # the timer of drafts comes just then
                sight.chat._keep_draft()
            await sight.sees("You", "tuesday?")
            await sight.until(lambda: f"draft {next_one}" in client.asked)  # noqa: B023
            await sight.rest()
            assert sight.chat.composer.text == next_one


async def test_backup(client: FakeClient, tmp_path: Path) -> None:
    async with looking(tmp_path, client=client, size=(80, 24)) as sight:
        await sight.press("ctrl+o")
        await sight.sees("The backup is on · Last backup: 20")
        await sight.press("b")
        await sight.sees("● The backup is on", "1,234 messages, 4.8 MiB of 100 MiB")
        await sight.press("b")
        await sight.sees("✓ Backed up.", "1,235 messages")
        await sight.press("o")
        await sight.sees("Turn the backup off?")
        await sight.press("left", "enter")
        await sight.sees("○ The backup is off")
        client.backup.refuse_next = None
        client.backup.refuse_enable = BackupFailed("Turn them on with the words.")
        await sight.press("o")
        await sight.sees("Turn them on with the words.")
        await sight.type(PHRASE)
        await sight.press("enter")
        await sight.sees("● The backup is on")
        assert client.asked.count(f"enable {PHRASE}") == 1


async def test_panels_are_in_the_palette_and_in_chinese(
    client: FakeClient, tmp_path: Path
) -> None:
    client.add_room(BOB, direct=True)
    async with looking(tmp_path, client=client, size=(80, 24)) as sight:
        for words, title in (
            ("my devices", "laptop"),
            ("warnings", "No warnings."),
            ("settings of this", "Messages vanish: never"),
            ("verify a person", "Is this bob@example.org?"),
        ):
            await sight.press("ctrl+p")
            await sight.type(words)
            await sight.rest()
            await sight.press("enter")
            await sight.sees(title)
            await sight.press("escape")
        await sight.app.switch_language()
        await sight.rest()
        await sight.press("ctrl+o")
        await sight.sees("我的设备", "诊断")
        await sight.press("d")
        await sight.sees("本设备", "放行新设备")


async def test_changing_the_password(client: FakeClient, tmp_path: Path) -> None:
    async with looking(tmp_path, client=client) as sight:
        await sight.press("ctrl+o", "p")
        await sight.sees("[ ] Open Telex here without the password")
        await sight.press("enter")
        await sight.sees("Password now")
        for value in ("wrong one", "battery staple", "battery staple"):
            await sight.type(value)
            await sight.press("enter")
        await sight.sees("The password is wrong; try again.")
        assert "battery" not in sight.text
        sight.app.screen.query("Input").first().value = "correct horse"  # type: ignore[attr-defined]
        await sight.press("enter")
        await sight.sees("✓ The password is changed.")
        await sight.press("down", "enter")
        await sight.sees("✓ The keyring of this system opens Telex here.")
        assert client.asked[-1] == "keyring True"


def test_times_and_sizes_in_words() -> None:
    assert [span(n) for n in (0, 60, 3600, 7200, 86400, 90)] == [
        "off",
        "after 1 minute",
        "after 1 hour",
        "after 2 hours",
        "after 1 day",
        "after 90 seconds",
    ]
    assert [size(n) for n in (0, 1023, 1536, 20 << 20, 3 << 30)] == [
        *("0 B", "1023 B", "1.5 KiB", "20 MiB", "3.0 GiB"),
    ]
