"""A commit of our own between being made and appearing in the log.

MLS cannot process its own commit from the wire: whoever made it must remember its
secrets. A client saves the staged commit under its hash before sending it, and adopts
it when that hash appears (reference: DESIGN.md, "intents").
"""

from __future__ import annotations

from dataclasses import dataclass, field

from e2ee.codec import Reader, decode, optional, u8, u32, u64, vector, vectors
from e2ee.extension import Extensions, encode_extensions, read_extensions
from e2ee.member import Action, CommitEffects, Member


def _encode_member(member: Member) -> bytes:
    return u32(member.leaf) + vector(member.identity) + vector(member.signature_key)


def _read_member(reader: Reader) -> Member:
    return Member(reader.u32(), reader.vector(), reader.vector())


def _encode_action(action: Action) -> bytes:
    subject = None if action.subject is None else _encode_member(action.subject)
    return (
        vector(action.kind.encode())
        + _encode_member(action.proposer)
        + optional(subject)
        + u8(action.by_reference)
    )


def _read_action(reader: Reader) -> Action:
    return Action(
        reader.vector().decode("ascii", "replace"),
        _read_member(reader),
        _read_member(reader) if reader.present() else None,
        reader.present(),
    )


def _encode_maybe(extensions: Extensions | None) -> bytes:
    return optional(None if extensions is None else encode_extensions(extensions))


def _read_maybe(reader: Reader) -> Extensions | None:
    return read_extensions(reader) if reader.present() else None


def encode_effects(effects: CommitEffects) -> bytes:
    """Encode effects for keeping."""
    return (
        _encode_member(effects.sender)
        + vectors(map(_encode_member, effects.added))
        + vectors(map(_encode_member, effects.removed))
        + vectors(map(_encode_member, effects.updated))
        + vectors(map(_encode_member, effects.replaced))
        + _encode_maybe(effects.extensions_before)
        + _encode_maybe(effects.extensions_after)
        + u8(effects.external)
        + u8(effects.reinit)
        + vectors(map(_encode_action, effects.actions))
    )


def read_effects(reader: Reader) -> CommitEffects:
    """Decode what `encode_effects` gave."""
    return CommitEffects(
        sender=_read_member(reader),
        added=tuple(reader.items(_read_member)),
        removed=tuple(reader.items(_read_member)),
        updated=tuple(reader.items(_read_member)),
        replaced=tuple(reader.items(_read_member)),
        extensions_before=_read_maybe(reader),
        extensions_after=_read_maybe(reader),
        external=reader.present(),
        reinit=reader.present(),
        actions=tuple(reader.items(_read_action)),
    )


@dataclass(frozen=True, slots=True)
class StagedCommit:
    """A commit that we made and have not adopted yet. It holds secrets."""

    commit: bytes
    """MLSMessage(PublicMessage), to be sent to the hub; encrypted if so asked."""
    hash: bytes
    """SHA-256 of `commit`."""
    welcomes: tuple[tuple[bytes, bytes], ...]
    """(KeyPackageRef, MLSMessage(Welcome)) for each added member."""
    group_info: bytes
    """MLSMessage(GroupInfo) of the new epoch, with external_pub and without tree."""
    effects: CommitEffects
    epoch: int
    """The epoch that this commit ends."""
    leaf_private: bytes = field(repr=False)
    path_secret: bytes = field(repr=False)
    """Our new leaf key and first path secret; both empty if there is no path."""
    content: bytes = field(repr=False, default=b"")
    """The AuthenticatedContent of a commit that is sent encrypted, which we cannot
    decrypt ourselves; empty of others."""

    def encode(self) -> bytes:
        """Encode with the secrets."""
        return (
            vector(self.commit)
            + vector(self.hash)
            + vectors(vector(ref) + vector(welcome) for ref, welcome in self.welcomes)
            + vector(self.group_info)
            + encode_effects(self.effects)
            + u64(self.epoch)
            + vector(self.leaf_private)
            + vector(self.path_secret)
            + vector(self.content)
        )

    @classmethod
    def read(cls, reader: Reader) -> StagedCommit:
        """Decode from a reader."""
        return cls(
            commit=reader.vector(),
            hash=reader.vector(),
            welcomes=tuple(reader.items(lambda r: (r.vector(), r.vector()))),
            group_info=reader.vector(),
            effects=read_effects(reader),
            epoch=reader.u64(),
            leaf_private=reader.vector(),
            path_secret=reader.vector(),
            content=reader.vector(),
        )

    @classmethod
    def decode(cls, data: bytes) -> StagedCommit:
        """Decode what `encode` gave; raises `Malformed`."""
        return decode(data, cls.read)
