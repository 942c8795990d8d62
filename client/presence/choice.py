"""What a person chose about being seen: the same on all devices of the account.

Registers of the self group: nobody else hears of them, the node neither.
"""

from collections.abc import Callable
from typing import get_args

from client.account.self_group import SelfGroup
from client.presence.chosen import Choice, Chosen, Switch
from client.storage.store import Tx
from protocol.log import LogId

__all__ = ["Choices"]

PRESENCE, HIDE = "presence", "hide"


class Choices:
    """Reads and writes them; `changed` is called on the event loop."""

    def __init__(self, own: SelfGroup, changed: Callable[[], object]) -> None:
        self._own = own
        self._changed = changed
        own.on(PRESENCE, self._heard)
        own.on(HIDE, self._heard)

    def load(self, tx: Tx) -> Choice:
        """What holds now."""
        values = self._own.items(tx, PRESENCE)
        state: Chosen = "online"
        for known in get_args(Chosen):
            if values.get("state") == known.encode():
                state = known
        return Choice(
            state,
            share="share" not in values,
            typing="typing" not in values,
            receipts="receipts" not in values,
            hidden_from=frozenset(self._own.items(tx, HIDE)),
        )

    def shows_reading(self, tx: Tx, room: LogId) -> bool:
        """Whether the others in a room may see what was read here."""
        if self._own.get(tx, PRESENCE, "receipts"):
            return False
        row = tx.one("SELECT title FROM room WHERE id = ? AND direct", room)
        return row is None or not self._own.get(tx, HIDE, row[0])

    def set_state(self, tx: Tx, state: Chosen) -> None:
        """Choose how to be seen."""
        value = b"" if state == "online" else state.encode()
        self._own.set(tx, PRESENCE, "state", value)
        tx.after.append(self._changed)

    def set_switch(self, tx: Tx, switch: Switch, on: bool) -> None:
        """Let others see something, or not."""
        self._own.set(tx, PRESENCE, switch, b"" if on else b"0")
        tx.after.append(self._changed)

    def hide_from(self, tx: Tx, account: str, on: bool) -> None:
        """Show nothing of it to somebody, or again."""
        self._own.set(tx, HIDE, account, b"1" if on else b"")
        tx.after.append(self._changed)

    def _heard(self, tx: Tx, key: str, value: bytes) -> None:
        tx.after.append(self._changed)
