"""Pre-shared keys (RFC 9420 section 8.4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from e2ee.codec import Reader, u8, u16, u64, vector
from e2ee.codepoint import (
    PSK_EXTERNAL,
    PSK_RESUMPTION,
    USAGE_APPLICATION,
    USAGE_BRANCH,
    USAGE_REINIT,
)
from e2ee.errors import Malformed
from e2ee.suite import CipherSuite


@dataclass(frozen=True, slots=True)
class PreSharedKeyId:
    """PreSharedKeyID: names a key; never the key itself."""

    type: int
    psk_id: bytes = b""
    """Set for external PSKs."""
    usage: int = 0
    group_id: bytes = b""
    epoch: int = 0
    """These three are set for resumption PSKs."""
    nonce: bytes = b""

    def encode(self) -> bytes:
        """Encode."""
        if self.type == PSK_EXTERNAL:
            body = vector(self.psk_id)
        else:
            body = u8(self.usage) + vector(self.group_id) + u64(self.epoch)
        return u8(self.type) + body + vector(self.nonce)

    @classmethod
    def read(cls, reader: Reader) -> PreSharedKeyId:
        """Decode."""
        type_ = reader.u8()
        if type_ == PSK_EXTERNAL:
            return cls(type_, psk_id=reader.vector(), nonce=reader.vector())
        if type_ == PSK_RESUMPTION:
            usage = reader.u8()
            if usage not in (USAGE_APPLICATION, USAGE_REINIT, USAGE_BRANCH):
                raise Malformed("the PSK usage is unknown")
            return cls(
                type_,
                usage=usage,
                group_id=reader.vector(),
                epoch=reader.u64(),
                nonce=reader.vector(),
            )
        raise Malformed("the PSK type is unknown")


def psk_secret(
    suite: CipherSuite, psks: Sequence[tuple[PreSharedKeyId, bytes]]
) -> bytes:
    """Chain keys into one secret, in the order given; zeroes if there are none."""
    secret = suite.zero
    count = len(psks)
    for index, (id_, psk) in enumerate(psks):
        label = id_.encode() + u16(index) + u16(count)
        extracted = suite.hash.extract(suite.zero, psk)
        psk_input = suite.expand_with_label(
            extracted, "derived psk", label, suite.hash.size
        )
        secret = suite.hash.extract(psk_input, secret)
    return secret
