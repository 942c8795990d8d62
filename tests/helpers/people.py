"""Accounts and devices with real keys, for tests."""

import os
from dataclasses import dataclass, field

from protocol.account_log import (
    AccountState,
    add_device,
    genesis,
    make_credential,
    read_account_log,
)
from protocol.address import DeviceAddress, parse_account
from protocol.credential import device_id
from protocol.key import KeyPair

NOW = 1_790_000_000


def key() -> KeyPair:
    """A new random key."""
    return KeyPair.from_seed(os.urandom(32))


@dataclass
class Person:
    """An account with its root and account key, and the log so far."""

    address: str
    now: int = NOW
    root: KeyPair = field(default_factory=key)
    ask: KeyPair = field(default_factory=key)
    log: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        account = parse_account(self.address)
        self.log.append(genesis(account, self.root, self.ask, self.now))

    @property
    def state(self) -> AccountState:
        """The log, read."""
        return read_account_log(parse_account(self.address), self.log)

    def device(self) -> "Terminal":
        """Add a device to the log."""
        auth, mls = key(), key()
        entry = add_device(self.state, self.ask, auth.public, mls.public, self.now)
        self.log.append(entry)
        name = device_id(auth.public, mls.public)
        return Terminal(
            DeviceAddress(parse_account(self.address), name),
            auth,
            mls,
            make_credential(
                self.state, DeviceAddress(parse_account(self.address), name)
            ),
        )


@dataclass
class Terminal:
    """A device: its keys and its credential."""

    address: DeviceAddress
    auth: KeyPair
    mls: KeyPair
    credential: bytes
