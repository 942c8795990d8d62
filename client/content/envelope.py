"""The envelope of a content: version, id, the log's head, kind and body.

    content = [version, id, head seq, head hash, kind, body, delivered, read]

It is a MessagePack array; the last two may be missing.

`id` is the txn of the submission that carries it, so a hub cannot pass one device's
ciphertext off as another submission. The head is what the sender had read of the
room's log: two members who talk find out if the hub shows them different logs.
The last two are the sender's receipt, as `talk.Receipt` has them: whoever writes
need not send one besides. `kind` names the body; a kind that is not known here is kept
and shown as needing a newer Telex. Everything is bounded, because a member of a room
can be hostile too.
"""

from dataclasses import dataclass
from typing import ClassVar, Protocol

import msgspec

from client.content.calling import (
    CallAnswer,
    CallBusy,
    CallCandidates,
    CallDecline,
    CallEnd,
    CallInvite,
    CallOffer,
    CallRinging,
)
from client.content.own import Registers
from client.content.removal import Redaction, Timer
from client.content.repair import Resend, ResendRequest
from client.content.talk import SEQ_MAX, Receipt, Reply, RoomName, Text
from client.content.verifying import SasAccept, SasAgree, SasAsk, SasEnd, SasReveal
from client.quiet import Quiet
from protocol.codec import decode, encode
from protocol.errors import Malformed
from protocol.whole import Whole

__all__ = ["Body", "Content", "Unknown", "read_body", "read_content", "write_content"]

VERSION = 1
KIND_MAX = 32
"""Characters of a kind: a short word."""
CONTENT_MAX = 48 * 1024
"""Bytes of a content before padding: a text with an envelope, three times over, and
still inside `MESSAGE_MAX` after encryption and padding."""


class Body(Protocol):
    """A kind of content: a frozen Struct that knows its word and its bounds."""

    kind: ClassVar[str]

    def check(self) -> None:
        """Raise `Malformed` if it is outside one of its bounds."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """A kind from a newer version; it is never written."""

    kind: str


_KINDS: dict[str, type[Body]] = {
    kind.kind: kind
    for kind in (
        Text,
        Reply,
        Receipt,
        RoomName,
        Registers,
        Redaction,
        Timer,
        ResendRequest,
        Resend,
        SasAsk,
        SasAccept,
        SasReveal,
        SasAgree,
        SasEnd,
        CallInvite,
        CallRinging,
        CallBusy,
        CallDecline,
        CallAnswer,
        CallOffer,
        CallCandidates,
        CallEnd,
    )
}


class _Envelope(Quiet, msgspec.Struct, array_like=True, frozen=True):
    version: Whole
    id: bytes
    head_seq: Whole
    head_hash: bytes
    kind: str
    body: msgspec.Raw
    delivered: Whole = 0
    read: Whole = 0


@dataclass(frozen=True, slots=True, repr=False)
class Content(Quiet):
    """A content, decoded and inside its bounds."""

    id: bytes
    head_seq: int
    head_hash: bytes
    body: Body | Unknown
    delivered: int = 0
    """How far the sender's account has the room; 0: it does not say."""
    read: int = 0
    """How far it has seen it."""


def write_content(
    id: bytes,
    head_seq: int,
    head_hash: bytes,
    body: Body,
    delivered: int = 0,
    read: int = 0,
) -> bytes:
    """The bytes to encrypt."""
    raw = msgspec.Raw(encode(body))
    return encode(
        _Envelope(VERSION, id, head_seq, head_hash, body.kind, raw, delivered, read)
    )


def read_content(data: bytes) -> Content:
    """Decode what was decrypted, and check every bound.

    Raises:
        Malformed: it is no content, or outside a bound.
    """
    if len(data) > CONTENT_MAX:
        raise Malformed("A message's content is too large.")
    envelope = decode(data, _Envelope)
    if len(envelope.id) != 16 or len(envelope.head_hash) != 32:
        raise Malformed("A message's id or head has the wrong length.")
    if not 0 <= envelope.head_seq < SEQ_MAX:
        raise Malformed("A message's head is no place in a log.")
    if not (0 <= envelope.delivered < SEQ_MAX and 0 <= envelope.read < SEQ_MAX):
        raise Malformed("A message's receipt is no place in a log.")
    if not 0 < len(envelope.kind) <= KIND_MAX or not envelope.kind.isascii():
        raise Malformed("A message's kind is a short ASCII word.")
    return Content(
        envelope.id,
        envelope.head_seq,
        envelope.head_hash,
        _read_body(envelope),
        envelope.delivered,
        envelope.read,
    )


def read_body(word: str, data: bytes) -> Body | Unknown:
    """Decode the body of a content of this kind, and check its bounds.

    Raises:
        Malformed: it is no such body, or outside a bound.
    """
    kind = _KINDS.get(word)
    if kind is None:
        return Unknown(word)
    body = decode(data, kind)
    body.check()
    return body


def _read_body(envelope: _Envelope) -> Body | Unknown:
    # A newer version may mean other things by the kinds of this one.
    if envelope.version != VERSION:
        return Unknown(envelope.kind)
    return read_body(envelope.kind, bytes(envelope.body))
