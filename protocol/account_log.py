"""The account log: which devices a person has, hash-chained and signed.

It stands at the account's node: `genesis` and `ask_rotate` by the root, `device_add`,
`device_renew` and `device_revoke` by the ASK of that moment. Reading it is a pure
function over bytes and a pinned root, so a client believes no node.

What it does not protect: a node can withhold the newest entries of a log (clients
keep the highest (seq, hash) that they saw, so it cannot take any back).
"""

from dataclasses import dataclass, replace
from enum import StrEnum

import msgspec

from protocol.address import AccountAddress, DeviceAddress
from protocol.codec import decode, encode
from protocol.credential import (
    DEVICE_LIFETIME,
    AskCertificate,
    CredentialIdentity,
    DeviceCertificate,
    check_device,
    device_id,
)
from protocol.errors import IdentityError, Malformed
from protocol.key import KeyPair, Signed, sign, verify
from protocol.limits import (
    ACCOUNT_LOG_ENTRIES,
    ACCOUNT_LOG_OPEN,
    ACCOUNT_LOG_TERM,
    DEVICES_MAX,
)
from protocol.log import GENESIS, chain
from protocol.whole import Whole

__all__ = [
    "AccountState",
    "Device",
    "EntryKind",
    "LogFull",
    "add_device",
    "enter_by_root",
    "genesis",
    "make_credential",
    "read_account_log",
    "renew_device",
    "revoke_device",
    "rotate_ask",
]


class LogFull(IdentityError):
    """An account log, or its list of devices, has no room for an entry."""


class EntryKind(StrEnum):
    """What an account log's entry does."""

    GENESIS = "genesis"
    DEVICE_ADD = "device_add"
    DEVICE_RENEW = "device_renew"
    """The same device and keys, for longer."""
    DEVICE_REVOKE = "device_revoke"
    ASK_ROTATE = "ask_rotate"


class _AccountEntry(msgspec.Struct, array_like=True, frozen=True):
    version: Whole
    account: str
    seq: Whole
    previous: bytes
    time: Whole
    kind: str
    body: bytes
    """genesis, ask_rotate: Signed AskCertificate; device_add, device_renew: Signed
    DeviceCertificate; device_revoke: the device's 16-character id in ASCII."""


@dataclass(frozen=True, slots=True)
class Device:
    """A valid device of an account, with what certifies it."""

    certificate: DeviceCertificate
    signed: Signed
    """The certificate as it was signed."""
    ask: Signed
    """The certificate of the ASK that signed it; the root may have set a newer
    ASK since, which does not end the devices of the one before."""


@dataclass(frozen=True, slots=True)
class AccountState:
    """An account log, read: what holds after its last entry."""

    account: AccountAddress
    root: bytes
    ask: bytes
    ask_serial: int
    ask_signed: Signed
    devices: dict[str, Device]
    """Valid devices by their 16-character id."""
    revoked: dict[str, int]
    """When (seconds, by the entry's signed time) a device ended, by its short id."""
    seq: int
    head: bytes
    """The chain's hash after entry `seq`."""
    rotated: int
    """The seq of the entry that set the ASK."""

    def addresses(self) -> list[DeviceAddress]:
        """The valid devices' addresses."""
        return [DeviceAddress(self.account, device) for device in self.devices]


def genesis(account: AccountAddress, root: KeyPair, ask: KeyPair, now: int) -> bytes:
    """The first entry of an account log, signed by the root."""
    body = encode(_certify_ask(account, root, ask.public, 1, now))
    return _entry(account, 1, GENESIS, now, EntryKind.GENESIS, body, root)


def rotate_ask(state: AccountState, root: KeyPair, ask: KeyPair, now: int) -> bytes:
    """An entry that replaces the account signing key, signed by the root.

    Device certificates by the key before stay valid: they stand in the log.
    """
    signed = _certify_ask(state.account, root, ask.public, state.ask_serial + 1, now)
    return _next(state, now, EntryKind.ASK_ROTATE, encode(signed), root)


def add_device(
    state: AccountState, ask: KeyPair, auth_key: bytes, mls_key: bytes, now: int
) -> bytes:
    """An entry that certifies a device, signed by the ASK."""
    body = _certify_device(state.account, ask, auth_key, mls_key, now)
    return _next(state, now, EntryKind.DEVICE_ADD, body, ask)


def renew_device(state: AccountState, ask: KeyPair, device: str, now: int) -> bytes:
    """An entry that lets a device live on, signed by the ASK; `device`: its short id.

    Its keys and address stay; a year begins anew.
    """
    old = state.devices[device].certificate
    body = _certify_device(state.account, ask, old.auth_key, old.mls_key, now)
    return _next(state, now, EntryKind.DEVICE_RENEW, body, ask)


