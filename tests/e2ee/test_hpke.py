"""HPKE against RFC 9180's vectors, base mode, with two AEADs."""

from __future__ import annotations

import json
from typing import Any

import pytest

from e2ee.crypto import SHA256, Aead, ChaCha20Poly1305
from e2ee.errors import DecryptionFailed
from e2ee.hpke import DhkemX25519, Hpke
from tests.e2ee.support import VECTORS, Aes128Gcm

AEADS: dict[int, Aead] = {1: Aes128Gcm(), 3: ChaCha20Poly1305()}


def cases() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for name in ("chacha20poly1305", "other-aead"):
        path = VECTORS / "hpke" / f"hpke-x25519-sha256-{name}.json"
        found += json.loads(path.read_text())
    return [case for case in found if case["mode"] == 0 and case["aead_id"] in AEADS]


@pytest.mark.parametrize("case", cases(), ids=lambda case: str(case["aead_id"]))
def test_base_mode(case: dict[str, Any]) -> None:
    def raw(name: str) -> bytes:
        return bytes.fromhex(case[name])

    kem = DhkemX25519()
    hpke = Hpke.of(kem, case["kdf_id"], SHA256, case["aead_id"], AEADS[case["aead_id"]])
    assert kem.derive_key_pair(raw("ikmR")) == (raw("skRm"), raw("pkRm"))
    enc, sender = hpke.setup_sender(raw("pkRm"), raw("info"), rng=lambda _: raw("ikmE"))
    assert enc == raw("enc")
    receiver = hpke.setup_receiver(enc, raw("skRm"), raw("info"))
    for context in (sender, receiver):
        assert context.key == raw("key")
        assert context.base_nonce == raw("base_nonce")
        assert context.exporter_secret == raw("exporter_secret")
        for entry in case["exports"]:
            value = context.export(bytes.fromhex(entry["exporter_context"]), entry["L"])
            assert value.hex() == entry["exported_value"]
    for entry in case["encryptions"]:
        aad, plain, sealed = (bytes.fromhex(entry[n]) for n in ("aad", "pt", "ct"))
        sender.sequence = receiver.sequence = entry["seq"]
        assert sender.seal(aad, plain) == sealed
        assert receiver.open(aad, sealed) == plain
        receiver.sequence = entry["seq"] + 1
        with pytest.raises(DecryptionFailed):
            receiver.open(aad, sealed)


def test_there_are_cases() -> None:
    assert {case["aead_id"] for case in cases()} == {1, 3}
