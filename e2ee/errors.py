"""Everything that `e2ee` can raise, and nothing else leaves the package.

Each class with its `code`:

    E2eeError                         e2ee
    ├── Malformed                     malformed             bytes that do not decode
    │   └── LimitExceeded             limit_exceeded        larger than we accept
    ├── Unsupported                   unsupported           well formed, not for us
    │   ├── UnsupportedVersion        unsupported_version
    │   ├── UnsupportedSuite          unsupported_suite
    │   │   └── PrimitiveMissing      primitive_missing     not built in
    │   └── UnsupportedExtension      unsupported_extension
    ├── Refused                       refused               the caller's policy said no
    │   ├── CredentialRefused         credential_refused
    │   └── NotAllowed                not_allowed
    ├── InvalidMessage                invalid_message       the peer's fault
    │   ├── WrongGroup                wrong_group
    │   ├── WrongEpoch                wrong_epoch
    │   │   ├── StaleEpoch            stale_epoch           older than what we keep
    │   │   └── FutureEpoch           future_epoch          a commit is missing
    │   ├── UnknownSender             unknown_sender
    │   ├── OwnMessage                own_message           adopt it, do not process it
    │   ├── BadSignature              bad_signature
    │   ├── BadMembershipTag          bad_membership_tag
    │   ├── BadConfirmationTag        bad_confirmation_tag
    │   ├── DecryptionFailed          decryption_failed
    │   ├── BadPadding                bad_padding
    │   ├── GenerationUsed            generation_used       repeated, or too late
    │   ├── GenerationTooFar          generation_too_far
    │   ├── InvalidLeaf               invalid_leaf
    │   │   └── LifetimeExpired       lifetime_expired
    │   ├── InvalidKeyPackage         invalid_key_package
    │   ├── InvalidTree               invalid_tree
    │   │   ├── DuplicateKey          duplicate_key
    │   │   ├── TreeHashMismatch      tree_hash_mismatch
    │   │   └── ParentHashMismatch    parent_hash_mismatch
    │   ├── InvalidProposal           invalid_proposal
    │   ├── InvalidProposalList       invalid_proposal_list
    │   ├── UnknownProposal           unknown_proposal
    │   ├── InvalidPath               invalid_path
    │   │   └── PathRequired          path_required
    │   ├── InvalidCommit             invalid_commit
    │   ├── InvalidGroupInfo          invalid_group_info
    │   ├── InvalidWelcome            invalid_welcome
    │   │   └── NoMatchingKeyPackage  no_matching_key_package
    │   └── UnknownPsk                unknown_psk
    └── Misuse                        misuse                our own caller's fault
        ├── GroupInactive             group_inactive        we were removed
        └── StagedMismatch            staged_mismatch       another one was staged

The `code` is stable: it may be shown to programs and stored in logs. A message never
holds a key, a secret or plaintext. Authentication failures say what failed and not
why, so that they help nobody who guesses.
"""

from __future__ import annotations

from typing import ClassVar


class E2eeError(Exception):
    """Root of the package's errors."""

    code: ClassVar[str] = "e2ee"


class Malformed(E2eeError):
    """The bytes are not the structure they should be."""

    code = "malformed"


class LimitExceeded(Malformed):
    """Well formed perhaps, but larger than Telex accepts."""

    code = "limit_exceeded"


class Unsupported(E2eeError):
    """Valid for somebody, but not for this implementation."""

    code = "unsupported"


class UnsupportedVersion(Unsupported):
    """Another protocol version than MLS 1.0."""

    code = "unsupported_version"


class UnsupportedSuite(Unsupported):
    """Another cipher suite than the one at hand."""

    code = "unsupported_suite"


class PrimitiveMissing(UnsupportedSuite):
    """A primitive of this suite is not built in."""

    code = "primitive_missing"


class UnsupportedExtension(Unsupported):
    """A GroupContext extension or required capability that somebody lacks."""

    code = "unsupported_extension"


class Refused(E2eeError):
    """The caller's `Validator` said no."""

    code = "refused"


class CredentialRefused(Refused):
    """An identity is not accepted for its signature key."""

    code = "credential_refused"


class NotAllowed(Refused):
    """The sender may not do this in this group."""

    code = "not_allowed"


