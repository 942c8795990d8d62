"""Where the program keeps things: one folder for each profile, by the XDG rules.

    $XDG_DATA_HOME/telex/            the profile: database (client/), telex.log
    $XDG_CONFIG_HOME/telex/tui.toml  how the program looks and sounds

A profile given by `--profile` holds its own `tui.toml`, so that two profiles on
one machine (a demo, work and home) do not share a theme by accident.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from protocol.errors import TelexError

__all__ = ["LocationError", "Locations", "default_locations", "profile_locations"]


class LocationError(TelexError):
    """A folder that cannot be made or written."""


@dataclass(frozen=True, slots=True)
class Locations:
    """The files of one profile."""

    profile: Path
    """The folder that `client.Client` is given."""
    config: Path
    """The TOML file of `tui.config`."""

    @property
    def log(self) -> Path:
        """Where the log goes: the screen belongs to the chat."""
        return self.profile / "telex.log"

    def prepare(self) -> None:
        """Make the profile's folder, readable by its owner alone.

        Raises:
            LocationError: it cannot be made.
        """
        try:
            self.profile.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise LocationError(
                f"The folder {self.profile} cannot be made "
                f"({error.strerror}); choose another one with --profile."
            ) from error


def _base(variable: str, fallback: str) -> Path:
    """An XDG base folder; a relative path there is to be ignored, says XDG."""
    value = os.environ.get(variable, "")
    return Path(value) if os.path.isabs(value) else Path.home() / fallback


def default_locations() -> Locations:
    """The files of the person's own profile."""
    return Locations(
        profile=_base("XDG_DATA_HOME", ".local/share") / "telex",
        config=_base("XDG_CONFIG_HOME", ".config") / "telex" / "tui.toml",
    )


def profile_locations(profile: Path) -> Locations:
    """The files of a profile in a folder of its own."""
    return Locations(profile=profile, config=profile / "tui.toml")
