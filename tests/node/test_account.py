"""Accounts: registering, invites, logging in, devices, key packages."""

import asyncio
import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from node.admin import disable, invite
from node.app import Node
from protocol.account_log import add_device, renew_device, revoke_device, rotate_ask
from protocol.credential import DEVICE_LIFETIME
from protocol.errors import (
    AccountDisabled,
    AccountTaken,
    BadAddress,
    BadIdentity,
    BadInvite,
    BadLogin,
    BadRequest,
    DeviceExpired,
    DeviceRevoked,
    LogForked,
    NotAllowed,
    RegistrationClosed,
    TooMany,
    UnknownKey,
)
from protocol.wire import (
    AccountLog,
    AddDevice,
    Claim,
    Claimed,
    KeyPackageCount,
    KeyPackageUpload,
    Login,
    ProblemFrame,
    Register,
)
from tests.helpers.people import Person, key
from tests.node.phone import Phone, phone
from tests.node.server import make_settings, running


async def test_invites_let_in_as_often_as_they_say(tmp_path: Path) -> None:
    settings = make_settings(tmp_path, registration="invite")
    async with running(settings) as node:
        code = invite(settings, uses=2, lifetime=60)
        spelt = code.upper().replace("-", " ")
        async with phone(node, "alice") as one, phone(node, "bob") as two:
            with pytest.raises(BadInvite):
                await one.register()
            with pytest.raises(BadInvite):
                await one.register("aaaa-bbbb-cccc-dddd")
            await one.register(code)
            await two.register(spelt)
            # The answer was lost and the client asks again: no third use is needed.
            assert (await two.register(spelt)).entries == two.person.log
        async with phone(node, "carol") as three:
            with pytest.raises(BadInvite):
                await three.register(code)
            gone = invite(settings, uses=1, lifetime=-1)
            with pytest.raises(BadInvite):
                await three.register(gone)


async def test_a_closed_node_takes_nobody(tmp_path: Path) -> None:
    async with (
        running(make_settings(tmp_path, registration="closed")) as node,
        phone(node, "alice") as alice,
    ):
        with pytest.raises(RegistrationClosed):
            await alice.register()


async def test_a_name_is_given_once(node: Node, alice: Phone) -> None:
    async with phone(node, "alice") as other:
        with pytest.raises(AccountTaken):
            await other.register()
        with pytest.raises(UnknownKey):
            await other.upload_packages()


@pytest.mark.parametrize(
    "name", ["Alice", "al\u202eice", "a\x00b", "alice@x", "", "a" * 65, "аlice", "a\n"]
)
async def test_names_that_lie_are_refused(node: Node, name: str) -> None:
    async with phone(node, "alice") as device:
        request = Register(name, b"s" * 32, device.person.log)
        with pytest.raises(BadAddress) as caught:
            await device.call("POST", "/telex/v1/accounts", request, AccountLog)
        assert str(caught.value).isascii()


async def test_an_account_log_must_hold(node: Node) -> None:
    async with phone(node, "alice") as device:
        path = "/telex/v1/accounts"
        for log in (
            device.person.log[:1],
            device.person.log[1:],
            Person(device.account).log,
            [device.person.log[0], b"x"],
        ):
            with pytest.raises(BadIdentity):
                body = Register("alice", b"s" * 32, log)
                await device.call("POST", path, body, AccountLog)
        for body in (
            Register("alice", b"s" * 32, []),
            Register("alice", b"s", device.person.log),
        ):
            with pytest.raises(BadRequest):
                await device.call("POST", path, body, AccountLog)
        stranger = Person(device.account).device()
        device.terminal = stranger
        with pytest.raises(UnknownKey):
            await device.register()


async def test_login_answers_the_log_and_slows_guessing(
    node: Node, alice: Phone
) -> None:
    path = "/telex/v1/accounts/alice/login"
    good, bad = Login(b"s" * 32), Login(b"w" * 32)
    found = await alice.call("POST", path, good, AccountLog)
    assert found.entries == alice.person.log
    with pytest.raises(BadLogin):
        await alice.call("POST", "/telex/v1/accounts/nobody/login", good, AccountLog)
    for _ in range(6):
        with pytest.raises(BadLogin):
            await alice.call("POST", path, bad, AccountLog)
    with pytest.raises(TooMany) as caught:
        await alice.call("POST", path, good, AccountLog)
    assert caught.value.retry_after == 1


async def test_a_second_device_is_added_and_revoked(node: Node, alice: Phone) -> None:
    person, now = alice.person, int(time.time())
    new_ask = key()
    rotation = rotate_ask(person.state, person.root, new_ask, now)
    person.log.append(rotation)
    person.ask = new_ask
    async with phone(node, "alice", person=person) as second:
        path = "/telex/v1/accounts/alice/devices"
        entries = person.log[-2:]
        with pytest.raises(BadLogin):
            await second.call("POST", path, AddDevice(b"w" * 32, entries), AccountLog)
        with pytest.raises(UnknownKey):
            await second.upload_packages()
        request = AddDevice(b"s" * 32, entries)
        log = await second.call("POST", path, request, AccountLog)
        assert log.entries == person.log
        assert (await second.call("POST", path, request, AccountLog)) == log
        assert (await second.upload_packages(3)).single_use == 3

        revocation = revoke_device(
            person.state, person.ask, second.terminal.address.device, now
        )
        async with second.session() as line:
            person.log.append(revocation)
            path = f"/telex/v1/accounts/{alice.account}/log"
            await alice.call(
                "POST", path, AccountLog(alice.account, [revocation]), AccountLog
            )
            frame = await line.receive()
            assert isinstance(frame, ProblemFrame)
            assert frame.problem.code == "device_revoked"
        with pytest.raises(DeviceRevoked):
            await second.upload_packages()
        claimed = await alice.claim(alice.account)
        assert claimed.failed[alice.account].code == "no_key_package"


