"""What a person does with messages: write, read, try again, drop.

Each is one transaction; what follows from it on the network is the room's worker's.
"""

from client.drafts import Drafts
from client.errors import RoomInactive, UnknownMessage
from client.model import Message, MessageId, MessageRemoved, State
from client.rooms.letters import Stage
from client.rooms.removing import Removing
from client.rooms.talk import Talk
from client.storage.store import Tx
from client.storage.timeline import TWIN_NOTE, Status, get_message, is_twin
from protocol.errors import UnknownRoom
from protocol.log import LogId

__all__ = ["Writing"]


class Writing:
    """Changes to the timeline by whoever sits here."""

    def __init__(self, talk: Talk, removing: Removing, drafts: Drafts) -> None:
        self._talk = talk
        self._removing = removing
        self._drafts = drafts

    def write(
        self, tx: Tx, room: LogId, text: str, reply_to: MessageId | None
    ) -> Message:
        """Store a text that is to be sent.

        Raises:
            UnknownRoom, RoomInactive: nothing can be written there.
            UnknownMessage: there is no message to answer.
        """
        row = tx.one("SELECT status, note FROM room WHERE id = ?", room)
        if row is None:
            raise UnknownRoom
        if row[0] not in (Status.ACTIVE, Status.ASKED, Status.CREATING):
            raise RoomInactive(row[1] or "You are not in this room any more.")
        if is_twin(tx, room):
            raise RoomInactive(TWIN_NOTE)
        if reply_to is not None and get_message(tx, reply_to) is None:
            raise UnknownMessage
        id = self._talk.write(tx, room, text, reply_to)
        self._removing.written(tx, room, id)
        self._drafts.sent(tx, room, text)
        message = get_message(tx, id)
        if message is None:
            raise UnknownMessage
        return message

    def mark_read(self, tx: Tx, room: LogId) -> bool:
        """Everything in a room was seen; whether that is news."""
        changed = tx.execute(
            "UPDATE room SET read = (SELECT max(seq) FROM message m"
            "  WHERE m.room = room.id)"
            " WHERE id = ? AND read < (SELECT max(seq) FROM message m"
            "  WHERE m.room = room.id)",
            room,
        )
        if changed:
            tx.rooms.add(room)
            self._drafts.seen(tx, room)
            self._talk.seen(tx, room)
        return bool(changed)

    def retry(self, tx: Tx, message: MessageId) -> LogId:
        """Send a message that failed once more; the room it is for.

        Raises:
            UnknownMessage: it is not one that failed.
        """
        row = tx.one(
            "SELECT n, room FROM outbox WHERE message = ? AND state = ?",
            message,
            Stage.FAILED,
        )
        if row is None:
            raise UnknownMessage
        # The bytes that failed are forgotten: they may be of an old epoch.
        tx.execute(
            "UPDATE outbox SET state = ?, submission = NULL, event_id = NULL,"
            " tries = 0 WHERE n = ?",
            Stage.WAITING,
            row[0],
        )
        tx.execute(
            "UPDATE message SET state = ?, error = '' WHERE id = ?",
            int(State.PENDING),
            message,
        )
        tx.messages[message] = None
        return LogId(row[1])

    def discard(self, tx: Tx, message: MessageId) -> None:
        """Drop a message that failed, or was not sent yet.

        Raises:
            UnknownMessage: it is on its way or was sent.
        """
        row = tx.one(
            "SELECT n, room FROM outbox WHERE message = ? AND state IN (?, ?)",
            message,
            Stage.FAILED,
            Stage.WAITING,
        )
        if row is None:
            raise UnknownMessage
        tx.execute("DELETE FROM outbox WHERE n = ?", row[0])
        tx.execute("DELETE FROM message WHERE id = ?", message)
        tx.rooms.add(LogId(row[1]))
        tx.events.append(MessageRemoved(LogId(row[1]), message))