class InvalidMessage(E2eeError):
    """The peer sent something that MLS forbids."""

    code = "invalid_message"


class WrongGroup(InvalidMessage):
    """For another group."""

    code = "wrong_group"


class WrongEpoch(InvalidMessage):
    """For another epoch."""

    code = "wrong_epoch"


class StaleEpoch(WrongEpoch):
    """For an epoch that is over, or whose keys are deleted."""

    code = "stale_epoch"


class FutureEpoch(WrongEpoch):
    """For an epoch that this state has not reached yet."""

    code = "future_epoch"


class UnknownSender(InvalidMessage):
    """The sender is not a member, or not of a kind that may send this."""

    code = "unknown_sender"


class OwnMessage(InvalidMessage):
    """Sent by this very leaf; MLS cannot process it from the wire."""

    code = "own_message"


class BadSignature(InvalidMessage):
    """A signature does not verify."""

    code = "bad_signature"


class BadMembershipTag(InvalidMessage):
    """The membership tag of a PublicMessage does not verify."""

    code = "bad_membership_tag"


class BadConfirmationTag(InvalidMessage):
    """The confirmation tag does not verify: states differ."""

    code = "bad_confirmation_tag"


class DecryptionFailed(InvalidMessage):
    """A ciphertext does not open."""

    code = "decryption_failed"


class BadPadding(InvalidMessage):
    """Padding holds something other than zeroes."""

    code = "bad_padding"


class GenerationUsed(InvalidMessage):
    """The key of this generation was used, or has been dropped."""

    code = "generation_used"


class GenerationTooFar(InvalidMessage):
    """The generation lies further ahead than we are willing to derive."""

    code = "generation_too_far"


class InvalidLeaf(InvalidMessage):
    """A LeafNode breaks RFC 9420 section 7.3."""

    code = "invalid_leaf"


class LifetimeExpired(InvalidLeaf):
    """A LeafNode's lifetime does not hold now, or is too long."""

    code = "lifetime_expired"


class InvalidKeyPackage(InvalidMessage):
    """A KeyPackage breaks RFC 9420 section 10.1."""

    code = "invalid_key_package"


class InvalidTree(InvalidMessage):
    """A ratchet tree breaks RFC 9420 sections 7 or 12.4.3.1."""

    code = "invalid_tree"


class DuplicateKey(InvalidTree):
    """A public key stands twice in the tree."""

    code = "duplicate_key"


class TreeHashMismatch(InvalidTree):
    """The tree is not the one that the GroupContext names."""

    code = "tree_hash_mismatch"


class ParentHashMismatch(InvalidTree):
    """A parent hash does not chain."""

    code = "parent_hash_mismatch"


class InvalidProposal(InvalidMessage):
    """One proposal breaks RFC 9420 section 12.1."""

    code = "invalid_proposal"


class InvalidProposalList(InvalidMessage):
    """The proposals together break RFC 9420 section 12.2."""

    code = "invalid_proposal_list"


class UnknownProposal(InvalidMessage):
    """A commit refers to a proposal that was never received."""

    code = "unknown_proposal"


class InvalidPath(InvalidMessage):
    """An UpdatePath does not fit the tree."""

    code = "invalid_path"


class PathRequired(InvalidPath):
    """The committed proposals ask for an UpdatePath and none is there."""

    code = "path_required"


class InvalidCommit(InvalidMessage):
    """A commit breaks a rule that has no error of its own."""

    code = "invalid_commit"


class InvalidGroupInfo(InvalidMessage):
    """A GroupInfo does not match the group or its signer."""

    code = "invalid_group_info"


class InvalidWelcome(InvalidMessage):
    """A Welcome breaks RFC 9420 section 12.4.3.1."""

    code = "invalid_welcome"


class NoMatchingKeyPackage(InvalidWelcome):
    """None of the given KeyPackages is welcomed."""

    code = "no_matching_key_package"


class UnknownPsk(InvalidMessage):
    """A pre-shared key is asked for that we do not hold."""

    code = "unknown_psk"


class Misuse(E2eeError, ValueError):
    """Our own caller asked for something that makes no sense."""

    code = "misuse"


class GroupInactive(Misuse):
    """We are no member of this group any more."""

    code = "group_inactive"


class StagedMismatch(Misuse):
    """This staged commit does not belong to this state."""

    code = "staged_mismatch"
