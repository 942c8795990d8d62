"""The little of STUN (RFC 8489) and TURN (RFC 8656) with which servers are checked."""

import hashlib
import hmac
import os
import socket
import ssl
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from protocol.ice_url import IceUrl

__all__ = ["Reply", "StunProblem", "allocate", "bind", "parse_reply"]

COOKIE = 0x2112A442
BINDING, ALLOCATE, REFRESH = 0x001, 0x003, 0x004
SUCCESS, ERROR = 0x100, 0x110
USERNAME, INTEGRITY, ERROR_CODE, LIFETIME = 0x0006, 0x0008, 0x0009, 0x000D
REALM, NONCE, REQUESTED_TRANSPORT = 0x0014, 0x0015, 0x0019
UDP = struct.pack("!B3x", 17)

TRIES = (0.3, 0.6, 1.1)
"""Seconds to wait for each of three datagrams: two of them may be lost."""

TIMEOUT = 3.0
"""Seconds for a connection, and for each answer on it."""

REPLY_MAX = 2048
"""Bytes: servers answer with some hundred."""


class StunProblem(Exception):
    """No useful answer; the text completes "The server ..."."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer."""

    kind: int
    """Method and class."""
    transaction: bytes
    attributes: dict[int, bytes]

    @property
    def error(self) -> int:
        """The code of a refusal; 0 if there is none."""
        value = self.attributes.get(ERROR_CODE, b"")
        return (value[2] & 7) * 100 + value[3] if len(value) >= 4 else 0


def parse_reply(data: bytes) -> Reply:
    """Read an answer.

    Raises:
        ValueError: it is none.
    """
    if len(data) < 20 or len(data) > REPLY_MAX:
        raise ValueError("no STUN message")
    kind, length, cookie = struct.unpack_from("!HHI", data)
    if cookie != COOKIE or kind & 0xC000 or length != len(data) - 20 or length % 4:
        raise ValueError("no STUN message")
    attributes: dict[int, bytes] = {}
    at = 20
    while at < len(data):
        name, size = struct.unpack_from("!HH", data, at)
        if at + 4 + size > len(data):
            raise ValueError("a cut attribute")
        attributes.setdefault(name, data[at + 4 : at + 4 + size])
        at += 4 + (size + 3) // 4 * 4
    return Reply(kind, data[8:20], attributes)


def bind(url: IceUrl) -> None:
    """Ask a STUN server how it sees us.

    Raises:
        StunProblem: it does not say.
    """
    with _connected(url, None) as line:
        reply = line.ask(BINDING, [])
    if reply.kind != BINDING | SUCCESS:
        raise StunProblem(f"refuses to answer (error {reply.error}).")


def allocate(
    url: IceUrl, username: str, password: str, context: ssl.SSLContext
) -> None:
    """Have a TURN server make a relay, and give it back.

    Raises:
        StunProblem: it does not.
    """
    user = username.encode()
    with _connected(url, context) as line:
        first = line.ask(ALLOCATE, [(REQUESTED_TRANSPORT, UDP)])
        realm, nonce = first.attributes.get(REALM), first.attributes.get(NONCE)
        if first.error != 401 or realm is None or nonce is None:
            raise StunProblem("asks for no credentials: it needs use-auth-secret.")
        secret = b":".join((user, realm, password.encode()))
        key = hashlib.md5(secret, usedforsecurity=False).digest()  # RFC 8489, 9.2.2
        signed = [(USERNAME, user), (REALM, realm), (NONCE, nonce)]
        reply = line.ask(ALLOCATE, [(REQUESTED_TRANSPORT, UDP), *signed], key)
        if reply.kind != ALLOCATE | SUCCESS:
            raise StunProblem(_refusal(reply.error))
        line.ask(REFRESH, [(LIFETIME, bytes(4)), *signed], key)


def _refusal(code: int) -> str:
    match code:
        case 401:
            return (
                "refuses our credentials: is its static-auth-secret the one in "
                "calls.turn_secret_file, and is its clock right?"
            )
        case 486 | 508:
            return "relays as much as it may; see user-quota and total-quota."
        case _:
            return f"refuses to relay (error {code})."


class _Line:
    """A socket to a server."""

    def __init__(self, line: socket.socket, datagrams: bool) -> None:
        self._line = line
        self._datagrams = datagrams

    def ask(
        self, method: int, attributes: list[tuple[int, bytes]], key: bytes = b""
    ) -> Reply:
        """A request and its answer."""
        transaction = os.urandom(12)
        request = _message(method, transaction, attributes, key)
        for seconds in TRIES if self._datagrams else (TIMEOUT,):
            self._line.settimeout(seconds)
            try:
                self._line.sendall(request)
                reply = parse_reply(self._receive())
            except TimeoutError:
                continue
            except ValueError as error:
                raise StunProblem("answers, but not as such a server.") from error
            if reply.transaction == transaction:
                return reply
        raise StunProblem("does not answer.")

    def _receive(self) -> bytes:
        if self._datagrams:
            return self._line.recv(REPLY_MAX + 1)
        data = self._exactly(20)
        (length,) = struct.unpack_from("!H", data, 2)
        if length > REPLY_MAX:
            raise ValueError("too long")
        return data + self._exactly(length)

    def _exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            part = self._line.recv(count - len(data))
            if not part:
                raise ValueError("it ended")
            data += part
        return data


@contextmanager
def _connected(url: IceUrl, context: ssl.SSLContext | None) -> Iterator[_Line]:
    datagrams = url.transport == "udp"
    kind = socket.SOCK_DGRAM if datagrams else socket.SOCK_STREAM
    try:
        found = socket.getaddrinfo(url.host, url.port, type=kind)
    except (OSError, UnicodeError) as error:
        raise StunProblem("has no address in the DNS.") from error
    try:
        if datagrams:
            line = socket.socket(found[0][0], kind)
            line.connect(found[0][4])
        else:
            line = socket.create_connection((url.host, url.port), TIMEOUT)
        with line:
            if url.scheme == "turns" and context is not None:
                with context.wrap_socket(line, server_hostname=url.host) as secure:
                    yield _Line(secure, datagrams)
            else:
                yield _Line(line, datagrams)
    except ssl.SSLError as error:
        raise StunProblem(f"has no certificate to believe ({error.reason}).") from error
    except OSError as error:
        raise StunProblem(f"cannot be reached ({error.strerror or error}).") from error


def _message(
    method: int, transaction: bytes, attributes: list[tuple[int, bytes]], key: bytes
) -> bytes:
    body = b"".join(_attribute(name, value) for name, value in attributes)
    extra = 24 if key else 0  # the integrity's own length counts in what it covers
    head = struct.pack("!HHI", method, len(body) + extra, COOKIE) + transaction
    if not key:
        return head + body
    return head + body + _attribute(INTEGRITY, hmac.digest(key, head + body, "sha1"))


def _attribute(name: int, value: bytes) -> bytes:
    return struct.pack("!HH", name, len(value)) + value + bytes(-len(value) % 4)
