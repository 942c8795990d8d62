"""What the tests of `e2ee` share: keys, groups of people."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from e2ee import (
    ALLOW_ALL,
    Group,
    KeyPackageBundle,
    PublicGroup,
    StagedCommit,
    Validator,
    new_key_package,
)
from e2ee.codepoint import MEMBER, PUBLIC_MESSAGE
from e2ee.errors import E2eeError
from e2ee.framing import (
    AuthData,
    AuthenticatedContent,
    Commit,
    Content,
    FramedContent,
    PublicMessage,
    Sender,
    read_framed,
    wrap,
)
from e2ee.protection import protect_public, sign_content
from e2ee.suite import BUILT_IN, SUITE_3, CipherSuite
from tests.vectors.primitives import AesGcm

VECTORS = Path(__file__).parent.parent / "vectors"
NOW = 1_790_000_000
DAY = 86_400
FUZZ = bool(os.environ.get("TELEX_FUZZ"))
EXAMPLES = 20_000 if FUZZ else 150


SUITE_1 = BUILT_IN[1].with_aead(AesGcm(16))

RANDOM = random.Random()
"""Where the tests' keys come from; property tests seed it to be repeatable."""


def rng(length: int) -> bytes:
    """Give bytes from `RANDOM`."""
    return RANDOM.randbytes(length)


def rng_of(seed: int) -> Callable[[int], bytes]:
    """Give a repeatable generator."""
    return random.Random(seed).randbytes


@dataclass(slots=True)
class Person:
    """One device: its signature key, its bundles, its group."""

    name: str
    signature_private: bytes
    group: Group

    @property
    def leaf(self) -> int:
        return self.group.own_leaf


def bundle_for(
    name: str,
    signature_private: bytes,
    *,
    last_resort: bool = False,
    suite: CipherSuite = SUITE_3,
) -> KeyPackageBundle:
    """Make a KeyPackage that is valid now."""
    return new_key_package(
        signature_private=signature_private,
        identity=name.encode(),
        not_before=NOW - DAY,
        not_after=NOW + 90 * DAY,
        last_resort=last_resort,
        suite=suite,
        rng=rng,
    )