def revoke_device(state: AccountState, ask: KeyPair, device: str, now: int) -> bytes:
    """An entry that ends a device, signed by the ASK; `device`: its short id."""
    return _next(state, now, EntryKind.DEVICE_REVOKE, device.encode(), ask)


def enter_by_root(
    state: AccountState,
    root: KeyPair,
    ask: KeyPair,
    auth_key: bytes,
    mls_key: bytes,
    now: int,
) -> tuple[list[bytes], AccountState]:
    """The entries by which who has the root key comes in, and the log after them.

    A new ASK, then the device that holds it. If the account has as many devices as it
    may have, one makes way: the one whose certificate ends first, which is the one
    that was longest renewed by nobody.

    Raises:
        LogFull: the log has no room for them.
    """
    entries = [rotate_ask(state, root, ask, now)]
    state = read_account_log(state.account, entries, after=state)
    while len(state.devices) >= DEVICES_MAX:
        gone = min(state.devices, key=lambda d: state.devices[d].certificate.expires)
        entries.append(revoke_device(state, ask, gone, now))
        state = read_account_log(state.account, entries[-1:], after=state)
    entries.append(add_device(state, ask, auth_key, mls_key, now))
    return entries, read_account_log(state.account, entries[-1:], after=state)


def read_account_log(
    account: AccountAddress,
    entries: list[bytes],
    *,
    root: bytes | None = None,
    after: AccountState | None = None,
) -> AccountState:
    """Check an account log from its first entry, or from a state read before.

    Args:
        account: whose log it is said to be.
        entries: the signed entries, in order.
        root: the pinned root key; None at first contact (trust on first use).
        after: the state that the entries continue.

    Raises:
        IdentityError: the chain, a signature or a rule does not hold, or the root
            is not the pinned one.
    """
    state = after
    for data in entries:
        state = _read_entry(account, data, state)
    if state is None:
        raise IdentityError(f"The account log of {account} is empty.")
    if root is not None and state.root != root:
        raise IdentityError(f"The root key of {account} is not the one known so far.")
    return state


def _read_entry(
    account: AccountAddress, data: bytes, state: AccountState | None
) -> AccountState:
    try:
        signed = decode(data, Signed)
        entry = decode(signed.payload, _AccountEntry)
    except Malformed as error:
        raise IdentityError("An entry of an account log cannot be read.") from error
    seq, head = (state.seq, state.head) if state else (0, GENESIS)
    if entry.version != 1 or entry.account != str(account):
        raise IdentityError(f"An entry does not belong to the log of {account}.")
    if entry.seq != seq + 1 or entry.previous != head:
        raise IdentityError(f"The account log of {account} does not continue.")
    if state is None:
        changed = _begin(account, entry, signed)
    else:
        _check_room(state, entry)
        changed = _continue(state, entry, signed)
    return replace(changed, seq=entry.seq, head=chain(head, data))


def _check_room(state: AccountState, entry: _AccountEntry) -> None:
    """Raise `LogFull` for an entry that may not stand so far back.

    The last entries are the root's: whoever has the ASK, a thief too, can fill the
    log only up to them, and a rotation, with what follows it, always finds room.
    """
    if entry.seq > ACCOUNT_LOG_ENTRIES:
        raise LogFull(
            f"The list of devices of {state.account} is full for good: it has "
            f"{ACCOUNT_LOG_ENTRIES} entries. Make a new account."
        )
    if (
        entry.seq > ACCOUNT_LOG_OPEN
        and entry.kind != EntryKind.ASK_ROTATE
        and entry.seq > state.rotated + ACCOUNT_LOG_TERM
    ):
        raise LogFull(
            f"The list of devices of {state.account} is nearly full: its last "
            f"{ACCOUNT_LOG_ENTRIES - ACCOUNT_LOG_OPEN} entries are for the recovery "
            "phrase."
        )


def _begin(
    account: AccountAddress, entry: _AccountEntry, signed: Signed
) -> AccountState:
    if entry.kind != EntryKind.GENESIS:
        raise IdentityError(f"The account log of {account} has no beginning.")
    ask_signed, ask = _read_ask(account, entry.body, serial=1)
    verify("account", ask.root, signed.payload, signed.signature)
    return AccountState(
        account=account,
        root=ask.root,
        ask=ask.ask,
        ask_serial=1,
        ask_signed=ask_signed,
        devices={},
        revoked={},
        seq=1,
        head=GENESIS,
        rotated=1,
    )


