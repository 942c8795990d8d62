"""The devices of one's own account: which there are, new ones, and the end of one.

What holds is the account log; this device reads it at each session and whenever a
device shows itself. A device that was revoked there is taken out of every room by the
others of its account (in the order of their ranks), and where none of those is, by
whoever may remove its account. The others then give their own leaves new keys, so what
the lost device knew opens nothing that comes later.
"""

import asyncio
import logging
import secrets
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from functools import partial

from client.account.contacts import (
    Contacts,
    known_log,
    save_account,
)
from client.account.eviction import Eviction
from client.account.link import NAME_MAX, Meeting, Offer, open_offer, parse_link
from client.account.linker import Linker
from client.account.logs import read_log
from client.account.me import Me, get_meta, set_meta
from client.account.self_group import SelfGroup
from client.account.vouching import is_doubtful
from client.clock import Clock
from client.enrol.phrase import read_phrase
from client.errors import (
    BadText,
    KeyChanged,
    LinkRefused,
    LinkUnknown,
    NodeNonsense,
    NotManager,
    PhraseNeeded,
    UnknownDevice,
    WrongPhrase,
)
from client.model import Device, DevicesChanged, LinkOffer
from client.network.transport import Transport
from client.rooms.groups import Groups
from client.storage.store import Store, Tx
from client.text import check_name, visible_line
from e2ee import Group
from protocol.account_log import (
    AccountState,
    LogFull,
    add_device,
    read_account_log,
    revoke_device,
    rotate_ask,
)
from protocol.address import AccountAddress, DeviceAddress
from protocol.codec import decode, encode
from protocol.credential import DeviceCertificate, device_id
from protocol.errors import IdentityError, LogForked, Malformed, Refused, UnknownLink
from protocol.key import KeyPair, root_key
from protocol.limits import DEVICES_MAX
from protocol.log import LogId
from protocol.wire import AccountLog, LinkSlot

__all__ = ["Devices"]

TRIES = 3
"""Times that an entry of the account log is made anew because another came first."""

SEEN_EVERY = 6 * 3600 * 1000
"""Milliseconds between two notes for the others that this device was here."""


logger = logging.getLogger(__name__)

# Inside the class `list` is its method.
Entries = list[bytes]
RoomIds = list[LogId]
Found = list[Device]


