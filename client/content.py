"""What stands inside an encrypted message: only members of the room can read it.

    content = [version, id, head seq, head hash, kind, body]      MessagePack array

`id` is the txn of the submission that carries it, so a hub cannot pass one device's
ciphertext off as another submission. The head is what the sender had read of the
room's log: two members who talk find out if the hub shows them different logs.
`kind` names the body; a kind that is not known here is kept and shown as needing a
newer Telex. Everything is bounded, because a member of a room can be hostile too.
"""

from dataclasses import dataclass

import msgspec

from client.text import NAME_MAX
from protocol.codec import decode, encode
from protocol.errors import Malformed
from protocol.limits import TEXT_MAX

__all__ = [
    "Body",
    "Content",
    "Receipt",
    "Reply",
    "RoomName",
    "Text",
    "Unknown",
    "read_content",
    "write_content",
]

VERSION = 1
KIND_MAX = 32
"""Characters of a kind: a short word."""
CONTENT_MAX = 48 * 1024
"""Bytes of a content before padding: a text with an envelope, three times over, and
still inside `MESSAGE_MAX` after encryption and padding."""
SEQ_MAX = 1 << 51
"""Seqs in a content: what a position in a timeline can be made from."""


class Text(msgspec.Struct, frozen=True):
    """A text that somebody wrote."""

    text: str


class Reply(msgspec.Struct, frozen=True):
    """A text that answers another message."""

    text: str
    to: bytes
    """16 bytes: the id of the message, as all members compute it."""


class Receipt(msgspec.Struct, frozen=True):
    """How far the sender's account has the room, and has seen it."""

    delivered: int
    read: int


class RoomName(msgspec.Struct, frozen=True):
    """The room's name from here on; repeated for members who come later."""

    name: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """A kind from a newer version."""

    kind: str


Body = Text | Reply | Receipt | RoomName | Unknown

_KINDS: dict[str, type[Text] | type[Reply] | type[Receipt] | type[RoomName]] = {
    "text": Text,
    "reply": Reply,
    "receipt": Receipt,
    "room_name": RoomName,
}
_NAMES = {kind: name for name, kind in _KINDS.items()}


class _Envelope(msgspec.Struct, array_like=True, frozen=True):
    version: int
    id: bytes
    head_seq: int
    head_hash: bytes
    kind: str
    body: msgspec.Raw


@dataclass(frozen=True, slots=True)
class Content:
    """A content, decoded and inside its bounds."""

    id: bytes
    head_seq: int
    head_hash: bytes
    body: Body


def write_content(
    id: bytes, head_seq: int, head_hash: bytes, body: Text | Reply | Receipt | RoomName
) -> bytes:
    """The bytes to encrypt."""
    return encode(
        _Envelope(
            VERSION,
            id,
            head_seq,
            head_hash,
            _NAMES[type(body)],
            msgspec.Raw(encode(body)),
        )
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
    if not 0 < len(envelope.kind) <= KIND_MAX or not envelope.kind.isascii():
        raise Malformed("A message's kind is a short ASCII word.")
    return Content(
        envelope.id, envelope.head_seq, envelope.head_hash, _read_body(envelope)
    )


def _read_body(envelope: _Envelope) -> Body:
    kind = _KINDS.get(envelope.kind)
    # A newer version may mean other things by the kinds of this one.
    if kind is None or envelope.version != VERSION:
        return Unknown(envelope.kind)
    body = decode(bytes(envelope.body), kind)
    match body:
        case Text(text) | Reply(text):
            if not 0 < _size(text) <= TEXT_MAX:
                raise Malformed("A text is empty or too long.")
        case RoomName(name):
            if not 0 < _size(name) <= NAME_MAX or "\n" in name:
                raise Malformed("A room's name is empty, too long or has lines.")
        case Receipt(delivered, read):
            if not (0 <= delivered < SEQ_MAX and 0 <= read < SEQ_MAX):
                raise Malformed("A receipt names no place in a log.")
    if isinstance(body, Reply) and len(body.to) != 16:
        raise Malformed("A reply names no message.")
    return body


def _size(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))
