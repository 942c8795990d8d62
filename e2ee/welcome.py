"""Welcomes (RFC 9420 section 12.4.3.1)."""

from __future__ import annotations

from dataclasses import dataclass, field

from e2ee.codec import Reader, decode, optional, u16, vector, vectors
from e2ee.errors import DecryptionFailed, InvalidWelcome
from e2ee.group_info import GroupInfo
from e2ee.key_schedule import welcome_key_nonce
from e2ee.psk import PreSharedKeyId
from e2ee.suite import CipherSuite, HpkeCiphertext
from e2ee.treekem import read_hpke_ciphertext

MAX_WELCOMED = 1_000
"""Recipients of one Welcome: as many as a commit can add."""


@dataclass(frozen=True, slots=True)
class GroupSecrets:
    """GroupSecrets (section 12.4.3.1)."""

    joiner_secret: bytes = field(repr=False)
    path_secret: bytes | None = field(repr=False)
    psks: tuple[PreSharedKeyId, ...]

    def encode(self) -> bytes:
        """Encode."""
        path = None if self.path_secret is None else vector(self.path_secret)
        return (
            vector(self.joiner_secret)
            + optional(path)
            + vectors(psk.encode() for psk in self.psks)
        )

    @classmethod
    def read(cls, reader: Reader) -> GroupSecrets:
        """Decode."""
        joiner = reader.vector()
        path = reader.vector() if reader.present() else None
        return cls(joiner, path, tuple(reader.items(PreSharedKeyId.read, 1_000)))


@dataclass(frozen=True, slots=True)
class EncryptedGroupSecrets:
    """EncryptedGroupSecrets: one recipient's part of a Welcome."""

    new_member: bytes
    """The KeyPackageRef."""
    sealed: HpkeCiphertext

    def encode(self) -> bytes:
        """Encode."""
        return vector(self.new_member) + self.sealed.encode()

    @classmethod
    def read(cls, reader: Reader) -> EncryptedGroupSecrets:
        """Decode."""
        return cls(reader.vector(), read_hpke_ciphertext(reader))


@dataclass(frozen=True, slots=True)
class Welcome:
    """Welcome (section 12.4.3.1)."""

    cipher_suite: int
    secrets: tuple[EncryptedGroupSecrets, ...]
    encrypted_group_info: bytes

    def encode(self) -> bytes:
        """Encode."""
        return (
            u16(self.cipher_suite)
            + vectors(item.encode() for item in self.secrets)
            + vector(self.encrypted_group_info)
        )

    @classmethod
    def read(cls, reader: Reader) -> Welcome:
        """Decode."""
        return cls(
            reader.u16(),
            tuple(reader.items(EncryptedGroupSecrets.read, MAX_WELCOMED)),
            reader.vector(),
        )

    def open_secrets(
        self, suite: CipherSuite, item: EncryptedGroupSecrets, init_private: bytes
    ) -> GroupSecrets:
        """Decrypt one recipient's secrets.

        Raises:
            DecryptionFailed, Malformed: They do not open, or are not secrets.
        """
        opened = suite.decrypt_with_label(
            init_private, "Welcome", self.encrypted_group_info, item.sealed
        )
        return decode(opened, GroupSecrets.read)

    def open_group_info(self, suite: CipherSuite, welcome_secret: bytes) -> GroupInfo:
        """Decrypt the GroupInfo; its signature is not verified yet.

        Raises:
            InvalidWelcome, Malformed: It does not open, or is no GroupInfo.
        """
        key, nonce = welcome_key_nonce(suite, welcome_secret)
        try:
            opened = suite.aead.open(key, nonce, b"", self.encrypted_group_info)
        except DecryptionFailed:
            raise InvalidWelcome("the Welcome's GroupInfo does not open") from None
        return decode(opened, GroupInfo.read)


def seal_group_info(
    suite: CipherSuite, welcome_secret: bytes, info: GroupInfo
) -> bytes:
    """Encrypt a GroupInfo for a Welcome."""
    key, nonce = welcome_key_nonce(suite, welcome_secret)
    return suite.aead.seal(key, nonce, b"", info.encoded)
