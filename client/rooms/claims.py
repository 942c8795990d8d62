"""Key packages of others: claimed when somebody is to be added, and each one checked.

What was claimed and not used, because the race for the commit was lost, is used again.
A package that is past its dates was left by a device that has not been online for a
long time: the next one is claimed, and if none of them is fit the device is left out
and comes in by itself when it is there.
"""

import asyncio
import logging
import secrets
from collections.abc import Sequence

from client.account.contacts import Contacts
from client.clock import Clock
from client.errors import KeyChanged, KeyPackageStale, NodeNonsense
from client.network.reading import Uplink
from client.network.refusals import refusal_of
from client.rooms.changes import Package
from e2ee import key_package_info
from e2ee.errors import E2eeError
from protocol.account_log import AccountState
from protocol.credential import read_credential
from protocol.errors import IdentityError, NotFound
from protocol.limits import CLAIM_ACCOUNTS
from protocol.log import LogId
from protocol.wire import Claim, Claimed, ClaimedPackage

__all__ = ["Claims"]

STALE_TRIES = 3
"""Packages of a device that are tried: two that are past their dates, and one more."""

logger = logging.getLogger(__name__)


class Claims:
    """Claims packages, and keeps those that were not used."""

    def __init__(self, uplink: Uplink, contacts: Contacts, clock: Clock) -> None:
        self._uplink = uplink
        self._contacts = contacts
        self._clock = clock
        self._kept: dict[tuple[LogId | None, str], list[Package]] = {}

    async def of_accounts(
        self, accounts: Sequence[str], room: LogId | None
    ) -> dict[str, list[Package]]:
        """Packages for all devices of some accounts.

        Raises:
            Refused, ClientError: for one of them there is none, and why.
        """
        missing = [a for a in accounts if (room, a) not in self._kept]
        for start in range(0, len(missing), CLAIM_ACCOUNTS):
            batch = missing[start : start + CLAIM_ACCOUNTS]
            states = await asyncio.gather(
                *(self._contacts.refresh(account, room) for account in batch)
            )
            claimed = await self._ask(batch)
            for account, state in zip(batch, states, strict=True):
                self._kept[room, account] = await self._usable(claimed, state)
        return {account: self._kept[room, account] for account in accounts}

    async def of_device(self, device: str, room: LogId) -> list[Package] | None:
        """The package of one device; None if it is no device of its account any more.

        Raises:
            Refused, ClientError: there is none (yet), and why.
        """
        if (room, device) not in self._kept:
            account, _, short = device.partition("/")
            state = await self._contacts.refresh(account, room)
            if short not in state.devices:
                return None
            others = [str(d) for d in state.addresses() if str(d) != device]
            claimed = await self._ask([account], others)
            found = await self._usable(claimed, state, others)
            self._kept[room, device] = [p for p in found if p.device == device]
        return self._kept[room, device]

    def adopt(self, accounts: Sequence[str], room: LogId) -> None:
        """Packages that were claimed before the room existed are for this room."""
        for account in accounts:
            packages = self._kept.pop((None, account), None)
            if packages is not None:
                self._kept[room, account] = packages

    def forget(self, room: LogId) -> None:
        """Those for a room were used, or are of no use."""
        for key in [key for key in self._kept if key[0] == room]:
            del self._kept[key]

    async def _ask(self, accounts: list[str], skip: Sequence[str] = ()) -> Claimed:
        return await self._uplink.transport.post(
            "/key-packages/claim",
            Claim(secrets.token_bytes(16), accounts, skip=list(skip)),
            Claimed,
        )

    async def _usable(
        self, claimed: Claimed, state: AccountState, skip: Sequence[str] = ()
    ) -> list[Package]:
        account = str(state.account)
        found: dict[str, Package] = {}
        stale = ""
        for _ in range(STALE_TRIES):
            if (problem := claimed.failed.get(account)) is not None:
                raise refusal_of(problem)
            stale = ""
            for package in claimed.packages:
                if package.device.partition("/")[0] != account:
                    continue
                try:
                    found[package.device] = self._check(package, state)
                except KeyPackageStale:
                    logger.info("a package of %s is past its dates", package.device)
                    stale = package.device
            if not stale:
                break
            claimed = await self._ask([account], [*skip, *found])
        if found:
            return list(found.values())
        if stale:
            raise KeyPackageStale(stale)
        raise NotFound(f"{account} has no device that can be added right now.")

    def _check(self, package: ClaimedPackage, state: AccountState) -> Package:
        """One claimed package against the account log: chain, keys, dates."""
        now = self._clock.now()
        try:
            info = key_package_info(package.package)
            credential = read_credential(info.identity, None)
        except (E2eeError, IdentityError) as error:
            raise NodeNonsense(
                f"A key package of {package.device} does not hold; tell its node's "
                "admin."
            ) from error
        device = state.devices.get(credential.device.device)
        if credential.root != state.root:
            raise KeyChanged(f"The keys of {state.account} do not fit together.")
        if (
            str(credential.device) != package.device
            or device is None
            or device.certificate.mls_key != info.signature_key
        ):
            raise NodeNonsense(f"A key package of {package.device} is not its own.")
        if (
            not info.not_before <= now <= info.not_after
            or min(credential.expires, device.certificate.expires) < now
        ):
            raise KeyPackageStale(package.device)
        return Package(package.device, info.ref, package.package)
