"""Becoming a device: registering an account, or logging in on one more machine.

The recovery phrase exists here for a moment and is stored nowhere: the root key that
follows from it signs the account's first entries (or, at a log-in, a new account
signing key), and is forgotten. The password makes the secret that the node knows, and
wraps the database's key; neither gives the other away.
"""

import asyncio
import secrets
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from client.account.contacts import save_account
from client.account.me import Me, set_meta
from client.account.packages import refill
from client.clock import Clock
from client.errors import (
    BadText,
    ClientError,
    NodeNonsense,
    NodeUnreachable,
    WrongPhrase,
)
from client.model import Profile
from client.network.transport import Signer, Transport
from client.storage import keyfile
from client.storage.heads import start_log
from client.storage.store import Store, Tx
from protocol.account_log import (
    AccountState,
    add_device,
    genesis,
    make_credential,
    read_account_log,
    rotate_ask,
)
from protocol.address import AccountAddress, DeviceAddress, parse_account
from protocol.credential import device_id
from protocol.errors import AccountTaken, IdentityError, Refused
from protocol.key import KeyPair, login_secret, root_key
from protocol.wire import AccountLog, AddDevice, Login, Register

__all__ = ["PASSWORD_MIN", "log_in", "read_phrase", "register"]

PASSWORD_MIN = 8
"""Characters of a password: it guards the database against whoever has the disk."""

TRIES = 3
"""Times that a registration is sent when no answer comes: it changes nothing twice."""

T = TypeVar("T")


async def register(
    profile: Profile, account: str, *, invite: str, password: str, device_name: str
) -> tuple[Store, list[str]]:
    """Make an account and the database for it.

    Returns:
        The database, open, and the 24 words; nobody can show them again.

    Raises:
        AddressError, BadText: the address or the password cannot be used.
        ProfileExists, ProfileInUse: the folder is taken.
        Refused, ClientError: the node refused, or cannot be reached.
    """
    from mnemonic import Mnemonic

    address = parse_account(account)
    _check_password(password)
    entropy = secrets.token_bytes(32)
    words: list[str] = Mnemonic("english").to_mnemonic(entropy).split()
    clock = Clock()
    async with Transport(profile, address.node, clock, None) as transport:
        # A node that cannot be reached is found out before anything is made, and
        # the certificates begin in the node's time.
        await transport.document()
        root, ask = root_key(entropy), _new_key()
        auth, mls = _new_key(), _new_key()
        first = genesis(address, root, ask, clock.now())
        state = read_account_log(address, [first])
        second = add_device(state, ask, auth.public, mls.public, clock.now())
        state = read_account_log(address, [second], after=state)
        me = _me(state, auth, mls, ask)
        secret = await asyncio.to_thread(login_secret, address, password)
        body = Register(address.local, secret, [first, second], invite)
        transport.signer = Signer(me.device, me.auth)

        async def send() -> None:
            await _send_registration(transport, me, body)

        store = await _make_profile(
            profile, password, me, state, [first, second], device_name, send
        )
        await _offer_packages(store, transport, me, clock)
    return store, words


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
    root = root_key(read_phrase(phrase))
    clock = Clock()
    async with Transport(profile, address.node, clock, None) as transport:
        await transport.document()
        secret = await asyncio.to_thread(login_secret, address, password)
        answer = await transport.post(
            f"/accounts/{address.local}/login", Login(secret), AccountLog
        )
        state = _own_log(address, answer, root)
        ask, auth, mls = _new_key(), _new_key(), _new_key()
        rotation = rotate_ask(state, root, ask, clock.now())
        state = read_account_log(address, [rotation], after=state)
        addition = add_device(state, ask, auth.public, mls.public, clock.now())
        state = read_account_log(address, [addition], after=state)
        me = _me(state, auth, mls, ask)
        transport.signer = Signer(me.device, me.auth)
        entries = [rotation, addition]

        async def send() -> None:
            await transport.post(
                f"/accounts/{address.local}/devices",
                AddDevice(secret, entries),
                AccountLog,
            )

        store = await _make_profile(
            profile, password, me, state, answer.entries + entries, "", send
        )
        await _offer_packages(store, transport, me, clock)
    return store


def read_phrase(phrase: str) -> bytes:
    """The 32 bytes that 24 words stand for.

    Raises:
        WrongPhrase: a word is not in the list, or the words do not fit together.
    """
    from mnemonic import Mnemonic

    book = Mnemonic("english")
    words = phrase.lower().split()
    if len(words) != 24:
        raise WrongPhrase(f"A recovery phrase has 24 words; this one has {len(words)}.")
    unknown = [n for n, word in enumerate(words, 1) if word not in book.wordlist]
    if unknown:
        raise WrongPhrase(
            f"Word {unknown[0]} of the recovery phrase is not in the list; check its "
            "spelling."
        )
    if not book.check(" ".join(words)):
        raise WrongPhrase(
            "These 24 words do not fit together: one is wrong, or their order is."
        )
    return bytes(book.to_entropy(words))


async def _make_profile(
    profile: Profile,
    password: str,
    me: Me,
    state: AccountState,
    entries: list[bytes],
    device_name: str,
    send: Callable[[], Coroutine[Any, Any, None]],
) -> Store:
    """Make the database, then tell the node, then make the profile real.

    The key file is written last: until then there is no profile, and a registration
    that breaks off can be started again in the same folder.
    """
    store, finish = await asyncio.to_thread(
        Store.create, profile.directory, password, keyfile.STRENGTH
    )

    def fill(tx: Tx) -> None:
        me.save(tx)
        set_meta(tx, "device_name", device_name.encode())
        save_account(tx, state, entries)
        start_log(tx, me.mailbox)

    try:
        await store.run(fill)
        await send()
        await asyncio.to_thread(finish)
    except BaseException:
        await store.destroy()
        raise
    return store


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


async def _offer_packages(
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


def _own_log(
    address: AccountAddress, answer: AccountLog, root: KeyPair
) -> AccountState:
    try:
        state = read_account_log(address, answer.entries)
    except IdentityError as error:
        raise NodeNonsense(
            f"The node shows keys of {address} that do not hold; tell its admin."
        ) from error
    if state.root != root.public:
        raise WrongPhrase(f"This is not the recovery phrase of {address}.")
    return state


def _me(state: AccountState, auth: KeyPair, mls: KeyPair, ask: KeyPair) -> Me:
    device = DeviceAddress(state.account, device_id(auth.public, mls.public))
    return Me(device, auth, mls, ask, make_credential(state, device))


def _new_key() -> KeyPair:
    return KeyPair.from_seed(secrets.token_bytes(32))


def _check_password(password: str) -> None:
    if len(password) < PASSWORD_MIN:
        raise BadText(f"Take a password of at least {PASSWORD_MIN} characters.")
