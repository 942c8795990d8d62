"""The room's rules held by real groups: builder, hub and receiver refuse alike."""

from dataclasses import replace

import msgspec
import pytest

from e2ee import (
    Group,
    new_key_package,
)
from e2ee.errors import DuplicateKey, UnsupportedExtension
from e2ee.extension import Credential, ExternalSender, external_senders_extension
from protocol.codec import decode, encode
from protocol.credential import DEVICE_LIFETIME
from protocol.errors import IdentityError, NotAllowed
from protocol.policy import (
    read_policy,
    set_refuse_unverified,
)
from tests.helpers.people import NOW, Person, Terminal
from tests.protocol.rooms import (
    MAX,
    MIA,
    OLGA,
    RULES,
    leaf,
    lying,
    package,
    policy_data,
    room_of,
    with_data,
)

pytestmark = pytest.mark.usefixtures("few_devices")


def test_an_owner_adds_and_removes() -> None:
    olga, mia, max_ = OLGA.device(), MIA.device(), MAX.device()
    room = room_of(olga, mia, max_)
    group = room.groups[str(olga.address)]
    room.apply(olga, remove=[leaf(group, max_)])
    assert not room.groups[str(max_.address)].active
    assert room.hub.epoch == group.epoch == 2


def test_a_member_may_not_add_strangers_but_another_device_of_a_member() -> None:
    olga, mia, second = OLGA.device(), MIA.device(), MIA.device()
    room = room_of(olga, mia)
    with pytest.raises(NotAllowed):
        room.apply(mia, add=[package(MAX.device()).key_package])
    room.apply(mia, add=[package(second).key_package])
    assert len(room.hub.members()) == 3


def test_the_hub_and_the_members_refuse_what_a_lying_client_built() -> None:
    olga, mia = OLGA.device(), MIA.device()
    room = room_of(olga, mia)
    liar = lying(room.groups[str(mia.address)], mia)
    honest = room.groups[str(olga.address)]
    staged = liar.commit(remove=[leaf(liar, olga)], now=NOW)
    before = honest.dump_epoch()
    with pytest.raises(NotAllowed):
        room.hub.process_commit(staged.commit, staged.group_info, now=NOW)
    with pytest.raises(NotAllowed):
        honest.process_commit(staged.commit, now=NOW)
    assert honest.dump_epoch() == before


def test_a_wish_to_leave_is_committed_by_anybody_but_only_for_oneself() -> None:
    olga, mia, max_ = OLGA.device(), MIA.device(), MAX.device()
    room = room_of(olga, mia, max_)
    groups = room.groups
    wish = groups[str(max_.address)].propose_remove(
        leaf(groups[str(max_.address)], max_)
    )
    room.hub, _ = room.hub.receive_proposal(wish)
    for terminal in (olga, mia):
        groups[str(terminal.address)].receive_proposal(wish)
    room.apply(mia)
    assert not groups[str(max_.address)].active


def test_a_wish_to_remove_somebody_else_does_not_ride_in_an_owners_commit() -> None:
    olga, mia, max_ = OLGA.device(), MIA.device(), MAX.device()
    room = room_of(olga, mia, max_)
    theirs = room.groups[str(mia.address)]
    wish = theirs.propose_remove(leaf(theirs, max_))
    hub, _ = room.hub.receive_proposal(wish)
    forger = lying(room.groups[str(olga.address)], olga)
    forger.receive_proposal(wish)
    staged = forger.commit(now=NOW)
    assert staged.effects.removed
    with pytest.raises(NotAllowed):
        hub.process_commit(staged.commit, staged.group_info, now=NOW)
    honest = room.groups[str(olga.address)]
    honest.receive_proposal(wish)
    # An honest owner's client leaves the wish out and gets its own through.
    assert not honest.commit(now=NOW).effects.removed


def test_a_device_comes_back_in_one_commit_and_stands_there_once() -> None:
    olga, mia = OLGA.device(), MIA.device()
    room = room_of(olga, mia)
    group = room.groups[str(olga.address)]
    with pytest.raises(DuplicateKey):
        group.commit(add=[package(mia).key_package], now=NOW)
    # A member's re-add needs no admin: the device was lost, not thrown out.
    room.apply(olga, add=[package(mia).key_package], remove=[leaf(group, mia)])
    assert len(room.hub.members()) == 2


def test_a_direct_room_stays_between_two() -> None:
    olga, mia = OLGA.device(), MIA.device()
    room = room_of(olga, mia, direct=True)
    with pytest.raises(NotAllowed):
        room.apply(mia, add=[package(MAX.device()).key_package])
    with pytest.raises(NotAllowed):
        room.apply(olga, remove=[leaf(room.groups[str(olga.address)], mia)])


def test_a_stolen_credential_does_not_fit_another_key() -> None:
    olga, mia, thief = OLGA.device(), MIA.device(), MAX.device()
    room = room_of(olga)
    forged = Terminal(mia.address, thief.auth, thief.mls, mia.credential)
    with pytest.raises(IdentityError):
        room.apply(olga, add=[package(forged).key_package])


