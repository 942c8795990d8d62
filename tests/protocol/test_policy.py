"""Who may do what in a room: each right, and each refusal."""

import pytest

from protocol.errors import NotAllowed
from protocol.policy import Role, RoomPolicy, authorize

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
