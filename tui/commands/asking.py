"""What commands ask for: passwords and the 24 words; the options for scripts."""

import os
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from client.model import Profile
    from tui.locations import Locations

__all__ = [
    "FILE",
    "PASSWORD_FILE",
    "PHRASE_FILE",
    "Place",
    "ask_password",
    "ask_phrase",
    "ca_file_of",
    "keep_ca_file",
    "password_in_env",
    "password_or_keyring",
    "profile_of",
    "quiz_words",
    "run",
]

Place = tuple["Locations", Path | None]
"""Where the profile is, and the certificates given on the command line."""

FILE = click.Path(path_type=Path, exists=True, dir_okay=False, readable=True)

PASSWORD_FILE = click.option(
    "--password-file",
    type=FILE,
    help="Read the password from this file's first line (or set TELEX_PASSWORD).",
)
PHRASE_FILE = click.option(
    "--phrase-file", type=FILE, help="Read the 24 words from this file."
)


def run(main: Coroutine[Any, Any, Any]) -> Any:
    """Run a command's coroutine."""
    import asyncio

    return asyncio.run(main)


def password_in_env() -> str:
    """TELEX_PASSWORD, for scripts."""
    return os.environ.get("TELEX_PASSWORD", "")


def ask_password(
    file: Path | None, *, twice: bool = False, prompt: str = "Password"
) -> str:
    """The password: from a file, from TELEX_PASSWORD, or typed."""
    if file is not None:
        try:
            return file.read_text(encoding="utf-8").splitlines()[0]
        except (OSError, UnicodeDecodeError, IndexError) as error:
            raise click.ClickException(
                f"{file} holds no password in its first line."
            ) from error
    password = password_in_env()
    if password:
        return password
    typed: str = click.prompt(
        prompt, hide_input=True, confirmation_prompt=twice, err=True
    )
    return typed


def password_or_keyring(place: Place, file: Path | None) -> str | None:
    """The password; None where the system's keyring opens the profile."""
    if file is None and not password_in_env() and profile_of(place).by_keyring():
        return None
    return ask_password(file)


def ask_phrase(file: Path | None, prompt: str = "Your 24 words") -> str:
    """The words: from a file, from standard input, or typed without being shown."""
    if file is not None:
        try:
            text = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise click.ClickException(f"{file} cannot be read.") from error
    elif not sys.stdin.isatty():
        text = sys.stdin.readline()
    else:
        text = click.prompt(prompt, hide_input=True, err=True)
    return " ".join(text.lower().split())


def quiz_words(words: list[str]) -> None:
    """Ask three of the words back, until they are right."""
    from client.enrol import check_quiz, quiz

    click.echo("\nNow three of them, from your paper:", err=True)
    for place in quiz(words):
        while True:
            answer = click.prompt(f"Word {place}", err=True)
            if not check_quiz(words, {place: answer}):
                break
            click.echo(f"This is not word {place}; look at your paper again.", err=True)


def ca_file_of(place: Place) -> Path | None:
    """The certificates given now, or noted at registration."""
    from tui.config import load_settings

    locations, ca_file = place
    if ca_file is None and (saved := load_settings(locations.config).ca_file):
        ca_file = Path(saved)
    return ca_file


def keep_ca_file(place: Place) -> None:
    """Note which certificates this account needs, so that `telex` alone works."""
    from tui.config import load_settings, save_settings

    locations, ca_file = place
    if ca_file is not None:
        settings = load_settings(locations.config)
        path = locations.config
        save_settings(path, settings.changed(ca_file=str(ca_file.absolute())))


def profile_of(place: Place) -> "Profile":
    """The profile that the command line means; its folder is made if need be."""
    from client.model import Profile

    place[0].prepare()
    return Profile(place[0].profile, ca_file_of(place))
