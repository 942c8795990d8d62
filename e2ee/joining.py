"""Joining by Welcome (RFC 9420 section 12.4.3.1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from e2ee.codec import decode
from e2ee.codepoint import WELCOME
from e2ee.crypto import equal
from e2ee.epoch import Epoch, PskLookup, enter_epoch, gather_psks
from e2ee.errors import (
    BadPathSecret,
    InvalidGroupInfo,
    InvalidLink,
    Misuse,
    NoMatchingKeyPackage,
    NotInTree,
    UnsupportedSuite,
)
from e2ee.framing import unwrap
from e2ee.group_info import GroupInfo, find_tree, verify_group_info
from e2ee.key_package import KeyPackage, KeyPackageBundle
from e2ee.key_schedule import interim_transcript_hash, welcome_secret
from e2ee.leaf import LeafNode
from e2ee.lineage import (
    Ancestor,
    ClientOf,
    check_link,
    linking_psk,
    same_identity,
)
from e2ee.member import Validator
from e2ee.proposal_validation import member_of
from e2ee.ratchet_tree import RatchetTree
from e2ee.secret_tree import SecretTree
from e2ee.suite import CipherSuite
from e2ee.tree_math import common_ancestor
from e2ee.tree_validation import validate_tree
from e2ee.treekem import derive_path
from e2ee.welcome import (
    EncryptedGroupSecrets,
    GroupSecrets,
    Welcome,
)


def read_welcome(message: bytes) -> Welcome:
    """Decode an MLSMessage(Welcome); raises `Malformed`."""
    reader = unwrap(message, WELCOME)
    welcome = Welcome.read(reader)
    reader.finish()
    return welcome


def find_bundle(
    welcome: Welcome, bundles: Sequence[KeyPackageBundle]
) -> tuple[KeyPackageBundle, EncryptedGroupSecrets]:
    """Find which of our KeyPackages is welcomed.

    Raises:
        NoMatchingKeyPackage: None is.
    """
    by_ref = {bundle.ref: bundle for bundle in bundles}
    for item in welcome.secrets:
        bundle = by_ref.get(item.new_member)
        if bundle is not None:
            return bundle, item
    raise NoMatchingKeyPackage("the Welcome is for none of our KeyPackages")


def open_welcome(
    suite: CipherSuite,
    welcome: Welcome,
    bundle: KeyPackageBundle,
    item: EncryptedGroupSecrets,
    lookup: PskLookup,
) -> tuple[GroupSecrets, bytes, GroupInfo]:
    """Decrypt a Welcome: our secrets, the PSK secret and the unverified GroupInfo.

    Raises:
        InvalidWelcome, DecryptionFailed, UnknownPsk, Malformed.
    """
    secrets = welcome.open_secrets(suite, item, bundle.init_private)
    linking_psk(secrets.psks)
    psk = gather_psks(suite, secrets.psks, lookup)
    info = welcome.open_group_info(
        suite, welcome_secret(suite, secrets.joiner_secret, psk)
    )
    if info.context.cipher_suite != suite.id:
        raise InvalidGroupInfo("the GroupInfo names another cipher suite")
    return secrets, psk, info


def join_group(
    message: bytes,
    bundles: Sequence[KeyPackageBundle],
    *,
    signature_private: bytes,
    ratchet_tree: bytes | None,
    validator: Validator,
    lookup: PskLookup,
    suite: CipherSuite,
    old: Ancestor | None = None,
    client_of: ClientOf = same_identity,
) -> tuple[Epoch, SecretTree, bytes]:
    """Process a Welcome; give the epoch, its ratchets and the KeyPackageRef used.

    Args:
        old: The group that this one must have grown out of.
        client_of: Says which members of both are the same client.

    Raises:
        E2eeError: Anything about it is wrong.
    """
    # (1) Which KeyPackage, which suite.
    welcome = read_welcome(message)
    if welcome.cipher_suite != suite.id:
        raise UnsupportedSuite("the Welcome is for another cipher suite")
    bundle, item = find_bundle(welcome, bundles)
    own = _own_leaf(suite, bundle, signature_private)
    # (2) The secrets and the GroupInfo.
    secrets, psk, info = open_welcome(suite, welcome, bundle, item, lookup)
    link = linking_psk(secrets.psks)
    if (link is None) != (old is None):
        raise InvalidLink("the group grew out of another one than expected")
    # (3) The tree, whole and signed by a member.
    tree = find_tree(suite, info, ratchet_tree)
    context = info.context
    validate_tree(tree, context.group_id, context.extensions, validator)
    verify_group_info(tree, info)
    if link is not None and old is not None:
        members = [member_of(at, leaf) for at, leaf in tree.leaves()]
        check_link(old, link, context, members, client_of)
    # (4) Our place in it.
    own_leaf, keys = find_place(tree, info, bundle, own, secrets.path_secret)
    # (5) The epoch, confirmed.
    interim = interim_transcript_hash(
        suite, context.confirmed_transcript_hash, info.confirmation_tag
    )
    epoch, ratchets = enter_epoch(
        context=context,
        tree=tree,
        interim_transcript_hash=interim,
        tag=info.confirmation_tag,
        joiner_secret=secrets.joiner_secret,
        psk=psk,
        own_leaf=own_leaf,
        private_keys=keys,
    )
    return epoch, ratchets, bundle.ref


def _own_leaf(
    suite: CipherSuite, bundle: KeyPackageBundle, signature_private: bytes
) -> LeafNode:
    """Give the leaf of our KeyPackage, whose keys are ours."""
    package = decode(bundle.key_package, KeyPackage.read)
    if package.cipher_suite != suite.id:
        raise UnsupportedSuite("the KeyPackage is for another cipher suite")
    own = package.leaf_node
    if suite.signature.public(signature_private) != own.signature_key:
        raise Misuse("the signature key is not the KeyPackage's")
    if suite.kem.public(bundle.encryption_private) != own.encryption_key:
        raise Misuse("the encryption key is not the KeyPackage's")
    return own


def find_place(
    tree: RatchetTree,
    info: GroupInfo,
    bundle: KeyPackageBundle,
    own: LeafNode,
    path_secret: bytes | None,
) -> tuple[int, Mapping[int, bytes]]:
    """Find our leaf, and the private keys that we have in the tree.

    Raises:
        NotInTree, BadPathSecret: We are not there, or the keys are not the tree's.
    """
    own_leaf = next(
        (at for at, leaf in tree.leaves() if leaf.encoded == own.encoded), None
    )
    if own_leaf is None:
        raise NotInTree("we are not in the group's tree")
    keys = {2 * own_leaf: bundle.encryption_private}
    if path_secret is not None:
        keys |= path_keys(tree, own_leaf, info.signer, path_secret)
    return own_leaf, keys


def path_keys(
    tree: RatchetTree, own_leaf: int, signer: int, path_secret: bytes
) -> Mapping[int, bytes]:
    """Derive the keys of the nodes that we share with the committer.

    Raises:
        InvalidWelcome: They are not the tree's.
    """
    if signer == own_leaf or len(path_secret) != tree.suite.hash.size:
        raise BadPathSecret("the path secret is not one")
    start = common_ancestor(2 * own_leaf, 2 * signer)
    filtered = [node for node, _ in tree.filtered_direct_path(signer)]
    if start not in filtered:
        raise BadPathSecret("the path secret belongs to no node")
    nodes = filtered[filtered.index(start) :]
    derived = derive_path(tree.suite, path_secret, nodes)
    for node, public in zip(nodes, derived.public_keys, strict=True):
        content = tree.node(node)
        if content is None or not equal(content.encryption_key, public):
            raise BadPathSecret("the path secret does not match the tree")
    return derived.private_keys
