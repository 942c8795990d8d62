"""The secret side of taking a commit (RFC 9420 section 12.4.2).

The public side is `transition.advance`; from its result and our private keys comes
the next epoch, confirmed by the committer's tag.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from e2ee.epoch import Epoch, PskLookup, carry_keys, enter_epoch, gather_psks
from e2ee.errors import StagedMismatch
from e2ee.framing import AuthenticatedContent
from e2ee.key_schedule import external_key_pair, joiner_secret
from e2ee.secret_tree import SecretTree
from e2ee.transition import Transition, commit_of
from e2ee.treekem import PathSecrets, UpdatePath, decrypt_path, derive_path

EXTERNAL_INIT_LABEL = b"MLS 1.0 external init secret"


@dataclass(frozen=True, slots=True)
class OwnPath:
    """The secrets of a commit of our own; both empty if it has no path."""

    leaf_private: bytes = field(repr=False)
    path_secret: bytes = field(repr=False)


def next_epoch(
    epoch: Epoch,
    message: AuthenticatedContent,
    step: Transition,
    *,
    updated_key: bytes | None,
    own: OwnPath | None,
    psk: PskLookup,
) -> tuple[Epoch, SecretTree]:
    """Derive the epoch that a commit leads to; `epoch` is left as it is.

    Args:
        updated_key: Our new leaf key, if the commit covers an Update of ours.
        own: Our staged secrets, if the commit is ours.

    Raises:
        InvalidPath, DecryptionFailed: The path holds nothing for us, or not this.
        UnknownPsk: A PSK is missing.
        BadConfirmationTag: The committer is in another state.
        StagedMismatch: The staged secrets are of another commit.
    """
    suite = epoch.tree.suite
    commit, tag = commit_of(message)
    keys = dict(epoch.private_keys)
    fresh: dict[int, bytes] = {}
    if updated_key is not None:
        keys[2 * epoch.own_leaf] = fresh[2 * epoch.own_leaf] = updated_key
    commit_secret = suite.zero
    if commit.path is not None:
        if own is None:
            secrets = decrypt_path(
                step.tree,
                step.committer,
                commit.path,
                own_leaf=epoch.own_leaf,
                private_keys=keys,
                excluded=step.applied.added_leaves,
                context=step.provisional.encode(),
            )
        else:
            secrets = _own_secrets(epoch, step, commit.path, own)
            fresh[2 * epoch.own_leaf] = own.leaf_private
        fresh |= secrets.private_keys
        commit_secret = secrets.commit_secret
    joiner = joiner_secret(
        suite, _init_secret(epoch, step), commit_secret, step.context.encode()
    )
    return enter_epoch(
        context=step.context,
        tree=step.tree,
        interim_transcript_hash=step.interim_transcript_hash,
        tag=tag,
        joiner_secret=joiner,
        psk=gather_psks(suite, step.applied.psks, psk),
        own_leaf=epoch.own_leaf,
        private_keys=carry_keys(epoch.tree, step.tree, keys, fresh),
    )


def _own_secrets(
    epoch: Epoch, step: Transition, path: UpdatePath, own: OwnPath
) -> PathSecrets:
    nodes = [node for node, _ in step.tree.filtered_direct_path(epoch.own_leaf)]
    secrets = derive_path(epoch.tree.suite, own.path_secret, nodes)
    if list(secrets.public_keys) != [node.encryption_key for node in path.nodes]:
        raise StagedMismatch("the staged secrets are of another commit")
    return secrets


def _init_secret(epoch: Epoch, step: Transition) -> bytes:
    """The last epoch's, or of an external commit what the newcomer sent (8.3)."""
    if step.applied.kem_output is None:
        return epoch.secrets.init_secret
    suite = epoch.tree.suite
    private, _ = external_key_pair(suite, epoch.secrets.external_secret)
    context = suite.hpke.setup_receiver(step.applied.kem_output, private, b"")
    return context.export(EXTERNAL_INIT_LABEL, suite.hash.size)