async def test_a_renewed_certificate_lets_a_device_in_for_longer(
    node: Node, alice: Phone
) -> None:
    day = 24 * 3600
    before = (await node.devices.get(alice.address)).expires
    renewal = renew_device(
        alice.person.state,
        alice.person.ask,
        alice.terminal.address.device,
        int(time.time()) + day,
    )
    path = f"/telex/v1/accounts/{alice.account}/log"
    await alice.call("POST", path, AccountLog(alice.account, [renewal]), AccountLog)
    assert (await node.devices.get(alice.address)).expires >= before + day - 5


async def test_a_device_whose_certificate_ended_is_told_so(tmp_path: Path) -> None:
    class Clock:
        ahead = 0.0

        def __call__(self) -> float:
            return time.time() + self.ahead

    clock = Clock()
    node = Node(make_settings(tmp_path), clock=clock)
    await node.start()
    try:
        async with phone(node, "alice") as alice:
            await alice.register()
            clock.ahead = DEVICE_LIFETIME + 60
            with pytest.raises(DeviceExpired) as caught:
                await node.devices.get(alice.address)
            assert caught.value.code == "device_expired"
    finally:
        await node.stop()


async def test_an_account_log_does_not_fork(alice: Phone, bob: Phone) -> None:
    person, now = alice.person, int(time.time())
    path = f"/telex/v1/accounts/{alice.account}/log"
    one, two = (
        add_device(person.state, person.ask, key().public, key().public, now)
        for _ in range(2)
    )
    with pytest.raises(NotAllowed):
        await bob.call("POST", path, AccountLog(alice.account, [one]), AccountLog)
    await alice.call("POST", path, AccountLog(alice.account, [one]), AccountLog)
    with pytest.raises((LogForked, BadIdentity)):
        await alice.call("POST", path, AccountLog(alice.account, [two]), AccountLog)
    log = await bob.call("GET", path, None, AccountLog, query="after=2")
    assert log.entries == [one]


async def test_a_disabled_account_is_cut_off_at_once(
    node: Node, alice: Phone, bob: Phone
) -> None:
    async with bob.session() as line:
        disable(node.settings, "bob", True)
        frame = await line.receive()
        assert isinstance(frame, ProblemFrame)
        assert frame.problem.code == "account_disabled"
    with pytest.raises(AccountDisabled):
        await bob.upload_packages()
    claimed = await alice.claim(bob.account)
    assert claimed.failed[bob.account].code == "account_disabled"
    disable(node.settings, bob.account, False)
    for _ in range(40):
        try:
            await bob.upload_packages()
            break
        except AccountDisabled:
            await asyncio.sleep(0.05)
    else:
        pytest.fail("the account was not let in again")


async def test_key_packages_are_claimed_once_and_run_out(
    alice: Phone, bob: Phone
) -> None:
    path = "/telex/v1/key-packages/claim"
    body = Claim(os.urandom(16), [bob.account])
    first = await alice.call("POST", path, body, Claimed)
    assert await alice.call("POST", path, body, Claimed) == first
    count = await bob.call("GET", "/telex/v1/key-packages", None, KeyPackageCount)
    assert (count.single_use, count.last_resort) == (1, True)
    second, third, fourth = [await alice.claim(bob.account) for _ in range(3)]
    packages = [c.packages[0] for c in (first, second, third, fourth)]
    assert [p.last_resort for p in packages] == [False, False, True, True]
    assert len({p.package for p in packages}) == 3
    skipped = await alice.call(
        "POST",
        path,
        Claim(os.urandom(16), [bob.account], skip=[bob.address]),
        Claimed,
    )
    assert (skipped.packages, skipped.failed) == ([], {})
    none = await bob.claim(alice.account)
    assert none.failed[alice.account].code == "no_key_package"


async def test_only_own_and_sound_key_packages_are_stored(
    alice: Phone, bob: Phone
) -> None:
    path = "/telex/v1/key-packages"
    foreign = bob.key_package().key_package
    own = alice.key_package().key_package
    with pytest.raises(BadIdentity):
        body = KeyPackageUpload([own, foreign])
        await alice.call("PUT", path, body, KeyPackageCount)
    for wrong in (b"", b"x" * 40, own[:-1] + bytes([own[-1] ^ 1]), bytes(5000)):
        with pytest.raises(BadRequest):
            body = KeyPackageUpload([wrong])
            await alice.call("PUT", path, body, KeyPackageCount)
    with pytest.raises(BadRequest):
        body = KeyPackageUpload([], own)
        await alice.call("PUT", path, body, KeyPackageCount)
    count = await alice.call("GET", path, None, KeyPackageCount)
    assert (count.single_use, count.last_resort) == (0, False)
    for _ in range(2):
        body = KeyPackageUpload([own, own])
        count = await alice.call("PUT", path, body, KeyPackageCount)
        assert count.single_use == 1


async def test_claims_are_limited(tmp_path: Path) -> None:
    settings = make_settings(tmp_path)
    limits = replace(settings.limits, claims_per_minute=1)
    async with (
        running(replace(settings, limits=limits)) as node,
        phone(node, "alice") as alice,
    ):
        await alice.register()
        for _ in range(10):
            await alice.claim("bob@" + node.settings.name)
        with pytest.raises(TooMany):
            await alice.claim("bob@" + node.settings.name)
