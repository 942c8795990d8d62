"""The key schedule and the transcript hashes (RFC 9420 sections 8 and 8.2)."""

from __future__ import annotations

from dataclasses import dataclass, field

from e2ee.codec import u16, vector
from e2ee.framing import AuthenticatedContent
from e2ee.suite import CipherSuite


@dataclass(frozen=True, slots=True)
class EpochSecrets:
    """What an epoch keeps; `encryption_secret` goes into the secret tree at once."""

    init_secret: bytes = field(repr=False)
    sender_data_secret: bytes = field(repr=False)
    encryption_secret: bytes = field(repr=False)
    exporter_secret: bytes = field(repr=False)
    epoch_authenticator: bytes = field(repr=False)
    external_secret: bytes = field(repr=False)
    confirmation_key: bytes = field(repr=False)
    membership_key: bytes = field(repr=False)
    resumption_psk: bytes = field(repr=False)


def joiner_secret(
    suite: CipherSuite, init_secret: bytes, commit_secret: bytes, context: bytes
) -> bytes:
    """Derive the joiner secret; `context` is the new, encoded GroupContext."""
    extracted = suite.hash.extract(init_secret, commit_secret)
    return suite.expand_with_label(extracted, "joiner", context, suite.hash.size)


def welcome_secret(suite: CipherSuite, joiner: bytes, psk_secret: bytes) -> bytes:
    """Derive the welcome secret."""
    return suite.derive_secret(suite.hash.extract(joiner, psk_secret), "welcome")


def welcome_key_nonce(suite: CipherSuite, welcome: bytes) -> tuple[bytes, bytes]:
    """Derive the key and nonce of a Welcome's GroupInfo (section 12.4.3.1)."""
    aead = suite.aead
    return (
        suite.expand_with_label(welcome, "key", b"", aead.key_size),
        suite.expand_with_label(welcome, "nonce", b"", aead.nonce_size),
    )


def epoch_secrets_of(suite: CipherSuite, epoch_secret: bytes) -> EpochSecrets:
    """Derive all secrets of an epoch from its epoch secret."""
    derive = suite.derive_secret
    return EpochSecrets(
        init_secret=derive(epoch_secret, "init"),
        sender_data_secret=derive(epoch_secret, "sender data"),
        encryption_secret=derive(epoch_secret, "encryption"),
        exporter_secret=derive(epoch_secret, "exporter"),
        epoch_authenticator=derive(epoch_secret, "authentication"),
        external_secret=derive(epoch_secret, "external"),
        confirmation_key=derive(epoch_secret, "confirm"),
        membership_key=derive(epoch_secret, "membership"),
        resumption_psk=derive(epoch_secret, "resumption"),
    )


def epoch_secrets(
    suite: CipherSuite, joiner: bytes, psk_secret: bytes, context: bytes
) -> EpochSecrets:
    """Derive all secrets of an epoch from its joiner secret."""
    member = suite.hash.extract(joiner, psk_secret)
    epoch_secret = suite.expand_with_label(member, "epoch", context, suite.hash.size)
    return epoch_secrets_of(suite, epoch_secret)


def export_secret(
    suite: CipherSuite, exporter_secret: bytes, label: str, context: bytes, length: int
) -> bytes:
    """MLS-Exporter (section 8.5)."""
    return suite.expand_with_label(
        suite.derive_secret(exporter_secret, label),
        "exported",
        suite.hash.digest(context),
        length,
    )


def external_key_pair(
    suite: CipherSuite, external_secret: bytes
) -> tuple[bytes, bytes]:
    """Derive the (private, public) key for external commits."""
    return suite.kem.derive_key_pair(external_secret)


def confirmation_tag(
    suite: CipherSuite, confirmation_key: bytes, confirmed_transcript_hash: bytes
) -> bytes:
    """Compute the tag that shows that states agree (section 6.1)."""
    return suite.hash.mac(confirmation_key, confirmed_transcript_hash)


def confirmed_transcript_hash(
    suite: CipherSuite, interim: bytes, commit: AuthenticatedContent
) -> bytes:
    """Take a commit into the transcript (section 8.2)."""
    return suite.hash.digest(
        interim
        + u16(commit.wire_format)
        + commit.content.encoded
        + vector(commit.auth.signature)
    )


def interim_transcript_hash(suite: CipherSuite, confirmed: bytes, tag: bytes) -> bytes:
    """Take a commit's confirmation tag into the transcript (section 8.2)."""
    return suite.hash.digest(confirmed + vector(tag))
