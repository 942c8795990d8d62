"""Checks of HPKE in all four modes (RFC 9180 appendix A, draft-ietf-hpke-pq)."""

from __future__ import annotations

from collections.abc import Mapping

from e2ee.crypto import SHA256, SHA384, SHA512, Aead, NoAead
from e2ee.errors import DecryptionFailed, PrimitiveMissing
from e2ee.hpke import AuthKem, Context, Hpke, Kem, Psk
from e2ee.vectors.case import Case, Mismatch, same

_KDFS = {1: SHA256, 2: SHA384, 3: SHA512}
_EXPORT_ONLY = 0xFFFF
_KEY_SIZES = {1: 16, 2: 32, 3: 32}


def hpke_case(case: Case) -> None:
    """Check one case: keys, key schedule, encryptions and exports, of both sides."""
    data, hpke = case.data, _hpke(case)
    if "suite_id" in data:
        same("suite_id", hpke.suite_id, case.hex("suite_id"))
    _check_keys(case, hpke.kem)
    psk, auth = _psk(case), data["mode"] in (2, 3)
    info, private, public = case.hex("info"), case.hex("skRm"), case.hex("pkRm")
    receiver = hpke.setup_receiver(
        case.hex("enc"),
        private,
        info,
        psk=psk,
        sender_public=case.hex("pkSm") if auth else None,
    )
    _check_schedule(case, hpke, psk, auth=auth)
    enc, sender = hpke.setup_sender(
        public,
        info,
        lambda _: case.hex("ikmE"),
        psk=psk,
        sender_private=case.hex("skSm") if auth else None,
    )
    if enc == case.hex("enc"):
        for context in (sender, receiver):
            _check_context(case, context)
        return
    if "skEm" in data:
        raise Mismatch("enc differs")
    # A KEM that draws its own randomness: what it sends must come out again.
    _check_context(case, receiver)
    sealed = sender.seal(b"aad", b"plaintext")
    again = hpke.setup_receiver(enc, private, info)
    same("own encryption", again.open(b"aad", sealed), b"plaintext")


def _hpke(case: Case) -> Hpke:
    data, primitives = case.data, case.primitives
    kem, hash_ = primitives.kems.get(data["kem_id"]), _KDFS.get(data["kdf_id"])
    if kem is None or hash_ is None:
        raise PrimitiveMissing("this KEM or KDF is not built in")
    aead_id = data["aead_id"]
    return Hpke.of(
        kem, data["kdf_id"], hash_, aead_id, _aead(aead_id, primitives.aeads)
    )


def _aead(number: int, known: Mapping[int, Aead]) -> Aead:
    if number == _EXPORT_ONLY:
        return NoAead(0, 0)
    if number in known:
        return known[number]
    if number in _KEY_SIZES:
        return NoAead(_KEY_SIZES[number])
    raise PrimitiveMissing("this AEAD is not known")


def _psk(case: Case) -> Psk | None:
    if case.data["mode"] in (1, 3):
        return Psk(case.hex("psk"), case.hex("psk_id"))
    same("mode", case.data["mode"] in (0, 2), True)
    return None


def _check_keys(case: Case, kem: Kem) -> None:
    """All key pairs come from their keying material."""
    for name in ("R", "S", "E"):
        if f"sk{name}m" not in case.data:
            continue
        private, public = kem.derive_key_pair(case.hex(f"ikm{name}"))
        same(f"sk{name}m", private, case.hex(f"sk{name}m"))
        same(f"pk{name}m", public, case.hex(f"pk{name}m"))
        same(f"public of sk{name}m", kem.public(private), public)
    if "pkEm" in case.data:
        same("pkEm", case.hex("pkEm"), case.hex("enc"))


def _check_schedule(case: Case, hpke: Hpke, psk: Psk | None, *, auth: bool) -> None:
    """The shared secret, and what is between it and the keys."""
    kem, private, enc = hpke.kem, case.hex("skRm"), case.hex("enc")
    if auth and isinstance(kem, AuthKem):
        shared = kem.auth_decapsulate(private, enc, case.hex("pkSm"))
    else:
        shared = kem.decapsulate(private, enc)
    same("shared_secret", shared, case.hex("shared_secret"))
    if "key_schedule_context" in case.data:
        context = hpke.schedule_context(case.hex("info"), psk, auth=auth)
        same("key_schedule_context", context, case.hex("key_schedule_context"))
        same("secret", hpke.schedule_secret(shared, psk), case.hex("secret"))


def _check_context(case: Case, context: Context) -> None:
    """The keys, and all that is encrypted and exported with them."""
    for name in ("key", "base_nonce", "exporter_secret"):
        same(name, getattr(context, name), case.hex(name))
    for data in case.data["exports"]:
        one = case.part(data)
        exported = context.export(one.hex("exporter_context"), data["L"])
        same("exported_value", exported, one.hex("exported_value"))
    for number, data in enumerate(case.data["encryptions"]):
        one, sequence = case.part(data), data.get("seq", number)
        aad, sealed = one.hex("aad"), one.hex("ct")
        context.sequence = sequence
        same("nonce", context.next_nonce(), one.hex("nonce"))
        context.sequence = sequence
        same("ct", context.seal(aad, one.hex("pt")), sealed)
        context.sequence = sequence
        same("pt", context.open(aad, sealed), one.hex("pt"))
        # Another nonce than its own opens nothing.
        try:
            context.open(aad, sealed)
        except DecryptionFailed:
            continue
        raise Mismatch("a ciphertext opens at another place")
