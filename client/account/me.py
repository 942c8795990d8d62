"""Who this device is: its account, keys and credential, as the database keeps them."""

from dataclasses import dataclass, field

from client.storage.store import Tx
from protocol.address import AccountAddress, DeviceAddress, parse_device
from protocol.key import KeyPair
from protocol.log import LogId, mailbox_id

__all__ = ["Me", "get_meta", "set_meta"]


@dataclass(slots=True)
class Me:
    """This device; of all this only the credential ever changes."""

    device: DeviceAddress
    auth: KeyPair
    """Signs requests."""
    mls: KeyPair
    """Signs as an MLS leaf."""
    ask: KeyPair | None
    """Certifies devices, on devices that may."""
    credential: bytes = field(repr=False)
    """The MLS credential's identity; a newer one when the certificate was renewed."""

    @property
    def account(self) -> AccountAddress:
        """The account that this is a device of."""
        return self.device.account

    @property
    def mailbox(self) -> LogId:
        """The account's mailbox."""
        return mailbox_id(str(self.account))

    def save(self, tx: Tx) -> None:
        """Write it down, once, when the profile is made."""
        set_meta(tx, "device", str(self.device).encode())
        set_meta(tx, "auth_seed", self.auth.seed)
        set_meta(tx, "mls_seed", self.mls.seed)
        if self.ask is not None:
            set_meta(tx, "ask_seed", self.ask.seed)
        set_meta(tx, "credential", self.credential)

    @classmethod
    def load(cls, tx: Tx) -> "Me":
        """Read what `save` wrote."""
        values = {key: bytes(value) for key, value in tx.all("SELECT * FROM meta")}
        ask = values.get("ask_seed")
        return cls(
            device=parse_device(values["device"].decode()),
            auth=KeyPair.from_seed(values["auth_seed"]),
            mls=KeyPair.from_seed(values["mls_seed"]),
            ask=None if ask is None else KeyPair.from_seed(ask),
            credential=values["credential"],
        )


def get_meta(tx: Tx, key: str) -> bytes | None:
    """A value of the table of single values."""
    row = tx.one("SELECT value FROM meta WHERE key = ?", key)
    return None if row is None else bytes(row[0])


def set_meta(tx: Tx, key: str, value: bytes) -> None:
    """Set a value of the table of single values."""
    tx.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", key, value)
