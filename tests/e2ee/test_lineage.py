"""RFC 9420 sections 11.2 and 11.3: a group ends and goes on in another, or branches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from e2ee import Extension, Group, KeyPackageBundle, PublicGroup
from e2ee.codepoint import TELEX_ROOM, USAGE_BRANCH
from e2ee.errors import (
    GroupIdTaken,
    GroupInactive,
    InvalidLink,
    InvalidMessage,
    LinkEpoch,
    LinkMembers,
    LinkParameters,
    Misuse,
    UnknownPsk,
    UnsupportedSuite,
    UnsupportedVersion,
)
from e2ee.group import Welcomes
from e2ee.lineage import same_identity
from e2ee.proposal import ReInit
from e2ee.suite import SUITE_3, CipherSuite
from tests.e2ee.forging import commit_refused, unchanged
from tests.e2ee.support import NOW, SUITE_1, Room, bundle_for, reload, rng

SUCCESSOR = [Extension(TELEX_ROOM, b"new policy")]


def packages(
    room: Room, *names: str, suite: CipherSuite = SUITE_3
) -> dict[str, KeyPackageBundle]:
    """New KeyPackages of members, each signed with the key that it has."""
    return {
        name: bundle_for(name, room.people[name].signature_private, suite=suite)
        for name in names
    }


def join(
    room: Room,
    name: str,
    group: Group,
    welcomes: Welcomes,
    bundle: KeyPackageBundle,
    *,
    old: Group | None = None,
    client_of: Callable[[bytes], object] = same_identity,
) -> Group:
    return Group.join(
        dict(welcomes)[bundle.ref],
        [bundle],
        signature_private=room.people[name].signature_private,
        ratchet_tree=group.ratchet_tree(),
        now=NOW,
        validator=room.validator,
        known_groups={room[name].group_id},
        old=old or room[name],
        client_of=client_of,
        suite=group.suite,
    )


def key_packages(bundles: dict[str, KeyPackageBundle]) -> list[bytes]:
    return [bundle.key_package for bundle in bundles.values()]


def ended(suite: CipherSuite | None = None) -> Room:
    """A room of three that was ended by a commit of p1."""
    room = Room.of(3)
    staged = room["p1"].commit_reinit(
        group_id=b"next", extensions=SUCCESSOR, suite=suite, now=NOW
    )
    assert staged.effects.reinit
    room.deliver("p1", staged)
    return room


# --- 11.2


@pytest.mark.parametrize("suite", [SUITE_3, SUITE_1], ids=["same", "another"])
def test_reinit_goes_on_in_the_new_group(suite: CipherSuite) -> None:
    """Section 11.2, all three steps; each by another member, also after a restart."""
    room = ended(suite)
    for person in room.people.values():
        reload(person)
        assert not person.group.active and person.group.reinit
    bundles = packages(room, "p0", "p1", suite=suite)
    group, welcomes = room["p2"].reinitialize(
        key_packages(bundles), now=NOW, suite=suite
    )
    assert group.group_id == b"next" and group.epoch == 1
    assert group.context.extensions == tuple(SUCCESSOR)
    for name, bundle in bundles.items():
        joined = join(room, name, group, welcomes, bundle)
        assert joined.epoch_authenticator == group.epoch_authenticator
        assert joined.decrypt(group.encrypt(b"here we are")).content
    PublicGroup.create(
        group.group_info(),
        group.ratchet_tree(),
        now=NOW,
        validator=room.validator,
        suite=suite,
    )


def test_reinit_can_be_proposed_and_committed_by_another() -> None:
    """Section 11.2, step 1: any member may propose it."""
    room = Room.of(3)
    room.propose("p1", room["p1"].propose_reinit(group_id=b"next"))
    assert room.commit("p0").effects.reinit
    assert not room["p2"].active
    assert room["p2"].reinit == ReInit(b"next", 1, 3, ())


def test_successor_must_have_the_agreed_parameters() -> None:
    """Section 11.2: group id, version, suite and extensions MUST be ReInit's."""
    room = ended()
    bundles = packages(room, "p0", "p1")
    liar = room["p2"]
    reinit = liar.reinit
    assert reinit is not None
    for wrong in (
        replace(reinit, group_id=b"other"),
        replace(reinit, extensions=()),
    ):
        liar._reinit = wrong
        group, welcomes = liar.reinitialize(key_packages(bundles), now=NOW)
        with pytest.raises(LinkParameters):
            join(room, "p0", group, welcomes, bundles["p0"])


