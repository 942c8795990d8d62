"""Everything that `e2ee` can raise, and nothing else leaves the package.

Each class with its `code`:

    E2eeError                               e2ee
    ├── Malformed                           malformed
    │   └── LimitExceeded                   limit_exceeded
    ├── Unsupported                         unsupported
    │   ├── UnsupportedVersion              unsupported_version
    │   ├── UnsupportedSuite                unsupported_suite
    │   │   └── PrimitiveMissing            primitive_missing
    │   └── UnsupportedExtension            unsupported_extension
    │       └── CapabilityMissing           capability_missing
    ├── Refused                             refused
    │   ├── CredentialRefused               credential_refused
    │   └── NotAllowed                      not_allowed
    ├── InvalidMessage                      invalid_message
    │   ├── WrongGroup                      wrong_group
    │   ├── WrongEpoch                      wrong_epoch
    │   │   ├── StaleEpoch                  stale_epoch
    │   │   └── FutureEpoch                 future_epoch
    │   ├── UnknownSender                   unknown_sender
    │   ├── OwnMessage                      own_message
    │   ├── BadSignature                    bad_signature
    │   ├── BadMembershipTag                bad_membership_tag
    │   ├── BadConfirmationTag              bad_confirmation_tag
    │   ├── DecryptionFailed                decryption_failed
    │   ├── BadPadding                      bad_padding
    │   ├── GenerationUsed                  generation_used
    │   ├── GenerationTooFar                generation_too_far
    │   ├── InvalidLeaf                     invalid_leaf
    │   │   ├── WrongLeafSource             wrong_leaf_source
    │   │   ├── LeafLacksProtocol           leaf_lacks_protocol
    │   │   ├── LeafLacksCredential         leaf_lacks_credential
    │   │   ├── LeafLacksExtension          leaf_lacks_extension
    │   │   ├── LeafLacksRequired           leaf_lacks_required
    │   │   ├── CredentialUnsupported       credential_unsupported
    │   │   ├── CredentialTypeRefused       credential_type_refused
    │   │   ├── EncryptionKeyKept           encryption_key_kept
    │   │   ├── InvalidLeafKey              invalid_leaf_key
    │   │   └── LifetimeExpired             lifetime_expired
    │   │       └── LifetimeTooLong         lifetime_too_long
    │   ├── InvalidKeyPackage               invalid_key_package
    │   │   ├── InitKeyReused               init_key_reused
    │   │   ├── InvalidInitKey              invalid_init_key
    │   │   └── KeyPackageLeafSource        key_package_leaf_source
    │   ├── InvalidTree                     invalid_tree
    │   │   ├── DuplicateKey                duplicate_key
    │   │   │   ├── DuplicateEncryptionKey  duplicate_encryption_key
    │   │   │   └── DuplicateSignatureKey   duplicate_signature_key
    │   │   ├── TreeHashMismatch            tree_hash_mismatch
    │   │   ├── ParentHashMismatch          parent_hash_mismatch
    │   │   └── InvalidUnmergedLeaf         invalid_unmerged_leaf
    │   ├── InvalidProposal                 invalid_proposal
    │   │   ├── RemovesNobody               removes_nobody
    │   │   ├── BadPskNonce                 bad_psk_nonce
    │   │   ├── PskUsageForbidden           psk_usage_forbidden
    │   │   ├── VersionLowered              version_lowered
    │   │   ├── SenderForbidden             sender_forbidden
    │   │   └── SelfRemoveHidden            self_remove_hidden
    │   ├── InvalidProposalList             invalid_proposal_list
    │   │   ├── CommitterUpdate             committer_update
    │   │   ├── CommitterRemoved            committer_removed
    │   │   ├── LeafTwice                   leaf_twice
    │   │   ├── PskTwice                    psk_twice
    │   │   ├── ExtensionsTwice             extensions_twice
    │   │   ├── ReinitNotAlone              reinit_not_alone
    │   │   ├── ExternalInitMisplaced       external_init_misplaced
    │   │   ├── ExternalInitCount           external_init_count
    │   │   ├── ExternalRemoves             external_removes
    │   │   ├── ExternalForbids             external_forbids
    │   │   ├── ExternalReference           external_reference
    │   │   ├── SelfRemoveByValue           self_remove_by_value
    │   │   └── ProposalUnsupported         proposal_unsupported
    │   ├── UnknownProposal                 unknown_proposal
    │   ├── InvalidPath                     invalid_path
    │   │   ├── PathRequired                path_required
    │   │   ├── PathLength                  path_length
    │   │   ├── PathKeyReused               path_key_reused
    │   │   ├── InvalidPathKey              invalid_path_key
    │   │   ├── PathRecipients              path_recipients
    │   │   └── PathSecretMismatch          path_secret_mismatch
    │   ├── InvalidCommit                   invalid_commit
    │   ├── InvalidGroupInfo                invalid_group_info
    │   │   ├── TreeMissing                 tree_missing
    │   │   ├── SignerMissing               signer_missing
    │   │   └── ExternalPubMissing          external_pub_missing
    │   ├── InvalidWelcome                  invalid_welcome
    │   │   ├── NoMatchingKeyPackage        no_matching_key_package
    │   │   ├── NotInTree                   not_in_tree
    │   │   ├── BadPathSecret               bad_path_secret
    │   │   ├── GroupIdTaken                group_id_taken
    │   │   └── InvalidLink                 invalid_link
    │   │       ├── LinkEpoch               link_epoch
    │   │       ├── LinkParameters          link_parameters
    │   │       └── LinkMembers             link_members
    │   └── UnknownPsk                      unknown_psk
    └── Misuse                              misuse
        ├── GroupInactive                   group_inactive
        └── StagedMismatch                  staged_mismatch

The `code` is stable: it may be shown to programs and stored in logs. A message never
holds a key, a secret or plaintext, and says what failed, not why.
"""

