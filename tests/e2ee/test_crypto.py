"""The primitives against Project Wycheproof."""

from __future__ import annotations

import json
from typing import Any

import pytest
from nacl import bindings

from e2ee.crypto import SHA256, ChaCha20Poly1305, Ed25519, random_bytes
from e2ee.errors import BadSignature, DecryptionFailed, Misuse, PrimitiveMissing
from e2ee.hpke import DhkemX25519
from e2ee.suite import BUILT_IN, SUITE_3, HpkeCiphertext
from tests.e2ee.support import VECTORS


def groups(name: str) -> list[dict[str, Any]]:
    data = json.loads((VECTORS / "wycheproof" / f"{name}.json").read_text())
    found: list[dict[str, Any]] = data["testGroups"]
    return found


def test_ed25519() -> None:
    for group in groups("ed25519"):
        public = bytes.fromhex(group["publicKey"]["pk"])
        for case in group["tests"]:
            message = bytes.fromhex(case["msg"])
            signature = bytes.fromhex(case["sig"])
            if case["result"] == "valid":
                Ed25519().verify(public, message, signature)
            else:
                with pytest.raises(BadSignature):
                    Ed25519().verify(public, message, signature)


def test_x25519_gives_the_shared_secret_or_refuses() -> None:
    kem = DhkemX25519()
    refused = 0
    for group in groups("x25519"):
        for case in group["tests"]:
            private = bytes.fromhex(case["private"])
            public = bytes.fromhex(case["public"])
            shared = bytes.fromhex(case["shared"])
            if any(shared):
                assert bindings.crypto_scalarmult(private, public) == shared
                kem.decapsulate(private, public)
            else:
                refused += 1
                with pytest.raises(DecryptionFailed):
                    kem.decapsulate(private, public)
                with pytest.raises(DecryptionFailed):
                    kem.encapsulate(public, random_bytes)
    assert refused > 0


def test_chacha20_poly1305() -> None:
    aead = ChaCha20Poly1305()
    for group in groups("chacha20_poly1305"):
        if group["ivSize"] != 96:
            continue
        for case in group["tests"]:
            key, nonce, aad, plain, sealed, tag = (
                bytes.fromhex(case[name])
                for name in ("key", "iv", "aad", "msg", "ct", "tag")
            )
            if case["result"] == "valid":
                assert aead.seal(key, nonce, aad, plain) == sealed + tag
                assert aead.open(key, nonce, aad, sealed + tag) == plain
            else:
                with pytest.raises(DecryptionFailed):
                    aead.open(key, nonce, aad, sealed + tag)


def test_hkdf_sha256() -> None:
    for group in groups("hkdf_sha256"):
        for case in group["tests"]:
            ikm, salt, info = (
                bytes.fromhex(case[name]) for name in ("ikm", "salt", "info")
            )
            prk = SHA256.extract(salt, ikm)
            if case["result"] == "valid":
                assert SHA256.expand(prk, info, case["size"]).hex() == case["okm"]
            else:
                with pytest.raises(Misuse):
                    SHA256.expand(prk, info, case["size"])


def test_signature_keys_may_be_prepared() -> None:
    scheme, seed = Ed25519(), random_bytes(32)
    prepared = scheme.prepare(seed)
    assert scheme.prepare(prepared) == prepared
    assert scheme.public(prepared) == scheme.public(seed)
    assert scheme.sign(prepared, b"x") == scheme.sign(seed, b"x")
    with pytest.raises(Misuse):
        scheme.sign(b"short", b"x")


def test_short_input_is_refused() -> None:
    with pytest.raises(DecryptionFailed):
        ChaCha20Poly1305().open(bytes(32), bytes(12), b"", b"short")
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
