"""The Textual application: themes, settings, the account that is open.

It goes from the welcome or the unlock screen to the chat and owns the client from
the moment there is one until it is closed. Everything about rooms is in
`screens.chat`.
"""

import asyncio
import logging
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from rich.text import Text
from textual import events
from textual.app import App, ScreenStackError
from textual.binding import Binding, BindingType
from textual.command import CommandPalette
from textual.css.query import NoMatches

from client.model import Profile
from tui.backend import Backend, ChatClient, engine
from tui.config import ConfigError, Settings, save_settings
from tui.layout import HEIGHTS, WIDTHS
from tui.locations import Locations
from tui.providers import TelexCommands
from tui.screens.chat import ChatScreen
from tui.screens.help import HelpScreen
from tui.screens.onboarding import UnlockScreen, WelcomeScreen
from tui.terminal import Question
from tui.text import choose_language, say, use
from tui.theme import DARK, LIGHT
from tui.widgets.composer import teach_keys

__all__ = ["TelexApp", "run"]

LOG = logging.getLogger(__name__)

CLOSE_SECONDS = 10
"""For the client to say goodbye and close its database; then we leave anyway:
everything written is on disk before it is shown."""

KEEP_TITLE, RESTORE_TITLE = "\x1b[22;0t", "\x1b[23;0t"
"""XTWINOPS: the title that the terminal had before comes back when we leave."""

QUIT_SECONDS = 3
"""In which a second Ctrl+C quits."""


