"""The first minutes: welcome, register, log in, the 24 words, the lock."""

import asyncio
from pathlib import Path

import pytest
from textual.widgets import Input

from client.enrol import PASSWORD_MIN
from client.errors import KeyringFailed, NodeUnreachable, WrongPhrase
from client.storage import system_keyring
from protocol.errors import AccountTaken, BadInvite, BadLogin
from tests.tui.fake_client import WORDS, FakeBackend, FakeClient
from tests.tui.looking import Sight, looking
from tui.screens.chat import ChatScreen
from tui.screens.entry import PASSWORD_LEAST
from tui.screens.form import Field

PASSWORD = "correct horse"
PHRASE = ["abandon"] * 23 + ["art"]


async def fill(sight: Sight, *values: str) -> None:
    """Type into one field after the other; Enter in the last one goes on."""
    for value in values:
        await sight.type(value)
        await sight.press("enter")


async def to_register(sight: Sight) -> None:
    await sight.sees("Register", "Log in", "You have an invite")
    await sight.press("enter")
    await sight.sees("Register an account")


async def test_register_shows_the_words_and_then_the_chat(tmp_path: Path) -> None:
    backend = FakeBackend()
    async with looking(tmp_path, backend=backend) as sight:
        await to_register(sight)
        await fill(sight, "alice@example.org", "code", PASSWORD, PASSWORD)
        await sight.sees("Write down these 24 words", *WORDS)
        assert backend.asked == [
            {"account": "alice@example.org", "invite": "code", "password": PASSWORD}
        ]
        await sight.press("escape")
        await sight.sees("word24")
        await sight.press("enter")
        await sight.sees("Three of your words")
        await sight.press("enter", "enter", "enter")
        await sight.sees("look at your paper again")
        await answer_quiz(sight)
        await sight.sees("Keep an encrypted backup")
        await sight.press("enter")
        await sight.until(lambda: isinstance(sight.app.screen, ChatScreen))
        assert backend.client.entered
        assert len(sight.app.screen_stack) == 2
        assert "disable" not in backend.client.asked
    assert backend.client.closed


async def answer_quiz(sight: Sight) -> None:
    """Write the words that are asked for."""
    for field in sight.app.screen.query(Field):
        number = int(field.key.removeprefix("word-"))
        field.input.value = WORDS[number - 1].upper()
    sight.app.screen.query("Input").last().focus()
    await sight.press("enter")


async def test_register_finds_mistakes_without_asking_the_node(tmp_path: Path) -> None:
    backend = FakeBackend()
    async with looking(tmp_path, backend=backend) as sight:
        await to_register(sight)
        await fill(sight, "Alice@example.org", "", "short", "other")
        await sight.sees(
            "in lower case",
            "Write the invite code",
            "Use at least 8 characters",
        )
        assert backend.asked == []
        focused = sight.app.focused
        assert isinstance(focused, Input) and focused.value == "Alice@example.org"
        # Mending a field takes its error back.
        await sight.press("backspace")
        await sight.misses("in lower case")


async def test_register_passwords_must_agree(tmp_path: Path) -> None:
    async with looking(tmp_path, backend=FakeBackend()) as sight:
        await to_register(sight)
        await fill(sight, "alice@example.org", "code", PASSWORD, PASSWORD + "!")
        await sight.sees("The two passwords differ")
        assert PASSWORD not in sight.text


async def test_errors_of_the_node_stand_at_their_field(tmp_path: Path) -> None:
    backend = FakeBackend()
    async with looking(tmp_path, backend=backend) as sight:
        await to_register(sight)
        await sight.rest()
        for error, text in (
            (BadInvite(), "This invite is not valid"),
            (AccountTaken(), "This name is already taken"),
            (NodeUnreachable("example.org does not answer; try later."), "try later"),
        ):
            backend.error = error
            if backend.asked:
                sight.app.screen.query("Input").last().focus()
                await sight.press("enter")
            else:
                await fill(sight, "alice@example.org", "code", PASSWORD, PASSWORD)
            await sight.sees(text)
        # What was typed is still there, and the way is free once it works.
        backend.error = None
        sight.app.screen.query("Input").last().focus()
        await sight.press("enter")
        await sight.sees("Write down these 24 words")


async def test_progress_is_shown_and_can_be_left(tmp_path: Path) -> None:
    backend = FakeBackend()
    backend.hold = asyncio.Event()
    async with looking(tmp_path, backend=backend) as sight:
        await to_register(sight)
        await fill(sight, "alice@example.org", "code", PASSWORD, PASSWORD)
        await sight.sees("Making your keys and registering at example.org")
        await sight.press("escape")
        await sight.sees("You have an invite")


async def test_an_unexpected_error_is_a_sentence(tmp_path: Path) -> None:
    backend = FakeBackend()
    backend.error = RuntimeError("secret detail")
    async with looking(tmp_path, backend=backend) as sight:
        await to_register(sight)
        await fill(sight, "alice@example.org", "code", PASSWORD, PASSWORD)
        await sight.sees("Something went wrong that Telex did not expect")
        assert "secret detail" not in sight.text