def _continue(
    state: AccountState, entry: _AccountEntry, signed: Signed
) -> AccountState:
    signer = state.root if entry.kind == EntryKind.ASK_ROTATE else state.ask
    verify("account", signer, signed.payload, signed.signature)
    match entry.kind:
        case EntryKind.ASK_ROTATE:
            ask_signed, ask = _read_ask(
                state.account, entry.body, serial=state.ask_serial + 1
            )
            if ask.root != state.root:
                raise IdentityError("An account signing key is of another root.")
            return replace(
                state,
                ask=ask.ask,
                ask_serial=ask.serial,
                ask_signed=ask_signed,
                rotated=entry.seq,
            )
        case EntryKind.DEVICE_ADD:
            device, added = _read_device(state, entry.body)
            if device in state.devices or device in state.revoked:
                raise IdentityError("A device stands twice in an account log.")
            if len(state.devices) >= DEVICES_MAX:
                raise LogFull(
                    f"An account has at most {DEVICES_MAX} devices: revoke one first."
                )
            return replace(state, devices={**state.devices, device: added})
        case EntryKind.DEVICE_RENEW:
            device, renewed = _read_device(state, entry.body)
            # The id follows from the keys, so they are the same ones.
            before = state.devices.get(device)
            if before is None:
                raise IdentityError("A device is renewed that does not exist.")
            if renewed.certificate.expires <= before.certificate.expires:
                raise IdentityError("A device is renewed for no longer than before.")
            return replace(state, devices={**state.devices, device: renewed})
        case EntryKind.DEVICE_REVOKE:
            device = entry.body.decode("ascii", "replace")
            if device not in state.devices:
                raise IdentityError("A device is revoked that does not exist.")
            left = {name: d for name, d in state.devices.items() if name != device}
            ended = {**state.revoked, device: entry.time}
            return replace(state, devices=left, revoked=ended)
        case _:
            raise IdentityError("An account log's entry is of an unknown kind.")


def _read_ask(
    account: AccountAddress, body: bytes, *, serial: int
) -> tuple[Signed, AskCertificate]:
    try:
        signed = decode(body, Signed)
        ask = decode(signed.payload, AskCertificate)
    except Malformed as error:
        raise IdentityError("An account key's certificate cannot be read.") from error
    if ask.account != str(account) or ask.serial != serial or len(ask.ask) != 32:
        raise IdentityError("An account key's certificate does not fit its log.")
    verify("ask", ask.root, signed.payload, signed.signature)
    return signed, ask


def _read_device(state: AccountState, body: bytes) -> tuple[str, Device]:
    try:
        signed = decode(body, Signed)
        certificate = decode(signed.payload, DeviceCertificate)
    except Malformed as error:
        raise IdentityError("A device's certificate cannot be read.") from error
    check_device(signed, certificate, state.account, state.ask)
    device = certificate.device.rpartition("/")[2]
    return device, Device(certificate, signed, state.ask_signed)


def make_credential(state: "AccountState", device: DeviceAddress) -> bytes:
    """The MLS credential identity of one device of an account.

    Args:
        state: the account log, as read.
        device: a device that it lists.
    """
    entry = state.devices[device.device]
    return encode(CredentialIdentity(1, entry.ask, entry.signed, state.seq, state.head))


def _certify_ask(
    account: AccountAddress, root: KeyPair, ask: bytes, serial: int, now: int
) -> Signed:
    payload = encode(AskCertificate(str(account), root.public, ask, serial, now))
    return Signed(payload, sign("ask", root, payload))


def _certify_device(
    account: AccountAddress, ask: KeyPair, auth_key: bytes, mls_key: bytes, now: int
) -> bytes:
    device = DeviceAddress(account, device_id(auth_key, mls_key))
    payload = encode(
        DeviceCertificate(str(device), auth_key, mls_key, now, now + DEVICE_LIFETIME)
    )
    return encode(Signed(payload, sign("device", ask, payload)))


def _next(
    state: AccountState, now: int, kind: EntryKind, body: bytes, key: KeyPair
) -> bytes:
    return _entry(state.account, state.seq + 1, state.head, now, kind, body, key)


def _entry(
    account: AccountAddress,
    seq: int,
    previous: bytes,
    now: int,
    kind: EntryKind,
    body: bytes,
    key: KeyPair,
) -> bytes:
    payload = encode(
        _AccountEntry(1, str(account), seq, previous, now, kind.value, body)
    )
    return encode(Signed(payload, sign("account", key, payload)))
