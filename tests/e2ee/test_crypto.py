"""The primitives and labels; Wycheproof's cases run in `test_vectors`."""

from __future__ import annotations

import pytest

from e2ee.crypto import (
    Aead,
    ChaCha20Poly1305,
    Ed25519,
    XChaCha20Poly1305,
    random_bytes,
    x25519,
    x25519_public,
)
from e2ee.errors import BadSignature, DecryptionFailed, Misuse, PrimitiveMissing
from e2ee.suite import BUILT_IN, SUITE_3, HpkeCiphertext

AEADS: list[Aead] = [ChaCha20Poly1305(), XChaCha20Poly1305()]


@pytest.mark.parametrize("aead", AEADS, ids=lambda aead: type(aead).__name__)
def test_aead(aead: Aead) -> None:
    key, nonce = random_bytes(aead.key_size), random_bytes(aead.nonce_size)
    sealed = aead.seal(key, nonce, b"aad", b"text")
    assert aead.open(key, nonce, b"aad", sealed) == b"text"
    assert len(sealed) == len(b"text") + 16
    for wrong in (
        (key, nonce, b"AAD", sealed),
        (key, nonce, b"aad", sealed[:-1]),
        (key, nonce, b"aad", sealed[::-1]),
        (key, nonce, b"aad", b"short"),
        (key, bytes(aead.nonce_size), b"aad", sealed),
        (key, nonce[:-1], b"aad", sealed),
        (key[:-1], nonce, b"aad", sealed),
    ):
        with pytest.raises(DecryptionFailed):
            aead.open(*wrong)
    for size in (0, aead.nonce_size - 1, aead.nonce_size + 1):
        with pytest.raises(Misuse):
            aead.seal(key, bytes(size), b"", b"")
    with pytest.raises(Misuse):
        aead.seal(bytes(31), nonce, b"", b"")


def test_x25519() -> None:
    (a, b), (c, d) = ((k, x25519_public(k)) for k in map(random_bytes, (32, 32)))
    assert x25519(a, d) == x25519(c, b)
    for wrong in ((a, bytes(32)), (a, d[:31]), (a[:31], d)):
        with pytest.raises(DecryptionFailed):
            x25519(*wrong)
    with pytest.raises(DecryptionFailed):
        x25519_public(a[:31])


def test_signature_keys_may_be_prepared() -> None:
    scheme, seed = Ed25519(), random_bytes(32)
    prepared = scheme.prepare(seed)
    assert scheme.prepare(prepared) == prepared
    assert scheme.public(prepared) == scheme.public(seed)
    assert scheme.sign(prepared, b"x") == scheme.sign(seed, b"x")
    with pytest.raises(Misuse):
        scheme.sign(b"short", b"x")


def test_short_input_is_refused() -> None:
    with pytest.raises(BadSignature):
        Ed25519().verify(bytes(32), b"x", b"short")
    with pytest.raises(BadSignature):
        Ed25519().verify(b"short", b"x", bytes(64))
    sealed = HpkeCiphertext(b"short", bytes(32))
    with pytest.raises(DecryptionFailed):
        SUITE_3.decrypt_with_label(random_bytes(32), "Welcome", b"", sealed)


def test_labels_and_contexts_separate() -> None:
    private, public = SUITE_3.kem.derive_key_pair(random_bytes(32))
    sealed = SUITE_3.encrypt_with_label(public, "Welcome", b"context", b"secret")
    opened = SUITE_3.decrypt_with_label(private, "Welcome", b"context", sealed)
    assert opened == b"secret"
    for label, context in (("welcome", b"context"), ("Welcome", b"Context")):
        with pytest.raises(DecryptionFailed):
            SUITE_3.decrypt_with_label(private, label, context, sealed)
    key = random_bytes(32)
    signature = SUITE_3.sign_with_label(key, "LeafNodeTBS", b"content")
    verify_key = SUITE_3.signature.public(key)
    with pytest.raises(BadSignature):
        SUITE_3.verify_with_label(verify_key, "KeyPackageTBS", b"content", signature)


def test_missing_primitives_say_so() -> None:
    suite = BUILT_IN[2]
    with pytest.raises(PrimitiveMissing):
        suite.kem.derive_key_pair(bytes(32))
    with pytest.raises(PrimitiveMissing):
        suite.signature.sign(bytes(32), b"")
    with pytest.raises(PrimitiveMissing):
        BUILT_IN[1].aead.seal(bytes(16), bytes(12), b"", b"")
    assert len(suite.derive_secret(bytes(32), "x")) == 32
