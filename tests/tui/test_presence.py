"""Who is there and who types, as one sees it; and how one chooses to be seen."""

import time
from pathlib import Path

import pytest

from client.model import PersonPresence
from protocol.log import LogId
from tests.tui.fake_client import FakeClient
from tests.tui.looking import looking
from tui import being, text
from tui.cells import cell_len
from tui.config import Settings

BOB, CAROL, DORA = "bob@example.org", "carol@example.net", "dora@example.net"


@pytest.fixture
def client() -> FakeClient:
    return FakeClient()


def direct(client: FakeClient, account: str = BOB) -> LogId:
    """A direct chat in which somebody said something."""
    room = client.add_room(account, direct=True)
    client.hear(room, account, "hello alice", seen=True)
    return room


@pytest.mark.parametrize(
    ("ago", "words"),
    [
        (5, "last seen just now"),
        (5 * 60, "last seen 5 min ago"),
        (3 * 3600, "last seen 3 h ago"),
        (-50, "last seen just now"),
    ],
)
def test_last_seen_in_words(ago: int, words: str) -> None:
    now = 1_800_000_000
    assert being.word(PersonPresence("offline", now - ago), now) == words


def test_long_ago_is_a_day_and_unknown_is_nothing() -> None:
    now = 1_800_000_000
    long_ago = being.word(PersonPresence("offline", now - 90 * 24 * 3600), now)
    assert long_ago.startswith("last seen 2026-")
    assert being.word(PersonPresence("offline", 0), now) == "offline"
    assert being.being(PersonPresence("unknown", 0)) == ""


@pytest.mark.parametrize("language", ["en", "zh"])
def test_typing_fits_or_is_not_said(language: str) -> None:
    text.use(language)
    for accounts in ((BOB,), (BOB, CAROL), (BOB, CAROL, DORA)):
        for width in range(60):
            line = being.typing_text(accounts, "example.org", width)
            assert cell_len(line) <= width
        assert being.typing_text(accounts, "example.org", 60)
    assert being.typing_text((), "example.org", 60) == ""


async def test_the_other_one_of_a_chat(client: FakeClient, tmp_path: Path) -> None:
    direct(client)
    async with looking(tmp_path, client=client, size=(80, 24)) as sight:
        await sight.sees("direct chat")
        for state, sign, words in (
            ("online", "●", "online"),
            ("away", "◐", "away"),
            ("dnd", "⊘", "do not disturb"),
            ("offline", "○", "last seen 5 min ago"),
        ):
            since = int(time.time()) - 5 * 60
            client.presence.show(BOB, PersonPresence(state, since))  # type: ignore[arg-type]
            await sight.sees(f"bob  {sign} {words} · ◇", f"◇ bob {sign}")
        rows = sight.part("#rooms")
        assert all(len(row) <= 26 for row in rows)


async def test_the_members_of_a_group(client: FakeClient, tmp_path: Path) -> None:
    client.add_room("Garden", [BOB, DORA])
    async with looking(tmp_path, client=client, size=(140, 30)) as sight:
        await sight.sees("Members · 3")
        client.presence.show(BOB, PersonPresence("away", 1))
        client.presence.show(
            DORA, PersonPresence("offline", int(time.time()) - 3 * 3600)
        )
        await sight.sees("◇ bob ◐ away", "dora@example.net ○", "last seen 3 h ago")


async def test_who_types_moves_nothing(client: FakeClient, tmp_path: Path) -> None:
    room = direct(client)
    async with looking(tmp_path, client=client, size=(80, 24)) as sight:
        await sight.sees("hello alice")
        before = sight.lines
        client.presence.types(room, BOB)
        await sight.sees("bob is typing …")
        changed = [
            number
            for number, (old, new) in enumerate(zip(before, sight.lines, strict=True))
            if old != new
        ]
        # The room's second row in the list, and the line above the composer.
        assert len(changed) == 2
        client.presence.types(room)
        await sight.misses("is typing")
        assert sight.lines == before


async def test_typing_is_told_and_its_end(client: FakeClient, tmp_path: Path) -> None:
    direct(client)
    direct(client, DORA)
    async with looking(tmp_path, client=client) as sight:
        await sight.sees("hello alice")
        assert "typing True" not in client.asked
        await sight.press("h")
        await sight.until(lambda: "typing True" in client.asked)
        client.asked.clear()
        await sight.press("backspace")
        await sight.until(lambda: "typing False" in client.asked)
        client.asked.clear()
        await sight.press("h", "alt+2")
        await sight.until(lambda: client.asked.count("typing False") >= 1)
        assert client.presence.touches > 3


async def test_choosing_how_to_be_seen(client: FakeClient, tmp_path: Path) -> None:
    room = direct(client)
    async with looking(tmp_path, client=client, size=(80, 24)) as sight:
        await sight.press("ctrl+o")
        await sight.sees("How others see me", "now: online")
        await sight.press("s")
        await sight.sees("(•) ● Online", "[x] Show when I type", "Hide it from bob")
        await sight.press("down", "down", "enter")
        await sight.sees("(•) ⊘ Do not disturb", "Changed, on all your devices")
        for _ in range(5):
            await sight.press("down")
        await sight.press("enter")
        await sight.sees("[x] Hide it from bob")
        assert client.presence.choice.hidden_from == {BOB}
        await sight.press("up", "up", "up", "enter")
        await sight.sees("[ ] Show whether I am there")
        await sight.press("escape")
        await sight.sees("alice@example.org · invisible")
        # Nothing rings while one is not to be disturbed.
        other = client.add_room(DORA, direct=True)
        client.hear(other, DORA, "are you there?")
        await sight.sees("dora@")
        await sight.rest()
        assert not list(sight.app._notifications)
        assert room


async def test_the_palette_chooses_too(client: FakeClient, tmp_path: Path) -> None:
    async with looking(tmp_path, client=client) as sight:
        await sight.press("ctrl+p")
        await sight.type("seen as: away")
        await sight.sees("Be seen as: Away")
        await sight.press("down", "enter")
        await sight.until(lambda: client.presence.choice.state == "away")
        await sight.sees("alice@example.org · away")


async def test_in_chinese(client: FakeClient, tmp_path: Path) -> None:
    room = direct(client)
    settings = Settings(language="zh")
    async with looking(
        tmp_path, client=client, size=(80, 24), settings=settings
    ) as sight:
        client.presence.show(BOB, PersonPresence("offline", int(time.time()) - 360))
        client.presence.types(room, BOB)
        await sight.sees("○ 6 分钟前在线", "bob 正在输入……")
