"""Who may do what in a room: each right, and each refusal."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from protocol.codec import decode, encode
from protocol.credential import credential_device, credential_root
from protocol.errors import IdentityError, Malformed, NotAllowed
from protocol.policy import Role, RoomPolicy, authorize, set_refuse_unverified
from tests.helpers.fuzz import fuzzing

GROUP = RoomPolicy(
    1, "room", False, {"olga": Role.OWNER, "adam": Role.ADMIN}, add_role=Role.ADMIN
)
DIRECT = RoomPolicy(1, "room", True, {"olga": Role.OWNER})
PRESENT = ["olga", "adam", "mia", "max"]


@pytest.mark.parametrize(
    ("sender", "added", "removed"),
    [
        ("adam", ["new"], []),
        ("olga", ["new", "newer"], ["adam"]),
        ("adam", [], ["mia"]),
        ("mia", [], ["mia"]),
        ("mia", ["max"], []),
        ("mia", ["max"], ["max"]),
    ],
)
def test_allowed(sender: str, added: list[str], removed: list[str]) -> None:
    authorize(GROUP, sender, added=added, removed=removed, present=PRESENT)


@pytest.mark.parametrize(
    ("sender", "added", "removed"),
    [
        ("mia", ["new"], []),
        ("mia", [], ["max"]),
        ("mia", [], ["adam"]),
        ("adam", [], ["olga"]),
        ("adam", [], ["mia", "olga"]),
        ("stranger", ["new"], []),
    ],
)
def test_refused(sender: str, added: list[str], removed: list[str]) -> None:
    with pytest.raises(NotAllowed):
        authorize(GROUP, sender, added=added, removed=removed, present=PRESENT)


def test_a_direct_chat_takes_the_second_person_and_never_a_third() -> None:
    authorize(DIRECT, "olga", added=["mia"], removed=[], present=["olga"])
    with pytest.raises(NotAllowed):
        authorize(DIRECT, "olga", added=["max"], removed=[], present=["olga", "mia"])
    with pytest.raises(NotAllowed):
        authorize(DIRECT, "olga", added=[], removed=["mia"], present=["olga", "mia"])
    authorize(DIRECT, "mia", added=[], removed=["mia"], present=["olga", "mia"])


# --- self groups -----------------------------------------------------------------

OWN = RoomPolicy(1, "room", False, {"olga": Role.OWNER}, self_group=True)


def test_a_self_group_takes_its_creators_devices() -> None:
    authorize(OWN, "olga", added=["olga"], removed=["olga"], present=["olga"])


@pytest.mark.parametrize(
    ("policy", "added"),
    [
        (OWN, "mia"),
        (replace(OWN, add_role=Role.MEMBER), "mia"),
        # Two owners, or everybody one: whose group it is cannot be said.
        (replace(OWN, roles={"olga": 100, "mia": 100}), "mia"),
        (replace(OWN, roles={"olga": 100, "mia": 100}), "olga"),
        (replace(OWN, default_role=Role.OWNER), "mia"),
        (replace(OWN, roles={}), "olga"),
    ],
)
def test_a_self_group_takes_nobody_else(policy: RoomPolicy, added: str) -> None:
    with pytest.raises(NotAllowed, match="one account"):
        authorize(policy, "olga", added=[added], removed=[], present=["olga"])


# --- the extension's data ----------------------------------------------------------


def test_a_policy_from_before_the_new_fields_is_read() -> None:
    old = encode([1, "room", False, {"olga": 100}, 0, 0])
    assert decode(old, RoomPolicy) == RoomPolicy(1, "room", False, {"olga": 100})
    changed = decode(set_refuse_unverified(old, True), RoomPolicy)
    assert changed == RoomPolicy(
        1, "room", False, {"olga": 100}, refuse_unverified=True
    )


def test_fields_of_a_later_version_are_kept() -> None:
    later = [1, "room", False, {"olga": 100}, 0, 0, False, False, "new", [7]]
    data = set_refuse_unverified(encode(later), True)
    assert decode(data, list) == [*later[:7], True, "new", [7]]
    assert set_refuse_unverified(data, False) == encode(later)


@pytest.mark.fuzz
@fuzzing
@given(st.binary(max_size=200))
def test_random_bytes_are_a_policy_or_malformed(data: bytes) -> None:
    try:
        changed = set_refuse_unverified(data, True)
    except Malformed:
        return
    before, after = decode(data, RoomPolicy), decode(changed, RoomPolicy)
    assert after == replace(before, refuse_unverified=True)


@pytest.mark.fuzz
@fuzzing
@given(st.binary(max_size=200))
def test_random_bytes_are_a_credential_or_malformed(identity: bytes) -> None:
    for read in (credential_root, credential_device):
        try:
            read(identity)
        except IdentityError as error:
            assert str(error).isprintable()
