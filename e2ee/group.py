"""A member's group (RFC 9420): what `client/` works with.

Nothing here is half applied. A message is taken on copies and the result swapped in
at the end; whatever goes wrong raises one of `e2ee.errors` and leaves the group as it
was, to the byte. A group is not thread-safe: one owner.

Handshakes are sent as PublicMessage, so that the hub can check them, unless
`encrypt_handshakes` is set; received they may be either.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import replace

from e2ee.codepoint import (
    BASIC,
    MLS10,
    PSK_EXTERNAL,
    PSK_RESUMPTION,
    USAGE_BRANCH,
    USAGE_REINIT,
)
from e2ee.commit_builder import CommitBuilder
from e2ee.commit_processor import OwnPath
from e2ee.crypto import Rng, random_bytes
from e2ee.epoch import PskLookup, start_epoch
from e2ee.errors import GroupIdTaken, Misuse, UnsupportedSuite, UnsupportedVersion
from e2ee.extension import Credential, Extension, require_own_extensions
from e2ee.external_join import ExternalJoin
from e2ee.group_commit import CommitResult, GroupCommits, content_of
from e2ee.group_context import GroupContext
from e2ee.group_message import Decrypted
from e2ee.group_proposal import read_key_package
from e2ee.group_state import GroupState
from e2ee.joining import join_group
from e2ee.key_package import KeyPackageBundle
from e2ee.key_schedule import (
    confirmation_tag,
    epoch_secrets_of,
    interim_transcript_hash,
)
from e2ee.leaf import Lifetime, greased_leaf_fields, sign_leaf
from e2ee.lineage import ClientOf, check_link, same_identity
from e2ee.member import Validator
from e2ee.proposal import Add, PreSharedKey
from e2ee.psk import PreSharedKeyId
from e2ee.public_group import PublicGroup
from e2ee.ratchet_tree import RatchetTree
from e2ee.staged_commit import StagedCommit
from e2ee.suite import SUITE_3, CipherSuite
from e2ee.tree_validation import validate_tree

CREATOR_LIFETIME = 90 * 86_400
"""Seconds for which the creator's first leaf is valid, as for a KeyPackage."""

Welcomes = tuple[tuple[bytes, bytes], ...]
"""(KeyPackageRef, MLSMessage(Welcome)) for each added member."""


