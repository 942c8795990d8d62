"""The account log and credentials: what holds, and all that does not."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.account_log import (
    AccountState,
    LogFull,
    add_device,
    enter_by_root,
    make_credential,
    read_account_log,
    renew_device,
    revoke_device,
    rotate_ask,
)
from protocol.address import parse_account
from protocol.codec import decode, encode
from protocol.credential import DEVICE_LIFETIME, credential_device, read_credential
from protocol.errors import IdentityError
from protocol.key import KeyPair, Signed, login_secret, root_key, sign, verify
from protocol.limits import (
    ACCOUNT_LOG_ENTRIES,
    ACCOUNT_LOG_OPEN,
    ACCOUNT_LOG_TERM,
    DEVICES_MAX,
)
from tests.helpers.fuzz import fuzzing
from tests.helpers.people import NOW, Person, key

ALICE = parse_account("alice@example.org")


def test_a_log_with_devices_a_rotation_and_a_revocation_reads() -> None:
    alice = Person("alice@example.org")
    first, second = alice.device(), alice.device()
    new_ask = key()
    alice.log.append(rotate_ask(alice.state, alice.root, new_ask, NOW))
    alice.ask = new_ask
    third = alice.device()
    alice.log.append(revoke_device(alice.state, new_ask, second.address.device, NOW))

    state = read_account_log(ALICE, alice.log, root=alice.root.public)

    assert set(state.devices) == {first.address.device, third.address.device}
    assert state.revoked == {second.address.device: NOW}
    assert (state.seq, state.ask, state.ask_serial) == (6, new_ask.public, 2)
    # A device of the key before is still certified up to the root.
    identity = make_credential(state, first.address)
    assert read_credential(identity, NOW).device == first.address


def test_a_log_can_be_read_on_from_a_state() -> None:
    alice = Person("alice@example.org")
    state = alice.state
    alice.device()
    assert read_account_log(ALICE, alice.log[1:], after=state) == alice.state


def swap(log: list[bytes]) -> list[bytes]:
    return [log[0], log[2], log[1]]


def drop_middle(log: list[bytes]) -> list[bytes]:
    return [log[0], log[2]]


def repeat(log: list[bytes]) -> list[bytes]:
    return [*log, log[-1]]


def flip_signature(log: list[bytes]) -> list[bytes]:
    signed = decode(log[-1], Signed)
    bad = bytes([signed.signature[0] ^ 1]) + signed.signature[1:]
    return [*log[:-1], encode(Signed(signed.payload, bad))]


def no_genesis(log: list[bytes]) -> list[bytes]:
    return log[1:]


def empty(log: list[bytes]) -> list[bytes]:
    return []


@pytest.mark.parametrize(
    "damage", [swap, drop_middle, repeat, flip_signature, no_genesis, empty]
)
def test_a_damaged_log_is_refused(damage: Callable[[list[bytes]], list[bytes]]) -> None:
    alice = Person("alice@example.org")
    alice.device()
    alice.device()
    with pytest.raises(IdentityError):
        read_account_log(ALICE, damage(alice.log))


def test_another_root_than_the_pinned_one_is_refused() -> None:
    alice, impostor = Person("alice@example.org"), Person("alice@example.org")
    with pytest.raises(IdentityError, match="not the one known"):
        read_account_log(ALICE, impostor.log, root=alice.root.public)


def test_only_the_root_rotates_and_only_the_current_ask_adds() -> None:
    alice = Person("alice@example.org")
    with pytest.raises(IdentityError):
        forged = rotate_ask(alice.state, key(), key(), NOW)
        read_account_log(ALICE, [*alice.log, forged])
    old = alice.ask
    alice.log.append(rotate_ask(alice.state, alice.root, key(), NOW))
    alice.ask = old
    with pytest.raises(IdentityError):
        alice.device()


def test_a_log_of_another_account_is_refused() -> None:
    with pytest.raises(IdentityError):
        read_account_log(parse_account("bob@example.org"), Person(str(ALICE)).log)


def test_a_credential_holds_for_its_year_and_not_longer() -> None:
    terminal = Person("alice@example.org").device()
    credential = read_credential(terminal.credential, NOW + DEVICE_LIFETIME)
    assert credential.mls_key == terminal.mls.public
    assert credential_device(terminal.credential) == str(terminal.address)
    for then in (NOW - 2 * 24 * 3600, NOW + DEVICE_LIFETIME + 1):
        with pytest.raises(IdentityError):
            read_credential(terminal.credential, then)


def test_a_credential_with_certificates_of_two_accounts_is_refused() -> None:
    alice, bob = Person("alice@example.org"), Person("bob@example.org")
    ours = decode(alice.device().credential, list[object])
    theirs = decode(bob.device().credential, list[object])
    ours[2] = theirs[2]
    with pytest.raises(IdentityError):
        read_credential(encode(ours), NOW)


@pytest.mark.fuzz
@fuzzing
@given(st.data())
def test_a_mutated_credential_is_refused_or_means_the_same(data: st.DataObject) -> None:
    terminal = TERMINAL
    raw = bytearray(terminal.credential)
    where = data.draw(st.integers(0, len(raw) - 1))
    raw[where] ^= data.draw(st.integers(1, 255))
    try:
        credential = read_credential(bytes(raw), NOW)
    except IdentityError:
        return
    # Only the head of the account log, a hint, is outside the signatures.
    assert credential.device == terminal.address
    assert credential.mls_key == terminal.mls.public


@pytest.mark.fuzz
@fuzzing
@given(st.binary(max_size=600))
def test_random_bytes_are_no_identity(data: bytes) -> None:
    with pytest.raises(IdentityError):
        read_credential(data, NOW)
    with pytest.raises(IdentityError):
        read_account_log(ALICE, [data])


TERMINAL = Person("alice@example.org").device()


def test_a_signature_holds_for_its_label_alone() -> None:
    pair = key()
    signature = sign("device", pair, b"x")
    verify("device", pair.public, b"x", signature)
    for label, payload in (("ask", b"x"), ("device", b"y")):
        with pytest.raises(IdentityError):
            verify(label, pair.public, payload, signature)
    with pytest.raises(IdentityError):
        verify("device", pair.public[:31], b"x", signature)


def test_the_password_never_leaves_and_the_account_salts_it() -> None:
    secret = login_secret(ALICE, "correct horse")
    assert len(secret) == 32
    assert secret == login_secret(ALICE, "correct horse")
    assert secret != login_secret(parse_account("bob@example.org"), "correct horse")
    assert secret != login_secret(ALICE, "correct horsf")


def test_no_repr_shows_a_seed() -> None:
    pair = root_key(bytes(32))
    assert pair.seed.hex() not in repr(pair) and repr(pair.seed) not in repr(pair)
    assert pair == KeyPair.from_seed(pair.seed)


def test_a_device_is_renewed_with_its_keys_and_only_for_longer() -> None:
    person = Person("alice@example.org")
    terminal = person.device()
    name, late = terminal.address.device, NOW + DEVICE_LIFETIME - 1
    before = person.state
    entry = renew_device(before, person.ask, name, late)
    after = read_account_log(before.account, [entry], after=before)
    assert list(after.devices) == [name] and after.seq == before.seq + 1
    renewed = after.devices[name].certificate
    assert renewed.expires == late + DEVICE_LIFETIME
    assert renewed.mls_key == terminal.mls.public
    credential = make_credential(after, terminal.address)
    assert read_credential(credential, late + 2).device == terminal.address
    with pytest.raises(IdentityError, match="expired"):
        read_credential(terminal.credential, late + 2)
    # Not by another key, not for a shorter time, not for one that is no device.
    gone = revoke_device(before, person.ask, name, late)
    revoked = read_account_log(before.account, [gone], after=before)
    again = replace(before, seq=revoked.seq, head=revoked.head)
    for state, bad in (
        (before, renew_device(before, person.root, name, late)),
        (after, renew_device(after, person.ask, name, NOW)),
        (revoked, renew_device(again, person.ask, name, late)),
    ):
        with pytest.raises(IdentityError):
            read_account_log(before.account, [bad], after=state)


def fill(state: AccountState, ask: KeyPair, until: int) -> AccountState:
    """What a thief with the ASK does: devices that come and go, up to an entry."""
    while state.seq < until:
        name = next((d for d in state.devices if state.seq % 2), None)
        entry = (
            add_device(state, ask, key().public, key().public, NOW)
            if name is None
            else revoke_device(state, ask, name, NOW)
        )
        state = read_account_log(state.account, [entry], after=state)
    return state


def test_who_has_the_account_key_cannot_use_up_what_the_root_needs() -> None:
    alice = Person("alice@example.org")
    state, thief = fill(alice.state, alice.ask, ACCOUNT_LOG_OPEN), alice.ask

    def refused(ask: KeyPair, match: str) -> None:
        entry = add_device(state, ask, key().public, key().public, NOW)
        with pytest.raises(LogFull, match=match):
            read_account_log(state.account, [entry], after=state)

    refused(thief, "recovery phrase")
    with pytest.raises(IdentityError):
        forged = rotate_ask(state, thief, key(), NOW)
        read_account_log(state.account, [forged], after=state)
    # Each rotation opens room for a few entries, also when its key is stolen again.
    recoveries = 0
    while state.seq + 1 + ACCOUNT_LOG_TERM <= ACCOUNT_LOG_ENTRIES:
        ask = key()
        entry = rotate_ask(state, alice.root, ask, NOW)
        rotated = read_account_log(state.account, [entry], after=state)
        state = fill(rotated, ask, rotated.seq + ACCOUNT_LOG_TERM)
        refused(ask, "recovery phrase")
        recoveries += 1
    assert recoveries == 11
    # There is an end to it, in words that say what is left to do.
    while state.seq < ACCOUNT_LOG_ENTRIES:
        entry = rotate_ask(state, alice.root, key(), NOW)
        state = read_account_log(state.account, [entry], after=state)
    with pytest.raises(LogFull, match="new account"):
        enter_by_root(state, alice.root, key(), key().public, key().public, NOW)


def test_a_rotation_shortly_before_the_end_opens_no_more_than_any() -> None:
    alice = Person("alice@example.org")
    state = fill(alice.state, alice.ask, ACCOUNT_LOG_OPEN - 3)
    ask = key()
    entry = rotate_ask(state, alice.root, ask, NOW)
    rotated = read_account_log(state.account, [entry], after=state)
    state = fill(rotated, ask, rotated.seq + ACCOUNT_LOG_TERM)
    assert state.seq > ACCOUNT_LOG_OPEN
    with pytest.raises(LogFull):
        fill(state, ask, state.seq + 1)


def test_the_root_comes_in_where_no_device_has_room() -> None:
    alice = Person("alice@example.org", now=NOW)
    old = alice.device()
    alice.now += 1
    for _ in range(DEVICES_MAX - 2):
        alice.device()
    alice.now += 1
    last = alice.device()
    # The oldest was renewed: another one is the one that nobody cares for.
    alice.log.append(renew_device(alice.state, alice.ask, old.address.device, NOW + 9))
    state, ask, auth, mls = alice.state, key(), key(), key()
    with pytest.raises(LogFull, match="revoke one first"):
        entry = add_device(state, alice.ask, auth.public, mls.public, NOW + 10)
        read_account_log(ALICE, [entry], after=state)
    entries, after = enter_by_root(
        state, alice.root, ask, auth.public, mls.public, NOW + 10
    )
    assert len(entries) == 3 and len(after.devices) == DEVICES_MAX
    assert {old.address.device, last.address.device} <= set(after.devices)
    assert len(after.revoked) == 1 and after.ask == ask.public
    assert read_account_log(ALICE, [*alice.log, *entries]) == after
