"""KeyPackages that are added, or are not."""

from __future__ import annotations

import os
from functools import partial

import pytest

from e2ee import ALLOW_ALL, Extension, Group
from e2ee.codepoint import TELEX_ROOM
from e2ee.errors import (
    DuplicateKey,
    E2eeError,
    InvalidProposal,
    InvalidProposalList,
    LifetimeExpired,
    LimitExceeded,
    Misuse,
    NoMatchingKeyPackage,
    UnsupportedSuite,
)
from e2ee.key_package import KeyPackageBundle
from tests.e2ee.support import (
    DAY,
    NOW,
    SUITE_1,
    Room,
    bundle_for,
    unmoved,
)


def test_expired_or_overlong_key_packages_are_not_added() -> None:
    from e2ee import new_key_package

    room = Room.of(2)
    for not_before, not_after in (
        (NOW - 2 * DAY, NOW - DAY),
        (NOW + DAY, NOW + 2 * DAY),
        (NOW - DAY, NOW + 500 * DAY),
    ):
        bundle = new_key_package(
            signature_private=os.urandom(32),
            identity=b"q",
            not_before=not_before,
            not_after=not_after,
        )
        unmoved(
            room["p0"],
            LifetimeExpired,
            partial(room["p0"].commit, add=[bundle.key_package], now=NOW),
        )


def test_a_broken_key_package_is_not_added() -> None:
    room = Room.of(2)
    package = bundle_for("q", os.urandom(32)).key_package
    for broken in (
        package[:-1],
        package + b"\0",
        package[:-1] + bytes((package[-1] ^ 1,)),
        b"",
        bytes(20_000),
    ):
        unmoved(
            room["p0"],
            E2eeError,
            partial(room["p0"].commit, add=[broken], now=NOW),
        )


def test_a_key_package_of_another_suite_is_not_added() -> None:
    room = Room.of(2)
    package = bundle_for("q", os.urandom(32), suite=SUITE_1).key_package
    unmoved(
        room["p0"], UnsupportedSuite, lambda: room["p0"].commit(add=[package], now=NOW)
    )


def test_the_same_key_package_twice_is_not_added() -> None:
    room = Room.of(2)
    package = bundle_for("q", os.urandom(32)).key_package
    unmoved(
        room["p0"],
        DuplicateKey,
        lambda: room["p0"].commit(add=[package, package], now=NOW),
    )


def test_too_many_proposals() -> None:
    room = Room.of(1)
    unmoved(
        room["p0"],
        LimitExceeded,
        lambda: room["p0"].commit(remove=list(range(1_001)), now=NOW),
    )


def test_what_we_ask_for_must_be_possible() -> None:
    room = Room.of(3)
    group = room["p0"]
    for leaf, error in (
        (0, InvalidProposalList),
        (3, InvalidProposal),
        (99, InvalidProposal),
    ):
        unmoved(group, error, partial(group.commit, remove=[leaf], now=NOW))
    unmoved(group, InvalidProposalList, lambda: group.commit(remove=[1, 1], now=NOW))
    unmoved(group, InvalidProposal, lambda: group.propose_remove(7))
    unmoved(
        group,
        E2eeError,
        lambda: group.commit(extensions=[Extension(0xF999, b"")], now=NOW),
    )
    same = [Extension(TELEX_ROOM, b"a"), Extension(TELEX_ROOM, b"b")]
    unmoved(group, E2eeError, lambda: group.commit(extensions=same, now=NOW))
    unmoved(group, E2eeError, lambda: group.propose_extensions(same))


def test_last_resort_packages_are_marked_and_work_twice() -> None:
    key = os.urandom(32)
    bundle = bundle_for("q", key, last_resort=True)
    again = KeyPackageBundle.decode(bundle.encode())
    assert again == bundle and again.last_resort
    for _ in range(2):
        room = Room.of(2)
        staged = room["p0"].commit(add=[bundle.key_package], now=NOW)
        room.deliver("p0", staged)
        group = Group.join(
            staged.welcomes[0][1],
            [bundle_for("other", key), again],
            signature_private=key,
            ratchet_tree=room.hub.ratchet_tree(),
            now=NOW,
            validator=ALLOW_ALL,
        )
        assert group.joined_with == bundle.ref
        assert group.epoch_authenticator == room["p0"].epoch_authenticator


def test_a_used_key_package_is_gone() -> None:
    key = os.urandom(32)
    bundle = bundle_for("q", key)
    room = Room.of(2)
    staged = room["p0"].commit(add=[bundle.key_package], now=NOW)
    with pytest.raises(NoMatchingKeyPackage):
        Group.join(
            staged.welcomes[0][1],
            [bundle_for("q", key)],
            signature_private=key,
            ratchet_tree=None,
            now=NOW,
            validator=ALLOW_ALL,
        )
    with pytest.raises(Misuse):
        Group.join(
            staged.welcomes[0][1],
            [bundle],
            signature_private=os.urandom(32),
            ratchet_tree=None,
            now=NOW,
            validator=ALLOW_ALL,
        )
