"""Logging in on one more machine, with the password and the recovery phrase."""

from client.clock import Clock
from client.enrol.phrase import read_phrase
from client.enrol.profile import (
    backup_values,
    enter,
    make_profile,
    offer_packages,
    own_log,
    secret_of,
)
from client.model import Profile
from client.network.transport import Signer, Transport
from client.storage.store import Store
from protocol.address import parse_account
from protocol.key import root_key
from protocol.wire import AccountLog, AddDevice, Login

__all__ = ["log_in"]


async def log_in(
    profile: Profile, account: str, *, password: str, phrase: str
) -> Store:
    """Make this machine a device of an account, and the database for it.

    Raises:
        AddressError, WrongPhrase: what was typed cannot be right.
        ProfileExists, ProfileInUse: the folder is taken.
        Refused, ClientError: the node refused (`BadLogin`), or cannot be reached.
    """
    address = parse_account(account)
    entropy = read_phrase(phrase)
    root = root_key(entropy)
    clock = Clock()
    async with Transport(profile, address.node, clock, None) as transport:
        await transport.document()
        secret = await secret_of(address, password)
        answer = await transport.post(
            f"/accounts/{address.local}/login", Login(secret), AccountLog
        )
        state = own_log(address, answer, root)
        me, entries, state = enter(state, root, clock.now())
        transport.signer = Signer(me.device, me.auth)

        async def send() -> None:
            await transport.post(
                f"/accounts/{address.local}/devices",
                AddDevice(secret, entries),
                AccountLog,
            )

        store = await make_profile(
            profile,
            password,
            me,
            state,
            answer.entries + entries,
            "",
            send,
            backup_values(entropy, enabled=True, restore=True),
            vouch=[me.device.device],
        )
        await offer_packages(store, transport, me, clock)
    return store
