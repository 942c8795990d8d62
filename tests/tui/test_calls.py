"""Calls as one sees and makes them: the line at the top, the keys, the end."""

import asyncio
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from client.calls.model import Call
from client.model import Trust
from media.port import MediaError
from protocol.log import LogId
from tests.tui.fake_calls import GOOD
from tests.tui.fake_client import FakeClient
from tests.tui.looking import Sight, looking
from tui.config import Settings
from tui.screens.call import CallScreen
from tui.screens.chat import ChatScreen

BOB, CAROL = "bob@example.org", "carol@example.net"


@pytest.fixture
def client() -> FakeClient:
    return FakeClient()


def direct(client: FakeClient, account: str = BOB) -> LogId:
    """A direct chat in which somebody said something."""
    room = client.add_room(account, direct=True)
    client.hear(room, account, "hello alice", seen=True)
    return room


def calls(client: FakeClient) -> list[str]:
    """What was asked of the engine about calls."""
    words = ("start", "answer", "decline", "hang_up", "mute", "hold", "camera")
    return [one for one in client.asked if one.split()[0] in words]


def asked(client: FakeClient, wanted: list[str]) -> bool:
    return calls(client) == wanted


def bells(sight: Sight, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What rings the terminal's bell from now on."""
    heard: list[str] = []
    monkeypatch.setattr(sight.app, "bell", lambda: heard.append("bell"))
    return heard


# --- ringing here -------------------------------------------------------------------


async def test_words_being_typed_neither_answer_nor_decline(
    client: FakeClient, tmp_path: Path
) -> None:
    room = direct(client)
    async with looking(tmp_path, client=client, size=(80, 24)) as sight:
        await sight.press("h", "i")
        client.calls.ring(room, BOB)
        await sight.sees("bob ◇ is calling", "F9 answer", "F10 decline")
        assert sight.app.title_shown == "☎ bob is calling · Telex"
        await sight.press("y", "n", "q", "m", "a", "space", "escape", "d", "tab")
        sight.chat.composer.focus()
        await sight.press("x")
        assert calls(client) == []
        assert sight.chat.composer.text == "hiynqma dx"
        await sight.press("enter")
        await sight.sees("hiynqma dx")
        await sight.press("f10")
        await sight.sees("You declined the call from bob.")
        assert calls(client) == ["decline 1"]
        assert sight.app.title_shown == "Telex"
        # What is said of it goes away.
        await sight.press("f10")
        await sight.misses("You declined")
        assert isinstance(sight.app.screen, ChatScreen)
        # A click on the words shows who it is, and answers nothing.
        client.calls.ring(room, BOB)
        await sight.sees("is calling")
        await sight.pilot.click(offset=(4, 0))
        await sight.sees("◇ not verified: F7 compares keys", "F9 answer", "F10 decline")
        assert calls(client) == ["decline 1"]
        await sight.press("f9")
        await sight.sees("connecting …")
        assert calls(client) == ["decline 1", "answer 2"]
        assert isinstance(sight.app.screen, CallScreen)


async def test_what_rang_and_how_it_ended(
    client: FakeClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = direct(client)
    async with looking(tmp_path, client=client, size=(80, 24)) as sight:
        heard = bells(sight, monkeypatch)
        call = client.calls.ring(room, BOB, video=True)
        await sight.sees("is calling · video")
        assert heard == ["bell"]
        await sight.until(lambda: sight.app.title_shown.startswith("☏ bob is calling"))
        client.calls.end(call, "cancelled")
        await sight.sees("bob hung up before you answered.")
        call = client.calls.ring(room, BOB)
        await sight.sees("is calling")
        client.calls.end(call, "elsewhere")
        await sight.sees("Another device of yours took the call.")
        await sight.misses("is calling")
        # The keys once more do not answer twice.
        call = client.calls.ring(room, BOB)
        await sight.sees("is calling")
        sight.chat.call_key()
        sight.chat.call_key()
        await sight.sees("connecting …")
        assert calls(client) == ["answer 3"]
        client.calls.end(call, "refused")
        await sight.sees("Refused: the other side's key is not that of bob.")
        await sight.press("escape")
        # Nor does an answer that comes late call back.
        call = client.calls.ring(room, BOB)
        await sight.sees("is calling")
        client.calls.end(call, "unanswered")
        await sight.sees("bob called, and nobody answered.")
        await sight.press("f9")
        await sight.sees("That call has just ended")
        assert calls(client) == ["answer 3"]
        sight.chat.desk.book.ended_at -= 3
        await sight.press("f9")
        await sight.until(lambda: calls(client)[1:] == ["start False"])


async def test_who_is_not_to_be_disturbed_sees_it_quietly(
    client: FakeClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = direct(client)
    async with looking(tmp_path, client=client, size=(80, 24)) as sight:
        heard = bells(sight, monkeypatch)
        for why in ("dnd", "muted"):
            if why == "dnd":
                await client.presence.set_state("dnd")
            else:
                await client.presence.set_state("online")
                client.change_room(room, muted=True)
            await sight.press("f1")
            call = client.calls.ring(room, BOB)
            await sight.until(lambda: sight.app.title_shown == "Telex")
            await sight.press("escape")
            await sight.sees("is calling", "F9 answer")
            assert heard == [] and not list(sight.app._notifications)
            assert sight.app.title_shown == "Telex"
            client.calls.end(call, "cancelled")
            await sight.misses("is calling")


async def test_a_call_is_answered_while_a_dialog_is_open(
    client: FakeClient, tmp_path: Path
) -> None:
    room = direct(client)
    async with looking(tmp_path, client=client, size=(80, 24)) as sight:
        await sight.press("ctrl+n")
        await sight.type("carol@exa")
        call = client.calls.ring(room, BOB)
        await sight.sees("F9 answers, F10 declines.")
        await sight.press("m", "p")
        assert calls(client) == []
        await sight.press("f9")
        await sight.sees("connecting …")
        client.calls.connect(call, BOB)
        await sight.sees("You ")
        await sight.press("escape")
        await sight.sees("carol@examp")
        await sight.press("f10")
        await sight.until(lambda: calls(client)[-1] == "hang_up 1")
        await sight.sees("carol@examp")
        await sight.press("escape")
        client.asked.clear()
        client.calls.ring(room, BOB, video=True)
        await sight.sees("with camera")
        # What a terminal without the kitty protocol sends for Shift+F9.
        await sight.press("f21")
        await sight.until(lambda: calls(client) == ["answer 2", "camera cam-1 2"])


async def test_a_key_that_was_meant_for_something_else_does_not_answer(
    client: FakeClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tui.calling.FRESH_SECONDS", 100.0)
    room, other = direct(client), direct(client, CAROL)
    async with looking(tmp_path, client=client, size=(80, 24)) as sight:
        sight.chat.open_room(room)
        call = client.calls.ring(other, CAROL)
        await sight.sees("carol@example.net ◇ is calling")
        await sight.press("f9")
        await sight.sees("carol@example.net has just called")
        assert calls(client) == []
        # Some moments later, or where nothing else is meant, it answers.
        book = sight.chat.desk.book
        assert book.meant(other, book.asks_at) and book.meant(None, book.asks_at)
        book.asks_at -= 100
        await sight.press("f9")
        await sight.until(lambda: calls(client) == ["answer 1"])
        client.calls.connect(call, CAROL)
        await sight.sees("You ")


# --- calling somebody ---------------------------------------------------------------


async def test_calling_the_open_chat(client: FakeClient, tmp_path: Path) -> None:
    direct(client)
    async with looking(tmp_path, client=client, size=(80, 24)) as sight:
        for key, wanted in (
            ("f9", ["start False"]),
            ("shift+f9", ["start True", "camera cam-1 2"]),
        ):
            client.asked.clear()
            client.calls.hold = asyncio.Event()
            await sight.press(key)
            await sight.sees("Calling bob …")
            await sight.press(key)
            client.calls.hold.set()
            await sight.sees("calling …", "F10 hang up")
            assert isinstance(sight.app.screen, CallScreen)
            await sight.until(partial(asked, client, wanted))
            (call,) = client.calls.calls
            client.calls.change(call, state="ringing")
            await sight.sees("ringing …")
            client.calls.end(call, "busy")
            await sight.sees("bob is in another call.")
            await sight.press("f10")
            await sight.until(lambda: isinstance(sight.app.screen, ChatScreen))
        # By menu and palette.
        client.asked.clear()
        await sight.press("ctrl+o")
        await sight.sees("bob@example.org, by sound (F9)")
        await sight.press("a")
        await sight.until(lambda: calls(client) == ["start False"])
        await sight.press("f10")
        await sight.sees("You hung up before bob answered.")
        await sight.press("escape", "ctrl+p")
        await sight.type("video call")
        await sight.sees("Video call to the open chat")
        await sight.press("down", "enter")
        await sight.until(lambda: "start True" in calls(client))


async def test_calls_go_to_one_person(client: FakeClient, tmp_path: Path) -> None:
    async with looking(tmp_path, client=client, size=(80, 24)) as sight:
        await sight.press("f9")
        await sight.sees("Open a chat first")
        group = await client.create_group("Garden", [BOB, CAROL])
        await sight.sees("Garden")
        sight.chat.open_room(group.id)
        await sight.press("f9", "shift+f9")
        await sight.sees("Calls go to one person for now")
        await sight.press("f10")
        assert calls(client) == []
        # Without libraries the sentence is shown, and one writes.
        room = direct(client)
        told = client.hear(room, BOB, "Missed call from bob.", kind="notice")
        client.put(replace(told, code="call_missed"))
        await sight.until(lambda: room in sight.chat.rooms)
        sight.chat.open_room(room)
        sight.app.clear_notifications()
        await sight.sees("hello alice")
        client.calls.refuse = MediaError("no_library", "Calls need PyAV: install it.")
        await sight.press("f9")
        await sight.sees("Calls need PyAV: install it.")
        await sight.misses("Calling bob")
        await sight.type("still here")
        await sight.press("enter")
        await sight.sees("still here")
        # A missed call offers to call back.
        client.asked.clear()
        sight.app.clear_notifications()
        await sight.sees("☎ Missed call from bob.", "F9 call back")
        row = next(n for n, line in enumerate(sight.lines) if "F9 call back" in line)
        await sight.pilot.click(
            offset=(sight.lines[row].index("F9 call back") + 2, row)
        )
        await sight.until(lambda: calls(client) == ["start False"])


# --- the line at the top -------------------------------------------------------------


def running(client: FakeClient, room: LogId, **values: object) -> Call:
    """A call that runs since 3:25."""
    now = int(time.time() * 1000)
    call = client.calls.ring(room, BOB)
    return client.calls.connect(call, BOB, answered=now - 205_000, **values)  # type: ignore[arg-type]


async def test_a_running_call_stands_over_every_room(
    client: FakeClient, tmp_path: Path
) -> None:
    room, other = direct(client), direct(client, CAROL)
    call = running(client, room, quality=GOOD, trust=Trust.VERIFIED)
    async with looking(tmp_path, client=client, size=(80, 24)) as sight:
        # It ran already when the screen began.
        await sight.sees("☎ bob ◆ · 3:2", "good", "F9 show  F10 hang up")
        assert sight.app.title_shown == "☎ bob · Telex"
        sight.chat.open_room(other)
        await sight.sees("carol@example.net  ◇", "☎ bob ◆ · 3:2")
        client.calls.change(call, muted=True)
        await sight.sees("muted")
        client.calls.change(call, held=True, camera="cam-1")
        await sight.sees("on hold", "camera on")
        # A click on the words shows the call, one on `hang up` ends it.
        await sight.pilot.click(offset=(3, 0))
        await sight.until(lambda: isinstance(sight.app.screen, CallScreen))
        await sight.press("f9")
        await sight.sees("F9 show  F10 hang up")
        await sight.pilot.click(offset=(sight.lines[0].index("hang up") + 1, 0))
        await sight.sees("The call with bob is over.")
        assert calls(client) == ["hang_up 1"]


async def test_who_calls_during_a_call_is_told_of_and_disturbs_nothing(
    client: FakeClient, tmp_path: Path
) -> None:
    room, other = direct(client), direct(client, CAROL)
    async with looking(tmp_path, client=client, size=(80, 24)) as sight:
        running(client, room)
        await sight.sees("☎ bob")
        client.calls.refuse_busy(other, CAROL)
        await sight.sees("☎ carol@example.net called while you")
        book = sight.chat.desk.book
        assert book.shown == book.active == client.calls.calls[0]
        assert book.incoming is None and book.ended is None
        # The keys are still about the call that runs.
        await sight.press("shift+f9")
        await sight.until(lambda: client.calls.calls[0].camera)
        await sight.press("f10")
        await sight.sees("The call with bob is over.")
        assert calls(client)[-1] == "hang_up 1"


async def test_in_a_quiet_chat_nobody_is_told_who_called(
    client: FakeClient, tmp_path: Path
) -> None:
    room, other = direct(client), direct(client, CAROL)
    async with looking(tmp_path, client=client, size=(80, 24)) as sight:
        running(client, room)
        await sight.sees("☎ bob")
        await client.presence.set_state("dnd")
        client.calls.refuse_busy(other, CAROL)
        await sight.press("f9")
        await sight.until(lambda: isinstance(sight.app.screen, CallScreen))
        await sight.misses("called while")


@pytest.mark.parametrize(
    ("language", "answer", "decline", "sizes"),
    [
        ("en", "F9 answer", "F10 decline", [(40, 10)]),
        ("zh", "F9 接听", "F10 拒绝", [(80, 24), (40, 12), (20, 6)]),
    ],
    ids=["en", "zh"],
)
async def test_every_size_shows_who_and_how_to_take_it(
    client: FakeClient,
    tmp_path: Path,
    language: str,
    answer: str,
    decline: str,
    sizes: list[tuple[int, int]],
) -> None:
    room = direct(client)
    settings = Settings(language=language)
    async with looking(
        tmp_path, client=client, size=sizes[0], settings=settings
    ) as sight:
        for size in sizes:
            await sight.pilot.resize_terminal(*size)
            call = client.calls.ring(room, BOB, video=True)
            await sight.sees("bob", decline)
            if size[0] >= 40:
                await sight.sees(answer)
            if size[0] >= 80:
                await sight.sees("bob ◇ 视频来电")
            await sight.press("f9")
            client.calls.connect(call, BOB, quality=GOOD, camera=True)
            client.calls.change(call, muted=True, trouble=("No microphone. " * 9,))
            await sight.sees("F10")
            await sight.rest()
            assert len(sight.lines) == size[1]
            if size[0] >= 80:
                client.calls.connect(call, BOB, quality=GOOD)
                client.calls.change(call, muted=False, trouble=())
                await sight.sees("未核实", "良好 · 往返 42 毫秒", "F10 挂断", "M 静音")
            await sight.press("d")
            if size[0] >= 80:
                await sight.sees("麦克风", "系统默认（Webcam microphone）")
            await sight.press("escape", "escape")
            await sight.sees("☎ bob")
            client.calls.end(call, "lost")
            await sight.until(lambda: sight.chat.desk.book.active is None)
            await sight.sees("bob")


# --- what it costs --------------------------------------------------------------------


def test_the_screen_loads_no_media() -> None:
    code = (
        "import sys, tui.cli, tui.app, tui.screens.call, tui.demo\n"
        "heavy = {'aiortc', 'av', 'numpy', 'sounddevice', 'miniaudio', 'livekit'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == "[]"
