"""The two encodings of the wire: MessagePack by default, JSON for `curl` and people.

Every endpoint takes and gives both; `Content-Type` and `Accept` choose. Bytes are
base64 strings in JSON. Unknown fields are ignored by decoders; where a record is
stored or hashed it is stored and hashed as the bytes that arrived, so what we do
not understand is kept.
"""

from functools import cache
from typing import TypeVar

import msgspec

from protocol.errors import Malformed

__all__ = ["JSON", "MSGPACK", "decode", "decode_json", "encode", "encode_json"]

MSGPACK = "application/msgpack"
JSON = "application/json"

T = TypeVar("T")

_msgpack_encoder = msgspec.msgpack.Encoder()
_json_encoder = msgspec.json.Encoder()


@cache
def _msgpack_decoder(kind: type[T]) -> msgspec.msgpack.Decoder[T]:
    return msgspec.msgpack.Decoder(kind)


@cache
def _json_decoder(kind: type[T]) -> msgspec.json.Decoder[T]:
    return msgspec.json.Decoder(kind)


def encode(value: object) -> bytes:
    """MessagePack bytes of a wire struct."""
    return _msgpack_encoder.encode(value)


def encode_json(value: object) -> bytes:
    """JSON bytes of a wire struct."""
    return _json_encoder.encode(value)


def decode(data: bytes, kind: type[T]) -> T:
    """Decode MessagePack.

    Raises:
        Malformed: the bytes are no such struct; says which field is wrong.
    """
    try:
        return _msgpack_decoder(kind).decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed(f"These bytes are not a {kind.__name__}: {error}.") from None


def decode_json(data: bytes, kind: type[T]) -> T:
    """Decode JSON.

    Raises:
        Malformed: the text is no such struct; says which field is wrong.
    """
    try:
        return _json_decoder(kind).decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed(f"This JSON is not a {kind.__name__}: {error}.") from None
