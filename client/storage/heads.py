"""How far each log was read, and the hash of its chain at every place.

Two hashes for one place in a log are proof that its owner lies. They show in what
the node sends again, in its receipts and Welcomes, and in what other members say
they saw: each encrypted message names the head that its sender had read.
"""

import logging

from client.content import Content
from client.storage.alarms import raise_alarm
from client.storage.store import Tx
from client.storage.timeline import Status, set_status
from protocol.log import GENESIS, LogId

__all__ = [
    "FORK",
    "accuse",
    "agrees",
    "check_head",
    "check_link",
    "fail_log",
    "has_gap",
    "have",
    "link_at",
    "start_log",
]

FORK = "log_fork"
"""The alarm: two hashes at one place of a log."""

logger = logging.getLogger(__name__)


def have(tx: Tx, log: LogId) -> int | None:
    """How far a log was read; None if it is not read at all (any more)."""
    row = tx.one("SELECT seq FROM log WHERE id = ? AND broken = ''", log)
    return None if row is None else int(row[0])


def has_gap(tx: Tx, log: LogId) -> bool:
    """Whether the node leaves out what comes next in a log."""
    row = tx.one("SELECT gap > seq FROM log WHERE id = ?", log)
    return row is not None and bool(row[0])


def start_log(tx: Tx, log: LogId, seq: int = 0, hash: bytes = GENESIS) -> None:
    """Begin to read a log after an entry, or go on there if that is further."""
    tx.execute(
        "INSERT INTO log (id, seq, hash) VALUES (?, ?, ?)"
        " ON CONFLICT (id) DO UPDATE SET seq = excluded.seq, hash = excluded.hash"
        " WHERE excluded.seq > log.seq",
        log,
        seq,
        hash,
    )
    tx.execute("INSERT OR REPLACE INTO link VALUES (?, ?, ?, 1)", log, seq, hash)


def check_link(tx: Tx, log: LogId, seq: int, hash: bytes, *, seen: bool = True) -> bool:
    """Compare the chain's hash at a seq with what was read or told before.

    Returns:
        False if it is another one: somebody rewrote the log.
    """
    known = link_at(tx, log, seq)
    if known is not None and known != hash:
        return False
    if known is None or seen:
        tx.execute(
            "INSERT OR REPLACE INTO link VALUES (?, ?, ?, ?)", log, seq, hash, seen
        )
    return True


def fail_log(tx: Tx, log: LogId, what: str, *, evidence: str = "") -> None:
    """Believe a log no further: alarm, and stop reading it for good.

    Args:
        what: what is wrong with it, as part of a sentence.
        evidence: the two hashes, or what else there is to show.
    """
    logger.warning("log %s is broken: %s", log, what)
    tx.execute("UPDATE log SET broken = ? WHERE id = ? AND broken = ''", what, log)
    room = tx.one("SELECT hub FROM room WHERE id = ?", log)
    head = tx.one("SELECT seq, hash FROM log WHERE id = ?", log)
    lines = [f"log: {log}", f"fault: {what}"]
    if head is not None:
        lines.append(f"read up to: {head[0]} {bytes(head[1]).hex()}")
    if evidence:
        lines.append(evidence)
    if room is None:
        text = f"The node shows a changed mailbox ({what}). Tell its admin."
        raise_alarm(tx, FORK, f"{log} {what}", None, text, evidence="\n".join(lines))
        return
    text = (
        f"The history of this room was changed at {room[0]} ({what}). Telex reads no "
        "further here; compare with the others and tell that node's admin."
    )
    set_status(tx, log, Status.BROKEN, text)
    raise_alarm(tx, FORK, f"{log} {what}", log, text, evidence="\n".join(lines))


def accuse(tx: Tx, room: LogId, content: Content, device: str, seq: int) -> str:
    """A member was shown another history than we: alarm, with both heads.

    Returns:
        What to say about it.
    """
    account = device.partition("/")[0]
    row = tx.one("SELECT hub FROM room WHERE id = ?", room)
    hub = "its hub" if row is None else row[0]
    known = link_at(tx, room, content.head_seq)
    ours = "not read yet" if known is None else known.hex()
    text = (
        f"{account} was shown another history of this room than this device: {hub}, "
        "which orders it, may be lying to one of you. Compare with the others, and do "
        "not rely on what is said here until you know."
    )
    raise_alarm(
        tx,
        FORK,
        f"{room} {content.head_seq} {content.head_hash.hex()}",
        room,
        text,
        evidence=f"log: {room}\nhub: {hub}\nsaid by: {device} in entry {seq}\n"
        f"theirs at {content.head_seq}: {content.head_hash.hex()}\n"
        f"ours at {content.head_seq}: {ours}",
    )
    return text


def check_head(tx: Tx, room: LogId, content: Content, seq: int) -> bool:
    """Whether the head that a message's sender saw is one that we saw too.

    Args:
        content: the message.
        seq: of the entry that carried it; its sender can have seen only what is
            before that.
    """
    if content.head_seq >= seq:
        return False
    return agrees(tx, room, content.head_seq, content.head_hash)


def agrees(tx: Tx, log: LogId, seq: int, hash: bytes) -> bool:
    """Whether nothing that is known speaks against a hash at a place."""
    known = link_at(tx, log, seq)
    return known is None or known == hash


def link_at(tx: Tx, log: LogId, seq: int) -> bytes | None:
    """The chain's hash at a place, as far as it is known."""
    if seq == 0:
        return GENESIS
    row = tx.one("SELECT hash FROM link WHERE log = ? AND seq = ?", log, seq)
    return None if row is None else bytes(row[0])
