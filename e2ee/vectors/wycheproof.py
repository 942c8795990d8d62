"""Checks of the primitives (Project Wycheproof): what must hold, what must not.

A case's data is the test with its group under `group`. A `valid` case must give what
it says, an `invalid` one must be refused with our own error.
"""

from __future__ import annotations

from collections.abc import Callable

from e2ee.crypto import (
    SHA256,
    SHA384,
    SHA512,
    Aead,
    ChaCha20Poly1305,
    Ed25519,
    Hash,
    XChaCha20Poly1305,
    random_bytes,
    x25519,
)
from e2ee.errors import BadSignature, DecryptionFailed, Misuse, PrimitiveMissing
from e2ee.hpke import DhkemX25519
from e2ee.vectors.case import Case, Mismatch, refused, same

Check = Callable[[Case], None]


def _judge(case: Case, error: type[Exception], attempt: Callable[[], None]) -> None:
    """Make the attempt, which must succeed or be refused, as the case says."""
    match case.data["result"]:
        case "valid":
            attempt()
        case "invalid":
            refused("an invalid case", error, attempt)
        case other:
            raise Mismatch(f"the result {other} is not known")


def ed25519_case(case: Case) -> None:
    """Verify a signature."""
    key = case.part(case.data["group"]["publicKey"])
    if key.data["curve"] != "edwards25519":
        raise PrimitiveMissing("this curve is not built in")

    def verify() -> None:
        Ed25519().verify(key.hex("pk"), case.hex("msg"), case.hex("sig"))

    _judge(case, BadSignature, verify)


def x25519_case(case: Case) -> None:
    """Agree on a secret; one of zero is refused, as HPKE asks (`acceptable`)."""
    if case.data["group"]["curve"] != "curve25519":
        raise PrimitiveMissing("this curve is not built in")
    private, public, shared = (case.hex(n) for n in ("private", "public", "shared"))
    kem = DhkemX25519()
    if not any(shared):
        same("result", case.data["result"], "acceptable")
        refused("a secret of zero", DecryptionFailed, x25519, private, public)
        refused("by the KEM", DecryptionFailed, kem.decapsulate, private, public)
        refused("by the KEM", DecryptionFailed, kem.encapsulate, public, random_bytes)
        return
    same("result", case.data["result"] in ("valid", "acceptable"), True)
    same("shared", x25519(private, public), shared)
    kem.decapsulate(private, public)


def _aead_case(aead: Aead) -> Check:
    def check(case: Case) -> None:
        """Seal and open."""
        key, nonce, aad, plain, ct, tag = (
            case.hex(name) for name in ("key", "iv", "aad", "msg", "ct", "tag")
        )

        def open_() -> None:
            same("msg", aead.open(key, nonce, aad, ct + tag), plain)

        _judge(case, DecryptionFailed, open_)
        if case.data["result"] == "valid":
            same("ct", aead.seal(key, nonce, aad, plain), ct + tag)
        elif len(nonce) != aead.nonce_size:
            refused("a wrong nonce", Misuse, aead.seal, key, nonce, aad, plain)
        else:
            wrong = aead.seal(key, nonce, aad, plain) != ct + tag
            same("a forged ciphertext is not ours", wrong, True)

    return check


def _hkdf_case(hash_: Hash) -> Check:
    def check(case: Case) -> None:
        """Extract and expand."""
        prk = hash_.extract(case.hex("salt"), case.hex("ikm"))
        info, size = case.hex("info"), case.data["size"]

        def expand() -> None:
            same("okm", hash_.expand(prk, info, size), case.hex("okm"))

        _judge(case, Misuse, expand)

    return check


WYCHEPROOF: dict[str, Check] = {
    "CHACHA20-POLY1305": _aead_case(ChaCha20Poly1305()),
    "EDDSA": ed25519_case,
    "HKDF-SHA-256": _hkdf_case(SHA256),
    "HKDF-SHA-384": _hkdf_case(SHA384),
    "HKDF-SHA-512": _hkdf_case(SHA512),
    "XCHACHA20-POLY1305": _aead_case(XChaCha20Poly1305()),
    "XDH": x25519_case,
}
"""`algorithm` of a file to check."""
