"""Coming back to an account with nothing but its 24 words.

The root key signs a proof and is shown its account; then it sets a new account signing
key, which certifies a new device, and a new password takes the place of the old one.
All other devices stay: a phrase that is used is not a phrase that was lost. Who fears
for one of them revokes it.

History and contacts come from the backup, afterwards and in the background
(`archive.restore`); rooms are joined again by the engine.
"""

import asyncio
import secrets

from client.clock import Clock
from client.enrol.phrase import read_phrase
from client.enrol.profile import (
    backup_values,
    check_password,
    enter,
    make_profile,
    offer_packages,
    own_log,
    secret_of,
)
from client.errors import NodeUnreachable
from client.model import Profile
from client.network.transport import Signer, Transport
from client.storage.store import Store
from protocol.address import AccountAddress, parse_account
from protocol.codec import encode
from protocol.key import KeyPair, Signed, root_key, sign
from protocol.wire import AccountLog, Recover, RecoverProof

__all__ = ["prove", "recover"]

TRIES = 3
"""Times that it is sent when no answer comes: the same entries change nothing twice."""


async def recover(
    profile: Profile, account: str, *, phrase: str, password: str, device_name: str = ""
) -> Store:
    """Make this machine a device of an account, without its old password.

    Args:
        password: the account's from now on.

    Raises:
        AddressError, BadText, WrongPhrase: what was typed cannot be right.
        ProfileExists, ProfileInUse: the folder is taken.
        Refused, ClientError: the node refused (`BadRecovery`), or cannot be reached.
    """
    address = parse_account(account)
    check_password(password)
    entropy = read_phrase(phrase)
    root = root_key(entropy)
    clock = Clock()
    async with Transport(profile, address.node, clock, None) as transport:
        await transport.document()
        answer = await prove(transport, address, root, clock)
        state = own_log(address, answer, root)
        me, entries, state = enter(state, root, clock.now())
        secret = await secret_of(address, password)
        transport.signer = Signer(me.device, me.auth)

        async def send() -> None:
            await prove(transport, address, root, clock, entries, secret)

        store = await make_profile(
            profile,
            password,
            me,
            state,
            answer.entries + entries,
            device_name,
            send,
            backup_values(entropy, enabled=True, restore=True),
            vouch=[me.device.device],
        )
        await offer_packages(store, transport, me, clock)
    return store


async def prove(
    transport: Transport,
    address: AccountAddress,
    root: KeyPair,
    clock: Clock,
    entries: list[bytes] | None = None,
    secret: bytes = b"",
) -> AccountLog:
    """Show the node that we have the root key, and be shown the account.

    Args:
        entries: what is to be appended to its log; the transport signs as the device
            that they add. Without them the node changes nothing.
        secret: the new login secret, with entries.

    Raises:
        Refused, ClientError: the node refused (`BadRecovery`), or is not there.
    """
    for attempt in range(TRIES):
        payload = encode(
            RecoverProof(str(address), clock.now(), secrets.token_bytes(16))
        )
        proof = Signed(payload, sign("recover", root, payload))
        body = Recover(proof, entries or [], secret)
        try:
            return await transport.post(
                f"/accounts/{address.local}/recover", body, AccountLog
            )
        except NodeUnreachable:
            if attempt == TRIES - 1:
                raise
            await asyncio.sleep(attempt + 1)
    raise AssertionError("the last try returns or raises")
