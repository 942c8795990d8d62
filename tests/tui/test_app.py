"""Around the chat: palette, help, theme, language, widths, wrong keys, quitting."""

import asyncio
from pathlib import Path

import pytest
from textual.color import Color
from textual.screen import ModalScreen

from client.model import State
from tests.tui.fake_client import FakeClient
from tests.tui.looking import looking
from tui import text
from tui.config import Settings, load_settings
from tui.screens.chat import ChatScreen
from tui.theme import DARK, LIGHT, PEOPLE_DARK, PEOPLE_LIGHT

BOB = "bob@example.org"
CAROL = "carol@example.net"


@pytest.fixture
def client() -> FakeClient:
    return FakeClient()


async def test_help_comes_from_the_bindings(client: FakeClient, tmp_path: Path) -> None:
    async with looking(tmp_path, client=client, size=(120, 110)) as sight:
        await sight.press("f1")
        await sight.sees("Everywhere", "Ctrl+N", "New chat", "F2 / Ctrl+L", "Alt+1")
        await sight.sees("While writing", "Ctrl+J", "New line")
        await sight.sees("What the signs mean", "◷", "waiting", "✓✓", "delivered", "✗")
        await sight.press("f1")
        await sight.misses("What the signs mean")
        # A question mark helps where nothing is being written.
        await sight.press("question_mark")
        await sight.sees("What the signs mean")
        await sight.press("escape")
        assert isinstance(sight.app.screen, ChatScreen)


async def test_a_question_mark_is_a_letter_while_writing(
    client: FakeClient, tmp_path: Path
) -> None:
    client.add_room(BOB, direct=True)
    async with looking(tmp_path, client=client) as sight:
        await sight.press("a", "question_mark")
        assert sight.chat.composer.text == "a?"


async def test_palette_finds_commands_and_rooms(
    client: FakeClient, tmp_path: Path
) -> None:
    client.add_room("Garden [bold]x[/]", [BOB])
    client.add_room(CAROL, direct=True)
    async with looking(tmp_path, client=client) as sight:
        await sight.press("ctrl+p")
        await sight.sees("New chat", "New group")
        await sight.type("garden")
        await sight.sees("Open Garden [bold]x[/]")
        await sight.press("enter", "enter")
        await sight.until(lambda: isinstance(sight.app.screen, ChatScreen))
        await sight.until(
            lambda: sight.chat.room and sight.chat.room.title.startswith("Garden")
        )
        await sight.press("ctrl+p")
        await sight.type("bell: turn on")
        await sight.sees("Bell: turn on")
        await sight.press("enter", "enter")
        await sight.until(lambda: sight.app.settings.bell)
    assert load_settings(tmp_path / "tui.toml").bell


async def test_theme_is_changed_and_remembered(
    client: FakeClient, tmp_path: Path
) -> None:
    async with looking(tmp_path, client=client) as sight:
        assert sight.app.current_theme.dark
        await sight.press("f12")
        await sight.rest()
        assert sight.app.theme == "telex-light"
        background = sight.app.screen.styles.background
        assert background == Color.parse(LIGHT.background or "")
    assert load_settings(tmp_path / "tui.toml").theme == "light"


async def test_language_changes_the_whole_screen(
    client: FakeClient, tmp_path: Path
) -> None:
    client.add_room(BOB, direct=True)
    async with looking(
        tmp_path, client=client, settings=Settings(language="zh")
    ) as sight:
        await sight.sees("聊天", "在线", "端到端加密", "写消息")
        await sight.press("ctrl+p")
        await sight.type("English")
        await sight.sees("语言：English")
        await sight.press("enter", "enter")
        await sight.sees("Chats", "online")
    assert load_settings(tmp_path / "tui.toml").language == "en"


@pytest.mark.parametrize("size", [(40, 12), (50, 20), (20, 6), (80, 24), (200, 50)])
async def test_every_size_shows_something_usable(
    client: FakeClient, tmp_path: Path, size: tuple[int, int]
) -> None:
    room = client.add_room(BOB, direct=True)
    client.hear(room, BOB, "a message that is long enough to wrap " * 3, seen=True)
    failed = client.say(room, "x", State.PENDING)
    client.refuse(failed.id, "no")
    async with looking(tmp_path, client=client, size=size) as sight:
        if sight.chat.narrow:
            await sight.sees("Chats")
            await sight.press("enter")
        await sight.until(lambda: sight.chat.room_id == room)
        await sight.rest()
        assert len(sight.lines) == size[1]
        if size[0] >= 40:
            await sight.sees("bob", "long enough", "Write a message")
        await sight.press("f3", "f3", "f2", "f2", "f1", "escape")
        await sight.rest()


async def test_one_column_on_a_narrow_terminal(
    client: FakeClient, tmp_path: Path
) -> None:
    client.add_room(BOB, direct=True)
    async with looking(tmp_path, client=client, size=(50, 20)) as sight:
        await sight.sees("Chats", "bob")
        assert "Write a message" not in sight.text
        await sight.press("enter")
        await sight.sees("Write a message")
        assert "Chats" not in sight.text
        await sight.press("escape")
        await sight.sees("Chats")
        await sight.pilot.resize_terminal(100, 30)
        await sight.sees("Chats", "Write a message")


