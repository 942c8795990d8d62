"""Extensions and the ones that RFC 9420 itself defines (sections 7.2, 11.1, 12.1.8).

An `Extension` is a number and opaque bytes: unknown ones are kept as they came, so
that hashes over them stay right.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from e2ee.codec import Reader, decode, u16, u16_vector, vector, vectors
from e2ee.codepoint import (
    BASIC,
    DEFAULT_EXTENSIONS,
    EXTERNAL_SENDERS,
    LAST_RESORT,
    REQUIRED_CAPABILITIES,
    TELEX_ROOM,
    X509,
)
from e2ee.errors import Malformed, UnsupportedExtension

MAX_CREDENTIAL = 1024
"""Bytes of a credential: room for two certificates, and 4,000 leaves stay 8 MiB."""
MAX_EXTENSIONS = 64
"""Entries in one list of extensions; the RFC defines five."""


OUR_EXTENSIONS = (LAST_RESORT, TELEX_ROOM)
"""Non-default extension types that this implementation copes with."""


@dataclass(frozen=True, slots=True)
class Extension:
    """Extension (section 7.2)."""

    type: int
    data: bytes

    def encode(self) -> bytes:
        """Encode."""
        return u16(self.type) + vector(self.data)

    @classmethod
    def read(cls, reader: Reader) -> Extension:
        """Decode."""
        return cls(reader.u16(), reader.vector())


Extensions = tuple[Extension, ...]


def _check_types(extensions: Sequence[Extension]) -> None:
    if len({extension.type for extension in extensions}) != len(extensions):
        raise Malformed("an extension stands twice in one list")


def read_extensions(reader: Reader) -> Extensions:
    """Decode a list of extensions, each type at most once (section 13.4)."""
    found = tuple(reader.items(Extension.read, MAX_EXTENSIONS))
    _check_types(found)
    return found


def encode_extensions(extensions: Sequence[Extension]) -> bytes:
    """Encode a list of extensions; raises `Malformed` if a type stands twice."""
    _check_types(extensions)
    return vectors(extension.encode() for extension in extensions)


def find_extension(extensions: Sequence[Extension], type_: int) -> bytes | None:
    """Give the data of the extension of that type, if it is there."""
    for extension in extensions:
        if extension.type == type_:
            return extension.data
    return None


def require_own_extensions(extensions: Sequence[Extension]) -> None:
    """Refuse a group whose extensions we do not know ourselves (section 13.4).

    What our leaf lists does not count: there are GREASE values in it.

    Raises:
        UnsupportedExtension: There is one.
    """
    for extension in extensions:
        if extension.type not in DEFAULT_EXTENSIONS | {*OUR_EXTENSIONS}:
            raise UnsupportedExtension("the group uses an extension unknown to us")


@dataclass(frozen=True, slots=True)
class Credential:
    """Credential (section 5.3).

    `identity` is a basic credential's identity; of an X.509 credential it is the
    encoded chain, which is carried but never checked here.
    """

    type: int
    identity: bytes

    def encode(self) -> bytes:
        """Encode."""
        return u16(self.type) + vector(self.identity)

    @classmethod
    def read(cls, reader: Reader) -> Credential:
        """Decode; types other than basic and X.509 are refused."""
        type_ = reader.u16()
        if type_ not in (BASIC, X509):
            raise Malformed("the credential type is unknown")
        identity = reader.vector(MAX_CREDENTIAL)
        if type_ == X509:
            inner = Reader(identity)
            while inner.left:
                inner.vector()
        return cls(type_, identity)


@dataclass(frozen=True, slots=True)
class RequiredCapabilities:
    """RequiredCapabilities (section 11.1)."""

    extensions: tuple[int, ...] = ()
    proposals: tuple[int, ...] = ()
    credentials: tuple[int, ...] = ()

    def encode(self) -> bytes:
        """Encode."""
        return (
            u16_vector(self.extensions)
            + u16_vector(self.proposals)
            + u16_vector(self.credentials)
        )

    def extension(self) -> Extension:
        """Wrap into the extension that carries it."""
        return Extension(REQUIRED_CAPABILITIES, self.encode())

    @classmethod
    def read(cls, reader: Reader) -> RequiredCapabilities:
        """Decode."""
        return cls(reader.u16_vector(), reader.u16_vector(), reader.u16_vector())

    @classmethod
    def of(cls, extensions: Sequence[Extension]) -> RequiredCapabilities:
        """Find it among a group's extensions; without one nothing is required."""
        data = find_extension(extensions, REQUIRED_CAPABILITIES)
        return cls() if data is None else decode(data, cls.read)


@dataclass(frozen=True, slots=True)
class ExternalSender:
    """ExternalSender (section 12.1.8.1)."""

    signature_key: bytes
    credential: Credential

    def encode(self) -> bytes:
        """Encode."""
        return vector(self.signature_key) + self.credential.encode()

    @classmethod
    def read(cls, reader: Reader) -> ExternalSender:
        """Decode."""
        return cls(reader.vector(), Credential.read(reader))


def external_senders(extensions: Sequence[Extension]) -> tuple[ExternalSender, ...]:
    """Give who may send external proposals; nobody without the extension."""
    data = find_extension(extensions, EXTERNAL_SENDERS)
    if data is None:
        return ()
    return tuple(decode(data, lambda reader: reader.items(ExternalSender.read, 16)))


def external_senders_extension(senders: Iterable[ExternalSender]) -> Extension:
    """Wrap senders into the extension that carries them."""
    return Extension(EXTERNAL_SENDERS, vectors(s.encode() for s in senders))
