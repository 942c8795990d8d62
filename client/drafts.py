"""What a person's devices share about a room: its draft, how far it was read, quiet.

All three are registers of the self group; nobody else hears of them. A draft is text
that was not sent: it survives a restart, follows from one device to the other, and is
gone everywhere once it is sent. The read marker goes this way besides the receipts,
because large rooms have none.
"""

from client.account.self_group import SelfGroup
from client.content.talk import SEQ_MAX
from client.errors import BadText
from client.storage.store import Tx
from protocol.errors import UnknownRoom
from protocol.limits import TEXT_MAX
from protocol.log import LogId

__all__ = ["Drafts"]

DRAFT, READ, MUTE = "draft", "read", "mute"


class Drafts:
    """Sets these registers and acts on them; all state is in the database."""

    def __init__(self, own: SelfGroup) -> None:
        self._own = own
        own.on(DRAFT, self._changed)
        own.on(MUTE, self._changed)
        own.on(READ, self._read)

    def set_draft(self, tx: Tx, room: LogId, text: str) -> int:
        """Keep what is being written in a room; empty: nothing is.

        Returns:
            When it was set (`Room.draft_time`).

        Raises:
            BadText: it is too long to be sent.
            UnknownRoom: there is no such room here.
        """
        data = text.encode("utf-8", "replace")
        if len(data) > TEXT_MAX:
            raise BadText("This text is too long for one message; shorten it.")
        return self._set(tx, DRAFT, room, data)

    def set_muted(self, tx: Tx, room: LogId, on: bool) -> None:
        """Let a room be quiet, or not.

        Raises:
            UnknownRoom: there is no such room here.
        """
        self._set(tx, MUTE, room, b"1" if on else b"")

    def sent(self, tx: Tx, room: LogId, text: str) -> None:
        """A text was written in a room: if it was begun as the draft, that is done.

        Any other draft stays: it is the next message, begun while this one was on its
        way here, or another thought.
        """
        draft = self._own.get(tx, DRAFT, room).decode("utf-8", "replace").strip()
        if text.strip().startswith(draft):
            self._set(tx, DRAFT, room, b"")

    def seen(self, tx: Tx, room: LogId) -> None:
        """The read marker of a room moved."""
        row = tx.one("SELECT read FROM room WHERE id = ?", room)
        if row is not None:
            self._set(tx, READ, room, int(row[0]).to_bytes(8, "big"))

    def _set(self, tx: Tx, register: str, room: LogId, value: bytes) -> int:
        if tx.one("SELECT 1 FROM room WHERE id = ?", room) is None:
            raise UnknownRoom
        time = self._own.set(tx, register, room, value)
        tx.rooms.add(room)
        return time

    # --- what another device set ----------------------------------------------------

    def _changed(self, tx: Tx, room: str, value: bytes) -> None:
        tx.rooms.add(LogId(room))

    def _read(self, tx: Tx, room: str, value: bytes) -> None:
        seq = int.from_bytes(value[:8], "big")
        if seq >= SEQ_MAX:
            return
        # That device tells the others in the room, if this is a room with receipts.
        if tx.execute(
            "UPDATE room SET read = ?, read_told = max(read_told, ?)"
            " WHERE id = ? AND read < ?",
            seq,
            seq,
            room,
            seq,
        ):
            tx.rooms.add(LogId(room))