from __future__ import annotations

from typing import ClassVar


class E2eeError(Exception):
    """Root of the package's errors."""

    code: ClassVar[str] = "e2ee"

    def __init_subclass__(cls) -> None:
        """Derive the code from the name; a test holds it to the tree above."""
        letters = ("_" + c.lower() if c.isupper() else c for c in cls.__name__)
        cls.code = "".join(letters).removeprefix("_")


class Malformed(E2eeError):
    """The bytes are not the structure they should be."""


class LimitExceeded(Malformed):
    """Well formed perhaps, but larger than Telex accepts."""


class Unsupported(E2eeError):
    """Valid for somebody, but not for this implementation."""


class UnsupportedVersion(Unsupported):
    """Another protocol version than MLS 1.0."""


class UnsupportedSuite(Unsupported):
    """Another cipher suite than the one at hand."""


class PrimitiveMissing(UnsupportedSuite):
    """A primitive of this suite is not built in."""


class UnsupportedExtension(Unsupported):
    """A GroupContext extension or required capability that somebody lacks."""


class CapabilityMissing(UnsupportedExtension):
    """A member lacks a capability that the group requires."""


class Refused(E2eeError):
    """The caller's `Validator` said no."""


class CredentialRefused(Refused):
    """An identity is not accepted for its signature key."""


class NotAllowed(Refused):
    """The sender may not do this in this group."""


class InvalidMessage(E2eeError):
    """The peer sent something that MLS forbids."""


class WrongGroup(InvalidMessage):
    """For another group."""


class WrongEpoch(InvalidMessage):
    """For another epoch."""


class StaleEpoch(WrongEpoch):
    """For an epoch that is over, or whose keys are deleted."""


class FutureEpoch(WrongEpoch):
    """For an epoch that this state has not reached yet."""


class UnknownSender(InvalidMessage):
    """The sender is not a member, or not of a kind that may send this."""


class OwnMessage(InvalidMessage):
    """Sent by this very leaf; MLS cannot process it from the wire."""


