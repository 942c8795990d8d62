"""What registering, logging in and recovering share: keys, and a database for them.

The key file is written last: until then there is no profile, and what breaks off can be
started again in the same folder.
"""

import asyncio
import secrets
from collections.abc import Callable, Collection, Coroutine, Mapping
from types import MappingProxyType
from typing import Any

from client.account.contacts import save_account
from client.account.me import Me, set_meta
from client.account.packages import refill
from client.clock import Clock
from client.errors import (
    BadText,
    ClientError,
    NodeNonsense,
    RecoveryFull,
    WrongPhrase,
)
from client.model import Profile
from client.network.transport import Transport
from client.storage import keyfile
from client.storage.heads import start_log
from client.storage.store import Store, Tx
from protocol.account_log import (
    AccountState,
    LogFull,
    enter_by_root,
    make_credential,
    read_account_log,
)
from protocol.address import AccountAddress, DeviceAddress
from protocol.credential import device_id
from protocol.errors import IdentityError, Refused
from protocol.key import KeyPair, backup_key, login_secret
from protocol.wire import AccountLog

__all__ = [
    "PASSWORD_MIN",
    "backup_values",
    "check_password",
    "enter",
    "make_me",
    "make_profile",
    "new_key",
    "offer_packages",
    "own_log",
    "secret_of",
]

PASSWORD_MIN = 8
"""Characters of a password: it guards the database against whoever has the disk."""


async def secret_of(address: AccountAddress, password: str) -> bytes:
    """What stands for a password at the node; off the event loop, it takes 0.1 s."""
    return await asyncio.to_thread(login_secret, address, password)


def check_password(password: str) -> None:
    """Raise `BadText` for a password that is too short."""
    if len(password) < PASSWORD_MIN:
        raise BadText(f"Take a password of at least {PASSWORD_MIN} characters.")


def new_key() -> KeyPair:
    """A random key."""
    return KeyPair.from_seed(secrets.token_bytes(32))


def make_me(
    state: AccountState, auth: KeyPair, mls: KeyPair, ask: KeyPair | None
) -> Me:
    """A device that an account log lists, with its keys."""
    device = DeviceAddress(state.account, device_id(auth.public, mls.public))
    return Me(device, auth, mls, ask, make_credential(state, device))


def backup_values(entropy: bytes, *, enabled: bool, restore: bool) -> dict[str, bytes]:
    """What a database notes of the account's backup.

    Args:
        entropy: of the phrase; only a key that follows from it is kept.
        enabled: whether this device backs up.
        restore: whether history is to be fetched first.
    """
    return {
        "backup_key": backup_key(entropy),
        "backup": b"1" if enabled else b"",
        "restore": b"1" if restore else b"",
    }


def own_log(address: AccountAddress, answer: AccountLog, root: KeyPair) -> AccountState:
    """Read the account log of whoever has the phrase.

    Raises:
        NodeNonsense: it does not hold.
        WrongPhrase: its root is another one.
    """
    try:
        state = read_account_log(address, answer.entries)
    except IdentityError as error:
        raise NodeNonsense(
            f"The node shows keys of {address} that do not hold; tell its admin."
        ) from error
    if state.root != root.public:
        raise WrongPhrase(f"This is not the recovery phrase of {address}.")
    return state


def enter(
    state: AccountState, root: KeyPair, now: int
) -> tuple[Me, list[bytes], AccountState]:
    """Make this machine a device, by the root key: with a new account signing key.

    Returns:
        The device, the entries that certify it, and the account log after them.

    Raises:
        RecoveryFull: the account log has no room.
    """
    ask, auth, mls = new_key(), new_key(), new_key()
    try:
        entries, after = enter_by_root(state, root, ask, auth.public, mls.public, now)
    except LogFull as error:
        raise RecoveryFull(str(error)) from error
    return make_me(after, auth, mls, ask), entries, after


async def make_profile(
    profile: Profile,
    password: str,
    me: Me,
    state: AccountState,
    entries: list[bytes],
    device_name: str,
    send: Callable[[], Coroutine[Any, Any, None]],
    values: Mapping[str, bytes] = MappingProxyType({}),
    *,
    vouch: Collection[str] = (),
) -> Store:
    """Make the database, then tell the node, then make the profile real.

    `values` are single values (`me.set_meta`) to begin with; `vouch` are the devices
    that entries of ours added, by their short ids.

    The key file is written last: until then there is no profile, and a registration
    that breaks off can be started again in the same folder.
    """
    store, finish = await asyncio.to_thread(
        Store.create, profile.directory, password, keyfile.STRENGTH
    )

    def fill(tx: Tx) -> None:
        me.save(tx)
        for key, value in {"device_name": device_name.encode(), **values}.items():
            set_meta(tx, key, value)
        save_account(tx, state, entries, vouch)
        start_log(tx, me.mailbox)

    try:
        await store.run(fill)
        await send()
        await asyncio.to_thread(finish)
    except BaseException:
        await store.destroy()
        raise
    return store


async def offer_packages(
    store: Store, transport: Transport, me: Me, clock: Clock
) -> None:
    """Upload key packages; if that fails the first session does it."""
    try:
        await refill(store, transport, me, clock)
    except (Refused, ClientError):
        return
    except BaseException:
        await store.close()
        raise