class Room:
    """A group with all its members and a hub, in step unless told otherwise."""

    def __init__(self, creator: str = "p0", validator: Validator = ALLOW_ALL) -> None:
        self.validator = validator
        key = rng(32)
        group = Group.create(
            group_id=b"room",
            signature_private=key,
            identity=creator.encode(),
            now=NOW,
            validator=validator,
            rng=rng,
        )
        self.people = {creator: Person(creator, key, group)}
        self.hub = PublicGroup.create(
            group.group_info(), group.ratchet_tree(), now=NOW, validator=validator
        )

    @classmethod
    def of(cls, count: int, validator: Validator = ALLOW_ALL) -> Room:
        """Make a room of `count` members whose paths are all filled."""
        room = cls(validator=validator)
        room.add("p0", *(f"p{number}" for number in range(1, count)))
        for number in range(1, count):
            room.commit(f"p{number}")
        return room

    def __getitem__(self, name: str) -> Group:
        return self.people[name].group

    def leaf(self, name: str) -> int:
        return self.people[name].leaf

    def add(
        self,
        by: str,
        *names: str,
        remove: tuple[str, ...] = (),
        update: bool = True,
    ) -> StagedCommit:
        """Add people by one commit of `by`, and let them join."""
        keys = {name: rng(32) for name in names}
        bundles = {name: bundle_for(name, keys[name]) for name in names}
        staged = self[by].commit(
            add=[bundle.key_package for bundle in bundles.values()],
            remove=[self.leaf(name) for name in remove],
            update=update,
            now=NOW,
        )
        self.deliver(by, staged)
        welcomes = dict(staged.welcomes)
        for name in names:
            group = Group.join(
                welcomes[bundles[name].ref],
                [bundles[name]],
                signature_private=keys[name],
                ratchet_tree=self.hub.ratchet_tree(),
                now=NOW,
                validator=self.validator,
                rng=rng,
            )
            self.people[name] = Person(name, keys[name], group)
        return staged

    def commit(
        self, by: str, *, remove: tuple[str, ...] = (), update: bool = True
    ) -> StagedCommit:
        """Let `by` commit what is pending, and deliver it."""
        staged = self[by].commit(
            remove=[self.leaf(name) for name in remove], update=update, now=NOW
        )
        self.deliver(by, staged)
        return staged

    def propose(self, by: str, message: bytes) -> None:
        """Give a proposal of `by` to everybody."""
        self.hub, _ = self.hub.receive_proposal(message)
        for person in self.people.values():
            if person.name != by:
                person.group.receive_proposal(message)

    def deliver(self, by: str, staged: StagedCommit) -> None:
        """Take a commit everywhere; who is removed leaves the room."""
        refs = [ref for ref, _ in staged.welcomes]
        self.hub, effects = self.hub.process_commit(
            staged.commit, staged.group_info, now=NOW, welcome_refs=refs
        )
        assert effects == staged.effects
        for person in list(self.people.values()):
            if person.name == by:
                assert person.group.apply_own(staged) == effects
                continue
            result = person.group.process_commit(staged.commit, now=NOW)
            assert result.effects == effects
            if result.removed_self:
                del self.people[person.name]
        self.check()

    def check(self) -> None:
        """All members and the hub agree."""
        groups = [person.group for person in self.people.values()]
        assert len({group.epoch_authenticator for group in groups}) == 1
        assert {group.context.encode() for group in groups} == {
            self.hub.context.encode()
        }
        assert {group.ratchet_tree() for group in groups} == {self.hub.ratchet_tree()}
        for group in groups:
            tree, keys = group._epoch.tree, group._epoch.private_keys
            for node, private in keys.items():
                content = tree.node(node)
                assert content is not None
                public = group.suite.kem.public(private)
                assert public == content.encryption_key
            expected = {2 * group.own_leaf}
            for node in tree.direct_path(group.own_leaf):
                parent = tree.parent_node(node)
                if parent and group.own_leaf not in parent.unmerged_leaves:
                    expected.add(node)
            assert set(keys) == expected


def reload(person: Person) -> None:
    """Save and load a person's group."""
    group = person.group
    epoch, ratchets = group.dump_epoch(), group.dump_ratchets()
    person.group = Group.load(
        epoch,
        ratchets,
        signature_private=person.signature_private,
        validator=group._validator,
        rng=rng,
    )
    assert person.group.dump_epoch() == epoch
    assert person.group.dump_ratchets() == ratchets


def snapshot(group: Group) -> tuple[bytes, bytes]:
    """Everything that a group keeps, as bytes."""
    return group.dump_epoch(), group.dump_ratchets()


def forge(
    group: Group,
    content: Content,
    *,
    sender: Sender | None = None,
    epoch: int | None = None,
    group_id: bytes | None = None,
    signature_private: bytes | None = None,
    tag: bytes = bytes(32),
) -> bytes:
    """Sign and tag anything at all as a member, without any check."""
    state = group._epoch
    framed = FramedContent.make(
        group.group_id if group_id is None else group_id,
        group.epoch if epoch is None else epoch,
        sender or Sender(MEMBER, group.own_leaf),
        b"",
        content,
    )
    signature = sign_content(
        group.suite,
        signature_private or group._signature_private,
        PUBLIC_MESSAGE,
        framed,
        state.encoded_context,
    )
    auth = AuthData(signature, tag if isinstance(content, Commit) else None)
    message = AuthenticatedContent(PUBLIC_MESSAGE, framed, auth)
    public = protect_public(
        group.suite, state.secrets.membership_key, message, state.encoded_context
    )
    return wrap(PUBLIC_MESSAGE, public.encode())


def commit_in(staged: StagedCommit) -> Commit:
    """Take the Commit out of a staged commit."""
    message = read_framed(staged.commit)
    assert isinstance(message, PublicMessage)
    commit = message.content.content
    assert isinstance(commit, Commit)
    return commit


def unmoved(group: Group, error: type[E2eeError], call: Callable[[], object]) -> None:
    """The call must raise this or a kind of it, and leave the group as it was."""
    before = snapshot(group)
    with pytest.raises(error):
        call()
    assert snapshot(group) == before
