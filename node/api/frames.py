"""Reading what clients send over a WebSocket (RFC 6455 section 5), message by message.

Sans-I/O: bytes are fed, messages are asked for. What was not asked for stays as it
came, so who reads slowly holds bytes and no objects.
"""

from enum import IntEnum

__all__ = ["Breach", "FrameReader", "Opcode"]

FRAGMENTS_MAX = 1024
"""Fragments of one message: some kilobytes each, of the largest one."""


class Opcode(IntEnum):
    """RFC 6455 section 5.2."""

    CONTINUATION = 0
    TEXT = 1
    BINARY = 2
    CLOSE = 8
    PING = 9
    PONG = 10


_OPCODES: dict[int, Opcode] = {opcode.value: opcode for opcode in Opcode}

PROTOCOL_ERROR, INVALID_TEXT, TOO_BIG = 1002, 1007, 1009
"""RFC 6455 section 7.4.1."""

_CLOSE_CODES = frozenset({1000, 1001, 1002, 1003, *range(1007, 1015)})
"""Those that may stand in a close, besides 3000 to 4999 (section 7.4)."""


class Breach(Exception):
    """The client broke the protocol; `code` is what to close with."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class FrameReader:
    """The client's half of one connection. After a `Breach` it is of no more use."""

    __slots__ = ("_at", "_data", "_fragments", "_kind", "_max", "_need", "_size")

    def __init__(self, max_size: int) -> None:
        """`max_size`: bytes of a message."""
        self._max = max_size
        self._data: bytes | bytearray = b""
        self._at = 0
        """What lies before was read."""
        self._need = 2
        """Bytes from there on without which nothing can be read."""
        self._kind = Opcode.CONTINUATION
        """Of the message of which there are fragments; CONTINUATION: there is none."""
        self._fragments: list[bytes] = []
        self._size = 0

    @property
    def waiting(self) -> int:
        """Bytes that were fed and not read."""
        return len(self._data) - self._at

    @property
    def partial(self) -> bool:
        """Whether a part of a frame or message is here."""
        return self.waiting > 0 or bool(self._fragments)

    def feed(self, data: bytes) -> None:
        """Take what came in."""
        if self._at >= len(self._data):
            self._data, self._at = data, 0
            return
        if isinstance(self._data, bytes):
            self._data = bytearray(memoryview(self._data)[self._at :])
        else:
            del self._data[: self._at]
        self._data += data
        self._at = 0

    def next(self) -> tuple[Opcode, bytes] | None:
        """The next message; None: there is no whole one.

        Returns:
            TEXT (valid UTF-8) or BINARY with the whole message; CONTINUATION for a
            fragment after which the message is not whole; CLOSE with its code and
            reason, PING or PONG.

        Raises:
            Breach: they are no frames of a client.
        """
        frame = self._frame()
        if frame is None:
            return None
        kind, final, payload = frame
        if kind >= Opcode.CLOSE:
            if kind == Opcode.CLOSE:
                _check_close(payload)
            return kind, payload
        if (kind == Opcode.CONTINUATION) != (self._kind != Opcode.CONTINUATION):
            raise Breach(PROTOCOL_ERROR)
        if not final or self._fragments:
            self._size += len(payload)
            self._fragments.append(payload)
            if self._size > self._max or len(self._fragments) > FRAGMENTS_MAX:
                raise Breach(TOO_BIG)
            self._kind = kind or self._kind
            if not final:
                return Opcode.CONTINUATION, b""
            kind, payload = self._kind, b"".join(self._fragments)
            self._kind, self._fragments, self._size = Opcode.CONTINUATION, [], 0
        if kind == Opcode.TEXT:
            _check_text(payload)
        return kind, payload

    def _frame(self) -> tuple[Opcode, bool, bytes] | None:
        data, at = self._data, self._at
        have = len(data) - at
        if have < self._need:
            return None
        first, second = data[at], data[at + 1]
        kind, length, head = _OPCODES.get(first & 0x0F), second & 0x7F, 6
        if first & 0x70 or second < 0x80 or kind is None:
            raise Breach(PROTOCOL_ERROR)  # reserved bits, not masked, reserved opcode
        if kind >= Opcode.CLOSE and (first < 0x80 or length > 125):
            raise Breach(PROTOCOL_ERROR)
        if length >= 126:
            head = 8 if length == 126 else 14
            if have < head:
                self._need = head
                return None
            length = int.from_bytes(data[at + 2 : at + head - 4])
        if length > self._max:
            raise Breach(TOO_BIG)
        end = at + head + length
        if len(data) < end:
            self._need = head + length
            return None
        mask, payload = data[at + head - 4 : at + head], data[at + head : end]
        self._at, self._need = end, 2
        if end == len(data):
            self._data, self._at = b"", 0
        return kind, first >= 0x80, _unmask(payload, mask)


def _unmask(payload: bytes | bytearray, mask: bytes | bytearray) -> bytes:
    """Section 5.3: each byte xor the mask's, in turns; as one large number each."""
    size = len(payload)
    key = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(payload) ^ int.from_bytes(key)).to_bytes(size)


def _check_close(payload: bytes) -> None:
    """Section 5.5.1: nothing, or a code that may be sent, and a reason in UTF-8."""
    if not payload:
        return
    code = int.from_bytes(payload[:2])
    if len(payload) < 2 or not (code in _CLOSE_CODES or 3000 <= code < 5000):
        raise Breach(PROTOCOL_ERROR)
    _check_text(payload[2:])


def _check_text(payload: bytes) -> None:
    try:
        payload.decode()
    except UnicodeDecodeError as error:
        raise Breach(INVALID_TEXT) from error
