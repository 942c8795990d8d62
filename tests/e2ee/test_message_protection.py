"""Application messages: sealed, padded, used once; every tampering is refused."""

from __future__ import annotations

import os

import pytest

from e2ee import Group, peek
from e2ee.codepoint import (
    GROUP_INFO,
    KEY_PACKAGE,
    MEMBER,
    PRIVATE_MESSAGE,
    PUBLIC_MESSAGE,
    WELCOME,
)
from e2ee.errors import (
    BadPadding,
    BadSignature,
    DecryptionFailed,
    E2eeError,
    GenerationTooFar,
    GenerationUsed,
    InvalidMessage,
    LimitExceeded,
    Malformed,
    OwnMessage,
    UnknownSender,
    UnsupportedVersion,
)
from e2ee.framing import (
    AuthData,
    FramedContent,
    PrivateMessage,
    PublicMessage,
    Sender,
    read_framed,
    wrap,
)
from e2ee.protection import (
    PADDING_BUCKETS,
    padded_size,
    protect_private,
    sign_content,
)
from e2ee.secret_tree import APPLICATION_RATCHET
from tests.e2ee.forging import seal, signed
from tests.e2ee.support import NOW, Room, bundle_for, reload, snapshot


@pytest.fixture
def room() -> Room:
    return Room.of(3)


def refused(group: Group, error: type[E2eeError], message: bytes) -> None:
    before = snapshot(group)
    with pytest.raises(error):
        group.decrypt(message)
    assert snapshot(group) == before


def private(message: bytes) -> PrivateMessage:
    framed = read_framed(message)
    assert isinstance(framed, PrivateMessage)
    return framed


def test_every_flipped_byte_is_refused(room: Room) -> None:
    message = room["p0"].encrypt(b"hello", authenticated_data=b"head")
    group = room["p1"]
    before = snapshot(group)
    for at in range(len(message)):
        wrong = bytearray(message)
        wrong[at] ^= 1 << (at % 8)
        with pytest.raises(E2eeError):
            group.decrypt(bytes(wrong))
        assert snapshot(group) == before
    for cut in range(len(message)):
        with pytest.raises(E2eeError):
            group.decrypt(message[:cut])
    assert group.decrypt(message).content == b"hello"


def test_a_replay_is_refused_even_after_a_restart(room: Room) -> None:
    message = room["p0"].encrypt(b"once")
    room["p1"].decrypt(message)
    refused(room["p1"], GenerationUsed, message)
    reload(room.people["p1"])
    refused(room["p1"], GenerationUsed, message)


def test_our_own_message_is_named(room: Room) -> None:
    refused(room["p0"], OwnMessage, room["p0"].encrypt(b"x"))


def test_messages_come_in_any_order(room: Room) -> None:
    messages = [room["p0"].encrypt(b"%d" % number) for number in range(20)]
    for number in (19, 3, 0, 7, *reversed(range(8, 19)), 1, 2, 4, 5, 6):
        reload(room.people["p1"])
        got = room["p1"].decrypt(messages[number])
        assert (got.content, got.generation) == (b"%d" % number, number)


def test_a_message_from_far_ahead_is_refused(room: Room) -> None:
    group = room["p0"]
    found = group._ratchets.find(0, APPLICATION_RATCHET, 1_000)
    group._ratchets.consume(found)
    refused(room["p1"], GenerationTooFar, group.encrypt(b"x"))


def test_generations_are_never_used_twice_by_the_sender(room: Room) -> None:
    group = room["p0"]
    generations = []
    for _ in range(3):
        message = group.encrypt(b"same")
        reload(room.people["p0"])
        group = room["p0"]
        generations.append(room["p1"].decrypt(message).generation)
    assert generations == [0, 1, 2]


def test_the_reuse_guard_saves_us_after_a_rollback(room: Room) -> None:
    person = room.people["p0"]
    epoch, ratchets = snapshot(person.group)
    one = private(person.group.encrypt(b"same content"))
    person.group = Group.load(
        epoch,
        ratchets,
        signature_private=person.signature_private,
        validator=room.validator,
    )
    two = private(person.group.encrypt(b"same content"))
    assert one.ciphertext != two.ciphertext
    assert one.encrypted_sender_data != two.encrypted_sender_data


def test_sizes_fall_into_buckets(room: Room) -> None:
    sizes = {len(private(room["p0"].encrypt(bytes(n))).ciphertext) for n in range(160)}
    assert sizes == {256 + 16}
    for size in (1, 256, 257, 512, 513, 1024):
        assert padded_size(size) in PADDING_BUCKETS
    for size in (*range(1025, 5000, 7), 70_000, 1_000_003):
        assert size <= padded_size(size) <= size * 1.12
        assert padded_size(padded_size(size)) == padded_size(size)


def test_padding_must_be_zero(room: Room) -> None:
    group = room["p0"]
    good = seal(group, signed(group, b"x") + bytes(100))
    assert room["p1"].decrypt(good).content == b"x"
    for padding in (b"\1", bytes(99) + b"\1", b"\1" + bytes(99)):
        refused(room["p1"], BadPadding, seal(group, signed(group, b"x") + padding))


