"""HPKE's four modes and their refusals; RFC 9180's vectors run in `test_vectors`."""

from __future__ import annotations

import pytest

from e2ee.crypto import SHA256, ChaCha20Poly1305, NoAead, random_bytes
from e2ee.errors import DecryptionFailed, Misuse, PrimitiveMissing
from e2ee.hpke import DhkemX25519, Hpke, Psk
from tests.vectors.primitives import XWing

KEM = DhkemX25519()
HPKE = Hpke.of(KEM, 1, SHA256, 3, ChaCha20Poly1305())
PRIVATE, PUBLIC = KEM.derive_key_pair(random_bytes(32))
SENDER, SENDER_PUBLIC = KEM.derive_key_pair(random_bytes(32))
PSK = Psk(random_bytes(32), b"psk")
OTHER_PSK = Psk(random_bytes(32), b"psk")
RENAMED_PSK = Psk(PSK.key, b"other")

MODES = [(None, None), (PSK, None), (None, SENDER), (PSK, SENDER)]
"""PSK and the sender's private key."""


@pytest.mark.parametrize("mode", range(4))
def test_only_the_same_mode_opens(mode: int) -> None:
    psk, private = MODES[mode]
    enc, sender = HPKE.setup_sender(PUBLIC, b"info", psk=psk, sender_private=private)
    first, second = sender.seal(b"a", b"one"), sender.seal(b"b", b"two")
    public = None if private is None else SENDER_PUBLIC
    receiver = HPKE.setup_receiver(enc, PRIVATE, b"info", psk=psk, sender_public=public)
    assert receiver.open(b"a", first) == b"one"
    assert receiver.open(b"b", second) == b"two"
    assert receiver.export(b"x", 20) == sender.export(b"x", 20)
    assert receiver.export(b"x", 20) != sender.export(b"y", 20)
    for other_psk in (None, PSK, OTHER_PSK, RENAMED_PSK):
        for other in (None, SENDER_PUBLIC, PUBLIC):
            if (other_psk, other) == (psk, public):
                continue
            wrong = HPKE.setup_receiver(
                enc, PRIVATE, b"info", psk=other_psk, sender_public=other
            )
            with pytest.raises(DecryptionFailed):
                wrong.open(b"a", first)
            assert wrong.export(b"x", 20) != sender.export(b"x", 20)


@pytest.mark.parametrize(("key", "name"), [(bytes(31), b"x"), (bytes(32), b"")])
def test_a_weak_psk_is_refused(key: bytes, name: bytes) -> None:
    with pytest.raises(Misuse):
        Psk(key, name)


def test_secrets_do_not_show() -> None:
    _, context = HPKE.setup_sender(PUBLIC, b"")
    shown = repr(context) + repr(PSK)
    for secret in (context.key, context.base_nonce, context.exporter_secret, PSK.key):
        assert repr(secret)[2:-1] not in shown


@pytest.mark.parametrize("key", [b"", b"short", bytes(31), bytes(33), bytes(32)])
def test_keys_that_give_nothing_are_refused(key: bytes) -> None:
    """Of a wrong length, or of small order."""
    for call in (
        lambda: HPKE.setup_sender(key, b""),
        lambda: HPKE.setup_sender(key, b"", sender_private=SENDER),
        lambda: HPKE.setup_receiver(key, PRIVATE, b""),
        lambda: HPKE.setup_receiver(PUBLIC, PRIVATE, b"", sender_public=key),
    ):
        with pytest.raises(DecryptionFailed):
            call()


def test_a_kem_of_another_kind_plugs_in_but_authenticates_nobody() -> None:
    kem = XWing()
    hpke = Hpke.of(kem, 1, SHA256, 3, ChaCha20Poly1305())
    private, public = kem.derive_key_pair(random_bytes(32))
    enc, sender = hpke.setup_sender(public, b"info", psk=PSK)
    receiver = hpke.setup_receiver(enc, private, b"info", psk=PSK)
    assert receiver.open(b"", sender.seal(b"", b"text")) == b"text"
    with pytest.raises(PrimitiveMissing):
        hpke.setup_sender(public, b"", sender_private=private)
    with pytest.raises(PrimitiveMissing):
        hpke.setup_receiver(enc, private, b"", sender_public=public)


def test_export_only() -> None:
    hpke = Hpke.of(KEM, 1, SHA256, 0xFFFF, NoAead(0, 0))
    enc, sender = hpke.setup_sender(PUBLIC, b"")
    receiver = hpke.setup_receiver(enc, PRIVATE, b"")
    assert sender.export(b"", 64) == receiver.export(b"", 64)
    with pytest.raises(PrimitiveMissing):
        sender.seal(b"", b"")


def test_a_context_for_many_is_that_of_each() -> None:
    shared, enc = KEM.encapsulate(PUBLIC, random_bytes)
    prepared = HPKE.schedule_context(b"long info")
    sealed = HPKE.key_schedule(shared, prepared).seal(b"", b"text")
    assert HPKE.setup_receiver(enc, PRIVATE, b"long info").open(b"", sealed) == b"text"
