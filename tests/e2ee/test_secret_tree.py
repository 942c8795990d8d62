"""Message keys are used once, out of order, within limits, and then gone."""

from __future__ import annotations

import os

import pytest

from e2ee.codec import decode
from e2ee.errors import GenerationTooFar, GenerationUsed, UnknownSender
from e2ee.secret_tree import (
    APPLICATION_RATCHET,
    HANDSHAKE_RATCHET,
    MAX_FORWARD,
    MAX_SKIPPED,
    SecretTree,
)
from e2ee.suite import SUITE_3

APP = APPLICATION_RATCHET


def pair(width: int = 8) -> tuple[SecretTree, SecretTree]:
    secret = os.urandom(32)
    return SecretTree(SUITE_3, secret, width), SecretTree(SUITE_3, secret, width)


def take(tree: SecretTree, leaf: int, generation: int) -> tuple[bytes, bytes]:
    found = tree.find(leaf, APP, generation)
    tree.consume(found)
    return found.key, found.nonce


def test_order_does_not_matter() -> None:
    a, b = pair()
    in_order = [take(a, 0, generation) for generation in range(6)]
    other = {generation: take(b, 0, generation) for generation in (4, 0, 5, 2, 1, 3)}
    assert [other[generation] for generation in range(6)] == in_order
    assert len(set(in_order)) == 6


def test_leaves_open_in_any_order_and_differ() -> None:
    a, b = pair(16)
    first = [take(a, leaf, 0) for leaf in range(16)]
    again = {}
    for leaf in (7, 0, 15, 3, 8, 1, 2, 4, 5, 6, 9, 10, 11, 12, 13, 14):
        again[leaf] = take(b, leaf, 0)
    assert [again[leaf] for leaf in range(16)] == first
    assert len(set(first)) == 16
    assert not b._nodes, "every node secret is consumed"


def test_a_key_is_used_once() -> None:
    a, _ = pair()
    take(a, 1, 0)
    take(a, 1, 3)
    take(a, 1, 1)
    for generation in (0, 1, 3):
        with pytest.raises(GenerationUsed):
            a.find(1, APP, generation)
    take(a, 1, 2)


def test_finding_changes_nothing() -> None:
    a, _ = pair()
    before = a.encode()
    a.find(5, APP, 900)
    assert a.encode() == before
    take(a, 5, 10)
    before = a.encode()
    a.find(5, APP, 2)
    a.find(5, HANDSHAKE_RATCHET, 2)
    a.find(4, APP, 2)
    assert a.encode() == before


def test_the_distance_forward_is_limited() -> None:
    a, _ = pair()
    with pytest.raises(GenerationTooFar):
        a.find(0, APP, MAX_FORWARD + 1)
    with pytest.raises(GenerationTooFar):
        a.find(0, APP, 0xFFFFFFFF)
    take(a, 0, MAX_FORWARD)
    take(a, 0, MAX_FORWARD + 1 + MAX_FORWARD)


def test_kept_keys_are_limited_and_the_oldest_go_first() -> None:
    a, _ = pair()
    take(a, 0, MAX_FORWARD)
    take(a, 0, MAX_FORWARD + 11)
    with pytest.raises(GenerationUsed):
        a.find(0, APP, 9)
    take(a, 0, 10)
    assert len(a._ratchets[0, APP].skipped) == MAX_SKIPPED - 1


def test_outside_of_the_tree() -> None:
    a, _ = pair(4)
    for leaf in (4, 0xFFFFFFFF):
        with pytest.raises(UnknownSender):
            a.find(leaf, APP, 0)


def test_used_secrets_are_deleted() -> None:
    secret = os.urandom(32)
    tree = SecretTree(SUITE_3, secret, 4)
    assert secret in tree.encode()
    found = tree.find(2, APP, 1)
    first = tree._open(2).ratchets[APP].secret
    tree.consume(found)
    kept = tree.encode()
    for gone in (secret, found.key, found.nonce, first):
        assert gone not in kept


def test_encoding_comes_back() -> None:
    a, _ = pair()
    take(a, 0, 3)
    take(a, 6, 0)
    b = decode(a.encode(), lambda reader: SecretTree.read(SUITE_3, reader))
    assert b.encode() == a.encode()
    assert take(a, 0, 1) == take(b, 0, 1)
    assert take(a, 5, 1) == take(b, 5, 1)
    assert a.encode() == b.encode()
