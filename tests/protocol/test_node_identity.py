"""A node's key log: rotation by the key before it or by the recovery key alone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import IdentityError
from protocol.node_identity import (
    begin_node_log,
    continues,
    key_id,
    next_revision,
    read_node_log,
)
from tests.helpers.fuzz import fuzzing
from tests.helpers.people import NOW, key

NAME = "example.org"


def test_a_rotation_signed_by_the_key_before_it_holds() -> None:
    old, new, recovery = key(), key(), key()
    log = [begin_node_log(NAME, old, recovery.public, NOW)]
    first = read_node_log(NAME, log)
    log.append(next_revision(first, old, new.public, recovery.public, NOW))
    identity = read_node_log(NAME, log)
    assert identity.node_key == new.public
    assert identity.keyid == key_id(NAME, new.public) != first.keyid
    assert continues(log[:1], log) and not continues(log, log[:1])


def test_a_lost_key_is_replaced_by_the_recovery_key() -> None:
    lost, new, recovery = key(), key(), key()
    log = [begin_node_log(NAME, lost, recovery.public, NOW)]
    first = read_node_log(NAME, log)
    log.append(next_revision(first, recovery, new.public, recovery.public, NOW))
    assert read_node_log(NAME, log).node_key == new.public


def test_a_revision_signed_by_a_stranger_is_refused() -> None:
    log = [begin_node_log(NAME, key(), key().public, NOW)]
    first = read_node_log(NAME, log)
    stranger = key()
    log.append(next_revision(first, stranger, stranger.public, stranger.public, NOW))
    with pytest.raises(IdentityError):
        read_node_log(NAME, log)


def test_another_nodes_log_an_empty_one_and_a_torn_one_are_refused() -> None:
    log = [begin_node_log(NAME, key(), key().public, NOW)]
    for name, revisions in (
        ("other.org", log),
        (NAME, []),
        (NAME, [log[0][:-1]]),
        (NAME, [*log, *log]),
    ):
        with pytest.raises(IdentityError):
            read_node_log(name, revisions)


@pytest.mark.fuzz
@fuzzing
@given(st.lists(st.binary(max_size=300), max_size=3))
def test_random_revisions_are_refused(revisions: list[bytes]) -> None:
    with pytest.raises(IdentityError):
        read_node_log(NAME, revisions)