def test_successor_must_have_the_agreed_suite() -> None:
    """Section 11.2: the cipher suite MUST be ReInit's."""
    room = ended()
    bundles = packages(room, "p0", "p1", suite=SUITE_1)
    liar = room["p2"]
    assert liar.reinit is not None
    liar._reinit = replace(liar.reinit, cipher_suite=1)
    group, welcomes = liar.reinitialize(key_packages(bundles), now=NOW, suite=SUITE_1)
    with pytest.raises(LinkParameters):
        join(room, "p0", group, welcomes, bundles["p0"])


def test_successor_must_have_all_members(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sections 11.2 and 12.4.3.1: all members of the old group, and no others."""
    room = ended()
    some = packages(room, "p0")
    with pytest.raises(LinkMembers):
        room["p2"].reinitialize(key_packages(some), now=NOW)
    more = packages(room, "p0", "p1")
    stranger = bundle_for("q", rng(32))
    for bundles in (
        key_packages(some),
        [*key_packages(more), stranger.key_package],
    ):
        monkeypatch.setattr("e2ee.group.check_link", lambda *_: None)
        group, welcomes = room["p2"].reinitialize(bundles, now=NOW)
        monkeypatch.undo()
        bundle = some["p0"] if len(bundles) == 1 else more["p0"]
        with pytest.raises(LinkMembers):
            join(room, "p0", group, welcomes, bundle)


def test_successor_must_be_at_epoch_1() -> None:
    """Sections 11.2 and 12.4.3.1: the epoch in the Welcome MUST be 1."""
    room = ended()
    bundles = packages(room, "p0", "p1")
    group, _ = room["p2"].reinitialize(key_packages(bundles), now=NOW)
    from e2ee.lineage import check_link, linking_psk
    from e2ee.psk import PreSharedKeyId

    psk = PreSharedKeyId(2, usage=2, group_id=b"room", epoch=room["p0"].epoch)
    assert linking_psk([psk]) == psk
    members = group.members()
    check_link(room["p0"], psk, group.context, members, same_identity)
    for epoch in (0, 2):
        late = replace(group.context, epoch=epoch)
        with pytest.raises(LinkEpoch):
            check_link(room["p0"], psk, late, members, same_identity)


def test_successor_must_follow_a_reinit() -> None:
    """Section 12.4.3.1: the old group's last commit contains a ReInit."""
    room = ended()
    bundles = packages(room, "p0", "p1")
    group, welcomes = room["p2"].reinitialize(key_packages(bundles), now=NOW)
    room["p0"]._reinit = None
    with pytest.raises(InvalidLink):
        join(room, "p0", group, welcomes, bundles["p0"])
    unchanged(room["p0"], Misuse, lambda: room["p0"].reinitialize([], now=NOW))


def test_successor_must_know_the_old_groups_psk() -> None:
    """Section 11.2: the resumption PSK of the epoch after the ReInit links them."""
    room = ended()
    bundles = packages(room, "p0", "p1")
    group, welcomes = room["p2"].reinitialize(key_packages(bundles), now=NOW)
    with pytest.raises(UnknownPsk):
        join(room, "p0", group, welcomes, bundles["p0"], old=Room.of(2)["p0"])


def test_successor_is_only_of_what_we_support() -> None:
    """Section 12.1.5: ReInit may ask for a version or suite that we lack."""
    room = ended()
    group = room["p0"]
    assert group.reinit is not None
    reinit = group.reinit
    group._reinit = replace(reinit, version=2)
    unchanged(group, UnsupportedVersion, lambda: group.reinitialize([], now=NOW))
    group._reinit = replace(reinit, cipher_suite=1)
    unchanged(group, UnsupportedSuite, lambda: group.reinitialize([], now=NOW))


def test_successor_ids_must_be_new_to_us() -> None:
    """Section 12.4.3.1: a successor may not take the id of a group that we are in."""
    room = Room.of(2)
    staged = room["p1"].commit_reinit(group_id=b"room", now=NOW)
    room.deliver("p1", staged)
    bundles = packages(room, "p0")
    group, welcomes = room["p1"].reinitialize(key_packages(bundles), now=NOW)
    with pytest.raises(GroupIdTaken):
        join(room, "p0", group, welcomes, bundles["p0"])


def test_an_ended_group_takes_no_commits() -> None:
    """Section 12.4.2: nothing follows a ReInit in the old group."""
    room = Room.of(4)
    other = room["p0"].commit(now=NOW).commit
    room.deliver("p1", room["p1"].commit_reinit(group_id=b"next", now=NOW))
    commit_refused(room, GroupInactive, other, at_hub=False)
    # Nor at the hub, even if a member does not keep to it.
    liar = room["p2"]
    liar._reinit = None
    staged = liar.commit(now=NOW)
    proposal = liar.propose_remove(1)
    hub = PublicGroup.decode(room.hub.encode(), validator=room.validator)
    assert hub.encode() == room.hub.encode() and hub.ended
    with pytest.raises(InvalidMessage):
        hub.process_commit(staged.commit, staged.group_info, now=NOW)
    with pytest.raises(InvalidMessage):
        hub.receive_proposal(proposal)


def test_clients_are_compared_as_the_application_says() -> None:
    """Section 12.4.3.1: "according to the application"; identities may be renewed."""
    room = ended()
    bundles = {
        name: bundle_for(f"{name} renewed", room.people[name].signature_private)
        for name in ("p0", "p1")
    }
    with pytest.raises(LinkMembers):
        room["p2"].reinitialize(key_packages(bundles), now=NOW)

    def client(identity: bytes) -> bytes:
        return identity.partition(b" ")[0]

    group, welcomes = room["p2"].reinitialize(
        key_packages(bundles), now=NOW, client_of=client
    )
    joined = join(room, "p0", group, welcomes, bundles["p0"], client_of=client)
    assert joined.epoch_authenticator == group.epoch_authenticator


# --- 11.3


def test_a_subgroup_branches_off() -> None:
    """Section 11.3, both ways; the old group goes on."""
    room = Room.of(4)
    bundles = packages(room, "p1", "p3")
    group, welcomes = room["p0"].branch(
        key_packages(bundles), group_id=b"some of us", now=NOW
    )
    room.commit("p2")
    for name, bundle in bundles.items():
        joined = join(room, name, group, welcomes, bundle)
        assert joined.decrypt(group.encrypt(b"psst")).content == b"psst"
        assert joined.epoch_authenticator == group.epoch_authenticator
    assert {m.identity for m in group.members()} == {b"p0", b"p1", b"p3"}
    assert room["p0"].active


def test_subgroup_must_be_of_members(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sections 11.3 and 12.4.3.1: each leaf MUST match one of the original group."""
    room = Room.of(3)
    bundles = packages(room, "p1")
    stranger = bundle_for("q", rng(32)).key_package
    wrong = [*key_packages(bundles), stranger]
    group = room["p0"]
    unchanged(
        group, LinkMembers, lambda: group.branch(wrong, group_id=b"some", now=NOW)
    )
    monkeypatch.setattr("e2ee.group.check_link", lambda *_: None)
    branch, welcomes = group.branch(wrong, group_id=b"some", now=NOW)
    monkeypatch.undo()
    with pytest.raises(LinkMembers):
        join(room, "p1", branch, welcomes, bundles["p1"])


def test_subgroup_must_have_the_suite() -> None:
    """Section 11.3: version and cipher suite are those of the old group."""
    room = Room.of(2)
    bundles = packages(room, "p1", suite=SUITE_1)
    branch = room["p0"]._heir(b"some", (), SUITE_1, NOW)
    with pytest.raises(LinkParameters):
        branch._first_commit(
            room["p0"], USAGE_BRANCH, key_packages(bundles), same_identity, NOW
        )


def test_subgroup_must_be_of_a_group_that_we_know() -> None:
    """Section 11.3: who does not hold the old group's PSK cannot join."""
    room = Room.of(3)
    bundles = packages(room, "p1")
    branch, welcomes = room["p0"].branch(
        key_packages(bundles), group_id=b"some", now=NOW
    )
    for _ in range(4):
        room.commit("p2")
    with pytest.raises(UnknownPsk):
        join(room, "p1", branch, welcomes, bundles["p1"])


def test_subgroup_nonce_must_be_fresh() -> None:
    """Section 11.3: psk_nonce MUST be a randomly sampled one of length KDF.Nh."""
    room = Room.of(2)
    asked: list[int] = []

    def counting(length: int) -> bytes:
        asked.append(length)
        return rng(length)

    room["p0"]._rng = counting
    bundles = packages(room, "p1")
    room["p0"].branch(key_packages(bundles), group_id=b"some", now=NOW)
    assert SUITE_3.hash.size in asked
