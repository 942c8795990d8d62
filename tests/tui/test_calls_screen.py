"""The call screen and the panel of devices: each key, pictures, the end."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from client.calls.model import Call
from client.model import Trust
from media.port import Devices, Frame, Levels, MediaError, Quality, View
from tests.tui.fake_calls import GOOD
from tests.tui.fake_client import FakeClient
from tests.tui.looking import Sight, looking
from tests.tui.test_calls import BOB, CAROL, calls, direct, running
from tui import calling, text
from tui.calling import CallBook, duration, grade, meter, quality_parts
from tui.cells import cell_len
from tui.config import load_settings
from tui.desk import PushToTalk
from tui.screens.call import CallScreen
from tui.screens.call_talk import CallTalk
from tui.screens.chat import ChatScreen
from tui.screens.sound import SoundScreen
from tui.widgets.picture import Picture


@pytest.fixture
def client() -> FakeClient:
    return FakeClient()


async def opened(sight: Sight, client: FakeClient, **values: object) -> Call:
    """A call that runs, on the screen."""
    rooms = await client.rooms()
    call = running(client, rooms[0].id, **values)
    await sight.sees("☎ bob")
    await sight.press("f9")
    await sight.sees("F10 hang up")
    return call


def asked_last(client: FakeClient, what: str) -> bool:
    return calls(client)[-1] == what


def picture(leg: str, width: int, height: int, colour: bytes) -> Frame:
    return Frame(leg, width, height, colour * (width * height))


# --- keys -----------------------------------------------------------------------------


async def test_each_key_of_the_call(client: FakeClient, tmp_path: Path) -> None:
    direct(client)
    async with looking(tmp_path, client=client, size=(80, 24)) as sight:
        await opened(sight, client)
        for key, asked, seen in (
            ("m", "mute True 1", "M unmute"),
            ("m", "mute False 1", "M mute"),
            ("h", "hold True 1", "neither of you hears the other"),
            ("h", "hold False 1", "H hold"),
            ("c", "camera cam-1 1", "C camera off"),
            ("c", "camera off 1", "C camera H"),
            ("s", "camera :0 1", "S stop sharing"),
            ("c", "camera cam-1 1", "camera on"),
            ("s", "camera :0 1", "screen shared"),
            ("s", "camera off 1", "S screen"),
        ):
            await sight.press(key)
            await sight.sees(seen)
            assert calls(client)[-1] == asked
        # Letters without a meaning, and the Q that closes panels, do nothing.
        before = calls(client)
        await sight.press("q", "x", "y", "n", "enter", "space", "tab", "ctrl+c")
        assert calls(client) == before
        assert isinstance(sight.app.screen, CallScreen)
        # There is no camera and no screen; nor sound any more.
        client.calls.found = Devices((), ("No camera.",))
        await sight.press("c", "s")
        await sight.sees("No camera was found", "There is no screen here that")
        client.calls.refuse = MediaError("process_lost", "Sound and picture stopped.")
        await sight.press("m")
        await sight.sees("Sound and picture stopped.")
        assert calls(client) == before
        await sight.press("escape")
        await sight.sees("F9 show")
        await sight.press("f9", "ctrl+x")
        await sight.sees("The call with bob is over.")
        assert calls(client)[-1] == "hang_up 1"
        # The mouse does the same.
        sight.app.clear_notifications()
        await opened(sight, client)
        for words, asked in (("M mute", "mute True 2"), ("F10 hang up", "hang_up 2")):
            row = sight.row(words)
            at = (row.index(words) + 1, sight.lines.index(row))
            await sight.pilot.click(offset=at)
            await sight.until(partial(asked_last, client, asked))


async def test_push_to_talk(client: FakeClient, tmp_path: Path) -> None:
    room = direct(client)
    async with looking(tmp_path, client=client, size=(80, 24)) as sight:
        call = await opened(sight, client)
        await sight.press("p")
        await sight.sees("Hold Space to be heard", "Space talks", "P talk freely")
        assert calls(client) == ["mute True 1"]
        await sight.press("space", "space", "space")
        await sight.until(lambda: calls(client)[1:] == ["mute False 1"])
        # It is let go: no key comes any more.
        await sight.until(lambda: calls(client)[2:] == ["mute True 1"])
        await sight.press("p")
        await sight.sees("You are heard all the time")
        assert calls(client)[-1] == "mute False 1"
        await sight.press("p")
        assert load_settings(tmp_path / "tui.toml").push_to_talk
        # Who leaves the screen has let it go, too.
        await sight.press("space", "escape")
        await sight.until(lambda: calls(client)[-2:] == ["mute False 1", "mute True 1"])
        assert isinstance(sight.app.screen, ChatScreen)
        # The next call begins muted, before it is taken.
        client.calls.end(call, "hung_up")
        client.asked.clear()
        client.calls.ring(room, BOB)
        await sight.sees("is calling")
        await sight.press("f9")
        await sight.until(lambda: calls(client) == ["mute True 2", "answer 2"])


def test_a_space_bar_by_its_repeats() -> None:
    space = PushToTalk()
    space.press(10.0)
    # The first repeat may take 0.7 s.
    assert space.left(10.7) > 0
    for tenth in range(7, 30):
        space.press(10 + tenth / 10)
        assert space.left(10 + tenth / 10 + 0.39) > 0
    assert space.left(12.9 + 0.41) <= 0
    space.press(20.0)
    assert space.left(20.99) > 0 >= space.left(21.01)


# --- what it shows --------------------------------------------------------------------


async def test_who_and_how_well_with_the_chat_beside_it(
    client: FakeClient, tmp_path: Path
) -> None:
    room = direct(client)
    async with looking(tmp_path, client=client, size=(120, 30)) as sight:
        call = await opened(sight, client, quality=GOOD)
        await sight.sees(
            "☎ bob  ◇ unverified",
            "bob@example.org",
            "not verified: F7 compares keys",
            "good · 42 ms there and back · 0.4% lost · direct · ↑48 ↓52 kbit/s · "
            "jitter 8 ms · opus · VP8 320x240@15",
        )
        client.calls.hear(Levels(1.0, 0.0))
        await sight.sees(f"You {'▮' * 20}    bob {'▯' * 20}")
        trouble = "No microphone was found: plug one in."
        client.calls.change(call, trouble=(trouble,), muted=True)
        await sight.sees(f"! {trouble}", f"You {'·' * 20}")
        await sight.press("f7")
        await sight.sees("Is this bob@example.org?")
        await sight.press("escape")
        client.calls.connect(call, BOB, trust=Trust.VERIFIED, muted=True)
        await sight.sees("◆ verified: you have compared keys", "bob is muted")
        client.calls.change(call, state="reconnecting", muted=False)
        await sight.sees("the way is lost, looking for another …")
        # The chat beside it.
        await sight.sees("hello alice", "Tab writes here, Esc ends it")
        await sight.press("tab", "m", "space", "h", "q")
        await sight.sees("m hq")
        assert calls(client) == []
        await sight.press("enter")
        await sight.until(lambda: client.all_messages(room)[-1].text == "m hq")
        client.hear(room, BOB, "and from bob")
        await sight.sees("and from bob", "m hq")
        await sight.until(lambda: f"mark_read {room}" in client.asked)
        assert not list(sight.app._notifications)
        await sight.press("escape", "m")
        await sight.until(partial(asked_last, client, "mute True 1"))
        assert isinstance(sight.app.screen, CallScreen)
        # Where it becomes narrow the chat makes room, and a note says what comes in.
        await sight.pilot.resize_terminal(80, 24)
        await sight.misses("and from bob")
        client.hear(room, BOB, "are you there?")
        await sight.sees("are you there?")
        assert len(list(sight.app._notifications)) == 1
        # The help lists the keys.
        sight.app.clear_notifications()
        await sight.pilot.resize_terminal(110, 110)
        await sight.press("f1")
        await sight.sees("In a call", "Hold to be heard", "F10 / Ctrl+X", "Shift+F9")
        await sight.sees("Push to talk: terminals tell that a key repeats")


async def test_pictures(
    client: FakeClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TELEX_VIDEO", "blocks")
    direct(client)
    async with looking(tmp_path, client=client, size=(80, 24)) as sight:
        call = await opened(sight, client)
        assert client.calls.view == View()
        client.calls.connect(call, BOB, camera=True)
        await sight.sees("the picture is on its way …")
        await sight.until(lambda: client.calls.view.width >= 70)
        client.calls.hear(picture("bob", 40, 30, b"\xff\x00\x00"))
        await sight.sees("▀▀▀▀▀▀▀▀▀▀")
        alone = client.calls.view
        client.calls.change(call, camera="cam-1")
        await sight.until(lambda: client.calls.view.width < alone.width)
        client.calls.hear(picture("", 40, 30, b"\x00\x00\xff"))
        own = sight.app.screen.query_one("#call-own", Picture)
        await sight.until(lambda: own._frame is not None)
        # The other one's camera goes off: who it is stands there again.
        client.calls.connect(call, BOB)
        client.calls.change(call, camera="")
        await sight.sees("bob@example.org")
        await sight.until(lambda: client.calls.view == View())
        client.calls.connect(call, BOB, camera=True)
        await sight.until(lambda: client.calls.view.width >= 70)
        await sight.press("escape")
        await sight.until(lambda: client.calls.view == View())
        assert client.calls.see is None
        # Back and forth keeps what is seen: the old screen goes after the new one came.
        client.calls.connect(call, BOB)
        chat = sight.chat
        chat.toggle_call()
        await sight.until(lambda: isinstance(sight.app.screen, CallScreen))
        chat.toggle_call()
        sight.app.push_screen(CallScreen(chat.desk, client))
        await sight.rest()
        client.calls.hear(Levels(1.0, 0.0))
        await sight.sees(f"You {'▮' * 20}")


# --- the end --------------------------------------------------------------------------


async def test_hanging_up_under_a_panel_says_so(
    client: FakeClient, tmp_path: Path
) -> None:
    direct(client)
    async with looking(tmp_path, client=client, size=(80, 24)) as sight:
        await opened(sight, client)
        await sight.press("d")
        await sight.sees("Headset")
        await sight.press("f10")
        await sight.sees("The call with bob is over.")
        assert calls(client)[-1] == "hang_up 1"
        assert isinstance(sight.app.screen, SoundScreen), "what is open stays"
        assert len(list(sight.app._notifications)) == 1


async def test_what_lies_under_a_panel_is_not_read(
    client: FakeClient, tmp_path: Path
) -> None:
    room = direct(client)
    read = f"mark_read {room}"
    async with looking(tmp_path, client=client, size=(140, 40)) as sight:
        await opened(sight, client)
        await sight.sees("Tab writes here")
        await sight.until(lambda: sight.app.screen.query_one(CallTalk).room == room)
        await sight.press("d")
        await sight.sees("Headset")
        await sight.rest()
        client.asked.clear()
        client.hear(room, BOB, "behind the panel")
        await sight.rest()
        assert read not in client.asked
        await sight.press("escape")
        await sight.until(lambda: read in client.asked)
        # The same in the chat, under a panel and under the call.
        await sight.press("escape")
        await sight.until(lambda: isinstance(sight.app.screen, ChatScreen))
        for cover in ("f1", "f9"):
            await sight.press(cover)
            await sight.until(lambda: not isinstance(sight.app.screen, ChatScreen))
            if cover == "f9":
                await sight.pilot.resize_terminal(80, 24)  # no chat beside it
                await sight.misses("Tab writes here")
            await sight.rest()
            client.asked.clear()
            client.hear(room, BOB, f"under {cover}")
            await sight.rest()
            assert read not in client.asked
            await sight.press("escape")
            await sight.until(lambda: read in client.asked)


async def test_a_covered_chat_draws_nothing(client: FakeClient, tmp_path: Path) -> None:
    room = direct(client)
    async with looking(tmp_path, client=client, size=(80, 24)) as sight:
        chat = sight.chat
        assert chat.is_current
        await opened(sight, client)
        assert not chat.is_current
        client.hear(room, BOB, "unseen so far")
        await sight.rest()
        await sight.press("escape")
        await sight.sees("unseen so far")
        await sight.press("f1")
        await sight.until(lambda: sight.app.screen is not chat)
        assert chat.is_current, "it shines through a panel"


async def test_the_end_closes_the_screen_and_no_panel_over_it(
    client: FakeClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tui.screens.call.CLOSE_SECONDS", 0.1)
    over = CallScreen._over
    tried: list[int] = []

    def count(screen: CallScreen) -> None:
        over(screen)
        tried.append(1)

    monkeypatch.setattr(CallScreen, "_over", count)
    direct(client)
    async with looking(tmp_path, client=client, size=(80, 24)) as sight:
        call = await opened(sight, client)
        await sight.press("d")
        await sight.sees("Sound and picture")
        client.calls.end(call, "hung_up")
        await sight.until(lambda: len(tried) > 1)
        await sight.sees("Sound and picture")
        await sight.press("escape")
        await sight.until(lambda: isinstance(sight.app.screen, ChatScreen))
        monkeypatch.setattr("tui.screens.call.CLOSE_SECONDS", 0.5)
        call = await opened(sight, client)
        client.calls.end(call, "hung_up")
        await sight.sees("The call with bob is over.", "3:2", "Esc to the chat")
        await sight.until(lambda: isinstance(sight.app.screen, ChatScreen))
        await sight.sees("☎ The call with bob is over.")


async def test_what_says_what_to_do_stays_until_it_was_read(
    client: FakeClient, tmp_path: Path
) -> None:
    direct(client)
    async with looking(tmp_path, client=client, size=(80, 24)) as sight:
        call = await opened(sight, client)
        await sight.press("d")
        await sight.sees("Sound and picture")
        client.calls.end(call, "lost", "The way was lost: check your network.")
        await sight.until(lambda: sight.app.title_shown == "Telex")
        await sight.press("down", "enter")
        await sight.sees("Changed.")
        await sight.press("escape")
        await sight.sees("The way was lost: check your network.")
        await sight.press("m", "h", "c", "s", "p", "space")
        assert calls(client) == []
        await sight.press("f10")
        await sight.until(lambda: isinstance(sight.app.screen, ChatScreen))
        assert calls(client) == []
        await sight.misses("The way was lost")
        # What is missing, too.
        client.calls.fails = "Calls need more: pip install 'telex[calls]'."
        await sight.press("f9")
        await sight.sees("Calls need more: pip install 'telex[calls]'.")
        assert isinstance(sight.app.screen, CallScreen)
        await sight.press("f9")
        await sight.until(lambda: isinstance(sight.app.screen, ChatScreen))
        await sight.type("text goes on")
        await sight.press("enter")
        await sight.sees("text goes on")


# --- devices --------------------------------------------------------------------------


async def test_devices_and_switches(client: FakeClient, tmp_path: Path) -> None:
    direct(client)
    async with looking(tmp_path, client=client, size=(90, 50)) as sight:
        call = await opened(sight, client)
        client.calls.change(call, camera="cam-1")
        await sight.press("d")
        await sight.sees(
            "(•) the system's default (Webcam microphone)",
            "( ) Microscope",
            "Screen :0",
            "[x] Take away the echo",
            "[ ] Hide my network address",
        )
        panel = sight.app.screen
        assert isinstance(panel, SoundScreen)

        async def choose(text: str, then: str) -> None:
            row = sight.row(text)
            at = (row.index(text) + 1, sight.lines.index(row))
            await sight.pilot.click(offset=at)
            await sight.sees(then)

        await choose("( ) Webcam microphone", "(•) Webcam microphone")
        await choose("( ) Microscope", "(•) Microscope")
        assert calls(client)[-1] == "camera cam-2 1"
        await choose("[x] Take away noise", "[ ] Take away noise")
        await choose("[ ] Hide my network", "it holds from the next call on")
        await choose("( ) braille", "(•) braille")
        sound = client.calls.sound
        assert (sound.microphone, sound.noise, sound.echo) == ("mic-2", False, True)
        assert client.calls.relay_only
        settings = load_settings(tmp_path / "tui.toml")
        assert (settings.camera, settings.video) == ("cam-2", "braille")
        client.calls.found = Devices((), ("No microphone was found: plug one in.",))
        await sight.press("r")
        await sight.sees("! No microphone was found", "(•) mic-2 (not plugged in)")
        # They cannot be listed: the other settings are there all the same.
        client.calls.end(call, "hung_up")
        client.calls.found = MediaError("no_library", "Calls need more: install it.")
        await sight.press("r")
        await sight.sees("! Calls need more: install it.", "[ ] Push to talk")
        client.calls.refuse = MediaError("no_device", "That one is gone.")
        await sight.press("end", "enter")
        await sight.sees("That one is gone.", "[x] Hide my network address")
        await sight.press("escape")
        await sight.until(lambda: isinstance(sight.app.screen, ChatScreen))
        await sight.press("ctrl+o")
        await sight.sees("Sound and picture")
        await sight.press("m")
        await sight.sees("! Calls need more: install it.", "[ ] Push to talk")


# --- words ----------------------------------------------------------------------------


def test_grades() -> None:
    assert grade(GOOD) == "good"
    assert grade(Quality("a", loss=0.05)) == "fair"
    assert grade(Quality("a", rtt=300)) == "fair"
    assert grade(Quality("a", loss=0.2)) == "bad"
    assert grade(Quality("a", concealed=0.5)) == "bad"


@pytest.mark.parametrize("language", ["en", "zh"])
def test_quality_fits(language: str) -> None:
    text.use(language)
    for width in range(130):
        line = " · ".join(quality_parts(GOOD, width))
        assert cell_len(line) <= width
    assert len(quality_parts(GOOD, 130)) == 8


def test_levels_are_drawn_in_their_width() -> None:
    for level in (-1.0, 0.0, 0.01, 0.5, 1.0, 7.0, float("nan")):
        assert len(meter(level, 10)) == 10
    assert meter(0.04, 10) == "▮▮▯▯▯▯▯▯▯▯"


def test_time_of_a_call() -> None:
    book = FakeClient()
    call = running(book, direct(book))
    assert duration(call, call.answered + 205_400) == "3:25"
    assert duration(call, call.answered + 3_805_000) == "1:03:25"
    assert duration(call, call.answered - 9) == "0:00"


def test_the_book_knows_which_call_is_meant() -> None:
    client = FakeClient()
    room, other = direct(client), direct(client, CAROL)
    book = CallBook()
    first = running(client, room)
    book.put(first, 1.0)
    assert (book.active, book.incoming, book.shown) == (first, None, first)
    # A call of long ago, told again, is no news.
    client.calls.end("0" * 31 + "1", "hung_up")
    book.put(replace(first, id="f" * 32, state="ended"), 2.5)
    assert book.ended is None
    # Nor is one that never rang here, because another one ran.
    second = client.calls.ring(other, CAROL)
    book.put(replace(second, state="ended", end="busy"), 2.6)
    assert book.ended is None and book.shown == first
    book.put(replace(first, state="ended", end="hung_up"), 2.7)
    book.put(second, 2.8)
    assert (book.active, book.incoming, book.shown) == (None, second, second)
    assert book.meant(other, 2.9) and not book.meant(room, 2.9)
    assert book.meant(room, 2.8 + calling.FRESH_SECONDS)
    book.put(replace(second, state="ended", end="cancelled"), 3.0)
    assert book.just_rang(4.0) and not book.just_rang(5.5)
    book.forget_ended(3.0 + calling.ENDED_SECONDS)
    assert book.ended is None and book.shown is None
