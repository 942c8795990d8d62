"""Who is there, as a test says; and what the person chose."""

from collections.abc import Callable
from dataclasses import replace

from client.event import Event
from client.model import (
    OwnPresenceChanged,
    PeopleChanged,
    PersonPresence,
    TypingChanged,
)
from client.presence.chosen import Choice, Chosen, Switch
from protocol.log import LogId
from protocol.presence import Mode


class FakePresence:
    """The port of the same name, in memory."""

    def __init__(self, tell: Callable[[Event], None], calls: list[str]) -> None:
        self._tell = tell
        self._calls = calls
        self._people: dict[str, PersonPresence] = {}
        self._typists: dict[LogId, tuple[str, ...]] = {}
        self.choice = Choice()
        self.touches = 0

    # --- what others do -----------------------------------------------------------

    def show(self, account: str, presence: PersonPresence) -> None:
        """Somebody shows how it is."""
        self._people[account] = presence
        self._tell(PeopleChanged())

    def types(self, room: LogId, *accounts: str) -> None:
        """These type in a room, and nobody else."""
        self._typists[room] = accounts
        self._tell(TypingChanged(room, accounts))

    # --- the port -----------------------------------------------------------------

    @property
    def mode(self) -> Mode:
        if not self.choice.share or self.choice.state == "invisible":
            return "hidden"
        return self.choice.state

    def of(self, account: str) -> PersonPresence:
        return self._people.get(account, PersonPresence("unknown", 0))

    def typists(self, room: LogId) -> tuple[str, ...]:
        return self._typists.get(room, ())

    async def set_state(self, state: Chosen) -> None:
        self._choose(replace(self.choice, state=state))

    async def set_switch(self, switch: Switch, on: bool) -> None:
        changes: dict[str, bool] = {switch: on}
        self._choose(replace(self.choice, **changes))  # type: ignore[arg-type]

    async def hide_from(self, account: str, on: bool) -> None:
        hidden = self.choice.hidden_from - {account} | ({account} if on else set())
        self._choose(replace(self.choice, hidden_from=hidden))

    def active(self) -> None:
        self.touches += 1

    def type(self, room: LogId, on: bool = True) -> None:
        self._calls.append(f"typing {on}")

    def _choose(self, choice: Choice) -> None:
        self.choice = choice
        self._tell(OwnPresenceChanged())
