"""The TLS presentation language of MLS (RFC 9420 section 2.1).

Encoding is concatenation: `u16`, `vector` and `optional` give bytes. Decoding goes
through a `Reader`, which checks every length against what is left before it slices,
refuses a vector header that is longer than necessary or starts with 0b11, and at the
end refuses bytes that are left over.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from typing import TypeVar

from e2ee.errors import LimitExceeded, Malformed

T = TypeVar("T")

MAX_VECTOR = (1 << 30) - 1
"""Largest length that a vector header can express."""

_U16 = struct.Struct(">H")
_U32 = struct.Struct(">I")
_U64 = struct.Struct(">Q")
_SHORT = tuple(bytes((length,)) for length in range(0x40))
"""Headers of short vectors, which most are."""


def u8(value: int) -> bytes:
    """One byte."""
    return value.to_bytes(1, "big")


def u16(value: int) -> bytes:
    """Two bytes, big endian."""
    return _U16.pack(value)


def u32(value: int) -> bytes:
    """Four bytes, big endian."""
    return _U32.pack(value)


def u64(value: int) -> bytes:
    """Eight bytes, big endian."""
    return _U64.pack(value)


def varint(length: int) -> bytes:
    """Give the smallest vector header for `length` (section 2.1.2)."""
    if length < 0x40:
        return _SHORT[length]
    if length < 0x4000:
        return _U16.pack(0x4000 | length)
    if length <= MAX_VECTOR:
        return _U32.pack(0x80000000 | length)
    raise LimitExceeded("a vector is longer than its header can say")


def vector(content: bytes) -> bytes:
    """Prefix `content` with its length."""
    length = len(content)
    return (_SHORT[length] if length < 0x40 else varint(length)) + content


def vectors(items: Iterable[bytes]) -> bytes:
    """Join already encoded `items` into one vector."""
    return vector(b"".join(items))


def u16_vector(values: Iterable[int]) -> bytes:
    """Encode a vector of uint16."""
    return vector(b"".join(map(_U16.pack, values)))


def u32_vector(values: Iterable[int]) -> bytes:
    """Encode a vector of uint32."""
    return vector(b"".join(map(_U32.pack, values)))


def optional(encoded: bytes | None) -> bytes:
    """Encode optional<T> from the encoding of T."""
    return b"\0" if encoded is None else b"\1" + encoded


class Reader:
    """A cursor over bytes that never reads past its end.

    Every method raises `Malformed` when the bytes are too short or wrong.
    """

    __slots__ = ("data", "end", "position")

    def __init__(self, data: bytes, start: int = 0, end: int | None = None) -> None:
        self.data = data
        self.position = start
        self.end = len(data) if end is None else end

    @property
    def left(self) -> int:
        """How many bytes have not been read."""
        return self.end - self.position

    def take(self, length: int) -> bytes:
        """Read exactly `length` bytes."""
        start = self.position
        stop = start + length
        if stop > self.end:
            raise Malformed("the data ends too early")
        self.position = stop
        return self.data[start:stop]

    def since(self, start: int) -> bytes:
        """Give the bytes from `start` to the cursor: what was just decoded."""
        return self.data[start : self.position]

    def u8(self) -> int:
        """Read one byte."""
        position = self.position
        if position >= self.end:
            raise Malformed("the data ends too early")
        self.position = position + 1
        return self.data[position]

    def u16(self) -> int:
        """Read a uint16."""
        start = self.position
        self.position = stop = start + 2
        if stop > self.end:
            raise Malformed("the data ends too early")
        return self.data[start] << 8 | self.data[start + 1]

    def u32(self) -> int:
        """Read a uint32."""
        value: int = _U32.unpack(self.take(4))[0]
        return value

    def u64(self) -> int:
        """Read a uint64."""
        value: int = _U64.unpack(self.take(8))[0]
        return value

    def varint(self) -> int:
        """Read a vector header; only the shortest form is taken."""
        first = self.u8()
        prefix = first >> 6
        if prefix == 0:
            return first
        if prefix == 1:
            value = (first & 0x3F) << 8 | self.u8()
            if value < 0x40:
                raise Malformed("a vector length is not in its shortest form")
            return value
        if prefix == 2:
            value = (first & 0x3F) << 24 | int.from_bytes(self.take(3), "big")
            if value < 0x4000:
                raise Malformed("a vector length is not in its shortest form")
            return value
        raise Malformed("a vector length starts with the reserved prefix")

    def vector(self, limit: int = MAX_VECTOR) -> bytes:
        """Read opaque<V> of at most `limit` bytes.

        Raises:
            LimitExceeded: It is longer; nothing was copied.
        """
        start = self.position
        # Most are short, and a tree of 1,000 leaves holds 15,000 of them: what
        # `varint` and `take` do, without calling them.
        if start < self.end and (length := self.data[start]) < 0x40:
            start += 1
        else:
            length = self.varint()
            start = self.position
        if length > limit:
            raise LimitExceeded("a field is longer than accepted")
        stop = start + length
        if stop > self.end:
            raise Malformed("the data ends too early")
        self.position = stop
        return self.data[start:stop]

    def items(self, read: Callable[[Reader], T], limit: int = MAX_VECTOR) -> list[T]:
        """Read a vector of structures, each with `read`, at most `limit` of them."""
        length = self.varint()
        stop = self.position + length
        if stop > self.end:
            raise Malformed("the data ends too early")
        inner = Reader(self.data, self.position, stop)
        found: list[T] = []
        while inner.position < stop:
            if len(found) >= limit:
                raise LimitExceeded("a list has more entries than accepted")
            found.append(read(inner))
        self.position = stop
        return found

    def u16_vector(self) -> tuple[int, ...]:
        """Read a vector of uint16."""
        data = self.vector()
        if len(data) % 2:
            raise Malformed("a list of uint16 has an odd length")
        return struct.unpack(f">{len(data) // 2}H", data)

    def u32_vector(self) -> tuple[int, ...]:
        """Read a vector of uint32."""
        data = self.vector()
        if len(data) % 4:
            raise Malformed("a list of uint32 has a broken length")
        return struct.unpack(f">{len(data) // 4}I", data)

    def present(self) -> bool:
        """Read the presence octet of optional<T>."""
        flag = self.u8()
        if flag > 1:
            raise Malformed("a presence octet is neither 0 nor 1")
        return flag == 1

    def finish(self) -> None:
        """Refuse bytes that are left over."""
        if self.position != self.end:
            raise Malformed("there are bytes after the end")


def decode(data: bytes, read: Callable[[Reader], T]) -> T:
    """Decode one whole structure from `data`; trailing bytes are refused."""
    reader = Reader(data)
    value = read(reader)
    reader.finish()
    return value
