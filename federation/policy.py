"""Which nodes this node talks to: open, an allowlist, a denylist.

A pattern is a node's name (`example.org`, `example.org:7401`), or `*.example.org`
for everything below a domain (not the domain itself), or `*`. A pattern without a
port means the host with any port. What is denied stays denied, whatever is allowed.
The policy holds in both directions: we neither answer nor ask.
"""

from dataclasses import dataclass

from protocol.address import parse_node
from protocol.errors import AddressError, PeerBlocked

__all__ = ["PeerPolicy"]


@dataclass(frozen=True, slots=True)
class PeerPolicy:
    """An admin's choice of peers; checks its patterns when it is made.

    Raises:
        AddressError: a pattern is none; says which.
    """

    allow: tuple[str, ...] | None = None
    """None: everybody who is not denied (an open node)."""
    deny: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse patterns that could never match, so that a typing error shows."""
        for pattern in (*(self.allow or ()), *self.deny):
            if pattern == "*":
                continue
            try:
                parse_node(pattern.removeprefix("*."))
            except AddressError as error:
                raise AddressError(
                    f"{pattern!a} is no pattern for nodes: write a node's "
                    "name, *.example.org or *."
                ) from error

    def admits(self, name: str) -> bool:
        """Whether we talk to the node of this name."""
        if any(_matches(pattern, name) for pattern in self.deny):
            return False
        if self.allow is None:
            return True
        return any(_matches(pattern, name) for pattern in self.allow)

    def check(self, name: str) -> None:
        """Let a peer pass.

        Raises:
            PeerBlocked: the policy keeps it out.
        """
        if not self.admits(name):
            raise PeerBlocked()


def _matches(pattern: str, name: str) -> bool:
    if pattern == "*":
        return True
    subject = name if ":" in pattern else name.partition(":")[0]
    if pattern.startswith("*."):
        return subject.endswith(pattern[1:])
    return subject == pattern