def test_who_is_in_stays_in_when_a_certificate_expires(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    olga, mia, late = OLGA.device(), MIA.device(), MIA.device()
    room = room_of(olga, mia)
    behind = Group.load(
        room.groups[str(mia.address)].dump_epoch(),
        room.groups[str(mia.address)].dump_ratchets(),
        signature_private=mia.mls.seed,
        validator=RULES,
    )
    bundle = package(late)
    first = room.groups[str(olga.address)].commit(add=[bundle.key_package], now=NOW)
    room.groups[str(olga.address)].apply_own(first)
    room.hub, _ = room.hub.process_commit(first.commit, first.group_info, now=NOW)
    # A year later all of them have expired.
    then = NOW + DEVICE_LIFETIME + 1
    monkeypatch.setattr(RULES, "_clock", lambda: then)
    behind.process_commit(first.commit, now=then)
    joined = Group.join(
        first.welcomes[0][1],
        [bundle],
        signature_private=late.mls.seed,
        ratchet_tree=room.hub.ratchet_tree(),
        now=then,
        validator=RULES,
    )
    # They go on among themselves, and somebody new sees nothing wrong with them.
    group = room.groups[str(olga.address)]
    fresh = Person("max@example.org", now=then).device()
    new = new_key_package(
        signature_private=fresh.mls.seed,
        identity=fresh.credential,
        not_before=then - 60,
        not_after=then + 60,
    )
    second = group.commit(add=[new.key_package], now=then)
    room.hub, _ = room.hub.process_commit(second.commit, second.group_info, now=then)
    for member in (behind, joined):
        member.process_commit(second.commit, now=then)
    Group.join(
        second.welcomes[0][1],
        [new],
        signature_private=fresh.mls.seed,
        ratchet_tree=room.hub.ratchet_tree(),
        now=then,
        validator=RULES,
    )
    # But nobody comes in with a certificate that is over, nor starts a room.
    group.apply_own(second)
    expired = new_key_package(
        signature_private=olga.mls.seed,
        identity=OLGA.device().credential,
        not_before=then - 60,
        not_after=then + 60,
    )
    with pytest.raises(IdentityError):
        group.commit(add=[expired.key_package], now=then)
    with pytest.raises(IdentityError):
        room_of(olga)


def test_the_hub_lets_nobody_in_whose_certificate_is_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    olga = OLGA.device()
    room = room_of(olga)
    then = NOW + DEVICE_LIFETIME + 1
    monkeypatch.setattr(RULES, "_clock", lambda: then)
    liar = lying(room.groups[str(olga.address)], olga)
    late = OLGA.device()
    old = new_key_package(
        signature_private=late.mls.seed,
        identity=late.credential,
        not_before=then - 60,
        not_after=then + 60,
    )
    staged = liar.commit(add=[old.key_package], now=then)
    with pytest.raises(IdentityError, match="expired"):
        room.hub.process_commit(staged.commit, staged.group_info, now=then)


# --- the room's rules may change in one field --------------------------------------


def test_an_owner_refuses_unverified_devices_and_allows_them_again() -> None:
    olga, mia = OLGA.device(), MIA.device()
    room = room_of(olga, mia)
    group = room.groups[str(olga.address)]
    for on in (True, False):
        data = set_refuse_unverified(policy_data(group), on)
        room.apply(olga, extensions=with_data(group, data))
        for held in room.groups.values():
            assert read_policy(held.context.extensions).refuse_unverified is on


def test_anybody_may_in_a_direct_room_and_no_mere_member_in_another() -> None:
    for direct in (True, False):
        olga, mia = OLGA.device(), MIA.device()
        room = room_of(olga, mia, direct=direct)
        group = room.groups[str(mia.address)]
        extensions = with_data(group, set_refuse_unverified(policy_data(group), True))
        if direct:
            room.apply(mia, extensions=extensions)
            continue
        with pytest.raises(NotAllowed, match="rules"):
            group.commit(extensions=extensions, now=NOW)
        liar = lying(group, mia)
        staged = liar.commit(extensions=extensions, now=NOW)
        with pytest.raises(NotAllowed, match="rules"):
            room.hub.process_commit(staged.commit, staged.group_info, now=NOW)
        with pytest.raises(NotAllowed, match="rules"):
            room.groups[str(olga.address)].process_commit(staged.commit, now=NOW)


@pytest.mark.parametrize(
    "change",
    [
        {"roles": {"olga@example.org": 100, "mia@example.org": 100}},
        {"direct": True},
        {"self_group": True},
        {"room": "other"},
        {"version": 2},
        {"default_role": 100},
        {"add_role": 0, "refuse_unverified": True},
    ],
)
def test_no_other_field_changes(change: dict[str, object]) -> None:
    olga, mia = OLGA.device(), MIA.device()
    room = room_of(olga, mia)
    group = room.groups[str(olga.address)]
    policy = msgspec.structs.replace(read_policy(group.context.extensions), **change)
    extensions = with_data(group, policy.encode())
    with pytest.raises(NotAllowed):
        group.commit(extensions=extensions, now=NOW)
    staged = lying(group, olga).commit(extensions=extensions, now=NOW)
    with pytest.raises(NotAllowed):
        room.hub.process_commit(staged.commit, staged.group_info, now=NOW)
    with pytest.raises(NotAllowed):
        room.groups[str(mia.address)].process_commit(staged.commit, now=NOW)


def test_no_extension_comes_goes_or_hides_bytes() -> None:
    olga, mia = OLGA.device(), MIA.device()
    room = room_of(olga, mia)
    group = room.groups[str(olga.address)]
    data = set_refuse_unverified(policy_data(group), True)
    right = with_data(group, data)
    senders = external_senders_extension(
        [ExternalSender(mia.mls.public, Credential(1, mia.credential))]
    )
    for extensions in (
        [],
        [*right, senders],
        with_data(group, data + b"\0"),
        with_data(group, b""),
        with_data(group, encode([*decode(data, list), "more"])),
        [replace(right[0], type=0xF0A2)],
    ):
        with pytest.raises(Exception) as caught:
            group.commit(extensions=extensions, now=NOW)
        assert isinstance(caught.value, NotAllowed | UnsupportedExtension)