class Devices:
    """What `client.devices` is."""

    def __init__(
        self,
        store: Store,
        transport: Transport,
        contacts: Contacts,
        groups: Groups,
        own: SelfGroup,
        linker: Linker,
        me: Me,
        clock: Clock,
        poke: Callable[[LogId], None],
    ) -> None:
        self._store = store
        self._transport = transport
        self._contacts = contacts
        self._own = own
        self._linker = linker
        self._me = me
        self._account = str(me.account)
        self._clock = clock
        self._poke = poke
        self._offers: dict[str, tuple[Meeting, bytes, Offer]] = {}
        self._changing = asyncio.Lock()
        self._eviction = Eviction(groups, own, linker, me, clock, poke)
        linker.abandon = self._abandon
        own.on("device", self._heard)
        own.on("seen", self._heard)

    # --- what people do -----------------------------------------------------------

    async def list(self) -> Found:
        """This device, the others, then those that were revoked; from the database."""
        account = self._account
        entries = await self._store.run(lambda tx: known_log(tx, account))
        history = await asyncio.to_thread(_History.read, self._me.account, entries)
        return await self._store.run(partial(self._list, history=history))

    async def rename(self, device: str, name: str) -> None:
        """Give a device of this account a name, for all of them to see.

        Raises:
            BadText: it cannot have this name.
            UnknownDevice: there is none with this address.
        """
        name = check_name(name)

        def rename(tx: Tx) -> None:
            state = self._state(tx)
            if state is None or device not in map(str, state.addresses()):
                raise UnknownDevice
            self._own.set(tx, "device", device, name.encode())
            tx.events.append(DevicesChanged())

        await self._store.run(rename)

    async def look(self, code: str) -> LinkOffer:
        """What would be linked; `code`: as it was typed, or a QR code's text.

        Raises:
            LinkUnknown: there is no device with this code (any more).
            LinkRefused: what lies there was not made with it.
            Refused, ClientError: the node refused, or cannot be reached.
        """
        account, letters = parse_link(code)
        if account not in ("", self._account):
            raise LinkUnknown(f"That code is for {visible_line(account)}, not for you.")
        meeting = Meeting.of(self._account, letters)
        try:
            slot = await self._transport.get(f"/links/{meeting.slot}/offer", LinkSlot)
        except UnknownLink as error:
            raise LinkUnknown(
                "No device waits under this code: check what you typed, or begin "
                "again there, it holds for ten minutes."
            ) from error
        offer = open_offer(meeting, slot.data, self._account)
        short = device_id(offer.auth_key, offer.mls_key)
        device = str(DeviceAddress(self._me.account, short))
        self._offers[device] = (meeting, slot.data, offer)
        return LinkOffer(self._account, device, visible_line(offer.name))

    async def approve(
        self, offer: LinkOffer, *, manager: bool = False, history: bool = True
    ) -> None:
        """Make a device that was looked at one of this account.

        Its rooms and history follow in the background, also after a restart; events
        `LinkChanged` tell how far that is.

        Args:
            manager: whether it may link and revoke others too.
            history: whether it gets what was said before.

        Raises:
            LinkUnknown: it was not looked at, or its code was used or is over.
            LinkRefused: it cannot be one of this account, and why.
            NotManager: this device may not do that.
            Refused, ClientError: the node refused, or cannot be reached.
        """
        found = self._offers.get(offer.device)
        if found is None:
            raise LinkUnknown("That code was used already: begin again with a new one.")
        meeting, sealed, what = found

        def certify(state: AccountState) -> Entries:
            if what_id in state.devices:
                return []  # by us, if the answer to the attempt before was lost
            ask = self._ask_of(state)
            now = self._clock.now()
            return [add_device(state, ask, what.auth_key, what.mls_key, now)]

        what_id = device_id(what.auth_key, what.mls_key)
        async with self._changing:
            try:
                state, _ = await self._append(certify)
            except LogFull as error:
                raise LinkRefused(
                    f"{error} Revoke a device that you no longer have, with the "
                    "phrase, and begin again."
                ) from error
            except IdentityError as error:
                raise LinkRefused(f"It cannot be added: {error}") from error
            ask = self._ask_of(state).seed if manager else b""
            await self._linker.begin(
                meeting, sealed, what, state, ask=ask, history=history
            )
            try:
                await self._linker.answer(offer.device)
            except LinkUnknown:
                await self._abandon(offer.device)
                raise
            finally:
                self._offers.pop(offer.device, None)
        self._linker.wake()

    async def revoke(self, device: str, *, phrase: str | None = None) -> None:
        """End a device: it is refused at once, and taken out of all rooms.

        Args:
            device: its address.
            phrase: the recovery phrase, where `PhraseNeeded` asks for it. The key
                that certifies devices is then a new one, on this device alone.

        Raises:
            BadText: it is this device.
            UnknownDevice: there is none with this address.
            PhraseNeeded: this device may not do it alone.
            WrongPhrase: these are not the words.
            Refused, ClientError: the node refused, or cannot be reached.
        """
        account, _, short = device.partition("/")
        if device == str(self._me.device):
            raise BadText("That is this device: revoke it from another one.")
        if account != self._account:
            raise UnknownDevice
        async with self._changing:
            if phrase is None:
                known = {d.id: d for d in await self.list()}
                if device in known and known[device].manager:
                    raise PhraseNeeded(
                        "That device could certify others itself: give the recovery "
                        "phrase, so that its key ends too."
                    )
                try:
                    await self._revoke(short)
                except LogFull as error:
                    raise PhraseNeeded(
                        f"{error} Give it, and the device is revoked."
                    ) from error
            else:
                root = root_key(await asyncio.to_thread(read_phrase, phrase))
                await self._revoke(short, root)

    # --- for the engine -----------------------------------------------------------

    async def check(self) -> None:
        """At the beginning of a session: read our log, and say that we are here.

        Raises:
            NodeUnreachable, NodeUntrusted: the node is not there.
        """
        try:
            await self._contacts.refresh(self._account)
        except (Refused, KeyChanged, NodeNonsense) as error:
            # What the node shows is not our log: that is an alarm, and the rooms go
            # on without it.
            logger.error("our own account log: %s", type(error).__name__)
        await self._store.run(self._present)
        self._linker.wake()

    def learned(self, tx: Tx, state: AccountState) -> None:
        """An account log has new entries: devices came, or were revoked."""
        if str(state.account) != self._account:
            self._eviction.settle_others(tx, state)
            return
        self._adopt_ask(tx, state)
        self._eviction.settle(tx, state, at_once=False)

    def entered(self, tx: Tx, room: LogId, group: Group) -> None:
        """This device came into a room: maybe one of ours that is revoked is there."""
        self._eviction.check(tx, room, group, self._state(tx), at_once=False)

    def committed(
        self,
        tx: Tx,
        room: LogId,
        sender: str,
        added: Collection[str],
        removed: Collection[str],
    ) -> None:
        """A commit changed a room: maybe one of ours went."""
        self._eviction.committed(tx, room, sender, added, removed)

    async def _abandon(self, device: str) -> None:
        """Nobody waits for an answer any more, so nobody may come by it later."""
        await self._linker.forget(device)
        await self._revoke(device.partition("/")[2])

    # --- entries of the account log -----------------------------------------------

    def _ask_of(self, state: AccountState) -> KeyPair:
        ask = self._me.ask
        if ask is None or ask.public != state.ask:
            raise NotManager
        return ask

    async def _append(
        self, make: Callable[[AccountState], Entries]
    ) -> tuple[AccountState, Entries]:
        """Continue our account log; again, if another device of ours was faster.

        Raises:
            IdentityError: an entry would break a rule of the log.
            Refused, ClientError: the node takes it not.
        """
        for attempt in range(TRIES):
            before = await self._contacts.refresh(self._account)
            entries = make(before)
            if not entries:
                return before, []
            after = read_account_log(before.account, entries, after=before)
            try:
                answer = await self._transport.post(
                    f"/accounts/{self._account}/log",
                    AccountLog(self._account, entries),
                    AccountLog,
                )
            except LogForked:
                if attempt == TRIES - 1:
                    raise
                continue
            kept = answer.entries[: after.seq]
            if len(kept) < after.seq or kept[-len(entries) :] != entries:
                raise NodeNonsense("The node shows another log than it has just taken.")
            added = after.devices.keys() - before.devices.keys()
            save = partial(save_account, state=after, entries=kept, added=added)
            await self._store.run(save)
            return after, entries
        raise AssertionError  # the last attempt returned or raised

    async def _revoke(self, short: str, root: KeyPair | None = None) -> None:
        fresh: list[KeyPair] = []

        def end(state: AccountState) -> Entries:
            now = self._clock.now()
            if root is not None and root.public != state.root:
                raise WrongPhrase(
                    f"This is not the recovery phrase of {self._account}."
                )
            if short in state.revoked:
                return []
            if short not in state.devices:
                raise UnknownDevice
            if root is None:
                try:
                    ask = self._ask_of(state)
                except NotManager as error:
                    raise PhraseNeeded(
                        "This device may not revoke others by itself: give the "
                        "recovery phrase."
                    ) from error
                return [revoke_device(state, ask, short, now)]
            rotation = rotate_ask(state, root, fresh[0], now)
            after = read_account_log(state.account, [rotation], after=state)
            return [rotation, revoke_device(after, fresh[0], short, now)]

        if root is not None:
            # Kept before it is sent: if the answer is lost the node has taken it.
            fresh.append(KeyPair.from_seed(secrets.token_bytes(32)))
            seed = fresh[0].seed
            await self._store.run(lambda tx: set_meta(tx, "ask_next", seed))
        state, _ = await self._append(end)

        def settle(tx: Tx) -> RoomIds:
            self._adopt_ask(tx, state)
            self._present(tx)
            return self._eviction.settle(tx, state, at_once=True)

        for room in await self._store.run(settle):
            self._poke(room)

    def _adopt_ask(self, tx: Tx, state: AccountState) -> None:
        """Take up a new account signing key of ours, once it stands in the log."""
        seed = get_meta(tx, "ask_next")
        if seed is None:
            return
        key = KeyPair.from_seed(seed)
        if key.public == state.ask:
            set_meta(tx, "ask_seed", seed)
            tx.execute("DELETE FROM meta WHERE key = 'ask_next'")
            self._me.ask = key

    # --- what the others know of each -----------------------------------------------

    def _state(self, tx: Tx) -> AccountState | None:
        entries = known_log(tx, self._account)
        if not entries:
            return None
        try:
            return read_log(self._me.account, entries)
        except IdentityError:
            return None

    def _heard(self, tx: Tx, key: str, value: bytes) -> None:
        tx.events.append(DevicesChanged())

    def _present(self, tx: Tx) -> None:
        """Tell the others our name, which key we hold, and that we were here."""
        me, now = str(self._me.device), self._clock.now_ms()
        ask = b"" if self._me.ask is None else self._me.ask.public
        held, seen = _read_seen(self._own.get(tx, "seen", me))
        if held != ask or abs(now - seen) > SEEN_EVERY:
            self._own.set(tx, "seen", me, encode((ask, now)))
        name = get_meta(tx, "device_name")
        if name and not self._own.get(tx, "device", me):
            self._own.set(tx, "device", me, name)

    def _list(self, tx: Tx, history: "_History") -> Found:
        state, known, holder = history.state, history.known, history.holder
        if state is None:
            return []
        names, seen = self._own.items(tx, "device"), self._own.items(tx, "seen")
        own = self._me.device.device
        found = []
        for short, certificate in known.items():
            id = f"{self._account}/{short}"
            held, last = _read_seen(seen.get(id, b""))
            name = names.get(id, b"")
            if short == own:
                # Until the self group is there to tell it, what it was called here.
                name = name or get_meta(tx, "device_name") or b""
            found.append(
                Device(
                    id=id,
                    name=_name(name),
                    created=certificate.created,
                    expires=certificate.expires,
                    own=short == own,
                    manager=short in state.devices
                    and (
                        self._holds(state)
                        if short == own
                        else held == state.ask or (not held and short == holder)
                    ),
                    last_seen=self._clock.now_ms() if short == own else last,
                    revoked=short in state.revoked,
                    doubtful=is_doubtful(tx, state, short),
                )
            )
        return sorted(found, key=lambda d: (d.revoked, not d.own, d.created, d.id))

    def _holds(self, state: AccountState) -> bool:
        return self._me.ask is not None and self._me.ask.public == state.ask


