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
_RELOAD_EVERY = 8


def passive_client_case(case: Case) -> None:
    """Check `passive-client-*.json`; the group is saved and loaded on the way."""
    data, signature_private = case.data, case.hex("signature_priv")
    tree = data["ratchet_tree"]
    psks = {
        bytes.fromhex(psk["psk_id"]): bytes.fromhex(psk["psk"])
        for psk in data["external_psks"]
    }
    group = Group.join(
        case.hex("welcome"),
        [_bundle(case)],
        signature_private=signature_private,
        ratchet_tree=None if tree is None else bytes.fromhex(tree),
        now=_NOW,
        validator=ALLOW_ALL,
        psks=psks,
        suite=case.suite,
    )
    expected = case.hex("initial_epoch_authenticator")
    same("initial_epoch_authenticator", group.epoch_authenticator, expected)
    for number, epoch in enumerate(data["epochs"]):
        if number % _RELOAD_EVERY == 1:
            group = Group.load(
                group.dump_epoch(),
                group.dump_ratchets(),
                signature_private=signature_private,
                validator=ALLOW_ALL,
                psks=psks,
                suite=case.suite,
            )
        _follow(group, case.part(epoch))


def _bundle(case: Case) -> KeyPackageBundle:
    """Check the client's keys against its KeyPackage."""
    suite = case.suite
    reader = unwrap(case.hex("key_package"), KEY_PACKAGE)
    package = KeyPackage.read(reader)
    reader.finish()
    package.verify(suite, RequiredCapabilities())
    leaf = package.leaf_node
    init, encryption = case.hex("init_priv"), case.hex("encryption_priv")
    same("init_priv", suite.kem.public(init), package.init_key)
    same("encryption_priv", suite.kem.public(encryption), leaf.encryption_key)
    signer = suite.signature.public(case.hex("signature_priv"))
    same("signature_priv", signer, leaf.signature_key)
    ref = package.ref(suite)
    return KeyPackageBundle(package.encoded, ref, 0, False, init, encryption)


def _follow(group: Group, epoch: Case) -> None:
    """Take an epoch's proposals and commit."""
    for proposal in epoch.data["proposals"]:
        group.receive_proposal(bytes.fromhex(proposal))
    group.process_commit(epoch.hex("commit"), now=_NOW)
    expected = epoch.hex("epoch_authenticator")
    same("epoch_authenticator", group.epoch_authenticator, expected)
