"""Sound and picture: which devices, what is done to the sound, what others learn."""

from pathlib import Path
from typing import ClassVar

import msgspec
from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets import Static
from textual.widgets.option_list import Option

from media.port import Device, Devices, Sound
from media.view.probe import MODES
from tui.backend import ChatClient
from tui.cells import one_line
from tui.desk import FILES
from tui.screens.dialogs import FormDialog
from tui.screens.form import Field, sentence
from tui.screens.panel import ListPanel
from tui.terminal import video_choice
from tui.text import say

__all__ = ["SoundScreen"]

SWITCHES = ("echo", "noise", "gain")


class SoundScreen(ListPanel):
    """Devices to choose from, then the switches; all of it also during a call."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("r", "again", "key.again"),
        Binding("f", "file", "key.sound.file"),
    ]

    def __init__(self, client: ChatClient) -> None:
        super().__init__(client, say("sound.title"), empty="")
        self._devices: Devices | None = None

    def above(self) -> ComposeResult:
        """That changes hold at once."""
        yield Static(Content(say("sound.text")), classes="panel-why")

    async def options(self) -> list[Option]:
        """A part for each kind of device, then the switches."""
        if self._devices is None:
            self._devices = await self._look()
        sound, settings = self.client.calls.sound, self.app.settings
        lines = []
        chosen = {
            "microphone": sound.microphone,
            "speaker": sound.speaker,
            "camera": settings.camera,
        }
        for kind, wanted in chosen.items():
            lines += self._part(kind, wanted)
        lines += [self._heading("screen"), *self._shareable()]
        lines += [
            Option(
                Content(self.indented(f"! {text}", 0).strip()).stylize("$warning"),
                disabled=True,
            )
            for text in self._devices.missing
        ]
        lines += self._drawing(settings.video)
        lines.append(self._heading("switches"))
        lines += [self._switch(name, getattr(sound, name)) for name in SWITCHES]
        lines.append(self._switch("push", settings.push_to_talk))
        lines.append(self._switch("relay", self.client.calls.relay_only))
        return lines

    async def _look(self) -> Devices:
        try:
            return await self.client.calls.devices()
        except Exception as error:
            # The switches can be set all the same.
            return Devices((), (sentence(error, self.app.locations.log),))

    def _heading(self, kind: str) -> Option:
        title = Content(say(f"sound.{kind}")).stylize("bold $primary")
        return Option(title, disabled=True)

    def _of(self, kind: str) -> list[Device]:
        assert self._devices is not None
        return [one for one in self._devices.found if one.kind == kind]

    def _part(self, kind: str, wanted: str) -> list[Option]:
        found = self._of(kind)
        default = next((one.name for one in found if one.default), "")
        text = say("sound.default")
        if default:
            text = say("sound.default.now", name=one_line(default))
        lines = [self._heading(kind), self._choice(kind, "", text, not wanted)]
        for one in found:
            on = one.id == wanted
            lines.append(self._choice(kind, one.id, one_line(one.name), on))
        if wanted and wanted not in [one.id for one in found]:
            text = one_line(wanted)
            if kind != "camera" or not wanted.startswith(FILES):
                text = say("sound.unplugged", name=text)
            lines.append(self._choice(kind, wanted, text, True))
        return lines

    def _drawing(self, wanted: str) -> list[Option]:
        """What pictures are drawn with."""
        lines = [self._heading("video")]
        for mode in ("auto", *MODES):
            choice = video_choice(mode)
            text = say(f"sound.video.{mode}")
            if mode == "auto":
                text = f"{text} ({say(f'sound.video.{choice.mode}')})"
            if choice.reason:
                text = f"{text} · {say(f'sound.video.{choice.reason}')}"
            lines.append(self._choice("video", mode, text, mode == wanted))
        return lines

    def _shareable(self) -> list[Option]:
        names = [one_line(one.name) for one in self._of("screen")]
        text = ", ".join(names) or say("sound.none")
        return [Option(Content(f"  {text}").stylize("$quiet"), disabled=True)]

    def _choice(self, kind: str, id: str, text: str, on: bool) -> Option:
        mark = ("(•) " if on else "( ) ", "bold $primary" if on else "$quiet")
        label = Content.assemble(mark, (text, "bold" if on else ""))
        return Option(label, id=f"{kind}:{id}")

    def _switch(self, name: str, on: bool) -> Option:
        return Option(
            Content.assemble(
                ("[x] " if on else "[ ] ", "bold $primary" if on else "$quiet"),
                (say(f"sound.{name}"), "bold" if on else ""),
                (self.indented(say(f"sound.{name}.why"), 4), "$quiet"),
            ),
            id=name,
        )

    def action_file(self) -> None:
        """Send a video or a picture as if the camera saw it."""

        def path_in(values: dict[str, str]) -> Path:
            return Path(values["path"].strip()).expanduser().absolute()

        def check(values: dict[str, str]) -> dict[str, str]:
            there = path_in(values).is_file()
            return {"path": "" if there else say("sound.file.none")}

        async def perform(values: dict[str, str]) -> str:
            return f"file:{path_in(values)}"

        self.app.push_screen(
            FormDialog(
                say("sound.file"),
                Field("path", say("sound.file.path"), say("sound.file.hint")),
                go=say("sound.file.go"),
                busy=lambda values: "",
                check=check,
                perform=perform,
                text=say("sound.file.text"),
                log=self.app.locations.log,
            ),
            self._take_file,
        )

    def _take_file(self, camera: object) -> None:
        if isinstance(camera, str):
            self.app.change(camera=camera)
            self._use_file(camera)

    @work(group="sound", exclusive=True)
    async def _use_file(self, camera: str) -> None:
        await self.trying(self._switch_camera(camera))
        self.reload()

    async def _switch_camera(self, device: str) -> None:
        """The call that runs shows the new camera, if it shows one at all."""
        cameras, screens = self._of("camera"), {one.id for one in self._of("screen")}
        default = next((one.id for one in cameras if one.default), "")
        wanted = device or default or (cameras[0].id if cameras else "")
        for call in self.client.calls.calls:
            if call.camera and call.camera not in {wanted, *screens}:
                await self.client.calls.set_camera(call.id, wanted)

    def action_again(self) -> None:
        """Look again what is plugged in."""
        self._devices = None
        self.reload()

    @work(group="sound", exclusive=True)
    async def picked(self) -> None:  # type: ignore[override]
        """Choose or switch what is under the cursor."""
        calls, settings, chosen = self.client.calls, self.app.settings, self.chosen
        kind, _, device = chosen.partition(":")

        async def perform() -> bool:
            if kind == "camera":
                self.app.change(camera=device)
                await self._switch_camera(device)
            elif kind == "video":
                self.app.change(video=device)
            elif chosen == "push":
                self.app.change(push_to_talk=not settings.push_to_talk)
            elif chosen == "relay":
                await calls.set_relay_only(not calls.relay_only)
            else:
                await calls.set_sound(_changed(calls.sound, kind, device))
            return True

        if await self.trying(perform()):
            self.note(
                say(f"sound.done.{'next' if chosen == 'relay' else 'now'}"), "done"
            )
            self.reload()


def _changed(sound: Sound, kind: str, device: str) -> Sound:
    """The same with one thing changed."""
    value = device if kind in ("microphone", "speaker") else not getattr(sound, kind)
    return msgspec.structs.replace(sound, **{kind: value})