async def test_wrong_keys_do_nothing_bad(client: FakeClient, tmp_path: Path) -> None:
    keys = (
        *("f3", "f4", "f5", "f6", "f7", "f8", "f10", "f11", "f12", "ctrl+r"),
        *("alt+1", "alt+9", "ctrl+up", "ctrl+down", "ctrl+end", "ctrl+home", "escape"),
        *("tab", "shift+tab", "delete", "ctrl+z", "ctrl+x", "enter", "home", "end"),
    )
    async with looking(tmp_path, client=client) as sight:
        await sight.press(*keys)
        assert isinstance(sight.app.screen, ChatScreen)
        client.add_room("Garden", [BOB])
        room = await client.create_group("Other", [BOB])
        await sight.sees("Other")
        sight.chat.open_room(room.id)
        await sight.rest()
        sight.chat.timeline.focus()
        await sight.press("s", "d", "c", "r", "j", "k", "x", "q", "up", "delete")
        await sight.press("escape", "escape", "escape")
        assert not isinstance(sight.app.screen, ModalScreen)
        assert client.all_messages(room.id) == []


async def test_control_c_asks_before_it_quits(
    client: FakeClient, tmp_path: Path
) -> None:
    async with looking(tmp_path, client=client) as sight:
        await sight.press("ctrl+c")
        await sight.sees("Press Ctrl+C again")
        assert sight.app.is_running
        await sight.press("ctrl+c")
        await sight.until(lambda: not sight.app.is_running)
    assert client.closed


@pytest.mark.parametrize("turns", [0, 2, 4])
async def test_quitting_while_a_screen_opens_is_no_bug(
    client: FakeClient, tmp_path: Path, turns: int
) -> None:
    async with looking(tmp_path, client=client) as sight:
        sight.app.call_later(sight.app.push_screen, ChatScreen(client, "", ""))
        for _ in range(turns):
            await asyncio.sleep(0)
        sight.app.exit()
    assert sight.app.return_code == 0


async def test_a_bug_prints_no_text_of_anybody(
    client: FakeClient, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    room = client.add_room(BOB, direct=True)
    client.hear(room, BOB, "a secret", seen=True)
    with pytest.raises(RuntimeError, match="a bug"):
        async with looking(tmp_path, client=client) as sight:

            def broken() -> None:
                secret = client.all_messages(room)
                raise RuntimeError(f"a bug {len(secret)}")

            sight.app.call_later(broken)
            await sight.until(lambda: not sight.app.is_running)
    printed = capsys.readouterr()
    assert "a secret" not in printed.out + printed.err
    await client.close()


def contrast(first: str, second: str) -> float:
    """The WCAG contrast of two colours."""

    def light(name: str) -> float:
        parts = Color.parse(name).normalized
        linear = [
            part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4
            for part in parts
        ]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((light(first), light(second)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize(
    ("theme", "people"), [(DARK, PEOPLE_DARK), (LIGHT, PEOPLE_LIGHT)]
)
def test_text_can_be_read_in_both_themes(theme: object, people: tuple[str]) -> None:
    assert theme in (DARK, LIGHT)
    chosen = DARK if theme is DARK else LIGHT
    colours = [chosen.foreground, chosen.primary, chosen.accent, chosen.error, *people]
    colours += [chosen.success, chosen.warning, chosen.variables["quiet"]]
    grounds = [chosen.background, chosen.surface, chosen.variables["own"]]
    for ground in grounds:
        for colour in colours:
            assert colour is not None and ground is not None
            assert contrast(colour, ground) >= 4.5, (colour, ground)


def test_languages_have_the_same_sentences() -> None:
    english, chinese = text.LANGUAGES["en"], text.LANGUAGES["zh"]
    assert list(english) == list(chinese)
    import string

    for key in english:
        fields = [
            sorted(
                name for _, name, _, _ in string.Formatter().parse(table[key]) if name
            )
            for table in (english, chinese)
        ]
        assert fields[0] == fields[1], key
    for key in ("weekdays", "months"):
        assert len(english[key].split()) == len(chinese[key].split())


@pytest.mark.parametrize(
    ("setting", "environ", "expected"),
    [
        ("auto", {}, "en"),
        ("auto", {"LANG": "zh_CN.UTF-8"}, "zh"),
        ("auto", {"LANG": "zh_CN.UTF-8", "LC_ALL": "C.UTF-8"}, "en"),
        ("zh", {"LANG": "de_DE.UTF-8"}, "zh"),
        ("auto", {"LANG": "de_DE.UTF-8"}, "en"),
    ],
)
def test_language_by_setting_or_environment(
    setting: str, environ: dict[str, str], expected: str
) -> None:
    assert text.choose_language(setting, environ) == expected


def test_every_sentence_is_used() -> None:
    import re

    folder = Path(text.__file__).parent
    source = "".join(
        path.read_text(encoding="utf-8")
        for path in folder.rglob("*.py")
        if not path.name.startswith("text_")
    )
    built = re.findall(r"""f["']([a-z.]*)\{""", source)
    built += re.findall(r"""\}(\.[a-z.]+)["']""", source)
    for key in text.LANGUAGES["en"]:
        used = f'"{key}"' in source or f"'{key}'" in source
        used = used or any(key.startswith(part) for part in built if part.endswith("."))
        used = used or any(key.endswith(part) for part in built if part[:1] == ".")
        assert used, f"{key} is in the tables, and nobody says it"
