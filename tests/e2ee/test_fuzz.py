"""Whatever the bytes are: our errors come out, and the group stays as it was.

Short by default; `TELEX_FUZZ=1` runs each for longer.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from e2ee import ALLOW_ALL, Group, KeyPackageBundle, PublicGroup, StagedCommit, peek
from e2ee.codec import Reader, decode
from e2ee.errors import E2eeError
from e2ee.extension import (
    Credential,
    ExternalSender,
    RequiredCapabilities,
    read_extensions,
)
from e2ee.framing import (
    AuthenticatedContent,
    Commit,
    FramedContent,
    PrivateMessage,
    PublicMessage,
    read_framed,
)
from e2ee.group_context import GroupContext
from e2ee.group_info import GroupInfo
from e2ee.group_storage import load_group
from e2ee.key_package import KeyPackage, key_package_info, read_components
from e2ee.leaf import Capabilities, LeafNode
from e2ee.node import ParentNode, read_optional_node
from e2ee.proposal import read_proposal, read_proposal_or_ref
from e2ee.psk import PreSharedKeyId
from e2ee.ratchet_tree import RatchetTree
from e2ee.secret_tree import SecretTree
from e2ee.suite import SUITE_3
from e2ee.treekem import UpdatePath
from e2ee.welcome import GroupSecrets, Welcome
from tests.e2ee.support import EXAMPLES, NOW, Room, bundle_for, snapshot

pytestmark = pytest.mark.fuzz

short = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

READERS: dict[str, Callable[[Reader], object]] = {
    "vector": Reader.vector,
    "u16_vector": Reader.u16_vector,
    "u32_vector": Reader.u32_vector,
    "extensions": read_extensions,
    "credential": Credential.read,
    "external sender": ExternalSender.read,
    "required capabilities": RequiredCapabilities.read,
    "capabilities": Capabilities.read,
    "group context": GroupContext.read,
    "leaf": LeafNode.read,
    "app data dictionary": read_components,
    "parent": ParentNode.read,
    "node": read_optional_node,
    "key package": KeyPackage.read,
    "psk id": PreSharedKeyId.read,
    "proposal": read_proposal,
    "proposal or ref": read_proposal_or_ref,
    "update path": UpdatePath.read,
    "commit": Commit.read,
    "framed content": FramedContent.read,
    "authenticated content": AuthenticatedContent.read,
    "public message": PublicMessage.read,
    "private message": PrivateMessage.read,
    "group info": GroupInfo.read,
    "group secrets": GroupSecrets.read,
    "welcome": Welcome.read,
    "secret tree": lambda reader: SecretTree.read(SUITE_3, reader),
    "staged commit": StagedCommit.read,
}

WHOLE: dict[str, Callable[[bytes], object]] = {
    "tree": lambda data: RatchetTree.decode(SUITE_3, data),
    "message": read_framed,
    "peek": peek,
    "key package info": key_package_info,
    "bundle": KeyPackageBundle.decode,
    "staged": StagedCommit.decode,
    "public group": lambda data: PublicGroup.decode(data, validator=ALLOW_ALL),
    **{
        name: lambda data, read=read: decode(data, read)  # type: ignore[misc]
        for name, read in READERS.items()
    },
}


def only_ours(call: Callable[[], object]) -> None:
    with suppress(E2eeError):
        call()


@lru_cache(maxsize=1)
def scene() -> tuple[Room, dict[str, bytes], KeyPackageBundle, bytes]:
    """Give a room, and one valid message of each kind for p1."""
    room = Room.of(5)
    key = os.urandom(32)
    bundle = bundle_for("q", key)
    proposal = room["p2"].propose_update()
    room.propose("p2", proposal)
    staged = room["p0"].commit(add=[bundle.key_package], remove=[3], now=NOW)
    room["p2"].encrypt_handshakes = True
    sealed = room["p2"].commit(now=NOW).commit
    seeds = {
        "sealed": sealed,
        "commit": staged.commit,
        "info": staged.group_info,
        "welcome": staged.welcomes[0][1],
        "proposal": proposal,
        "remove": room["p0"].propose_remove(4),
        "leaving": room["p4"].propose_leaving(),
        "application": room["p0"].encrypt(b"hello", authenticated_data=b"head"),
        "tree": room.hub.ratchet_tree(),
        "package": bundle.key_package,
        "bundle": bundle.encode(),
        "staged": staged.encode(),
        "hub": room.hub.encode(),
        "epoch": room["p1"].dump_epoch(),
        "ratchets": room["p1"].dump_ratchets(),
    }
    return room, seeds, bundle, key


@st.composite
def mutated(draw: st.DrawFn, *names: str) -> bytes:
    """Valid bytes with a few changes: flips, cuts, insertions, repeats, splices."""
    seeds = scene()[1]
    data = bytearray(seeds[draw(st.sampled_from(names or sorted(seeds)))])
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        kind = draw(st.sampled_from(["flip", "cut", "insert", "set", "splice"]))
        if kind == "flip" and data:
            data[at] ^= 1 << draw(st.integers(0, 7))
        elif kind == "set" and data:
            data[at] = draw(st.sampled_from([0, 1, 2, 0x3F, 0x40, 0x80, 0xBF, 0xFF]))
        elif kind == "cut":
            del data[at : at + draw(st.integers(1, 40))]
        elif kind == "insert":
            data[at:at] = draw(st.binary(max_size=9))
        else:
            other = seeds[draw(st.sampled_from(sorted(seeds)))]
            start = draw(st.integers(0, len(other)))
            data[at:at] = other[start : start + draw(st.integers(0, 200))]
    return bytes(data)


@pytest.mark.parametrize("name", WHOLE)
@short
@given(data=st.binary(max_size=300) | mutated())
@example(data=b"")
def test_decoders(name: str, data: bytes) -> None:
    only_ours(lambda: WHOLE[name](data))


@pytest.mark.parametrize("name", READERS)
@short
@given(data=mutated(), start=st.integers(0, 400))
def test_decoders_from_the_middle(name: str, data: bytes, start: int) -> None:
    only_ours(lambda: READERS[name](Reader(data, min(start, len(data)))))


def stays(group: Group, call: Callable[[], object]) -> None:
    """The call may succeed or raise ours; if it raises, nothing has changed."""
    before = snapshot(group)
    try:
        call()
    except E2eeError:
        assert snapshot(group) == before


def fresh() -> Group:
    """Give p1 in its state, so that a success does not matter to the next try."""
    room, seeds, _, _ = scene()
    return Group.load(
        seeds["epoch"],
        seeds["ratchets"],
        signature_private=room.people["p1"].signature_private,
        validator=ALLOW_ALL,
    )


@short
@given(st.binary(max_size=200) | mutated("commit", "sealed", "application"))
def test_process_commit(data: bytes) -> None:
    group = fresh()
    stays(group, lambda: group.process_commit(data, now=NOW))


@short
@given(st.binary(max_size=200) | mutated("application", "commit"))
def test_decrypt(data: bytes) -> None:
    group = fresh()
    stays(group, lambda: group.decrypt(data))


@short
@given(st.binary(max_size=200) | mutated("proposal", "leaving", "application"))
def test_receive_proposal(data: bytes) -> None:
    group = fresh()
    stays(group, lambda: group.receive_proposal(data))


@short
@given(
    st.binary(max_size=200) | mutated("welcome"),
    st.binary(max_size=50) | mutated("tree"),
)
def test_join(data: bytes, tree: bytes) -> None:
    room, seeds, bundle, key = scene()
    for message, given_tree in ((data, seeds["tree"]), (seeds["welcome"], tree)):
        only_ours(
            lambda m=message, t=given_tree: Group.join(  # type: ignore[misc]
                m,
                [bundle],
                signature_private=key,
                ratchet_tree=t,
                now=NOW,
                validator=room.validator,
            )
        )


@short
@given(mutated("commit", "proposal"), mutated("info"))
def test_hub(data: bytes, info: bytes) -> None:
    room, seeds, _, _ = scene()
    before = room.hub.encode()
    only_ours(lambda: room.hub.process_commit(data, seeds["info"], now=NOW))
    only_ours(lambda: room.hub.process_commit(seeds["commit"], info, now=NOW))
    only_ours(lambda: room.hub.receive_proposal(data))
    only_ours(
        lambda: PublicGroup.create(
            info, seeds["tree"], now=NOW, validator=room.validator
        )
    )
    assert room.hub.encode() == before


@short
@given(mutated("leaving", "remove", "proposal"))
def test_external_join_whatever_wants_to_leave(data: bytes) -> None:
    room, seeds, _, _ = scene()
    group, staged = Group.join_external(
        room["p0"].group_info(),
        ratchet_tree=seeds["tree"],
        signature_private=os.urandom(32),
        identity=b"r",
        leaving=[data],
        validator=room.validator,
    )
    assert group.epoch == staged.epoch + 1


@short
@given(mutated("package"))
def test_commit_of_any_key_package(data: bytes) -> None:
    group = fresh()
    stays(group, lambda: group.commit(add=[data], now=NOW))


@short
@given(mutated("epoch"), mutated("ratchets"))
def test_load(epoch: bytes, ratchets: bytes) -> None:
    seeds = scene()[1]
    only_ours(lambda: load_group(epoch, seeds["ratchets"], SUITE_3))
    only_ours(lambda: load_group(seeds["epoch"], ratchets, SUITE_3))


@short
@given(mutated("staged"))
def test_staged(data: bytes) -> None:
    group = fresh()
    try:
        staged = StagedCommit.decode(data)
    except E2eeError:
        return
    stays(group, lambda: group.apply_own(staged))
