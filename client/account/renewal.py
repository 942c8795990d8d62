"""Certificates of our devices, renewed before they end; nobody has to think of it.

A device certificate holds for a year. Whoever holds the account signing key (the
device that was set up last, and those that it linked as managers) renews those of all
devices of the account when less than sixty days are left, and every device takes its
newer one from the account log; a key from before a rotation is not used any more. Its
keys stay, so nothing else changes; other members see the new credential with this
device's next commit. A device that was lost is not left to expire: revoke it.
"""

import asyncio
import logging

from client.account.contacts import Contacts, known_log, save_account
from client.account.logs import read_log
from client.account.me import Me, set_meta
from client.clock import Clock
from client.errors import KeyChanged, NodeNonsense
from client.network.transport import Transport
from client.storage.alarms import raise_alarm
from client.storage.store import Store, Tx
from protocol.account_log import (
    AccountState,
    LogFull,
    make_credential,
    read_account_log,
    renew_device,
)
from protocol.credential import read_credential
from protocol.errors import IdentityError, LogForked
from protocol.wire import AccountLog

__all__ = ["RENEW_BEFORE", "Renewal"]

RENEW_BEFORE = 60 * 24 * 3600
"""Seconds before its end at which a certificate is renewed: the summer holidays of a
device that does it for the others."""

logger = logging.getLogger(__name__)


class Renewal:
    """Looks after the certificates of this account's devices."""

    def __init__(
        self,
        store: Store,
        transport: Transport,
        contacts: Contacts,
        me: Me,
        clock: Clock,
    ) -> None:
        self._store = store
        self._transport = transport
        self._contacts = contacts
        self._me = me
        self._clock = clock

    async def renew(self) -> None:
        """Renew what ends soon, as far as this device can; asks nobody if nothing does.

        Raises:
            Refused: the node took nothing.
            NodeUnreachable, NodeUntrusted: it is not there.
        """
        try:
            await self._renew()
        except (IdentityError, KeyChanged, NodeNonsense) as error:
            # What the node shows is not our log. The rooms go on without it, and
            # the certificate has weeks.
            logger.error("our own account log: %s", type(error).__name__)

    async def _renew(self) -> None:
        me = str(self._me.account)
        entries = await self._store.run(lambda tx: known_log(tx, me))
        state = await asyncio.to_thread(read_log, self._me.account, entries)
        if not self._ending(state) and not self._is_ending():
            return
        state = await self._contacts.refresh(me)
        try:
            state = await self._extend(state)
        except LogForked:
            # Another device of ours that may do it too was faster.
            state = await self._extend(await self._contacts.refresh(me))
        await self._adopt(state)

    def _ending(self, state: AccountState) -> list[str]:
        """The devices whose certificates this device has to renew now."""
        if self._me.ask is None or self._me.ask.public != state.ask:
            return []
        now = self._clock.now()
        return [
            name
            for name, device in state.devices.items()
            if device.certificate.expires - RENEW_BEFORE < now
        ]

    def _is_ending(self) -> bool:
        expires = read_credential(self._me.credential, None).expires
        return expires - RENEW_BEFORE < self._clock.now()

    async def _extend(self, state: AccountState) -> AccountState:
        """Renew, and give the account log with that in it."""
        ask, after = self._me.ask, state
        entries: list[bytes] = []
        names = self._ending(state)
        if ask is None or not names:
            return state
        try:
            for name in names:
                fresh = renew_device(after, ask, name, self._clock.now())
                after = read_account_log(state.account, [fresh], after=after)
                entries.append(fresh)
        except LogFull as error:
            text = (
                f"{error} Certificates of your devices end soon and cannot be renewed "
                "any more without it: revoke a device that you do not know or need, "
                "with the phrase."
            )
            full = f"{state.ask_serial}"
            await self._store.run(
                lambda tx: raise_alarm(tx, "account_log_full", full, None, text)
            )
        if not entries:
            return state
        answer = await self._transport.post(
            f"/accounts/{state.account}/log",
            AccountLog(str(state.account), entries),
            AccountLog,
        )
        # What the node says is no news: these are our own signatures.
        kept = answer.entries[: after.seq]
        if len(kept) == after.seq and kept[-len(entries) :] == entries:
            await self._store.run(lambda tx: save_account(tx, after, kept))
        logger.info("renewed %d device certificates", len(entries))
        return after

    async def _adopt(self, state: AccountState) -> None:
        """Use our newest certificate from now on."""
        device = state.devices.get(self._me.device.device)
        if device is None:
            return  # revoked; the node says so to whoever asks
        expires = read_credential(self._me.credential, None).expires
        if device.certificate.expires <= expires:
            return
        credential = make_credential(state, self._me.device)

        def keep(tx: Tx) -> None:
            set_meta(tx, "credential", credential)
            # Newcomers are added by it: let a last resort with the new one be made.
            tx.execute("UPDATE key_package SET created = 0 WHERE last_resort")

        await self._store.run(keep)
        self._me.credential = credential