class BadSignature(InvalidMessage):
    """A signature does not verify."""


class BadMembershipTag(InvalidMessage):
    """The membership tag of a PublicMessage does not verify."""


class BadConfirmationTag(InvalidMessage):
    """The confirmation tag does not verify: states differ."""


class DecryptionFailed(InvalidMessage):
    """A ciphertext does not open."""


class BadPadding(InvalidMessage):
    """Padding holds something other than zeroes."""


class GenerationUsed(InvalidMessage):
    """The key of this generation was used, or has been dropped."""


class GenerationTooFar(InvalidMessage):
    """The generation lies further ahead than we are willing to derive."""


class InvalidLeaf(InvalidMessage):
    """A LeafNode breaks RFC 9420 section 7.3."""


class WrongLeafSource(InvalidLeaf):
    """A leaf was made for another purpose than it is used for (section 7.3)."""


class LeafLacksProtocol(InvalidLeaf):
    """A leaf does not list the group's version or cipher suite."""


class LeafLacksCredential(InvalidLeaf):
    """A leaf does not list its own credential type."""


class LeafLacksExtension(InvalidLeaf):
    """A leaf does not list an extension that it carries."""


class LeafLacksRequired(InvalidLeaf):
    """A leaf lacks a capability that the group requires (section 11.1)."""


class CredentialUnsupported(InvalidLeaf):
    """A member does not support a credential type in use."""


class CredentialTypeRefused(InvalidLeaf):
    """A credential is not a basic one."""


class EncryptionKeyKept(InvalidLeaf):
    """A new leaf keeps the encryption key of the one it replaces."""


class InvalidLeafKey(InvalidLeaf):
    """A leaf's encryption key is no key."""


class LifetimeExpired(InvalidLeaf):
    """A LeafNode's lifetime does not hold now, or is too long."""


class LifetimeTooLong(LifetimeExpired):
    """A lifetime is longer than accepted (section 7.2)."""


class InvalidKeyPackage(InvalidMessage):
    """A KeyPackage breaks RFC 9420 section 10.1."""


class InitKeyReused(InvalidKeyPackage):
    """Init key and encryption key are the same (section 10.1)."""


class InvalidInitKey(InvalidKeyPackage):
    """The init key is no key."""


class KeyPackageLeafSource(InvalidKeyPackage):
    """The leaf was not made for a KeyPackage."""


class InvalidTree(InvalidMessage):
    """A ratchet tree breaks RFC 9420 sections 7 or 12.4.3.1."""


class DuplicateKey(InvalidTree):
    """A public key stands twice in the tree."""


class DuplicateEncryptionKey(DuplicateKey):
    """Two nodes of the tree have one encryption key."""


class DuplicateSignatureKey(DuplicateKey):
    """Two leaves have one signature key: a client is there twice."""


class TreeHashMismatch(InvalidTree):
    """The tree is not the one that the GroupContext names."""


class ParentHashMismatch(InvalidTree):
    """A parent hash does not chain."""


class InvalidUnmergedLeaf(InvalidTree):
    """A list of unmerged leaves does not fit the tree (section 12.4.3.1)."""


class InvalidProposal(InvalidMessage):
    """One proposal breaks RFC 9420 section 12.1."""


class RemovesNobody(InvalidProposal):
    """A Remove names a leaf that is blank (section 12.1.3)."""


class BadPskNonce(InvalidProposal):
    """A PSK nonce has another length than KDF.Nh (section 12.1.4)."""


class PskUsageForbidden(InvalidProposal):
    """A PSK for ReInit or branching is proposed elsewhere (section 12.1.4)."""


class VersionLowered(InvalidProposal):
    """ReInit would lower the protocol version (section 12.1.5)."""


class SenderForbidden(InvalidProposal):
    """A sender of this kind may not propose this (section 12.1.8)."""


