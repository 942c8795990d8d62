"""How the program looks and sounds: a small TOML file that a person may edit.

Unknown keys are kept when the file is written again, a value of the wrong kind is
a sentence with the key's name. The program writes the file itself when somebody
changes the theme or a switch in the command palette.
"""

import os
import tomllib
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from media.view.probe import MODES
from protocol.errors import TelexError

__all__ = ["ConfigError", "Settings", "load_settings", "save_settings"]

_CHOICES: dict[str, tuple[str, ...]] = {
    "theme": ("dark", "light"),
    "language": ("auto", "en", "zh"),
    "video": ("auto", *MODES),
}


class ConfigError(TelexError):
    """A configuration file that cannot be used; says which line or key."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Every setting, with its default."""

    theme: str = "dark"
    """`dark` or `light`."""
    language: str = "auto"
    """`en`, `zh`, or `auto`: by LC_ALL, LC_MESSAGES and LANG."""
    bell: bool = False
    """Ring the terminal's bell when a message arrives in a room that is not open."""
    toasts: bool = True
    """Show a note in the corner for such a message."""
    members: bool = True
    """Show the list of members where the terminal is wide enough."""
    camera: str = ""
    """The camera to take in calls; empty: the system's default."""
    video: str = "auto"
    """What pictures of calls are drawn with: `auto` takes the finest that the terminal
    can; see `media.view.probe.MODES`."""
    push_to_talk: bool = False
    """Be heard in calls only while the space bar is held."""
    ca_file: str = ""
    """Certificates (PEM) of a private network to trust, if no --ca-file is given;
    `telex register` and `telex login` note here what they were given."""
    extra: tuple[tuple[str, Any], ...] = field(default=(), repr=False)
    """Keys of a later version, kept as they are."""

    def changed(self, **values: Any) -> "Settings":
        """These settings with some values changed."""
        return replace(self, **values)


def load_settings(path: Path) -> Settings:
    """Read the settings; a file that is not there means the defaults.

    Raises:
        ConfigError: the file cannot be read, is not TOML, or holds a wrong value.
    """
    try:
        with path.open("rb") as file:
            table = tomllib.load(file)
    except FileNotFoundError:
        return Settings()
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not valid TOML: {error}.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read; check it or remove it.") from error
    known: dict[str, Any] = {}
    extra: list[tuple[str, Any]] = []
    defaults = {item.name: item.default for item in fields(Settings)}
    for key, value in table.items():
        if key == "extra" or key not in defaults:
            extra.append((key, value))
            continue
        _check(path, key, value, defaults[key])
        known[key] = value
    return Settings(**known, extra=tuple(extra))


def _check(path: Path, key: str, value: Any, default: Any) -> None:
    if key in _CHOICES and value not in _CHOICES[key]:
        allowed = ", ".join(f'"{choice}"' for choice in _CHOICES[key])
        raise ConfigError(f"{path}: {key} must be one of {allowed}.")
    if isinstance(default, str) and not isinstance(value, str):
        raise ConfigError(f"{path}: {key} must be a text in quotes.")
    if isinstance(default, bool) and not isinstance(value, bool):
        raise ConfigError(f"{path}: {key} must be true or false.")


def save_settings(path: Path, settings: Settings) -> None:
    """Write the settings, whole or not at all.

    Raises:
        ConfigError: the file cannot be written.
    """
    lines = []
    for item in fields(Settings):
        if item.name != "extra":
            lines.append(f"{item.name} = {_toml(getattr(settings, item.name))}")
    for key, value in settings.extra:
        written = _toml(value)
        if written:
            lines.append(f"{_toml(key)} = {written}")
    temporary = path.with_name(path.name + ".new")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
        os.replace(temporary, path)
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be written ({error.strerror}); "
            "the change holds until you quit."
        ) from error


def _toml(value: Any) -> str:
    """A value in TOML; empty for what this small writer does not know."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, str):
        escaped = "".join(
            f"\\u{ord(char):04x}" if char in '"\\' or ord(char) < 32 else char
            for char in value
        )
        return f'"{escaped}"'
    if isinstance(value, list):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    return ""
