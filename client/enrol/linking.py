"""Linking, at the new device: a code is shown, and then it is one of the account's.

The offer lies at the node before the code is shown. When a device of the account has
answered, what it says is held against what the node shows: the root key is the
answer's, and the account log must reach the very head that the answer names with this
device in it. Until then nothing is stored here; after it the profile stands and goes
on with everything else in the background, also after a kill.
"""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from types import TracebackType
from typing import Generic, Self, TypeVar

from nacl import bindings

from client.account.link import (
    NAME_MAX,
    Answer,
    Meeting,
    Offer,
    new_code,
    open_answer,
    seal_offer,
    show_code,
    uri_of,
)
from client.clock import Clock
from client.enrol.profile import (
    check_password,
    make_me,
    make_profile,
    new_key,
    offer_packages,
)
from client.errors import (
    LinkExpired,
    LinkRefused,
    NodeUnreachable,
    ProfileExists,
)
from client.model import LinkProgress, LinkRequest, Profile
from client.network.transport import Signer, Transport
from client.storage.store import Store
from protocol.account_log import AccountState, read_account_log
from protocol.address import DeviceAddress, parse_account
from protocol.codec import encode
from protocol.credential import device_id
from protocol.errors import (
    IdentityError,
    LinkPending,
    LinkTaken,
    Refused,
    UnknownLink,
)
from protocol.key import KeyPair
from protocol.limits import LINK_SECONDS
from protocol.wire import AccountLog, Empty, LinkSlot

__all__ = ["Linking"]

POLL = 20.0
"""Seconds that the node holds one question for the answer: below its own 25."""

RETRY = 2.0
"""Seconds until a question that failed is asked again."""

C = TypeVar("C")


