"""The data channel: what two sides of a call tell each other, without any node.

Small MessagePack values inside DTLS. A browser's page has no such channel, and a later
version may say more: what is not understood is passed over.
"""

import msgspec

__all__ = ["Bye", "Message", "State", "read", "write"]

MAX_MESSAGE = 256
"""Bytes; a State has 12."""


class State(msgspec.Struct, frozen=True, tag="state", array_like=True):
    """What a side does now; the whole of it, so that the last one counts."""

    muted: bool = False
    held: bool = False
    camera: bool = False
    screen: bool = False


class Bye(msgspec.Struct, frozen=True, tag="bye", array_like=True):
    """It hangs up."""


Message = State | Bye

decoder: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)
encoder = msgspec.msgpack.Encoder()


def read(data: object) -> Message | None:
    """Read a message; None if it is none of ours."""
    if not isinstance(data, bytes) or len(data) > MAX_MESSAGE:
        return None
    try:  # text that is not UTF-8 is a plain ValueError
        return decoder.decode(data)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None


def write(message: Message) -> bytes:
    """Write a message."""
    return encoder.encode(message)
