"""Thieves of account keys and of phrases: what they cannot do, and who is told."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest

from client import Client
from client.account import contacts, logs, vouching
from client.account.me import get_meta
from client.archive import Kind, begin, read_archive, write_archive
from client.enrol.phrase import read_phrase
from client.errors import (
    BackupFailed,
    LinkRefused,
    PhraseNeeded,
    RecoveryFull,
)
from client.model import Device, Trust
from client.storage.store import Tx
from client.verification import trust
from protocol.account_log import (
    AccountState,
    add_device,
    read_account_log,
    revoke_device,
    rotate_ask,
)
from protocol.address import AccountAddress, parse_account
from protocol.codec import encode
from protocol.errors import IdentityError
from protocol.key import KeyPair, root_key, sign
from protocol.limits import ACCOUNT_LOG_ENTRIES, ACCOUNT_LOG_OPEN, DEVICES_MAX
from protocol.whole import WHOLE_MAX
from tests.client.archives import KEY, VAULT, make
from tests.client.conftest import Join
from tests.client.fake_node import FakeNode
from tests.client.home import Home, home
from tests.client.home import running as linked
from tests.client.lies import at_once
from tests.client.own_devices import set_register
from tests.client.people import (
    ALICE,
    BOB,
    PASSWORD,
    online,
    profile,
    until,
)
from tests.helpers.people import Person, key

__all__ = ["at_once", "home"]

GRACE = 601
"""Seconds until a device that nobody vouches for is an alarm."""


def state_of(fake: FakeNode) -> AccountState:
    return read_account_log(parse_account(ALICE), fake.accounts[ALICE])


def ask_of(client: Client) -> KeyPair:
    ask = client._me.ask
    assert ask is not None
    return ask


def add_ghost(fake: FakeNode, ask: KeyPair, now: int) -> str:
    """A device that whoever stole the account signing key adds; its short id."""
    before = state_of(fake)
    ghost, mls = key(), key()
    fake.accounts[ALICE].append(add_device(before, ask, ghost.public, mls.public, now))
    (name,) = set(state_of(fake).devices) - set(before.devices)
    return name


def fill(fake: FakeNode, ask: KeyPair, now: int, until: int) -> None:
    """Devices that come and go, until the log has so many entries."""
    state, log = state_of(fake), fake.accounts[ALICE]
    gone = ""
    while state.seq < until:
        if gone:
            entry, gone = revoke_device(state, ask, gone, now), ""
            state = read_account_log(state.account, [entry], after=state)
        else:
            entry, old = add_device(state, ask, key().public, key().public, now), state
            state = read_account_log(state.account, [entry], after=state)
            (gone,) = set(state.devices) - set(old.devices)
        log.append(entry)


async def codes_after_a_while(client: Client) -> list[str]:
    """The alarms, once nobody may vouch for a device any more."""
    await client._audit.settle()
    client._clock.offset += GRACE
    await client._audit.settle()
    return [alarm.code for alarm in await client.alarms()]


async def listed(client: Client) -> dict[str, Device]:
    """The devices that count, by their short ids."""
    found = await client.devices.list()
    return {d.id.rpartition("/")[2]: d for d in found if not d.revoked}


@asynccontextmanager
async def registered(
    fake: FakeNode, tmp_path: Path
) -> AsyncIterator[tuple[Client, str]]:
    laptop, words = await Client.register(
        profile(tmp_path, "laptop", fake.url), ALICE, invite="", password=PASSWORD
    )
    async with laptop:
        yield await online(laptop), " ".join(words)


async def recovered(fake: FakeNode, tmp_path: Path, words: str) -> Client:
    return await Client.recover(
        profile(tmp_path, "new", fake.url),
        ALICE,
        phrase=words,
        password="another password",
    )


# --- a device that a thief adds ---------------------------------------------------


@pytest.mark.parametrize("phrase", [False, True])
async def test_who_revokes_a_device_vouches_for_no_other(
    fake: FakeNode, home: Home, phrase: bool
) -> None:
    """A ghost comes between two looks; then the owner changes the list themselves."""
    laptop = home.laptop
    async with linked(await home.link("phone")) as phone:
        ghost = add_ghost(fake, ask_of(laptop), laptop._clock.now())
        words = home.phrase if phrase else None
        await laptop.devices.revoke(phone.device, phrase=words)
    own = await laptop._store.run(vouching.own_devices)
    assert ghost not in own.seen | own.vouched
    assert await codes_after_a_while(laptop) == ["device_list_false"]
    devices = await listed(laptop)
    assert [name for name, d in devices.items() if d.doubtful] == [ghost]


async def test_a_device_does_not_vouch_for_itself_nor_may_another_thief(
    fake: FakeNode, home: Home
) -> None:
    laptop = home.laptop
    first, second = key(), key()
    now, ask = laptop._clock.now(), ask_of(laptop)
    names: list[str] = []
    for ghost in (first, second):
        before = state_of(fake)
        entry = add_device(before, ask, ghost.public, key().public, now)
        fake.accounts[ALICE].append(entry)
        names += set(state_of(fake).devices) - set(before.devices)
    for name in names:
        address = f"{ALICE}/{name}"
        # Both say that the first one added it; and it does stand in the list.
        signature = sign("vouch", first, address.encode())
        value = encode((names[0], signature))
        await set_register(laptop, vouching.REGISTER, address, value)
    await laptop.devices.check()
    assert await codes_after_a_while(laptop) == ["device_list_false"] * 2
    assert {n for n, d in (await listed(laptop)).items() if d.doubtful} == set(names)


async def test_an_honest_device_is_vouched_for(home: Home) -> None:
    laptop = home.laptop
    async with linked(await home.link("phone", manager=True)) as phone:
        await phone._store.run(phone.verification.share)
        for client in (laptop, phone):
            assert await codes_after_a_while(client) == []
            assert not any(d.doubtful for d in await client.devices.list())


async def test_any_bytes_are_no_vouch(fake: FakeNode, home: Home) -> None:
    laptop = home.laptop
    ghost = add_ghost(fake, ask_of(laptop), laptop._clock.now())
    state, device = state_of(fake), f"{ALICE}/{ghost}"
    own = laptop.device.rpartition("/")[2]
    for value in (
        b"\x01",
        b"\xc1",
        encode((own, b"")),
        encode((own, bytes(64))),
        encode(("", bytes(64))),
        encode((own, sign("vouch", key(), device.encode()))),
        encode((own, sign("account", laptop._me.auth, device.encode()))),
    ):
        await set_register(laptop, vouching.REGISTER, device, value)

        def look(tx: Tx) -> bool:
            return vouching.is_vouched(tx, state, ghost)

        assert not await laptop._store.run(look), value
    good = encode((own, sign("vouch", laptop._me.auth, device.encode())))
    await set_register(laptop, vouching.REGISTER, device, good)
    assert await laptop._store.run(look)


# --- a thief with the words -------------------------------------------------------


@pytest.mark.parametrize("how", ["recover", "login"])
async def test_the_use_of_the_words_is_told_to_the_other_devices(
    fake: FakeNode, tmp_path: Path, how: str
) -> None:
    async with registered(fake, tmp_path) as (laptop, words):
        if how == "recover":
            thief = await recovered(fake, tmp_path, words)
        else:
            place = profile(tmp_path, "new", fake.url)
            thief = await Client.login(place, ALICE, password=PASSWORD, phrase=words)
        async with thief:
            await online(thief)
            await laptop._audit.settle()
            (alarm,) = await until(laptop.alarms)
            assert alarm.code == "recovered"
            assert "24 words" in alarm.text and thief.device in alarm.text
            assert thief.device in alarm.evidence
            # Once, and the one who used them needs not be told.
            assert await codes_after_a_while(laptop) == ["recovered"]
            assert await codes_after_a_while(thief) == []


async def test_who_sets_a_key_quietly_and_comes_later_is_in_doubt(
    fake: FakeNode, home: Home
) -> None:
    """A thief with the words and a program of their own parts the two entries."""
    laptop = home.laptop
    root, ask, now = _root(home), key(), laptop._clock.now()
    fake.accounts[ALICE].append(rotate_ask(state_of(fake), root, ask, now))
    await laptop.devices.check()
    add_ghost(fake, ask, now)
    await laptop.devices.check()
    assert await codes_after_a_while(laptop) == ["device_list_false"]


def _root(home: Home) -> KeyPair:
    return root_key(read_phrase(home.phrase))


@pytest.mark.parametrize("time", [-1, 0, 1 << 40, WHOLE_MAX])
async def test_no_time_that_a_thief_writes_hides_them(
    fake: FakeNode, home: Home, time: int
) -> None:
    ask = key()
    rotation = rotate_ask(state_of(fake), _root(home), ask, time)
    fake.accounts[ALICE].append(rotation)
    add_ghost(fake, ask, home.laptop._clock.now())
    await home.laptop.devices.check()
    assert [a.code for a in await home.laptop.alarms()] == ["recovered"]


async def test_a_list_with_a_time_that_nobody_can_store_is_not_taken(
    fake: FakeNode, home: Home
) -> None:
    before = state_of(fake)
    fake.accounts[ALICE].append(rotate_ask(before, _root(home), key(), 1 << 63))
    with pytest.raises(IdentityError):
        state_of(fake)
    await home.laptop.devices.check()
    assert [a.code for a in await home.laptop.alarms()] == ["bad_account_log"]


# --- a thief who uses up the list -------------------------------------------------


async def test_thirty_two_devices_of_a_thief_keep_nobody_out(
    fake: FakeNode, tmp_path: Path
) -> None:
    async with registered(fake, tmp_path) as (laptop, words):
        ask, now = ask_of(laptop), laptop._clock.now()
        for _ in range(DEVICES_MAX - 1):
            add_ghost(fake, ask, now + 1)
        client = await recovered(fake, tmp_path, words)
        async with client:
            devices = await listed(client)
    assert client.device.rpartition("/")[2] in devices
    assert len(devices) == DEVICES_MAX
    doubtful = [d for d in devices.values() if d.doubtful]
    assert len(doubtful) >= DEVICES_MAX - 2 and not any(d.own for d in doubtful)
    assert [d.id for d in devices.values() if d.manager] == [client.device]


async def test_a_list_that_a_thief_filled_is_the_owners_with_the_words(
    fake: FakeNode, home: Home
) -> None:
    laptop = home.laptop
    fill(fake, ask_of(laptop), laptop._clock.now(), ACCOUNT_LOG_OPEN - 1)
    ghost = f"{ALICE}/{add_ghost(fake, ask_of(laptop), laptop._clock.now())}"
    assert state_of(fake).seq == ACCOUNT_LOG_OPEN
    # What the key alone could do before takes the words now, and says so.
    with pytest.raises(PhraseNeeded, match="nearly full"):
        await laptop.devices.revoke(ghost)
    async with home.linking("phone") as linking:
        offer = await laptop.devices.look(linking.request.code)
        with pytest.raises(LinkRefused, match="nearly full"):
            await laptop.devices.approve(offer)
    await laptop.devices.revoke(ghost, phrase=home.phrase)
    assert ghost.rpartition("/")[2] not in await listed(laptop)
    client = await recovered(fake, home.tmp_path, home.phrase)
    async with client:
        assert client.device.rpartition("/")[2] in await listed(client)


async def test_certificates_that_cannot_be_renewed_are_told_in_time(
    fake: FakeNode, tmp_path: Path
) -> None:
    fake.offset = -300 * 24 * 3600
    async with registered(fake, tmp_path) as (laptop, _):
        ask, now = ask_of(laptop), laptop._clock.now()
    fill(fake, ask, now, ACCOUNT_LOG_OPEN)
    fake.offset = 7 * 24 * 3600
    place = profile(tmp_path, "laptop", fake.url)
    async with await Client.open(place, password=PASSWORD) as laptop:
        await online(laptop)

        async def codes() -> set[str]:
            return {alarm.code for alarm in await laptop.alarms()}

        await until(codes, lambda found: "account_log_full" in found)
        alarms = await laptop.alarms()
    (text,) = (a.text for a in alarms if a.code == "account_log_full")
    assert "phrase" in text and "revoke" in text


async def test_a_list_that_is_full_for_good_says_so(
    fake: FakeNode, home: Home, tmp_path: Path
) -> None:
    root, now = _root(home), home.laptop._clock.now()
    fill(fake, ask_of(home.laptop), now, ACCOUNT_LOG_OPEN)
    state, fresh = state_of(fake), []
    while state.seq < ACCOUNT_LOG_ENTRIES:
        fresh.append(rotate_ask(state, root, key(), now))
        state = read_account_log(state.account, fresh[-1:], after=state)
    fake.accounts[ALICE] += fresh
    with pytest.raises(RecoveryFull, match="Make a new account"):
        await recovered(fake, tmp_path, home.phrase)
    assert not profile(tmp_path, "new", fake.url).exists()


async def test_a_long_log_is_verified_once_and_off_the_event_loop(
    fake: FakeNode, home: Home, join: Join, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[tuple[int, bool]] = []

    def watched(
        account: AccountAddress,
        entries: list[bytes],
        after: AccountState | None = None,
    ) -> AccountState:
        main = threading.current_thread() is threading.main_thread()
        read.append((len(entries), main))
        return read_account_log(account, entries, after=after)

    ask, now = ask_of(home.laptop), home.laptop._clock.now()
    fill(fake, ask, now, 300)
    bob = await join("bob")
    await home.laptop._stop()  # it would read its own log here too
    logs._states.clear()
    monkeypatch.setattr(logs, "read_account_log", watched)
    for _ in range(5):
        assert (await bob._contacts.refresh(ALICE)).seq == 300
    fill(fake, ask, now, 302)
    assert (await bob._contacts.refresh(ALICE)).seq == 302
    counts = [n for n, _ in read]
    assert counts.count(300) == 1
    # Bob's client hears of the change itself: two at once may both read what is new.
    assert set(counts) == {2, 300}
    assert not any(main for _, main in read)


# --- what an archive and a link bring -----------------------------------------------


async def test_an_archive_brings_back_no_verification_that_was_withdrawn(
    tmp_path: Path,
) -> None:
    old, here, new = (make(tmp_path / name) for name in ("old", "here", "new"))
    bob = Person(BOB)
    bob.device()

    def meet(tx: Tx) -> None:
        contacts.save_account(tx, bob.state, bob.log)

    for store in (old, here):
        await store.run(meet)
    await old.run(lambda tx: trust.set_verified(tx, BOB, True))
    shelf: dict[int, bytes] = {}

    async def sink(n: int, data: bytes) -> None:
        shelf[n] = data

    async def source(n: int) -> bytes | None:
        return shelf.get(n)

    await old.run(lambda tx: begin(tx, VAULT, Kind.BACKUP, KEY))
    await write_archive(old, VAULT, sink)
    for verified in (True, False):
        await here.run(partial(trust.set_verified, account=BOB, verified=verified))
    for store in (here, new):
        await store.run(lambda tx: begin(tx, VAULT, Kind.RESTORE, KEY))
        await read_archive(store, VAULT, source)
    look = partial(trust.trust_of, account=BOB)
    assert await here.run(look) is Trust.UNVERIFIED
    assert await new.run(look) is Trust.VERIFIED
    # Taken back where it was restored, it does not come back there either.
    other = "e" * 32
    await new.run(partial(trust.set_verified, account=BOB, verified=False))
    shelf.clear()
    await old.run(lambda tx: begin(tx, other, Kind.TRANSFER, KEY))
    await write_archive(old, other, sink)
    await new.run(lambda tx: begin(tx, other, Kind.RESTORE, KEY))
    await read_archive(new, other, source)
    assert await new.run(look) is Trust.UNVERIFIED
    for store in (old, here, new):
        await store.close()


@pytest.mark.parametrize("history", [False, True])
async def test_the_backup_key_goes_with_the_history_and_not_without(
    home: Home, history: bool
) -> None:
    phone = await home.link("phone", history=history)
    async with linked(phone):
        keys = [
            await client._store.run(lambda tx: get_meta(tx, "backup_key"))
            for client in (home.laptop, phone)
        ]
        assert keys[0] and (keys[0] == keys[1]) is history
        status = await phone.backup.status()
        assert status.enabled is history
        if history:
            assert status.error == ""
            return
        assert keys[1] is None and "recovery phrase" in status.error
        with pytest.raises(BackupFailed, match="recovery phrase"):
            await phone.backup.enable()
        await phone.backup.enable(phrase=home.phrase)
        status = await phone.backup.status()
        assert status.enabled and status.error == ""
