"""Checks of whole scenarios: a client that joins and follows."""

from __future__ import annotations

from e2ee.codepoint import KEY_PACKAGE
from e2ee.extension import RequiredCapabilities
from e2ee.framing import unwrap
from e2ee.group import Group
from e2ee.key_package import KeyPackage, KeyPackageBundle
from e2ee.member import ALLOW_ALL
from e2ee.vectors.case import Case, same

_NOW = 1_700_000_000


def passive_client_case(case: Case) -> None:
    """Check `passive-client-*.json`; the group is saved and loaded on the way."""
    suite, data = case.suite, case.data
    reader = unwrap(case.hex("key_package"), KEY_PACKAGE)
    package = KeyPackage.read(reader)
    reader.finish()
    package.verify(suite, RequiredCapabilities())
    init_private = case.hex("init_priv")
    encryption_private = case.hex("encryption_priv")
    signature_private = case.hex("signature_priv")
    leaf = package.leaf_node
    same("init_priv", suite.kem.public(init_private), package.init_key)
    same("encryption_priv", suite.kem.public(encryption_private), leaf.encryption_key)
    same(
        "signature_priv",
        suite.signature.public(signature_private),
        leaf.signature_key,
    )
    bundle = KeyPackageBundle(
        package.encoded,
        package.ref(suite),
        0,
        False,
        init_private,
        encryption_private,
    )
    tree = data["ratchet_tree"]
    psks = {
        bytes.fromhex(psk["psk_id"]): bytes.fromhex(psk["psk"])
        for psk in data["external_psks"]
    }
    group = Group.join(
        case.hex("welcome"),
        [bundle],
        signature_private=signature_private,
        ratchet_tree=None if tree is None else bytes.fromhex(tree),
        now=_NOW,
        validator=ALLOW_ALL,
        psks=psks,
        suite=suite,
    )
    same(
        "initial_epoch_authenticator",
        group.epoch_authenticator,
        case.hex("initial_epoch_authenticator"),
    )
    for number, epoch in enumerate(data["epochs"]):
        if number % 8 == 1:
            group = Group.load(
                group.dump_epoch(),
                group.dump_ratchets(),
                signature_private=signature_private,
                validator=ALLOW_ALL,
                psks=psks,
                suite=suite,
            )
        for proposal in epoch["proposals"]:
            group.receive_proposal(bytes.fromhex(proposal))
        group.process_commit(bytes.fromhex(epoch["commit"]), now=_NOW)
        same(
            "epoch_authenticator",
            group.epoch_authenticator,
            bytes.fromhex(epoch["epoch_authenticator"]),
        )
