"""Rooms of any size for the measurements, with real Telex credentials.

A member is a device as the client makes it: a root key, an account signing key and a
device, certified in an account log; its credential stands in the leaf. The group
carries a room policy, and everything is judged by `RoomValidator`, as in the product.

A room whose parents are all filled takes hundreds of commits to grow. Here its tree
is made as these commits would leave it, each pair of leaves merging a path of one of
them, and the epoch starts from a random secret as a new group does. `PublicGroup`
checks the whole tree when it takes the room in, so a wrong one would not be measured.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field

from e2ee import Extension, Group, KeyPackageBundle, PublicGroup, new_key_package
from e2ee.codec import Reader, vector
from e2ee.codepoint import BASIC, TELEX_ROOM
from e2ee.epoch import start_epoch
from e2ee.extension import Credential
from e2ee.group_context import GroupContext
from e2ee.key_schedule import (
    confirmation_tag,
    epoch_secrets_of,
    interim_transcript_hash,
)
from e2ee.leaf import LeafNode, Lifetime, own_capabilities, sign_leaf
from e2ee.ratchet_tree import RatchetTree
from e2ee.suite import SUITE_3
from e2ee.treekem import derive_path
from protocol.account_log import add_device, genesis, make_credential, read_account_log
from protocol.address import DeviceAddress, parse_account
from protocol.credential import device_id
from protocol.key import KeyPair
from protocol.policy import Role, RoomPolicy, RoomValidator

NOW = 1_790_000_000
_DAY = 86_400
_GROUP = b"A" * 26
_GROWN = 500
"""Epoch of a made-up room: about as many commits as fill its tree."""


@dataclass(frozen=True, slots=True)
class Device:
    """One person with one device."""

    account: str
    credential: bytes = field(repr=False)
    mls_seed: bytes = field(repr=False)

    @classmethod
    def make(cls, name: str) -> Device:
        """Make the keys, the account log and the credential."""
        account = parse_account(f"{name}@node.example")
        root, ask, auth, mls = (KeyPair.from_seed(os.urandom(32)) for _ in range(4))
        log = [genesis(account, root, ask, NOW)]
        state = read_account_log(account, log)
        log.append(add_device(state, ask, auth.public, mls.public, NOW))
        state = read_account_log(account, log)
        address = DeviceAddress(account, device_id(auth.public, mls.public))
        return cls(str(account), make_credential(state, address), mls.seed)

    def key_package(self) -> KeyPackageBundle:
        """Make a KeyPackage."""
        return new_key_package(
            signature_private=self.mls_seed,
            identity=self.credential,
            not_before=NOW - _DAY,
            not_after=NOW + 90 * _DAY,
        )


def validator() -> RoomValidator:
    """Telex's rules, at a time at which everything is valid."""
    return RoomValidator(lambda: NOW)


def policy(owner: Device) -> Extension:
    """The room's policy, as the client makes it."""
    room = _GROUP.decode()
    made = RoomPolicy(1, room, False, {owner.account: int(Role.OWNER)})
    return Extension(TELEX_ROOM, made.encode())


def create(owner: Device) -> Group:
    """Make a room of one."""
    return Group.create(
        group_id=_GROUP,
        signature_private=owner.mls_seed,
        identity=owner.credential,
        extensions=[policy(owner)],
        now=NOW,
        validator=validator(),
    )


@dataclass(frozen=True, slots=True)
class Guest:
    """Somebody with a Welcome, who has not joined yet."""

    mls_seed: bytes = field(repr=False)
    bundle: KeyPackageBundle
    welcome: bytes
    tree: bytes = field(repr=False)

    def join(self) -> Group:
        """Join; checks the whole tree and every credential in it."""
        return Group.join(
            self.welcome,
            [self.bundle],
            signature_private=self.mls_seed,
            ratchet_tree=self.tree,
            now=NOW,
            validator=validator(),
        )

    def encode(self) -> bytes:
        """Encode for another process."""
        bundle = self.bundle.encode()
        return b"".join(map(vector, (self.mls_seed, bundle, self.welcome, self.tree)))

    @classmethod
    def decode(cls, data: bytes) -> Guest:
        """Decode what `encode` gave."""
        reader = Reader(data)
        seed, bundle, welcome, tree = (reader.vector() for _ in range(4))
        return cls(seed, KeyPackageBundle.decode(bundle), welcome, tree)


