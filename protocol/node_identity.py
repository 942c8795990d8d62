"""Who a node is: a hash-chained log of its keys, pinned by peers at first contact.

Each revision names the node key in force and a recovery key, and is signed by the
key before it, or by the recovery key before it when the node key was lost. The
first is signed by the key that it names. A peer stores the log that it saw; a
longer one must begin with the same bytes and verify, else the peer is untrusted:
a TLS certificate alone (which a network operator can obtain) changes nothing.
"""

from base64 import b32encode
from dataclasses import dataclass
from hashlib import blake2b

import msgspec

from protocol.address import parse_node
from protocol.codec import decode, encode
from protocol.errors import AddressError, IdentityError, Malformed
from protocol.key import KeyPair, Signed, sign, verify
from protocol.log import GENESIS, chain
from protocol.whole import Whole

__all__ = [
    "NodeIdentity",
    "begin_node_log",
    "continues",
    "key_id",
    "next_revision",
    "read_node_log",
]

REVISIONS_MAX = 1000
"""Revisions in a key log: a rotation each quarter for two centuries."""


class _Revision(msgspec.Struct, array_like=True, frozen=True):
    version: Whole
    name: str
    seq: Whole
    previous: bytes
    node_key: bytes
    recovery_key: bytes
    created: Whole


@dataclass(frozen=True, slots=True)
class NodeIdentity:
    """A node's key log, read: the keys in force after its last revision."""

    name: str
    node_key: bytes
    recovery_key: bytes
    seq: int
    head: bytes

    @property
    def keyid(self) -> str:
        """What stands as `keyid` in the node's signatures."""
        return key_id(self.name, self.node_key)


def key_id(name: str, node_key: bytes) -> str:
    """`example.org#` and 8 characters that follow from the key."""
    digest = blake2b(node_key, digest_size=5, person=b"telex nodekey 1").digest()
    return f"{name}#{b32encode(digest).decode().lower()}"


def begin_node_log(name: str, key: KeyPair, recovery_key: bytes, now: int) -> bytes:
    """The first revision of a node's key log."""
    payload = encode(_Revision(1, name, 1, GENESIS, key.public, recovery_key, now))
    return encode(Signed(payload, sign("node", key, payload)))


def next_revision(
    identity: NodeIdentity, signer: KeyPair, key: bytes, recovery_key: bytes, now: int
) -> bytes:
    """A revision that puts another node key in force.

    Args:
        identity: the log so far.
        signer: the node key in force, or the recovery key.
        key: the new node key, public half.
        recovery_key: the recovery key from now on, public half.
        now: unix seconds.
    """
    revision = _Revision(
        1, identity.name, identity.seq + 1, identity.head, key, recovery_key, now
    )
    payload = encode(revision)
    return encode(Signed(payload, sign("node", signer, payload)))


def read_node_log(name: str, revisions: list[bytes]) -> NodeIdentity:
    """Check a node's key log from its first revision.

    Raises:
        IdentityError: it is another node's, or a link does not hold.
    """
    if not 0 < len(revisions) <= REVISIONS_MAX:
        raise IdentityError(f"The key log of {name} is empty or too long.")
    identity: NodeIdentity | None = None
    for data in revisions:
        identity = _read_revision(name, data, identity)
    assert identity is not None
    return identity


def continues(pinned: list[bytes], revisions: list[bytes]) -> bool:
    """Whether a key log begins with the one that was pinned."""
    return revisions[: len(pinned)] == pinned


def _read_revision(
    name: str, data: bytes, identity: NodeIdentity | None
) -> NodeIdentity:
    try:
        signed = decode(data, Signed)
        revision = decode(signed.payload, _Revision)
        parse_node(revision.name)
    except (Malformed, AddressError) as error:
        raise IdentityError(f"The key log of {name} cannot be read.") from error
    seq, head = (identity.seq, identity.head) if identity else (0, GENESIS)
    if revision.version != 1 or revision.name != name:
        raise IdentityError(f"This key log does not belong to {name}.")
    if revision.seq != seq + 1 or revision.previous != head:
        raise IdentityError(f"The key log of {name} does not continue.")
    if len(revision.node_key) != 32 or len(revision.recovery_key) != 32:
        raise IdentityError(f"The key log of {name} holds no usable key.")
    if identity is None:
        verify("node", revision.node_key, signed.payload, signed.signature)
    else:
        try:
            verify("node", identity.node_key, signed.payload, signed.signature)
        except IdentityError:
            verify("node", identity.recovery_key, signed.payload, signed.signature)
    return NodeIdentity(
        name, revision.node_key, revision.recovery_key, revision.seq, chain(head, data)
    )