@dataclass(slots=True)
class _History:
    """An account log, as far as it tells of devices; slow to read if it is long."""

    state: AccountState | None = None
    known: dict[str, DeviceCertificate] = field(default_factory=dict)
    """All devices that there ever were, by their short ids."""
    holder: str = ""
    """Who came in with the account signing key of now."""

    @classmethod
    def read(cls, account: AccountAddress, entries: Entries) -> "_History":
        """Read it; call it off the event loop."""
        found, rotated = cls(), False
        for entry in entries:
            before = found.state
            state = read_account_log(account, [entry], after=before)
            found.state = state
            fresh = [d for d in state.devices if not before or d not in before.devices]
            for short, device in state.devices.items():
                found.known[short] = device.certificate
            if before is None or before.ask != state.ask:
                found.holder, rotated = "", True
            elif fresh:
                # Who sets a key up to come in certifies itself by it at once.
                found.holder = fresh[0] if rotated else found.holder
                rotated = False
            elif len(state.devices) < DEVICES_MAX - 1:
                rotated = False  # it was set up to revoke one, not to make room
        return found


def _name(value: bytes) -> str:
    return visible_line(value.decode("utf-8", "replace"))[:NAME_MAX]


def _read_seen(value: bytes) -> tuple[bytes, int]:
    """Which key a device holds, and when it was here (milliseconds)."""
    try:
        return decode(value, tuple[bytes, int])
    except Malformed:
        return b"", 0
