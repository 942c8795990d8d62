"""Recovery: the root key takes an account back, and nothing less does."""

import os
import time
from copy import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.accounts.recovery import BURST
from node.admin import disable
from node.app import Node
from protocol.account_log import rotate_ask
from protocol.codec import decode, encode
from protocol.errors import (
    AccountDisabled,
    BadIdentity,
    BadLogin,
    BadRecovery,
    BadRequest,
    LogForked,
    Malformed,
    NodeBusy,
    Replayed,
    SignatureExpired,
    SignatureMissing,
    TooMany,
    UnknownKey,
)
from protocol.key import KeyPair, Signed, sign
from protocol.limits import CLOCK_FUTURE, CLOCK_PAST
from protocol.log import GENESIS, chain
from protocol.wire import AccountLog, AddDevice, Login, Recover, RecoverProof
from tests.helpers.fuzz import fuzzing
from tests.helpers.people import Person, key
from tests.node.phone import Phone, phone

PATH = "/telex/v1/accounts/alice/recover"
NEW = b"n" * 32


def proof(
    account: str,
    root: KeyPair,
    *,
    at: float = 0,
    nonce: bytes | None = None,
    label: str = "recover",
) -> Signed:
    """A proof by a root key; `at` in seconds from now."""
    nonce = os.urandom(16) if nonce is None else nonce
    payload = encode(RecoverProof(account, int(time.time() + at), nonce))
    return Signed(payload, sign(label, root, payload))


def of(device: Phone) -> Signed:
    return proof(device.account, device.person.root)


async def recover(device: Phone, body: Recover, path: str = PATH) -> AccountLog:
    """Ask, signed by the device."""
    return await device.call("POST", path, body, AccountLog)


def twin(person: Person, log: list[bytes]) -> Person:
    """The same person with another future."""
    other = copy(person)
    other.log = list(log)
    return other


def takeover(person: Person) -> list[bytes]:
    """Rotate a person's account key; the phone that comes next adds its device."""
    now, ask = int(time.time()), key()
    person.log.append(rotate_ask(person.state, person.root, ask, now))
    person.ask = ask
    return person.log


async def test_the_root_takes_an_account_back(node: Node, alice: Phone) -> None:
    shown = await alice.call("POST", PATH, Recover(of(alice)), AccountLog)
    assert shown.entries == alice.person.log
    takeover(alice.person)
    async with phone(node, "alice", person=alice.person) as second:
        entries = second.person.log[-2:]
        log = await recover(second, Recover(of(alice), entries, NEW))
        assert log.entries == second.person.log
        # The answer was lost: the same entries with another proof change nothing.
        assert await recover(second, Recover(of(alice), entries, NEW)) == log
        assert (await second.upload_packages()).last_resort
        path = "/telex/v1/accounts/alice/login"
        assert await second.call("POST", path, Login(NEW), AccountLog) == log
        with pytest.raises(BadLogin):
            await second.call("POST", path, Login(b"s" * 32), AccountLog)


async def test_a_stolen_device_and_the_password_are_not_enough(
    node: Node, alice: Phone
) -> None:
    """A thief has a device's keys, the ASK and the password, but not the root."""
    thief = alice
    before = list(alice.person.log)
    for stolen in (thief.terminal.auth, thief.terminal.mls, alice.person.ask):
        with pytest.raises(BadRecovery):
            await recover(thief, Recover(proof(alice.account, stolen)))
    # A proof went by, which the thief can use once and before its owner: it shows
    # the log, but a new ASK is the root's to make.
    now, false, ask = int(time.time()), key(), key()
    async with phone(node, "alice", person=alice.person) as planted:
        only_device = planted.person.log[-1:]
        body = Recover(of(alice), only_device, NEW)
        with pytest.raises(BadIdentity, match="new account signing key"):
            await recover(planted, body)
    state = twin(alice.person, before).state
    forged = rotate_ask(state, false, ask, now)
    with pytest.raises(BadIdentity):
        await recover(thief, Recover(of(alice), [forged], NEW))
    own = rotate_ask(state, alice.person.root, ask, now)
    with pytest.raises(UnknownKey, match="the recovery adds"):
        await recover(thief, Recover(of(alice), [own], NEW))
    # With the password: entries by the stolen ASK add a device, and no more.
    path = "/telex/v1/accounts/alice/devices"
    with pytest.raises(BadIdentity):
        await thief.call("POST", path, AddDevice(b"s" * 32, [forged]), AccountLog)
    path = "/telex/v1/accounts/alice/login"
    log = await thief.call("POST", path, Login(b"s" * 32), AccountLog)
    assert log.entries == before


async def test_unknown_accounts_and_wrong_roots_are_told_alike(
    alice: Phone,
) -> None:
    seen = []
    for name, root in (
        ("alice", key()),
        ("nobody", key()),
        ("nobody", alice.person.root),
    ):
        account = f"{name}@{alice.name}"
        body = encode(Recover(proof(account, root)))
        status, _, content = await alice.send(
            "POST", f"/telex/v1/accounts/{name}/recover", body
        )
        seen.append((status, content))
    assert len(set(seen)) == 1 and seen[0][0] == BadRecovery.status


async def test_a_proof_is_for_one_account_one_label_and_now(alice: Phone) -> None:
    root = alice.person.root
    for bad, expected in (
        (proof(f"bob@{alice.name}", root), BadRecovery),
        (proof("alice@elsewhere.example", root), BadRecovery),
        (proof(alice.account, root, label="account"), BadRecovery),
        (proof(alice.account, root, at=-CLOCK_PAST - 5), SignatureExpired),
        (proof(alice.account, root, at=CLOCK_FUTURE + 5), SignatureExpired),
        (proof(alice.account, root, nonce=b""), BadRequest),
        (proof(alice.account, root, nonce=bytes(17)), BadRequest),
        (Signed(b"no proof", bytes(64)), BadRequest),
        (Signed(of(alice).payload, b"short"), BadRecovery),
        (Signed(of(alice).payload, bytes(64)), BadRecovery),
    ):
        with pytest.raises(expected):
            await recover(alice, Recover(bad))