class TelexApp(App[None]):
    """`telex` as people see it."""

    CSS_PATH = "telex.tcss"
    TITLE = "Telex"
    COMMANDS: ClassVar[Any] = {TelexCommands}
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("f1", "help", "key.help", priority=True),
        Binding("question_mark", "help", "key.help"),
        Binding("ctrl+p", "command_palette", "key.palette", priority=True),
        Binding("f9", "call", "key.call", priority=True),
        # Terminals without the kitty protocol send Shift+F9 as F21.
        Binding(
            "shift+f9,f21",
            "call_video",
            "key.call.video",
            key_display="Shift+F9",
            priority=True,
        ),
        Binding("f10", "call_end", "key.call.end", priority=True),
        Binding("f12", "switch_theme", "key.theme"),
        Binding("ctrl+q", "quit", "key.quit", priority=True),
        Binding("ctrl+c", "interrupt", "key.quit", show=False),
    ]
    ENABLE_COMMAND_PALETTE = True

    def __init__(
        self,
        locations: Locations,
        settings: Settings,
        *,
        ca_file: Path | None = None,
        opened: ChatClient | None = None,
        first_room: str = "",
        greeting: str = "",
        password: str = "",
        load: Callable[[], Backend] = engine,
    ) -> None:
        """Make the application.

        Args:
            locations: the profile and the files around it.
            settings: how it looks.
            ca_file: certificates trusted beside the system's.
            opened: an account that is open already (the demo); not yet running.
            first_room: the account whose direct chat is opened first.
            greeting: what is written there at once (the demo).
            password: opens the profile without asking (TELEX_PASSWORD).
            load: what gives the engine; tests give another.
        """
        super().__init__()
        self.HORIZONTAL_BREAKPOINTS = list(WIDTHS)
        self.VERTICAL_BREAKPOINTS = list(HEIGHTS)
        teach_keys()
        self.register_theme(DARK)
        self.register_theme(LIGHT)
        self.theme = f"telex-{settings.theme}"
        self.locations = locations
        self.settings = settings
        self.profile = Profile(locations.profile, ca_file)
        self.client = opened
        self.first_room = first_room
        self._greeting = greeting
        self._password = password
        self._load = load
        self.question: Question | None = None
        """What was typed while the terminal was being asked what it can."""
        self._entered = False
        self._interrupted = 0.0
        self._unread = 0
        self._call = ""
        self.title_shown = ""
        """The terminal's title."""
        use(choose_language(settings.language))

    def get_theme_variable_defaults(self) -> dict[str, str]:
        """Our own colour names, for the moment before a theme is chosen."""
        return DARK.variables

    # --- start and stop ----------------------------------------------------------

    async def on_mount(self) -> None:
        """Show the first screen."""
        if not self.is_headless:
            self._catch_signals()
            self._tell_terminal(KEEP_TITLE)
            if self.question is not None:
                self.call_after_refresh(self.question.type_again, self)
        if self.client is not None:
            await self.begin(self.client)
        elif self.profile.exists():
            password, self._password = self._password, ""
            folder, keyring = str(self.profile.directory), self.profile.by_keyring()
            await self.push_screen(UnlockScreen(folder, password, keyring=keyring))
        else:
            await self.push_screen(WelcomeScreen())

    def _catch_signals(self) -> None:
        """Leave the terminal as it was when somebody stops us from outside."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            loop.add_signal_handler(number, self.exit)

    async def backend(self) -> Backend:
        """The engine; loaded in a thread, because that takes a moment."""
        self.locations.prepare()
        return await asyncio.to_thread(self._load)

    async def begin(self, client: ChatClient) -> None:
        """Run this account and show its rooms."""
        self.client = client
        self._entered = True
        await client.__aenter__()
        self._touch()
        # Later, and by the application: a screen that waits for its own removal
        # would wait for ever.
        self.call_later(self._show_chat, client)

    async def _show_chat(self, client: ChatClient) -> None:
        chat = ChatScreen(client, self.first_room, self._greeting)
        while len(self.screen_stack) > 1:
            await self.pop_screen()
        await self.push_screen(chat)

    async def shut(self) -> None:
        """Close the account; safe to call twice.

        Raises:
            TimeoutError: it did not close in time.
        """
        client, self.client = self.client, None
        if client is None:
            return
        async with asyncio.timeout(CLOSE_SECONDS):
            if self._entered:
                await client.__aexit__(None, None, None)
            else:
                await client.close()

    def back(self) -> None:
        """From a form to where it came from, or out."""
        if len(self.screen_stack) > 2:
            self.pop_screen()
        else:
            self.exit()

    def _handle_exception(self, error: Exception) -> None:
        """Leave after a bug; that widgets are not there is none while we leave.

        Who quits while a screen opens has it mounted without what it is made of.
        """
        leaving = self._exit or not self.is_running
        if leaving and isinstance(error, NoMatches | ScreenStackError):
            LOG.debug("a widget was looked for while we leave", exc_info=error)
        else:
            super()._handle_exception(error)

    def _fatal_error(self) -> None:
        """Leave after a bug: a sentence for people, the details for the log.

        Textual would print a traceback with the values of local variables: on our
        screen these are what people wrote to each other.
        """
        LOG.error("unexpected", exc_info=self._exception)
        self._exit_renderables.append(
            Text(say("error.unexpected", log=self.locations.log))
        )
        self._close_messages_no_wait()

    async def on_event(self, event: events.Event) -> None:
        """Any key or click says that somebody is here."""
        if isinstance(event, events.Key | events.MouseDown | events.Paste):
            self._touch()
        await super().on_event(event)

    def _touch(self) -> None:
        if self.client is not None and self._entered:
            self.client.presence.active()

    # --- keys --------------------------------------------------------------------

    async def action_quit(self) -> None:
        """Quit; what waits to be sent is on disk."""
        self.exit()

    def action_interrupt(self) -> None:
        """Ctrl+C: copy what is marked, or quit at the second time."""
        marked = self.screen.get_selected_text()
        if marked:
            self.copy_to_clipboard(marked)
            self.screen.clear_selection()
            self.notify(say("done.copied"))
            return
        now = time.monotonic()
        if now - self._interrupted < QUIT_SECONDS:
            self.exit()
            return
        self._interrupted = now
        self.notify(say("quit.hint"), timeout=QUIT_SECONDS)

    def action_help(self) -> None:
        """Show the keys, or hide them again."""
        if isinstance(self.screen, HelpScreen):
            self.pop_screen()
        else:
            self.push_screen(HelpScreen())

    def action_command_palette(self) -> None:
        """Show the palette with our words in it."""
        if self.use_command_palette and not self._palette_open():
            self.push_screen(CommandPalette(placeholder=say("palette.search")))

    def _palette_open(self) -> bool:
        app: Any = self
        return CommandPalette.is_open(app)

    def action_switch_theme(self) -> None:
        """From dark to light, or back; remembered."""
        name = "light" if self.settings.theme == "dark" else "dark"
        self.change(theme=name)
        self.theme = f"telex-{name}"

    # --- calls -------------------------------------------------------------------

    @property
    def _chat(self) -> ChatScreen | None:
        """The chat, whatever lies over it."""
        chats = [one for one in self.screen_stack if isinstance(one, ChatScreen)]
        return chats[0] if chats and chats[0].is_mounted else None

    def action_call(self) -> None:
        """Answer, show the call, or call the open chat."""
        if (chat := self._chat) is not None:
            chat.call_key()

    def action_call_show(self) -> None:
        """Show the call, or the chat; a click on the line at the top."""
        if (chat := self._chat) is not None:
            chat.toggle_call()

    def action_call_video(self) -> None:
        """The same with a picture."""
        if (chat := self._chat) is not None:
            chat.call_video_key()

    def action_call_end(self) -> None:
        """Decline, or hang up."""
        if (chat := self._chat) is not None:
            chat.call_end_key()

    # --- settings ------------------------------------------------------------------

    def change(self, **values: Any) -> None:
        """Change settings and keep them."""
        self.settings = self.settings.changed(**values)
        try:
            save_settings(self.locations.config, self.settings)
        except ConfigError as error:
            self.notify(str(error), severity="warning", markup=False)

    async def switch_language(self) -> None:
        """The other language; the screens are made anew."""
        from tui.text import language

        name = "en" if language() == "zh" else "zh"
        self.change(language=name)
        use(name)
        if self.client is not None and isinstance(self.screen, ChatScreen):
            await self.switch_screen(ChatScreen(self.client, self.first_room))

    # --- the terminal around us ------------------------------------------------------

    def terminal_title(self, unread: int) -> None:
        """Put the number of unread messages into the terminal's title."""
        self._unread = unread
        self._tell_title()

    def call_title(self, text: str) -> None:
        """Put a call before it; empty: there is none."""
        if text != self._call:
            self._call = text
            self._tell_title()

    def _tell_title(self) -> None:
        unread = self._unread
        name = say("title.unread", count=unread, name="Telex") if unread else "Telex"
        self.title_shown = f"{self._call} · {name}" if self._call else name
        self._tell_terminal(f"\x1b]0;{self.title_shown}\x07")

    def ring(self) -> None:
        """The bell, where somebody wants it."""
        if self.settings.bell:
            self.bell()

    def _tell_terminal(self, sequence: str) -> None:
        # Textual has no public way to set the terminal's title (8.2).
        driver = self._driver
        if driver is not None and not self.is_headless:
            driver.write(sequence)
            driver.flush()


async def run(app: TelexApp) -> None:
    """Run the application to its end and close the account, whatever happens."""
    try:
        await app.run_async()
    finally:
        if not app.is_headless and sys.stdout.isatty():
            sys.stdout.write(RESTORE_TITLE)
            sys.stdout.flush()
        try:
            await app.shut()
        except Exception:
            LOG.exception("the account did not close cleanly")
