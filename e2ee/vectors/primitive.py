"""Checks of tree math, encodings and derivations."""

from __future__ import annotations

from e2ee import tree_math
from e2ee.codec import Reader, decode, varint
from e2ee.codepoint import PSK_EXTERNAL
from e2ee.crypto import equal
from e2ee.framing import AuthenticatedContent
from e2ee.group_context import GroupContext
from e2ee.key_schedule import (
    confirmation_tag,
    confirmed_transcript_hash,
    epoch_secrets,
    export_secret,
    external_key_pair,
    interim_transcript_hash,
    joiner_secret,
    welcome_secret,
)
from e2ee.protection import sender_data_key_nonce
from e2ee.psk import PreSharedKeyId, psk_secret
from e2ee.secret_tree import APPLICATION_RATCHET, HANDSHAKE_RATCHET, SecretTree
from e2ee.suite import HpkeCiphertext
from e2ee.transition import commit_of
from e2ee.vectors.case import Case, same


def tree_math_case(case: Case) -> None:
    """Check `tree-math.json`."""
    data = case.data
    leaves, width = data["n_leaves"], data["n_nodes"]
    top = tree_math.root(leaves)
    same("n_nodes", tree_math.node_width(leaves), width)
    same("root", top, data["root"])
    nodes = range(width)
    odd = [node % 2 == 1 for node in nodes]
    same(
        "left",
        [tree_math.left(n) if odd[n] else None for n in nodes],
        data["left"],
    )
    same(
        "right",
        [tree_math.right(n) if odd[n] else None for n in nodes],
        data["right"],
    )
    same(
        "parent",
        [None if n == top else tree_math.parent(n) for n in nodes],
        data["parent"],
    )
    same(
        "sibling",
        [None if n == top else tree_math.sibling(n) for n in nodes],
        data["sibling"],
    )


def deserialization_case(case: Case) -> None:
    """Check `deserialization.json`."""
    header = case.hex("vlbytes_header")
    same("length", decode(header, Reader.varint), case.data["length"])
    same("vlbytes_header", varint(case.data["length"]), header)


def crypto_basics_case(case: Case) -> None:
    """Check `crypto-basics.json`."""
    suite = case.suite

    def part(name: str) -> Case:
        return case.part(case.data[name])

    one = part("ref_hash")
    same(
        "ref_hash", suite.ref_hash(one.data["label"], one.hex("value")), one.hex("out")
    )
    one = part("expand_with_label")
    same("length", len(one.hex("out")), one.data["length"])
    same(
        "expand_with_label",
        suite.expand_with_label(
            one.hex("secret"),
            one.data["label"],
            one.hex("context"),
            one.data["length"],
        ),
        one.hex("out"),
    )
    one = part("derive_secret")
    same(
        "derive_secret",
        suite.derive_secret(one.hex("secret"), one.data["label"]),
        one.hex("out"),
    )
    one = part("derive_tree_secret")
    same(
        "derive_tree_secret",
        suite.derive_tree_secret(
            one.hex("secret"),
            one.data["label"],
            one.data["generation"],
            one.data["length"],
        ),
        one.hex("out"),
    )
    one = part("sign_with_label")
    label, content = one.data["label"], one.hex("content")
    public, private = one.hex("pub"), one.hex("priv")
    same("pub", suite.signature.public(private), public)
    suite.verify_with_label(public, label, content, one.hex("signature"))
    own = suite.sign_with_label(private, label, content)
    suite.verify_with_label(public, label, content, own)
    one = part("encrypt_with_label")
    label, context = one.data["label"], one.hex("context")
    public, private = one.hex("pub"), one.hex("priv")
    same("pub", suite.kem.public(private), public)
    plaintext = one.hex("plaintext")
    for sealed in (
        HpkeCiphertext(one.hex("kem_output"), one.hex("ciphertext")),
        suite.encrypt_with_label(public, label, context, plaintext),
    ):
        opened = suite.decrypt_with_label(private, label, context, sealed)
        same("plaintext", opened, plaintext)