async def test_a_proof_is_taken_once(alice: Phone) -> None:
    body = Recover(of(alice))
    await recover(alice, body)
    with pytest.raises(Replayed):
        await recover(alice, body)
    # Who cannot sign uses up nobody's nonce.
    nonce = os.urandom(16)
    with pytest.raises(BadRecovery):
        await recover(alice, Recover(proof(alice.account, key(), nonce=nonce)))
    await recover(alice, Recover(proof(alice.account, alice.person.root, nonce=nonce)))


async def test_the_new_device_signs(node: Node, alice: Phone, bob: Phone) -> None:
    takeover(alice.person)
    async with phone(node, "alice", person=alice.person) as second:
        entries = second.person.log[-2:]
        for secret in (b"", b"short", bytes(33)):
            with pytest.raises(BadRequest):
                await recover(second, Recover(of(alice), entries, secret))
        for signer in (alice, bob):
            with pytest.raises(UnknownKey):
                await recover(signer, Recover(of(alice), entries, NEW))
        body = encode(Recover(of(alice), entries, NEW))
        headers = {"Content-Type": "application/msgpack"}
        status, _, content = await second.send("POST", PATH, body, headers=headers)
        assert (status, SignatureMissing.code.encode() in content) == (401, True)
        forged = second.headers("POST", PATH, "", body, private_key=bytes(32))
        body = encode(Recover(of(alice), entries, NEW))
        status, _, content = await second.send("POST", PATH, body, headers=forged)
        assert status == 401
        # Nothing of all this did anything.
        path = "/telex/v1/accounts/alice/login"
        log = await second.call("POST", path, Login(b"s" * 32), AccountLog)
        assert len(log.entries) == len(second.person.log) - 2
        for wrong in ([], entries[1:], entries[::-1], entries * 5, [b"junk"]):
            if wrong:
                with pytest.raises((BadIdentity, BadRequest, LogForked)):
                    await recover(second, Recover(of(alice), wrong, NEW))
        await recover(second, Recover(of(alice), entries, NEW))


async def test_another_device_that_came_first_wins(node: Node, alice: Phone) -> None:
    takeover(alice.person)
    other = twin(alice.person, alice.person.log)
    async with phone(node, "alice", person=alice.person) as second:
        mine = alice.person.log[-2:]
        await recover(second, Recover(of(alice), mine, NEW))
        async with phone(node, "alice", person=other) as third:
            with pytest.raises((LogForked, BadIdentity)):
                await recover(third, Recover(of(alice), other.log[-2:], b"t" * 32))
        path = "/telex/v1/accounts/alice/login"
        await second.call("POST", path, Login(NEW), AccountLog)


async def test_failures_from_anywhere_lock_no_owner_out(
    alice: Phone, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A signature cannot be guessed: who has the root key is let in at once."""
    monkeypatch.setattr("node.api.patience.PENALTY", 0.0)
    refused = []
    for _ in range(int(BURST) + 5):
        with pytest.raises((BadRecovery, TooMany)) as caught:
            await recover(alice, Recover(proof(alice.account, key())))
        refused.append(caught.type)
    assert refused[0] is BadRecovery and refused[-1] is TooMany
    # Even from the address that failed so often.
    log = await recover(alice, Recover(of(alice)))
    assert log.entries == alice.person.log


async def test_a_disabled_account_stays_disabled(node: Node, alice: Phone) -> None:
    disable(node.settings, "alice", True)
    with pytest.raises(AccountDisabled):
        await recover(alice, Recover(of(alice)))
    with pytest.raises(BadRecovery):
        await recover(alice, Recover(proof(alice.account, key())))


async def test_the_new_secret_is_hashed_off_the_loop_and_whole(
    node: Node, alice: Phone, monkeypatch: pytest.MonkeyPatch
) -> None:
    takeover(alice.person)
    async with phone(node, "alice", person=alice.person) as second:
        body = Recover(of(alice), second.person.log[-2:], NEW)

        async def busy(*_: object) -> bytes:
            raise NodeBusy()

        with monkeypatch.context() as patch:
            patch.setattr(type(node.recovery._hasher), "make", busy)
            with pytest.raises(NodeBusy):
                await recover(second, body)
        with pytest.raises(UnknownKey):  # neither device nor password came in
            await second.upload_packages()
        path = "/telex/v1/accounts/alice/login"
        await second.call("POST", path, Login(b"s" * 32), AccountLog)


async def test_account_logs_say_how_long_they_are(alice: Phone, bob: Phone) -> None:
    digest = GENESIS
    for entry in alice.person.log:
        digest = chain(digest, entry)
    path = f"/telex/v1/accounts/{alice.account}/log"
    for after in (0, 1, 2, 9):
        log = await bob.call("GET", path, None, AccountLog, query=f"after={after}")
        assert (log.seq, log.hash) == (len(alice.person.log), digest)
        assert log.entries == alice.person.log[after:]
    assert alice.person.state.head == digest


@pytest.mark.fuzz
@fuzzing
@given(st.binary(max_size=200))
def test_random_bytes_are_a_proof_or_malformed(data: bytes) -> None:
    for kind in (Recover, RecoverProof):
        try:
            decode(data, kind)
        except Malformed as error:
            assert str(error).isprintable()
