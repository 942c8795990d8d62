"""GREASE (RFC 9420 section 13.5): sent where it may be, tolerated everywhere."""

from __future__ import annotations

import random

import pytest

from e2ee import Extension, Group, key_package_info
from e2ee.codec import decode, u16, vector, vectors
from e2ee.codepoint import (
    APP_DATA_DICTIONARY,
    GREASE,
    LAST_RESORT,
    LAST_RESORT_COMPONENT,
    TELEX_ROOM,
)
from e2ee.errors import Malformed, UnsupportedExtension
from e2ee.extension import RequiredCapabilities
from e2ee.grease import grease_extension, grease_values
from e2ee.group_info import GroupInfo
from e2ee.key_package import KeyPackage
from e2ee.leaf import LeafNode, greased_leaf_fields, own_capabilities
from e2ee.proposal import read_proposal
from e2ee.suite import SUITE_3
from tests.e2ee.forging import knock, package, unchanged
from tests.e2ee.support import NOW, Room, bundle_for, rng, rng_of


def greased(leaf: LeafNode | None) -> None:
    """All that may carry GREASE does, and what it carries is listed."""
    assert leaf is not None
    capabilities = leaf.capabilities
    for values in (
        capabilities.cipher_suites,
        capabilities.extensions,
        capabilities.proposals,
        capabilities.credentials,
    ):
        assert len(GREASE & set(values)) == 2
        assert len(set(values)) == len(values)
    assert {e.type for e in leaf.extensions} <= GREASE & set(capabilities.extensions)
    assert not GREASE & set(capabilities.versions)


def test_our_leaves_carry_grease_wherever_they_come_from() -> None:
    """Section 13.5: KeyPackages, the creator's leaf, paths and external joins."""
    room = Room.of(3)
    _, staged = knock(room, "q", rng(32))
    room.hub, _ = room.hub.process_commit(staged.commit, staged.group_info, now=NOW)
    for index in range(4):
        greased(room.hub.tree.leaf(index))
    made = decode(bundle_for("x", rng(32)).key_package, KeyPackage.read)
    greased(made.leaf_node)
    assert {extension.type for extension in made.extensions} <= GREASE
    info = GroupInfo.from_message(room["p0"].group_info())
    assert GREASE & {extension.type for extension in info.extensions}


def test_grease_must_not_be_sent_elsewhere() -> None:
    """Section 13.5: not in proposal and credential types, nor in the GroupContext."""
    room = Room.of(3)
    room.deliver(
        "p0", room["p0"].commit(extensions=[Extension(TELEX_ROOM, b"x")], now=NOW)
    )
    assert not GREASE & {extension.type for extension in room.hub.context.extensions}
    for _, leaf in room.hub.tree.leaves():
        assert leaf.credential.type not in GREASE
    for value in GREASE:
        with pytest.raises(Malformed):
            decode(u16(value), read_proposal)


def test_grease_does_not_count_as_supported() -> None:
    """Section 13.5: our own capabilities hold only what we support."""
    plain = own_capabilities(SUITE_3)
    assert not GREASE & {*plain.extensions, *plain.proposals, *plain.cipher_suites}
    group = Room.of(1)["p0"]
    leaf = group._epoch.tree.leaf(0)
    assert leaf is not None
    value = leaf.extensions[0].type
    trap = [Extension(value, b"")]
    staged = group.commit(extensions=trap, now=NOW)
    unchanged(group, UnsupportedExtension, lambda: group.apply_own(staged))
    with pytest.raises(UnsupportedExtension):
        Group.create(
            group_id=b"g",
            signature_private=rng(32),
            identity=b"a",
            extensions=trap,
            now=NOW,
            validator=group._validator,
        )


def test_grease_is_repeatable_and_varies() -> None:
    """It comes from the randomness that is passed in."""
    assert grease_values(rng_of(1)) == grease_values(rng_of(1))
    assert greased_leaf_fields(SUITE_3, rng_of(2)) == greased_leaf_fields(
        SUITE_3, rng_of(2)
    )
    seen = {grease_values(random.Random(seed).randbytes) for seed in range(40)}
    assert len(seen) > 20
    assert all(len(set(values)) == 2 and set(values) <= GREASE for values in seen)
    types = {grease_extension(random.Random(seed).randbytes).type for seed in range(60)}
    assert len(types) > 8


# --- last resort (draft-ietf-mls-extensions)


def marked(*extensions: Extension) -> bool:
    parsed = package()
    encoded = b"".join(extension.encode() for extension in extensions)
    old = vector(b"") + vector(parsed.signature)
    assert parsed.encoded.endswith(old)
    data = parsed.encoded[: -len(old)] + vector(encoded) + vector(parsed.signature)
    return decode(data, KeyPackage.read).last_resort


def dictionary(*components: int) -> Extension:
    body = vectors(u16(component) + vector(b"") for component in components)
    return Extension(APP_DATA_DICTIONARY, body)


def test_last_resort_is_seen_in_both_forms() -> None:
    """The extension of older drafts, and the component of the present one."""
    assert marked(Extension(LAST_RESORT, b""))
    assert marked(dictionary(LAST_RESORT_COMPONENT))
    assert marked(Extension(0x0A0A, b"?"), dictionary(1, LAST_RESORT_COMPONENT, 9))
    assert not marked()
    assert not marked(dictionary())
    assert not marked(dictionary(1, 2, 5))
    for broken in (b"\xff", b"\x05\x00\x04", vectors([u16(4) + vector(b"")] * 65)):
        assert not marked(Extension(APP_DATA_DICTIONARY, broken))


def test_our_last_resort_package_is_marked() -> None:
    """And an ordinary one is not."""
    for last_resort in (True, False):
        bundle = bundle_for("x", rng(32), last_resort=last_resort)
        assert key_package_info(bundle.key_package).last_resort == last_resort
        parsed = decode(bundle.key_package, KeyPackage.read)
        parsed.verify(SUITE_3, RequiredCapabilities())