def key_schedule_case(case: Case) -> None:
    """Check `key-schedule.json`."""
    suite, group_id = case.suite, case.hex("group_id")
    init = case.hex("initial_init_secret")
    for number, data in enumerate(case.data["epochs"]):
        one = case.part(data)
        context = GroupContext(
            suite.id,
            group_id,
            number,
            one.hex("tree_hash"),
            one.hex("confirmed_transcript_hash"),
        ).encode()
        same("group_context", context, one.hex("group_context"))
        psk = one.hex("psk_secret")
        joiner = joiner_secret(suite, init, one.hex("commit_secret"), context)
        same("joiner_secret", joiner, one.hex("joiner_secret"))
        same(
            "welcome_secret",
            welcome_secret(suite, joiner, psk),
            one.hex("welcome_secret"),
        )
        secrets = epoch_secrets(suite, joiner, psk, context)
        for name in (
            "init_secret",
            "sender_data_secret",
            "encryption_secret",
            "exporter_secret",
            "epoch_authenticator",
            "external_secret",
            "confirmation_key",
            "membership_key",
            "resumption_psk",
        ):
            same(name, getattr(secrets, name), one.hex(name))
        _, public = external_key_pair(suite, secrets.external_secret)
        same("external_pub", public, one.hex("external_pub"))
        exporter = case.part(data["exporter"])
        same(
            "exporter",
            export_secret(
                suite,
                secrets.exporter_secret,
                exporter.data["label"],
                exporter.hex("context"),
                exporter.data["length"],
            ),
            exporter.hex("secret"),
        )
        init = secrets.init_secret


def psk_secret_case(case: Case) -> None:
    """Check `psk_secret.json`."""
    psks = [
        (
            PreSharedKeyId(
                PSK_EXTERNAL,
                psk_id=bytes.fromhex(psk["psk_id"]),
                nonce=bytes.fromhex(psk["psk_nonce"]),
            ),
            bytes.fromhex(psk["psk"]),
        )
        for psk in case.data["psks"]
    ]
    same("psk_secret", psk_secret(case.suite, psks), case.hex("psk_secret"))


def secret_tree_case(case: Case) -> None:
    """Check `secret-tree.json`: in order, and each generation on its own."""
    suite, secret = case.suite, case.hex("encryption_secret")
    one = case.part(case.data["sender_data"])
    key, nonce = sender_data_key_nonce(
        suite, one.hex("sender_data_secret"), one.hex("ciphertext")
    )
    same("sender data key", key, one.hex("key"))
    same("sender data nonce", nonce, one.hex("nonce"))
    leaves = case.data["leaves"]
    width = (tree_math.node_width(1 << (len(leaves) - 1).bit_length()) + 1) // 2
    tree = SecretTree(suite, secret, width)
    for leaf, generations in enumerate(leaves):
        for data in generations:
            one = case.part(data)
            for name, kind in (
                ("handshake", HANDSHAKE_RATCHET),
                ("application", APPLICATION_RATCHET),
            ):
                generation = data["generation"]
                found = tree.find(leaf, kind, generation)
                same(f"{name} key", found.key, one.hex(f"{name}_key"))
                same(f"{name} nonce", found.nonce, one.hex(f"{name}_nonce"))
                tree.consume(found)


def transcript_hashes_case(case: Case) -> None:
    """Check `transcript-hashes.json`."""
    suite, encoded = case.suite, case.hex("authenticated_content")
    content = decode(encoded, AuthenticatedContent.read)
    same("authenticated_content", content.encode(), encoded)
    _, tag = commit_of(content)
    before = case.hex("interim_transcript_hash_before")
    confirmed = confirmed_transcript_hash(suite, before, content)
    same("confirmed hash", confirmed, case.hex("confirmed_transcript_hash_after"))
    interim = interim_transcript_hash(suite, confirmed, tag)
    same("interim hash", interim, case.hex("interim_transcript_hash_after"))
    expected = confirmation_tag(suite, case.hex("confirmation_key"), confirmed)
    same("confirmation tag", equal(expected, tag), True)
