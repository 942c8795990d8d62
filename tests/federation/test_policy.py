"""Allow and deny lists."""

import pytest

from federation.policy import PeerPolicy
from protocol.errors import AddressError, PeerBlocked


@pytest.mark.parametrize(
    ("pattern", "name", "matches"),
    [
        ("evil.example", "evil.example", True),
        ("evil.example", "evil.example:8443", True),
        ("evil.example", "sub.evil.example", False),
        ("evil.example", "notevil.example", False),
        ("evil.example:8443", "evil.example:8443", True),
        ("evil.example:8443", "evil.example", False),
        ("*.evil.example", "a.b.evil.example", True),
        ("*.evil.example", "a.evil.example:99", True),
        ("*.evil.example", "evil.example", False),
        ("*.evil.example", "notevil.example", False),
        ("*", "anything.example:1", True),
    ],
)
def test_patterns(pattern: str, name: str, matches: bool) -> None:
    assert PeerPolicy(deny=(pattern,)).admits(name) is not matches
    assert PeerPolicy(allow=(pattern,)).admits(name) is matches


def test_an_open_node_admits_everybody() -> None:
    assert PeerPolicy().admits("example.org")


def test_an_empty_allowlist_admits_nobody() -> None:
    assert not PeerPolicy(allow=()).admits("example.org")


def test_what_is_denied_stays_denied() -> None:
    policy = PeerPolicy(allow=("*.example.org",), deny=("bad.example.org",))
    assert policy.admits("good.example.org")
    with pytest.raises(PeerBlocked):
        policy.check("bad.example.org")


@pytest.mark.parametrize("pattern", ["", "*.", "Example.org", "*.*.org", "a b", "[x]"])
def test_a_pattern_that_could_never_match_is_refused(pattern: str) -> None:
    with pytest.raises(AddressError, match="no pattern"):
        PeerPolicy(deny=(pattern,))