def test_the_form_asks_for_what_the_engine_asks_for() -> None:
    assert PASSWORD_LEAST == PASSWORD_MIN


async def test_login(tmp_path: Path) -> None:
    backend = FakeBackend()
    async with looking(tmp_path, backend=backend) as sight:
        await sight.sees("Log in")
        await sight.press("down", "down", "enter")
        await sight.sees("Log in on this device")
        await fill(sight, "alice@example.org", PASSWORD, "one two three")
        await sight.sees("The phrase has 24 words; here are 3")
        sight.app.screen.query("Input").last(Input).value = " ".join(PHRASE).upper()
        for error, text in (
            (BadLogin(), "The account or the password is wrong"),
            (WrongPhrase("These are not the words of this account."), "not the words"),
        ):
            backend.error = error
            sight.app.screen.query("Input").last(Input).focus()
            await sight.press("enter")
            await sight.sees(text)
        backend.error = None
        sight.app.screen.query("Input").last(Input).focus()
        await sight.press("enter")
        await sight.until(lambda: isinstance(sight.app.screen, ChatScreen))
        assert backend.asked[-1]["phrase"] == " ".join(PHRASE)


def lock(folder: Path) -> None:
    """Make it look as if an account was set up there."""
    (folder / "key.json").write_text("{}")


async def test_unlock_says_when_the_password_is_wrong(tmp_path: Path) -> None:
    lock(tmp_path)
    backend = FakeBackend(FakeClient())
    async with looking(tmp_path, backend=backend) as sight:
        await sight.sees("Telex is locked")
        await sight.press("enter")
        await sight.sees("Write your password")
        await fill(sight, "wrong")
        await sight.sees("The password is wrong; try again.")
        field = sight.app.screen.query_one(Input)
        assert sight.app.focused is field
        field.value = ""
        await fill(sight, PASSWORD)
        await sight.until(lambda: isinstance(sight.app.screen, ChatScreen))
    assert backend.client.closed


async def test_mouse_does_what_keys_do(tmp_path: Path) -> None:
    async with looking(tmp_path, backend=FakeBackend()) as sight:
        await sight.sees("Log in")
        await sight.pilot.click("#login")
        await sight.sees("Log in on this device")
        await sight.pilot.click("#back")
        await sight.sees("You have an invite")
        await sight.pilot.click("#quit")
        await sight.until(lambda: not sight.app.is_running)


async def test_the_keyring_opens_or_the_password_does(tmp_path: Path) -> None:
    (tmp_path / "key.json").write_text('{"keyring": "x"}')
    backend = FakeBackend(FakeClient())
    async with looking(tmp_path, backend=backend) as sight:
        await sight.until(lambda: isinstance(sight.app.screen, ChatScreen))
    assert backend.asked == [{"password": "None"}]
    backend = FakeBackend(FakeClient())
    backend.keyring = KeyringFailed("The keyring is locked; type the password.")
    async with looking(tmp_path, backend=backend) as sight:
        await sight.sees("The keyring is locked; type the password.")
        await fill(sight, PASSWORD)
        await sight.until(lambda: isinstance(sight.app.screen, ChatScreen))


async def test_protection_is_chosen_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(system_keyring, "available", lambda: True)
    client = FakeClient()
    async with looking(tmp_path, backend=FakeBackend(client)) as sight:
        await to_register(sight)
        await fill(sight, "alice@example.org", "code", PASSWORD, PASSWORD)
        await sight.sees("Write down these 24 words")
        await sight.press("enter")
        await sight.sees("Three of your words")
        # Who has not written them down can go back.
        await sight.press("escape")
        await sight.sees("Write down these 24 words", "word24")
        await sight.press("enter")
        await sight.sees("Three of your words")
        await answer_quiz(sight)
        await sight.sees("[x] Keep an encrypted backup", "[ ] Open Telex here without")
        await sight.press("up", "space", "up", "space")
        await sight.sees("[ ] Keep an encrypted backup", "[x] Open Telex here without")
        await sight.pilot.click("#go")
        await sight.until(lambda: isinstance(sight.app.screen, ChatScreen))
    assert "keyring True" in client.asked and "disable" in client.asked


async def test_without_a_keyring_none_is_offered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[bool] = []

    def available() -> bool:
        looked.append(True)
        return False

    monkeypatch.setattr(system_keyring, "available", available)
    client = FakeClient()
    async with looking(tmp_path, backend=FakeBackend(client)) as sight:
        await to_register(sight)
        await fill(sight, "alice@example.org", "code", PASSWORD, PASSWORD)
        await sight.sees("Write down these 24 words")
        await sight.press("enter")
        await answer_quiz(sight)
        await sight.sees("[x] Keep an encrypted backup")
        await sight.until(lambda: looked)
        await sight.rest()
        assert "without the password" not in sight.text