class Group(GroupCommits):
    """One member's group."""

    # --- making one

    @classmethod
    def create(
        cls,
        *,
        group_id: bytes,
        signature_private: bytes,
        identity: bytes,
        extensions: Sequence[Extension] = (),
        now: int,
        validator: Validator,
        suite: CipherSuite = SUITE_3,
        rng: Rng = random_bytes,
    ) -> Group:
        """Create a group of one member (section 11).

        Give `group_info()` and `ratchet_tree()` to the hub next.

        Raises:
            E2eeError: The extensions are not ones that we support.
        """
        require_own_extensions(extensions)
        private, public = suite.kem.derive_key_pair(rng(32))
        capabilities, leaf_extensions = greased_leaf_fields(suite, rng)
        leaf = sign_leaf(
            suite,
            signature_private,
            encryption_key=public,
            credential=Credential(BASIC, identity),
            capabilities=capabilities,
            extensions=leaf_extensions,
            lifetime=Lifetime(now - 86_400, now + CREATOR_LIFETIME),
        )
        tree = RatchetTree.of(suite, [leaf])
        context = GroupContext(
            suite.id, group_id, 0, tree.tree_hash(), b"", tuple(extensions)
        )
        validate_tree(tree, group_id, context.extensions, validator, fresh=True)
        secrets = epoch_secrets_of(suite, rng(suite.hash.size))
        tag = confirmation_tag(suite, secrets.confirmation_key, b"")
        interim = interim_transcript_hash(suite, b"", tag)
        epoch, ratchets = start_epoch(
            context, tree, interim, tag, secrets, 0, {0: private}
        )
        return cls(
            epoch,
            ratchets,
            signature_private=signature_private,
            validator=validator,
            rng=rng,
        )

    @classmethod
    def join(
        cls,
        welcome: bytes,
        bundles: Sequence[KeyPackageBundle],
        *,
        signature_private: bytes,
        ratchet_tree: bytes | None,
        now: int,
        validator: Validator,
        psks: Mapping[bytes, bytes] | None = None,
        known_groups: Container[bytes] = (),
        old: GroupState | None = None,
        client_of: ClientOf = same_identity,
        suite: CipherSuite = SUITE_3,
        rng: Rng = random_bytes,
    ) -> Group:
        """Join by Welcome (section 12.4.3.1).

        Delete the bundle that `joined_with` names, unless it is a last-resort one.
        Dates in the tree are not judged (`now` is not used): members stay when what
        they came with has expired.

        Args:
            welcome: MLSMessage(Welcome).
            ratchet_tree: From the hub, if it is not inside; its hash is checked.
            psks: External PSKs by id.
            known_groups: Ids of the groups that we are in; a new one must have
                another.
            old: The group that this one must be the successor or a subgroup of
                (sections 11.2, 11.3); without it, no linked group is joined.
            client_of: Says which members of both are the same client.

        Raises:
            E2eeError: Anything about it is wrong.
        """
        epoch, ratchets, ref = join_group(
            welcome,
            bundles,
            signature_private=signature_private,
            ratchet_tree=ratchet_tree,
            validator=validator,
            lookup=_lookup(psks or {}, old),
            suite=suite,
            old=old,
            client_of=client_of,
        )
        if epoch.context.group_id in known_groups:
            raise GroupIdTaken("we are in a group of this id already")
        require_own_extensions(epoch.context.extensions)
        return cls(
            epoch,
            ratchets,
            signature_private=signature_private,
            validator=validator,
            psks=psks,
            rng=rng,
            joined_with=ref,
        )

    @classmethod
    def join_external(
        cls,
        group_info: bytes,
        *,
        ratchet_tree: bytes | None,
        signature_private: bytes,
        identity: bytes,
        remove: int | None = None,
        leaving: Sequence[bytes] = (),
        validator: Validator,
        psks: Mapping[bytes, bytes] | None = None,
        known_groups: Container[bytes] = (),
        suite: CipherSuite = SUITE_3,
        rng: Rng = random_bytes,
    ) -> tuple[Group, StagedCommit]:
        """Join by external commit (section 12.4.3.2).

        Save the group's dumps and the staged commit, then send the commit. The group
        is in the *next* epoch already: take it up when the commit has appeared in the
        log, and throw it away if another one came first. `apply_own` is not for it.

        Args:
            group_info: MLSMessage(GroupInfo) of the current epoch.
            remove: Our own old leaf, if we had one ("resync").
            leaving: SelfRemoves of this epoch that the hub gave us; those that hold
                are taken along.
            known_groups: Ids of the groups that we are in, for a resync without the
                lost one.

        Raises:
            E2eeError: The group is not valid, or may not be joined like this.
        """
        join = ExternalJoin.check(
            group_info,
            ratchet_tree,
            signature_private=signature_private,
            identity=identity,
            validator=validator,
            suite=suite,
            rng=rng,
        )
        staged, epoch, ratchets = join.build(remove, leaving)
        if epoch.context.group_id in known_groups:
            raise GroupIdTaken("we are in a group of this id already")
        require_own_extensions(epoch.context.extensions)
        group = cls(
            epoch,
            ratchets,
            signature_private=signature_private,
            validator=validator,
            psks=psks,
            rng=rng,
        )
        return group, staged

    def public(self) -> PublicGroup:
        """Give what of this epoch is no secret, as the hub holds it.

        Whoever loses the keys can go on checking the log with it.
        """
        epoch = self._epoch
        return PublicGroup(
            epoch.context,
            epoch.tree,
            epoch.interim_transcript_hash,
            epoch.confirmation_tag,
            self._validator,
            {
                ref: replace(stored, private=b"")
                for ref, stored in self._pending.items()
            },
            self._reinit is not None,
        )

    # --- groups that grow out of this one

    def reinitialize(
        self,
        key_packages: Sequence[bytes],
        *,
        now: int,
        client_of: ClientOf = same_identity,
        suite: CipherSuite | None = None,
    ) -> tuple[Group, Welcomes]:
        """Create the successor that ReInit asked for (section 11.2).

        Give the hub its `group_info()` and `ratchet_tree()`, and each member its
        Welcome, to `join` with this group as `old`.

        Args:
            key_packages: One new KeyPackage of each other member.
            suite: The new suite, if ReInit named another one.

        Raises:
            Misuse: The group was not ended by ReInit.
            UnsupportedSuite, UnsupportedVersion: It asked for what we lack.
            InvalidLink: The KeyPackages are not those of the members.
        """
        reinit, suite = self._reinit, suite or self.suite
        if reinit is None:
            raise Misuse("the group was not ended by ReInit")
        if reinit.version != MLS10:
            raise UnsupportedVersion("only MLS 1.0 is spoken here")
        if reinit.cipher_suite != suite.id:
            raise UnsupportedSuite("ReInit asked for another cipher suite")
        group = self._heir(reinit.group_id, reinit.extensions, suite, now)
        return group, group._first_commit(
            self, USAGE_REINIT, key_packages, client_of, now
        )

    def branch(
        self,
        key_packages: Sequence[bytes],
        *,
        group_id: bytes,
        extensions: Sequence[Extension] | None = None,
        now: int,
        client_of: ClientOf = same_identity,
    ) -> tuple[Group, Welcomes]:
        """Create a subgroup of some of the members (section 11.3).

        Go on as with `reinitialize`; this group stays as it is.

        Args:
            key_packages: One new KeyPackage of each other member of the subgroup.
            extensions: This group's, if not given.

        Raises:
            InvalidLink: A KeyPackage is not a member's.
        """
        self._require_active()
        if extensions is None:
            extensions = self.context.extensions
        group = self._heir(group_id, extensions, self.suite, now)
        return group, group._first_commit(
            self, USAGE_BRANCH, key_packages, client_of, now
        )

    def _heir(
        self,
        group_id: bytes,
        extensions: Sequence[Extension],
        suite: CipherSuite,
        now: int,
    ) -> Group:
        return Group.create(
            group_id=group_id,
            signature_private=self._signature_private,
            identity=self._own_leaf_node().credential.identity,
            extensions=extensions,
            now=now,
            validator=self._validator,
            suite=suite,
            rng=self._rng,
        )

    def _first_commit(
        self,
        old: Group,
        usage: int,
        key_packages: Sequence[bytes],
        client_of: ClientOf,
        now: int,
    ) -> Welcomes:
        """Add the members and name the old group; nobody else sees this commit."""
        psk = PreSharedKeyId(
            PSK_RESUMPTION,
            usage=usage,
            group_id=old.group_id,
            epoch=old.epoch,
            nonce=self._rng(self.suite.hash.size),
        )
        builder = CommitBuilder(
            self._epoch,
            self._signature_private,
            self._validator,
            old.resumption_psk,
            self._rng,
            linking=True,
        )
        added = [Add(read_key_package(package)) for package in key_packages]
        staged = builder.build(
            [*added, PreSharedKey(psk)], [], update=True, identity=None, now=now
        )
        own = OwnPath(staged.leaf_private, staged.path_secret)
        self._take(content_of(staged), None, own, old.resumption_psk)
        check_link(old, psk, self.context, self.members(), client_of)
        return staged.welcomes


def _lookup(psks: Mapping[bytes, bytes], old: GroupState | None) -> PskLookup:
    """Look up what a Welcome may ask for."""

    def lookup(id_: PreSharedKeyId) -> bytes | None:
        if id_.type == PSK_EXTERNAL:
            return psks.get(id_.psk_id)
        return None if old is None else old.resumption_psk(id_)

    return lookup


__all__ = ["CommitResult", "Decrypted", "Group", "Welcomes"]