def invite(room: Room, device: Device) -> Guest:
    """Let the first member of a room add somebody."""
    bundle, hub = device.key_package(), room.hub()
    staged = room.member(0).commit(add=[bundle.key_package], now=NOW)
    hub, _ = hub.process_commit(staged.commit, staged.group_info, now=NOW)
    (_, welcome) = staged.welcomes[0]
    return Guest(device.mls_seed, bundle, welcome, hub.ratchet_tree())


@dataclass(slots=True)
class Room:
    """A made-up room: its tree, and what is needed to be any of its members."""

    devices: Sequence[Device]
    tree: RatchetTree
    private_keys: dict[int, bytes] = field(repr=False)
    """Node index to private key, of all nodes."""
    epoch_secret: bytes = field(repr=False)
    transcript_hash: bytes

    def member(self, leaf: int) -> Group:
        """Be one of the members."""
        suite, device = SUITE_3, self.devices[leaf]
        context = GroupContext(
            suite.id,
            _GROUP,
            _GROWN,
            self.tree.tree_hash(),
            self.transcript_hash,
            (policy(self.devices[0]),),
        )
        secrets = epoch_secrets_of(suite, self.epoch_secret)
        tag = confirmation_tag(suite, secrets.confirmation_key, self.transcript_hash)
        own = [2 * leaf, *self.tree.direct_path(leaf)]
        keys = {node: self.private_keys[node] for node in own if self.tree.node(node)}
        epoch, ratchets = start_epoch(
            context,
            self.tree,
            interim_transcript_hash(suite, self.transcript_hash, tag),
            tag,
            secrets,
            leaf,
            keys,
        )
        return Group(
            epoch,
            ratchets,
            signature_private=device.mls_seed,
            validator=validator(),
        )

    def hub(self) -> PublicGroup:
        """Be the hub; checks the whole tree."""
        group = self.member(0)
        return PublicGroup.create(
            group.group_info(), group.ratchet_tree(), now=NOW, validator=validator()
        )


def make_room(devices: Sequence[Device], *, blank: bool) -> Room:
    """Make a room of these devices, its parents all blank or all filled."""
    suite = SUITE_3
    private_keys: dict[int, bytes] = {}
    nodes: list[LeafNode | None] = []
    for number, device in enumerate(devices):
        private, public = suite.kem.derive_key_pair(os.urandom(32))
        private_keys[2 * number] = private
        leaf = sign_leaf(
            suite,
            device.mls_seed,
            encryption_key=public,
            credential=Credential(BASIC, device.credential),
            capabilities=own_capabilities(suite),
            lifetime=Lifetime(NOW - _DAY, NOW + 90 * _DAY),
        )
        nodes += [leaf, None]
    tree = RatchetTree.of(suite, nodes[:-1])
    for number in () if blank else range(0, len(devices), 2):
        _merge(tree, number, devices[number], private_keys)
    return Room(devices, tree, private_keys, os.urandom(32), os.urandom(32))


def _merge(
    tree: RatchetTree, leaf: int, device: Device, private_keys: dict[int, bytes]
) -> None:
    """Give a leaf a new path, as a commit of it does."""
    suite, old = tree.suite, tree.leaf(leaf)
    if old is None:
        raise ValueError("the leaf is blank")
    filtered = [node for node, _ in tree.filtered_direct_path(leaf)]
    path = derive_path(suite, os.urandom(32), filtered)
    private_keys |= path.private_keys
    signed = sign_leaf(
        suite,
        device.mls_seed,
        encryption_key=old.encryption_key,
        credential=old.credential,
        capabilities=old.capabilities,
        parent_hash=tree.merge_path(leaf, path.public_keys),
        group_id=_GROUP,
        leaf=leaf,
    )
    tree.set_leaf(leaf, signed)
