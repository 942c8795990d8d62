"""Which devices of our own account are right: those that a device of ours added.

Whoever has the account signing key can add a device, a thief too. So the device that
adds one says so to the others in the self group (register `vouched`, by device), under
its own signature: what stands there may have been repeated by any of them. A device
does not vouch for itself, nor does one that nobody vouches for.
"""

import msgspec

from client.account.me import get_meta, set_meta
from client.storage.store import Tx
from protocol.account_log import AccountState
from protocol.address import DeviceAddress
from protocol.codec import decode, encode
from protocol.errors import IdentityError, Malformed
from protocol.key import KeyPair, sign, verify
from protocol.whole import Whole

__all__ = [
    "REGISTER",
    "OwnDevices",
    "is_doubtful",
    "is_vouched",
    "mark_unvouched",
    "own_devices",
    "vouches",
]

REGISTER = "vouched"

_LABEL = "vouch"


class OwnDevices(msgspec.Struct, array_like=True, frozen=True):
    """What this device knows of its account's devices, by their short ids."""

    ask_serial: Whole
    """Of the account signing key when this was written."""
    seen: set[str]
    """Those that are no news: from before us, or somebody said that they are right,
    or there was an alarm."""
    vouched: set[str]
    """Those that this device added itself; it tells the others."""


class _Vouch(msgspec.Struct, array_like=True, frozen=True):
    by: str
    """The short id of the device that added this one."""
    signature: bytes
    """By its request key, label `vouch`, over the address of the device."""


def own_devices(tx: Tx) -> OwnDevices:
    """What this device knows of its account's devices."""
    data = get_meta(tx, "own_devices")
    return OwnDevices(0, set(), set()) if data is None else decode(data, OwnDevices)


def vouches(tx: Tx, account: str) -> dict[str, bytes]:
    """What this device tells the others in the register, by device."""
    seed, me = get_meta(tx, "auth_seed"), (get_meta(tx, "device") or b"").decode()
    if seed is None:
        return {}
    key, by = KeyPair.from_seed(seed), me.rpartition("/")[2]
    added = [f"{account}/{short}" for short in own_devices(tx).vouched if short != by]
    return {
        device: encode(_Vouch(by, sign(_LABEL, key, device.encode())))
        for device in added
    }


def is_vouched(
    tx: Tx, state: AccountState, short: str, asked: frozenset[str] = frozenset()
) -> bool:
    """Whether a device of ours that is right itself says that it added this one.

    Args:
        state: our account log; who vouches stands in it.
        asked: devices whose word is not taken, since theirs is asked for.
    """
    device = str(DeviceAddress(state.account, short))
    row = tx.one(
        "SELECT value FROM own_register WHERE register = ? AND key = ?",
        REGISTER,
        device,
    )
    try:
        vouch = decode(b"" if row is None else bytes(row[0]), _Vouch)
        voucher = state.devices[vouch.by].certificate
        verify(_LABEL, voucher.auth_key, device.encode(), vouch.signature)
    except (Malformed, IdentityError, KeyError):
        return False
    asked |= {short}
    if vouch.by in asked or vouch.by not in own_devices(tx).seen:
        return False
    return not _is_marked(tx, vouch.by) or is_vouched(tx, state, vouch.by, asked)


def is_doubtful(tx: Tx, state: AccountState, short: str) -> bool:
    """Whether a device stands in our list, and none of ours says that it added it."""
    return (
        short in state.devices
        and _is_marked(tx, short)
        and short not in own_devices(tx).vouched
        and not is_vouched(tx, state, short)
    )


def mark_unvouched(tx: Tx, state: AccountState) -> None:
    """Doubt what we find when we come in with the 24 words, until it is vouched for.

    The first device of each account signing key is not doubted: who sets one, with
    the words, comes in with it.
    """
    met: set[bytes] = set()
    for short, device in state.devices.items():
        if device.ask.payload in met:
            set_meta(tx, f"unvouched {short}", b"0")
        met.add(device.ask.payload)


def _is_marked(tx: Tx, short: str) -> bool:
    return get_meta(tx, f"unvouched {short}") is not None