def test_members_cannot_sign_for_each_other(room: Room) -> None:
    group = room["p0"]
    refused(room["p1"], BadSignature, seal(group, signed(group, b"x", os.urandom(32))))


def test_sender_data_must_name_a_member(room: Room) -> None:
    group = room["p0"]
    plain = signed(group, b"x")
    refused(room["p1"], DecryptionFailed, seal(group, plain, leaf=2))
    refused(room["p1"], UnknownSender, seal(group, plain, leaf=2**32 - 1))
    refused(room["p1"], OwnMessage, seal(group, plain, leaf=1))
    refused(room["p1"], GenerationTooFar, seal(group, plain, generation=2**32 - 1))
    room.commit("p0", remove=("p2",))
    room.add("p0", "q0", "q1")
    room.commit("p0", remove=("q0",))
    blank = 2
    refused(room["p1"], E2eeError, seal(group, plain, leaf=blank))


def test_plaintext_that_is_no_content(room: Room) -> None:
    group = room["p0"]
    for plain in (b"", b"\x05ab", signed(group, b"x")[:-1], b"\xff" * 40):
        refused(room["p1"], Malformed, seal(group, plain))


def test_only_application_messages_are_decrypted(room: Room) -> None:
    framed = FramedContent.make(b"room", 3, Sender(MEMBER, 0), b"", b"in the clear")
    clear = PublicMessage(framed, AuthData(bytes(64), None), bytes(32))
    refused(room["p1"], InvalidMessage, wrap(PUBLIC_MESSAGE, clear.encode()))
    commit = room["p0"].commit(now=NOW).commit
    refused(room["p1"], InvalidMessage, commit)
    refused(room["p1"], Malformed, b"")
    refused(room["p1"], Malformed, b"\0\1\0\3")
    refused(room["p1"], UnsupportedVersion, b"\0\2" + commit[2:])
    refused(room["p1"], LimitExceeded, bytes(1024 * 1024 + 1))


def test_an_application_message_in_the_clear_is_refused_everywhere(room: Room) -> None:
    from e2ee.framing import AuthenticatedContent

    group = room["p0"]
    framed = FramedContent.make(
        group.group_id, group.epoch, Sender(MEMBER, 0), b"", b"clear"
    )
    message = AuthenticatedContent(PUBLIC_MESSAGE, framed, AuthData(bytes(64), None))
    from e2ee.errors import Misuse
    from e2ee.protection import protect_public

    with pytest.raises(Misuse):
        protect_public(group.suite, bytes(32), message, b"")


def test_handshakes_may_come_encrypted(room: Room) -> None:
    """We send PublicMessages; a PrivateMessage is understood."""
    group = room["p0"]
    from e2ee.codepoint import PROPOSAL
    from e2ee.proposal import Remove

    framed = FramedContent.make(
        group.group_id, group.epoch, Sender(MEMBER, 0), b"", Remove(2)
    )
    assert framed.content_type == PROPOSAL
    signature = sign_content(
        group.suite,
        group._signature_private,
        PRIVATE_MESSAGE,
        framed,
        group._epoch.encoded_context,
    )
    message = protect_private(
        group.suite,
        group._epoch.secrets.sender_data_secret,
        group._ratchets,
        framed,
        AuthData(signature, None),
    )
    encoded = wrap(PRIVATE_MESSAGE, message.encode())
    assert room["p1"].receive_proposal(encoded).kind == "remove"
    with pytest.raises(GenerationUsed):
        room["p1"].receive_proposal(encoded)
    with pytest.raises(InvalidMessage):
        room.hub.receive_proposal(encoded)


def test_peeking_needs_no_secret(room: Room) -> None:
    bundle = bundle_for("q", os.urandom(32))
    staged = room["p0"].commit(add=[bundle.key_package], now=NOW)
    epoch = room["p0"].epoch
    for message, expected in (
        (room["p0"].encrypt(b"x"), (PRIVATE_MESSAGE, b"room", epoch, "application")),
        (staged.commit, (PUBLIC_MESSAGE, b"room", epoch, "commit")),
        (
            room["p0"].propose_remove(1),
            (PUBLIC_MESSAGE, b"room", epoch, "proposal"),
        ),
        (staged.group_info, (GROUP_INFO, b"room", epoch + 1, None)),
        (staged.welcomes[0][1], (WELCOME, None, None, None)),
        (wrap(KEY_PACKAGE, bundle.key_package), (KEY_PACKAGE, None, None, None)),
    ):
        got = peek(message)
        assert (got.wire_format, got.group_id, got.epoch, got.content_type) == expected
    for wrong in (b"", b"\0\1", b"\0\1\0\0", b"\0\1\0\6", b"\0\1\0\1\0", b"\0\2\0\1"):
        with pytest.raises(E2eeError):
            peek(wrong)
