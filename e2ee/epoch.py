"""A member's state in one epoch: public state plus secrets (RFC 9420 section 8).

An `Epoch` never changes: a commit makes a new one, and the group swaps it in when
everything has been checked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from e2ee.codec import Reader, decode, optional, u32, vector, vectors
from e2ee.codepoint import PSK_EXTERNAL
from e2ee.crypto import equal
from e2ee.errors import BadConfirmationTag, Malformed, UnknownPsk
from e2ee.group_context import GroupContext
from e2ee.key_schedule import EpochSecrets, confirmation_tag, epoch_secrets
from e2ee.leaf import LeafNode
from e2ee.psk import PreSharedKeyId, psk_secret
from e2ee.ratchet_tree import RatchetTree
from e2ee.secret_tree import SecretTree
from e2ee.suite import CipherSuite

PskLookup = Callable[[PreSharedKeyId], bytes | None]

_KEPT_SECRETS = (
    "init_secret",
    "sender_data_secret",
    "exporter_secret",
    "epoch_authenticator",
    "external_secret",
    "confirmation_key",
    "membership_key",
    "resumption_psk",
)


@dataclass(frozen=True, slots=True)
class Epoch:
    """Everything of one epoch but the message ratchets."""

    context: GroupContext
    encoded_context: bytes = field(repr=False)
    tree: RatchetTree = field(repr=False)
    interim_transcript_hash: bytes
    confirmation_tag: bytes
    secrets: EpochSecrets = field(repr=False)
    own_leaf: int
    private_keys: Mapping[int, bytes] = field(repr=False)
    """Node index to private key, for our leaf and the nodes above it that we know."""

    def encode(self) -> bytes:
        """Encode for keeping; the bytes hold secrets."""
        return (
            vector(self.encoded_context)
            + vector(self.tree.encode())
            + vector(self.interim_transcript_hash)
            + vector(self.confirmation_tag)
            + vectors(vector(getattr(self.secrets, name)) for name in _KEPT_SECRETS)
            + u32(self.own_leaf)
            + vectors(u32(i) + vector(k) for i, k in sorted(self.private_keys.items()))
        )

    @classmethod
    def read(cls, suite: CipherSuite, reader: Reader) -> Epoch:
        """Decode what `encode` gave."""
        encoded_context = reader.vector()
        tree = RatchetTree.decode(suite, reader.vector())
        interim = reader.vector()
        tag = reader.vector()
        values = reader.items(Reader.vector)
        if len(values) != len(_KEPT_SECRETS):
            raise Malformed("the saved secrets are not complete")
        secrets = EpochSecrets(
            encryption_secret=b"", **dict(zip(_KEPT_SECRETS, values, strict=True))
        )
        own_leaf = reader.u32()
        keys = dict(reader.items(lambda r: (r.u32(), r.vector())))
        context = decode(encoded_context, GroupContext.read)
        return cls(
            context, encoded_context, tree, interim, tag, secrets, own_leaf, keys
        )


def enter_epoch(
    *,
    context: GroupContext,
    tree: RatchetTree,
    interim_transcript_hash: bytes,
    tag: bytes,
    joiner_secret: bytes,
    psk: bytes,
    own_leaf: int,
    private_keys: Mapping[int, bytes],
) -> tuple[Epoch, SecretTree]:
    """Derive an epoch's secrets and check that they are the committer's too.

    Raises:
        BadConfirmationTag: They are not.
    """
    encoded = context.encode()
    secrets = epoch_secrets(tree.suite, joiner_secret, psk, encoded)
    expected = confirmation_tag(
        tree.suite, secrets.confirmation_key, context.confirmed_transcript_hash
    )
    if not equal(expected, tag):
        raise BadConfirmationTag("the confirmation tag does not verify")
    return start_epoch(
        context, tree, interim_transcript_hash, tag, secrets, own_leaf, private_keys
    )


def start_epoch(
    context: GroupContext,
    tree: RatchetTree,
    interim_transcript_hash: bytes,
    tag: bytes,
    secrets: EpochSecrets,
    own_leaf: int,
    private_keys: Mapping[int, bytes],
) -> tuple[Epoch, SecretTree]:
    """Put an epoch together; the encryption secret moves into the secret tree."""
    ratchets = SecretTree(tree.suite, secrets.encryption_secret, tree.width)
    epoch = Epoch(
        context=context,
        encoded_context=context.encode(),
        tree=tree,
        interim_transcript_hash=interim_transcript_hash,
        confirmation_tag=tag,
        secrets=replace(secrets, encryption_secret=b""),
        own_leaf=own_leaf,
        private_keys=private_keys,
    )
    return epoch, ratchets


def carry_keys(
    old: RatchetTree,
    new: RatchetTree,
    keys: Mapping[int, bytes],
    fresh: Mapping[int, bytes],
) -> dict[int, bytes]:
    """Keep the private keys whose public keys are still in the tree, add `fresh`."""
    kept: dict[int, bytes] = {}
    for index, key in keys.items():
        if index >= 2 * new.width - 1:
            continue
        before, after = old.node(index), new.node(index)
        if before is None or after is None:
            continue
        if before.encryption_key == after.encryption_key:
            kept[index] = key
    kept.update(fresh)
    return kept


def gather_psks(
    suite: CipherSuite, ids: Sequence[PreSharedKeyId], lookup: PskLookup
) -> bytes:
    """Look up keys and chain them (section 8.4).

    Raises:
        UnknownPsk: One is not known.
    """
    found: list[tuple[PreSharedKeyId, bytes]] = []
    for id_ in ids:
        psk = lookup(id_)
        if psk is None:
            kind = "external" if id_.type == PSK_EXTERNAL else "resumption"
            raise UnknownPsk(f"an {kind} PSK is not known")
        found.append((id_, psk))
    return psk_secret(suite, found)


@dataclass(frozen=True, slots=True)
class PastEpoch:
    """What is kept of an epoch that is over, to read messages that come late."""

    epoch: int
    encoded_context: bytes = field(repr=False)
    leaves: Sequence[LeafNode | None] = field(repr=False)
    own_leaf: int
    sender_data_secret: bytes = field(repr=False)
    resumption_psk: bytes = field(repr=False)

    @classmethod
    def of(cls, epoch: Epoch) -> PastEpoch:
        """Keep what is needed of an epoch."""
        return cls(
            epoch.context.epoch,
            epoch.encoded_context,
            epoch.tree.all_leaves(),
            epoch.own_leaf,
            epoch.secrets.sender_data_secret,
            epoch.secrets.resumption_psk,
        )

    def leaf(self, index: int) -> LeafNode | None:
        """Give a member of that time."""
        return self.leaves[index] if index < len(self.leaves) else None

    def encode(self, tree: RatchetTree) -> bytes:
        """Encode for keeping; leaves that `tree` still has are not repeated."""
        changed: list[bytes] = []
        for index, leaf in enumerate(self.leaves):
            now = tree.leaf(index)
            before = None if leaf is None else leaf.encoded
            if before != (None if now is None else now.encoded):
                changed.append(u32(index) + optional(before))
        return (
            vector(self.encoded_context)
            + u32(len(self.leaves))
            + vectors(changed)
            + u32(self.own_leaf)
            + vector(self.sender_data_secret)
            + vector(self.resumption_psk)
        )

    @classmethod
    def read(cls, tree: RatchetTree, reader: Reader) -> PastEpoch:
        """Decode what `encode` gave, with the same tree."""
        encoded_context = reader.vector()
        count = min(reader.u32(), 1 << 16)
        leaves = [tree.leaf(index) for index in range(count)]
        for index, leaf in reader.items(_read_changed_leaf):
            if index >= count:
                raise Malformed("a saved leaf is outside of its tree")
            leaves[index] = leaf
        own_leaf = reader.u32()
        sender_data_secret = reader.vector()
        resumption_psk = reader.vector()
        context = decode(encoded_context, GroupContext.read)
        return cls(
            context.epoch,
            encoded_context,
            leaves,
            own_leaf,
            sender_data_secret,
            resumption_psk,
        )


def _read_changed_leaf(reader: Reader) -> tuple[int, LeafNode | None]:
    index = reader.u32()
    return index, LeafNode.read(reader) if reader.present() else None