class Linking(Generic[C]):
    """A link under way; an async context, or await it.

    async with Client.link(profile, account, password=...) as linking:
        show(linking.request)
        client = await linking.wait()

    Iterating gives `LinkProgress` until it was confirmed; `wait` gives the client then.
    """

    def __init__(
        self,
        profile: Profile,
        account: str,
        password: str,
        device_name: str,
        start: Callable[[Profile, Store], Awaitable[C]],
    ) -> None:
        """Use `Client.link`; raises AddressError, BadText, ProfileExists."""
        self._address = parse_account(account)
        check_password(password)
        if profile.exists():
            raise ProfileExists(
                f"There already is an account in {profile.directory}: open it, or "
                "choose another folder."
            )
        self._profile = profile
        self._password = password
        self._start = start
        self._clock = Clock()
        self._transport = Transport(profile, self._address.node, self._clock, None)
        code = new_code()
        self.request = LinkRequest(
            str(self._address), show_code(code), uri_of(str(self._address), code)
        )
        """What to show, once the link is open."""
        self._meeting = Meeting.of(str(self._address), code)
        self._auth, self._mls = new_key(), new_key()
        self._exchange = secrets.token_bytes(32)
        self._name = device_name[:NAME_MAX]
        self._offer = seal_offer(
            self._meeting,
            Offer(
                1,
                str(self._address),
                self._auth.public,
                self._mls.public,
                bindings.crypto_scalarmult_base(self._exchange),
                self._name,
            ),
        )
        self._began = 0.0
        self._client: C | None = None

    async def open(self) -> Self:
        """Leave the offer at the node; the code can be shown then.

        Raises:
            Refused, ClientError: the node does not take it, or cannot be reached.
        """
        await self._transport.document()
        path = f"/links/{self._meeting.slot}/offer"
        await self._transport.request("PUT", path, Empty, LinkSlot(self._offer))
        self._began = time.monotonic()
        return self

    async def close(self) -> None:
        """Stop waiting; the code then leads nowhere."""
        await self._transport.close()

    def __await__(self) -> Generator[object, None, Self]:
        return self.open().__await__()

    async def __aenter__(self) -> Self:
        try:
            return await self.open()
        except BaseException:
            await self.close()
            raise

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    def __aiter__(self) -> AsyncIterator[LinkProgress]:
        return self

    async def __anext__(self) -> LinkProgress:
        """How it stands, whenever the node was asked; ends when it was confirmed."""
        if self._client is not None:
            raise StopAsyncIteration
        data = await self._ask()
        if data is None:
            gone = int(time.monotonic() - self._began)
            return LinkProgress("waiting", gone, LINK_SECONDS, "")
        try:
            self._client = await self._arrive(data)
        except NodeUnreachable:
            # The answer still lies there: ask for it again.
            await asyncio.sleep(RETRY)
            return LinkProgress("waiting", 0, LINK_SECONDS, "")
        await self.close()
        return LinkProgress("approved", 0, 0, "This device was confirmed.")

    async def wait(self) -> C:
        """Wait until a device of the account confirms; the client is not running yet.

        Raises:
            LinkExpired: nobody did, in ten minutes.
            LinkRefused: what came does not hold.
            Refused, ClientError: the node refused, or cannot be reached any more.
        """
        async for _ in self:
            pass
        assert self._client is not None
        return self._client

    # --- how ----------------------------------------------------------------------

    async def _ask(self) -> bytes | None:
        left = self._began + LINK_SECONDS - time.monotonic()
        if left <= 0:
            raise LinkExpired
        try:
            slot = await self._transport.get(
                f"/links/{self._meeting.slot}/answer?timeout={int(min(POLL, left))}",
                LinkSlot,
            )
        except LinkPending:
            return None
        except (UnknownLink, LinkTaken) as error:
            raise LinkExpired from error
        except NodeUnreachable:
            await asyncio.sleep(min(RETRY, max(0.0, left)))
            return None
        return slot.data

    async def _arrive(self, data: bytes) -> C:
        answer = open_answer(
            self._meeting, self._offer, self._exchange, data, str(self._address)
        )
        device = DeviceAddress(
            self._address, device_id(self._auth.public, self._mls.public)
        )
        self._transport.signer = Signer(device, self._auth)
        state, entries = await self._check_log(answer, device)
        ask = KeyPair.from_seed(answer.ask) if len(answer.ask) == 32 else None
        if ask is not None and ask.public != state.ask:
            ask = None  # it was rotated since: another device manages
        me = make_me(state, self._auth, self._mls, ask)

        async def nothing_to_send() -> None:
            return

        store = await make_profile(
            self._profile,
            self._password,
            me,
            state,
            entries,
            self._name,
            nothing_to_send,
            _values(answer, self._clock.now_ms()),
        )
        await offer_packages(store, self._transport, me, self._clock)
        return await self._start(self._profile, store)

    async def _check_log(
        self, answer: Answer, device: DeviceAddress
    ) -> tuple[AccountState, list[bytes]]:
        """The account log that the node shows, held against the answer."""
        try:
            log = await self._transport.get(
                f"/accounts/{self._address}/log?after=0", AccountLog
            )
            before = read_account_log(
                self._address, log.entries[: answer.seq], root=answer.root
            )
            state = read_account_log(
                self._address, log.entries[answer.seq :], after=before
            )
        except IdentityError as error:
            raise LinkRefused(_OTHER_LOG) from error
        except Refused as error:
            raise LinkRefused(
                f"The node does not take this device: {error} Begin again."
            ) from error
        found = state.devices.get(device.device)
        if answer.device != str(device) or before.seq != answer.seq:
            raise LinkRefused(_OTHER_LOG)
        if before.head != answer.head:
            raise LinkRefused(_OTHER_LOG)
        if found is None or found.certificate.auth_key != self._auth.public:
            raise LinkRefused(_OTHER_LOG)
        return state, log.entries


_OTHER_LOG = (
    "The node shows this device another list of the account's devices than the one "
    "that confirmed it has: nothing was set up here. Tell the node's admin."
)


def _values(answer: Answer, now: int) -> dict[str, bytes]:
    """What the other device told, for the sessions that follow."""
    values = {"linked": encode((now, answer.rooms))}
    if answer.backup:
        values["backup_key"] = answer.backup
        values["backup"] = b"1" if answer.backup_on else b""
    if answer.self_group:
        values["self_group"] = answer.self_group.encode()
    if answer.vault:
        values["link_vault"] = encode((answer.vault, answer.vault_key))
    return values
