"""Devices as the edge asks for them: whose key is this, and may it come in?

Answers are kept in memory, because every request asks; an event that the account
changed, or another process's write, drops them.
"""

from collections import OrderedDict
from dataclasses import dataclass

from sqlalchemy import Connection, or_, select

from node.clock import Clock
from node.storage.store import Store
from node.storage.tables import AccountRow, DeviceRow, core
from protocol.address import AccountAddress, parse_device
from protocol.errors import (
    AccountDisabled,
    AddressError,
    DeviceExpired,
    DeviceRevoked,
    Refused,
    UnknownKey,
)

__all__ = ["Device", "Devices", "list_refused"]

KNOWN_MAX = 20_000
"""Devices kept in memory, in some 10 MB; the one not seen for longest goes."""

_device = core(DeviceRow)
_account = core(AccountRow)


@dataclass(frozen=True, slots=True)
class Device:
    """A device that may make requests."""

    address: str
    account: AccountAddress
    auth_key: bytes
    mls_key: bytes
    expires: int


class Devices:
    """The devices of this node's accounts, by address."""

    def __init__(self, store: Store, node: str, clock: Clock) -> None:
        self._store = store
        self._node = node
        self._clock = clock
        self._known: OrderedDict[str, Device] = OrderedDict()
        self._version = 0

    def forget(self) -> None:
        """Something changed: ask the database again."""
        self._known.clear()
        self._version += 1

    async def get(self, address: str) -> Device:
        """A device that may come in.

        Raises:
            UnknownKey, DeviceRevoked, DeviceExpired, AccountDisabled.
        """
        device = self._known.get(address)
        if device is None:
            device = await self._load(address)
        else:
            self._known.move_to_end(address)
        if device.expires < self._clock():
            raise DeviceExpired()
        return device

    async def _load(self, address: str) -> Device:
        try:
            parsed = parse_device(address)
        except AddressError as error:
            raise UnknownKey(str(error)) from error
        if parsed.account.node != self._node:
            raise UnknownKey(f"This is {self._node}; it has no such account.")
        version = self._version
        device = await self._store.read(lambda c: _find(c, address))
        if version == self._version:  # else it changed while we read
            self._known[address] = device
            if len(self._known) > KNOWN_MAX:
                self._known.popitem(last=False)
        return device


def list_refused(connection: Connection) -> dict[str, Refused]:
    """Every device that may not come in, and why."""
    rows = connection.execute(
        select(_device.c.address, _device.c.revoked)
        .join_from(_device, _account, _account.c.name == _device.c.name)
        .where(or_(_device.c.revoked, _account.c.disabled))
    )
    return {
        address: DeviceRevoked() if revoked else AccountDisabled()
        for address, revoked in rows
    }


def _find(connection: Connection, address: str) -> Device:
    row = connection.execute(
        select(
            _device.c.auth_key,
            _device.c.mls_key,
            _device.c.expires,
            _device.c.revoked,
            _account.c.disabled,
        )
        .join_from(_device, _account, _account.c.name == _device.c.name)
        .where(_device.c.address == address)
    ).first()
    if row is None:
        raise UnknownKey()
    if row.revoked:
        raise DeviceRevoked()
    if row.disabled:
        raise AccountDisabled()
    account = parse_device(address).account
    return Device(address, account, row.auth_key, row.mls_key, row.expires)
