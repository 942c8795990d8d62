"""Making an account: the root signs its first entries and is forgotten."""

import asyncio

from client.account.me import Me
from client.clock import Clock
from client.enrol.phrase import new_phrase
from client.enrol.profile import (
    backup_values,
    check_password,
    make_me,
    make_profile,
    new_key,
    offer_packages,
    secret_of,
)
from client.errors import ClientError, NodeUnreachable
from client.model import Profile
from client.network.transport import Signer, Transport
from client.storage.store import Store
from protocol.account_log import add_device, genesis, read_account_log
from protocol.address import parse_account
from protocol.errors import AccountTaken, IdentityError, Refused
from protocol.key import root_key
from protocol.wire import AccountLog, Register

__all__ = ["register"]

TRIES = 3
"""Times that a registration is sent when no answer comes: it changes nothing twice."""


async def register(
    profile: Profile,
    account: str,
    *,
    invite: str,
    password: str,
    device_name: str,
    backup: bool = True,
) -> tuple[Store, list[str]]:
    """Make an account and the database for it.

    Returns:
        The database, open, and the 24 words; nobody can show them again.

    Raises:
        AddressError, BadText: the address or the password cannot be used.
        ProfileExists, ProfileInUse: the folder is taken.
        Refused, ClientError: the node refused, or cannot be reached.
    """
    address = parse_account(account)
    check_password(password)
    entropy, words = new_phrase()
    clock = Clock()
    async with Transport(profile, address.node, clock, None) as transport:
        # A node that cannot be reached is found out before anything is made, and
        # the certificates begin in the node's time.
        await transport.document()
        root, ask = root_key(entropy), new_key()
        auth, mls = new_key(), new_key()
        first = genesis(address, root, ask, clock.now())
        state = read_account_log(address, [first])
        second = add_device(state, ask, auth.public, mls.public, clock.now())
        state = read_account_log(address, [second], after=state)
        me = make_me(state, auth, mls, ask)
        secret = await secret_of(address, password)
        body = Register(address.local, secret, [first, second], invite)
        transport.signer = Signer(me.device, me.auth)

        async def send() -> None:
            await _send_registration(transport, me, body)

        store = await make_profile(
            profile,
            password,
            me,
            state,
            [first, second],
            device_name,
            send,
            backup_values(entropy, enabled=backup, restore=False),
            vouch=[me.device.device],
        )
        await offer_packages(store, transport, me, clock)
    return store, words


async def _send_registration(transport: Transport, me: Me, body: Register) -> None:
    for attempt in range(TRIES):
        try:
            await transport.post("/accounts", body, AccountLog)
            return
        except NodeUnreachable:
            if attempt == TRIES - 1:
                raise
            await asyncio.sleep(attempt + 1)
        except AccountTaken:
            # By us, if the answer to the attempt before was lost.
            if attempt == 0 or not await _is_ours(transport, me):
                raise


async def _is_ours(transport: Transport, me: Me) -> bool:
    try:
        answer = await transport.get(f"/accounts/{me.account}/log?after=0", AccountLog)
        state = read_account_log(me.account, answer.entries)
    except (Refused, ClientError, IdentityError):
        return False
    return me.device.device in state.devices
