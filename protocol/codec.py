"""The two encodings of the wire: MessagePack by default, JSON for `curl` and people.

Every endpoint takes and gives both; `Content-Type` and `Accept` choose. Bytes are
base64 strings in JSON. Unknown fields are ignored by decoders; where a record is
stored or hashed it is stored and hashed as the bytes that arrived, so what we do
not understand is kept.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from protocol.errors import Malformed

__all__ = [
    "JSON",
    "MSGPACK",
    "decode",
    "decode_json",
    "encode",
    "encode_json",
    "frame_decoder",
]

MSGPACK = "application/msgpack"
JSON = "application/json"

T = TypeVar("T")

_msgpack_encoder = msgspec.msgpack.Encoder()
_json_encoder = msgspec.json.Encoder()
# Decoders are compiled once for each struct; there are a few dozen structs.
_msgpack_decoders: dict[Any, msgspec.msgpack.Decoder[Any]] = {}
_json_decoders: dict[Any, msgspec.json.Decoder[Any]] = {}


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
    decoder = _msgpack_decoders.get(kind)
    if decoder is None:
        decoder = _msgpack_decoders[kind] = msgspec.msgpack.Decoder(kind)
    try:
        value: T = decoder.decode(data)
        return value
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed(f"These bytes are not a {_name(kind)}: {error}.") from None


def decode_json(data: bytes, kind: type[T]) -> T:
    """Decode JSON.

    Raises:
        Malformed: the text is no such struct; says which field is wrong.
    """
    decoder = _json_decoders.get(kind)
    if decoder is None:
        decoder = _json_decoders[kind] = msgspec.json.Decoder(kind)
    try:
        value: T = decoder.decode(data)
        return value
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed(f"This JSON is not a {_name(kind)}: {error}.") from None


def frame_decoder(kind: Any) -> Callable[[bytes], Any]:
    """A `decode` for a union of structs: looking it up by the union would cost more
    than the decoding."""
    decoder = msgspec.msgpack.Decoder(kind)

    def decode_frame(data: bytes) -> Any:
        try:
            return decoder.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise Malformed(f"These bytes are not a {_name(kind)}: {error}.") from None

    return decode_frame


def _name(kind: Any) -> str:
    return getattr(kind, "__name__", "frame")
