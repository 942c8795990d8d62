"""`telex audio`: which microphones and speakers there are, and whether they work.

Nothing of the account is opened. The sound libraries are loaded by the commands alone,
so that `telex --help` stays light; what is missing is a sentence.
"""

import sys
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Callable

    from media.audio.devices import Samples
    from media.audio.devices.trial import Heard
    from media.port import Devices, Sound

__all__ = ["audio", "meter"]

BACKEND = click.option(
    "--backend",
    type=click.Choice(["miniaudio", "sounddevice", "null"]),
    default=None,
    help="The sound library to use. [env: TELEX_AUDIO]",
)
NO_LIBRARY = "Calls need sound libraries: pip install 'telex[calls]'."
LOW = -60.0
"""Decibels of full scale where the meter begins."""


@click.group()
def audio() -> None:
    """The microphones and speakers for calls."""


@audio.command("devices")
@BACKEND
def list_devices(backend: str | None) -> None:
    """List them; * marks the system's default."""
    try:
        from media.audio.devices import find_devices
    except ImportError as error:
        raise click.ClickException(NO_LIBRARY) from error
    name, devices = find_devices(backend or "")
    for line in device_lines(name, devices):
        click.echo(line)
    for sentence in dict.fromkeys(devices.missing):
        click.echo(f"telex: {sentence}", err=True)
    if not devices.found:
        sys.exit(1)


def device_lines(backend: str, devices: "Devices") -> list[str]:
    """A heading and a line for each device, in columns; what was asked for them."""
    from tui.cells import cell_len, fit, one_line

    if not devices.found:
        return []
    rows = [("", "KIND", "NAME", "ID")]
    for one in devices.found:
        mark = "*" if one.default else ""
        rows.append((mark, one.kind, one_line(one.name), one_line(one.id)))
    widths = [max(cell_len(row[n]) for row in rows) for n in range(4)]
    widths[2] = min(44, widths[2])
    lines = [
        "  ".join(
            fit(text, width) for text, width in zip(row, widths, strict=True)
        ).rstrip()
        for row in rows
    ]
    return [*lines, "", f"Sound by {backend}. Try one: telex audio test"]


@audio.command("test")
@click.option("--microphone", default="", metavar="ID", help="Else the default one.")
@click.option("--speaker", default="", metavar="ID", help="Else the default one.")
@click.option(
    "--seconds",
    default=3.0,
    show_default=True,
    type=click.FloatRange(0.5, 60),
    help="How long to record.",
)
@click.option("--echo/--no-echo", default=True, help="Echo cancellation.")
@click.option("--noise/--no-noise", default=True, help="Noise suppression.")
@click.option("--gain/--no-gain", default=True, help="Automatic gain control.")
@BACKEND
def try_devices(
    microphone: str,
    speaker: str,
    seconds: float,
    echo: bool,
    noise: bool,
    gain: bool,
    backend: str | None,
) -> None:
    """Play a tone, record, play it back, and say whether anything was heard."""
    try:
        import media.audio.devices.trial  # noqa: F401
        from media.port import Sound
    except ImportError as error:
        raise click.ClickException(NO_LIBRARY) from error
    sound = Sound(microphone, speaker, echo, noise, gain)
    if not run_trial(sound, seconds, backend or ""):
        sys.exit(1)


def run_trial(sound: "Sound", seconds: float, backend: str) -> bool:
    """The whole trial; whether both devices did what they should."""
    from media.audio.devices import trial
    from media.port import MediaError

    live = sys.stdout.isatty()
    troubles: list[str] = []

    def play(samples: "Samples", words: str) -> None:
        try:
            trial.play(sound.speaker, samples, _saying(words), backend=backend)
        except MediaError as error:
            _complain(troubles, error)

    play(trial.test_tone(), "You should hear two notes now.")
    words = f"Speak now, for {seconds:g} s."
    show = _show if live else _hide
    try:
        try:
            heard = trial.record(sound, seconds, _saying(words), show, backend=backend)
        finally:
            if live:
                click.echo("\r\x1b[K", nl=False)  # the meter
    except MediaError as error:
        _complain(troubles, error)
        return False
    if not (heard.nothing or troubles):
        play(heard.samples, "This is what I heard.")
    click.echo(verdict(sound, heard))
    return not (heard.nothing or troubles)


def _saying(words: str) -> "Callable[[], None]":
    return lambda: click.echo(words)


def _complain(troubles: list[str], error: Exception) -> None:
    """Say what is wrong, once."""
    if str(error) not in troubles:
        click.echo(f"telex: {error}", err=True)
    troubles.append(str(error))


def verdict(sound: "Sound", heard: "Heard") -> str:
    """One sentence."""
    name = f"microphone {sound.microphone!r}" if sound.microphone else "microphone"
    if heard.nothing:
        barred = ", or is it kept from this terminal (Privacy & Security, Microphone)"
        return (
            f"I heard nothing from the {name}: is it muted, switched off or the wrong "
            f"one{barred if sys.platform == 'darwin' else ''}? `telex audio devices` "
            f"lists the others."
        )
    if heard.raw > -1:
        return f"I heard you, too loud: turn the {name} down."
    return f"I heard you; the loudest was at {heard.raw:.0f} dB of full scale."


def meter(level: float, width: int) -> str:
    """A bar for decibels of full scale: `width` cells for `LOW` to 0."""
    full = round(max(0.0, min(1.0, 1 - level / LOW)) * width)
    return "█" * full + "░" * (width - full)


def _show(level: float, left: float) -> None:
    """Draw the meter over itself."""
    import shutil

    width = max(5, min(40, shutil.get_terminal_size().columns - 22))
    bar = meter(level, width)
    click.echo(f"\r  {bar} {level:4.0f} dB {left:5.1f} s ", nl=False)


def _hide(level: float, left: float) -> None:
    """No meter where nobody sees it move."""