class SelfRemoveHidden(InvalidProposal):
    """A SelfRemove is encrypted, so no external joiner can commit it."""


class InvalidProposalList(InvalidMessage):
    """The proposals together break RFC 9420 section 12.2."""


class CommitterUpdate(InvalidProposalList):
    """The list holds an Update of the committer."""


class CommitterRemoved(InvalidProposalList):
    """The list removes the committer."""


class LeafTwice(InvalidProposalList):
    """Several proposals update or remove one leaf."""


class PskTwice(InvalidProposalList):
    """The list names one PSK twice."""


class ExtensionsTwice(InvalidProposalList):
    """The list replaces the extensions twice."""


class ReinitNotAlone(InvalidProposalList):
    """The list holds ReInit and something else."""


class ExternalInitMisplaced(InvalidProposalList):
    """ExternalInit stands in a commit that is not external."""


class ExternalInitCount(InvalidProposalList):
    """An external commit holds none or several ExternalInits."""


class ExternalRemoves(InvalidProposalList):
    """An external commit removes more than one leaf."""


class ExternalForbids(InvalidProposalList):
    """An external commit holds a proposal that it may not hold."""


class ExternalReference(InvalidProposalList):
    """An external commit refers to a proposal of somebody else."""


class SelfRemoveByValue(InvalidProposalList):
    """A SelfRemove stands in the commit itself, where it proves nothing."""


class ProposalUnsupported(InvalidProposalList):
    """A member who stays does not support a proposal type."""


class UnknownProposal(InvalidMessage):
    """A commit refers to a proposal that was never received."""


class InvalidPath(InvalidMessage):
    """An UpdatePath does not fit the tree."""


class PathRequired(InvalidPath):
    """The committed proposals ask for an UpdatePath and none is there."""


class PathLength(InvalidPath):
    """A path has another length than the tree asks for."""


class PathKeyReused(InvalidPath):
    """A key of a path stands in the tree already, or twice in the path."""


class InvalidPathKey(InvalidPath):
    """A key of a path is no key."""


class PathRecipients(InvalidPath):
    """A path is not encrypted to the right nodes."""


class PathSecretMismatch(InvalidPath):
    """A path secret does not lead to the keys of the path."""


class InvalidCommit(InvalidMessage):
    """A commit breaks a rule that has no error of its own."""


class InvalidGroupInfo(InvalidMessage):
    """A GroupInfo does not match the group or its signer."""


class TreeMissing(InvalidGroupInfo):
    """There is no ratchet tree, neither inside nor beside it."""


class SignerMissing(InvalidGroupInfo):
    """The signer's leaf is blank."""


class ExternalPubMissing(InvalidGroupInfo):
    """There is no external_pub: nobody may join by it."""


class InvalidWelcome(InvalidMessage):
    """A Welcome breaks RFC 9420 section 12.4.3.1."""


class NoMatchingKeyPackage(InvalidWelcome):
    """None of the given KeyPackages is welcomed."""


class NotInTree(InvalidWelcome):
    """Our KeyPackage's leaf is not in the tree."""


class BadPathSecret(InvalidWelcome):
    """The path secret does not lead to the keys of the tree."""


class GroupIdTaken(InvalidWelcome):
    """We are in a group of this id already."""


class InvalidLink(InvalidWelcome):
    """A successor or subgroup is not what it says (sections 11.2, 11.3)."""


class LinkEpoch(InvalidLink):
    """The new group is not at epoch 1."""


class LinkParameters(InvalidLink):
    """Group id, version, suite or extensions are not as agreed."""


class LinkMembers(InvalidLink):
    """The members are not those of the old group, or not among them."""


class UnknownPsk(InvalidMessage):
    """A pre-shared key is asked for that we do not hold."""


class Misuse(E2eeError, ValueError):
    """Our own caller asked for something that makes no sense."""


class GroupInactive(Misuse):
    """We are no member of this group any more."""


class StagedMismatch(Misuse):
    """This staged commit does not belong to this state."""
