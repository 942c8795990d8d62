"""The command palette: everything that can be done, and every room by its name.

Commands come from the same bindings as the help screen, so nothing can be missing
in one of them; to these come the switches that have no key.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, get_args

from textual.command import DiscoveryHit, Hit, Hits, Provider
from textual.content import Content

from client.presence.chosen import Chosen
from tui.keys import bindings_of, shown_key
from tui.text import say

if TYPE_CHECKING:
    from tui.app import TelexApp

__all__ = ["TelexCommands"]


@dataclass(frozen=True, slots=True)
class Command:
    """A line of the palette."""

    title: str
    help: str
    run: Callable[[], Any]


class TelexCommands(Provider):
    """All commands that make sense on this screen."""

    def _app(self) -> "TelexApp":
        app: Any = self.app
        return app  # type: ignore[no-any-return]

    def commands(self) -> Iterator[Command]:
        """The commands of the chat (if it is open), then those of the program."""
        from tui.screens.care import MENU
        from tui.screens.chat import ChatScreen

        app = self._app()
        screen: Any = self.screen
        if isinstance(screen, ChatScreen):
            yield from self._bound(screen, screen)
            for _key, action in MENU:
                yield Command(
                    say(f"palette.{action}"),
                    say(f"palette.{action}.help"),
                    partial(screen.open_panel, action),
                )
            for state in get_args(Chosen):
                yield Command(
                    say("palette.state", state=say(f"presence.{state}")),
                    say(f"presence.{state}.why"),
                    partial(screen.be, state),
                )
            yield Command(
                say("palette.account"),
                say("palette.account.help"),
                screen.copy_account,
            )
        yield from self._bound(app, screen)
        for name in ("bell", "toasts"):
            on = bool(getattr(app.settings, name))
            yield Command(
                say(f"palette.{name}.{'off' if on else 'on'}"),
                say(f"palette.{name}.help"),
                partial(app.change, **{name: not on}),
            )
        yield Command(
            say("palette.language"),
            say("palette.language.help"),
            app.switch_language,
        )
        if isinstance(screen, ChatScreen):
            for room, title in screen.room_titles():
                yield Command(
                    say("palette.open", room=title),
                    say("palette.open.help"),
                    partial(screen.open_room, room),
                )

    def _bound(self, owner: Any, screen: Any) -> Iterator[Command]:
        """What has a key, except for moving about."""
        seen = {"command_palette", "escape", "interrupt"}
        for binding in bindings_of(type(owner)):
            if binding.action in seen or "(" in binding.action:
                continue
            seen.add(binding.action)
            yield Command(
                say(binding.description),
                shown_key(binding.key),
                self._action(binding.action, owner),
            )

    def _action(self, action: str, owner: Any) -> Callable[[], Any]:
        async def run() -> None:
            await self._app().run_action(action, owner)

        return run

    async def discover(self) -> Hits:
        """Everything, while nothing is written."""
        for command in self.commands():
            yield DiscoveryHit(
                Content(command.title), command.run, command.title, command.help
            )

    async def search(self, query: str) -> Hits:
        """What fits the words."""
        matcher = self.matcher(query)
        for command in self.commands():
            score = matcher.match(command.title)
            if score > 0:
                yield Hit(
                    score,
                    # Not `matcher.highlight`: it reads markup, and rooms are named
                    # by other people.
                    Content(command.title),
                    command.run,
                    command.title,
                    command.help,
                )
