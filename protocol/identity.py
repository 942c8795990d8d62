"""Who a person and a device are: keys, certificates and the account log.

    root key        from the 24-word phrase; *is* the person; on no device
      └─ certifies  account signing key (ASK), on devices that may manage devices
           └─ certifies  device: one key for requests, one for MLS leaves

The account log at the account's node is hash-chained and signed: `genesis` and
`ask_rotate` by the root, `device_add`, `device_renew` and `device_revoke` by the ASK
of that moment. Reading it is a pure function over bytes and a pinned root, so a client
believes no node. An MLS credential carries the two certificates of one device,
so whoever holds the root key can check a leaf without asking anybody.

What it does not protect: a node can withhold the newest entries of a log (clients
keep the highest (seq, hash) that they saw, so it cannot take any back).
"""

import hashlib
import hmac
from base64 import b32encode
from dataclasses import dataclass, field, replace
from enum import StrEnum

import msgspec
from nacl import bindings, pwhash

from protocol.address import (
    AccountAddress,
    DeviceAddress,
    parse_account,
    parse_device,
)
from protocol.codec import decode, encode
from protocol.errors import AddressError, IdentityError, Malformed
from protocol.limits import ACCOUNT_LOG_ENTRIES, DEVICES_MAX
from protocol.log import GENESIS, chain

__all__ = [
    "DEVICE_LIFETIME",
    "AccountState",
    "AskCertificate",
    "Credential",
    "Device",
    "DeviceCertificate",
    "EntryKind",
    "KeyPair",
    "Signed",
    "add_device",
    "credential_device",
    "device_id",
    "genesis",
    "login_secret",
    "make_credential",
    "read_account_log",
    "read_credential",
    "renew_device",
    "revoke_device",
    "root_key",
    "rotate_ask",
    "sign",
    "verify",
]

DEVICE_LIFETIME = 366 * 24 * 3600
"""Seconds that a device certificate holds: a year, renewed by the device."""

CLOCK_SLACK = 24 * 3600
"""Seconds by which a certificate may begin in our future: clocks are wrong."""

CREDENTIAL_MAX = 1024
"""Bytes of a credential; it stands in every leaf of a group's tree."""


# --- keys and signatures -----------------------------------------------------


@dataclass(frozen=True, slots=True)
class KeyPair:
    """An Ed25519 key: its 32-byte public half, and the seed that nobody prints."""

    public: bytes
    seed: bytes = field(repr=False)

    @classmethod
    def from_seed(cls, seed: bytes) -> "KeyPair":
        """The key of a 32-byte seed."""
        public, _ = bindings.crypto_sign_seed_keypair(seed)
        return cls(public, seed)


def sign(label: str, key: KeyPair, payload: bytes) -> bytes:
    """64 bytes: an Ed25519 signature that holds for this label alone."""
    message = _labelled(label, payload)
    return bindings.crypto_sign(message, key.seed + key.public)[:64]


def verify(label: str, public: bytes, payload: bytes, signature: bytes) -> None:
    """Check a signature made by `sign` with the same label.

    Raises:
        IdentityError: it does not hold.
    """
    if len(public) != 32 or len(signature) != 64:
        raise IdentityError("A key or signature has the wrong length.")
    try:
        bindings.crypto_sign_open(signature + _labelled(label, payload), public)
    except Exception as error:  # nacl raises several kinds; all mean "no"
        raise IdentityError(f"A signature ({label}) does not hold.") from error


def _labelled(label: str, payload: bytes) -> bytes:
    return b"telex " + label.encode() + b" 1\0" + payload


def root_key(entropy: bytes) -> KeyPair:
    """The root key of a 24-word phrase, from the phrase's 32 bytes of entropy."""
    extracted = hmac.digest(bytes(32), entropy, "sha256")
    return KeyPair.from_seed(hmac.digest(extracted, b"telex root 1\x01", "sha256"))


def login_secret(account: AccountAddress, password: str) -> bytes:
    """32 bytes that stand for the password at the account's node.

    Argon2id (3 passes, 64 MiB) salted by the account, about 0.1 s; the node stores
    a hash of it and never sees the password, which may therefore also unlock the
    device's database.
    """
    salt = hashlib.blake2b(
        str(account).encode(), digest_size=16, person=b"telex login 1"
    ).digest()
    return pwhash.argon2id.kdf(
        32, password.encode(), salt, opslimit=3, memlimit=64 * 1024 * 1024
    )


def device_id(auth_key: bytes, mls_key: bytes) -> str:
    """A device's id: 16 characters that follow from its two public keys."""
    digest = hashlib.blake2b(
        auth_key + mls_key, digest_size=10, person=b"telex device 1"
    ).digest()
    return b32encode(digest).decode().lower()


# --- certificates ------------------------------------------------------------


class Signed(msgspec.Struct, array_like=True, frozen=True):
    """Bytes and a signature over exactly them."""

    payload: bytes
    signature: bytes


class AskCertificate(msgspec.Struct, array_like=True, frozen=True):
    """By the root (label `ask`): this key signs for the account."""

    account: str
    root: bytes
    ask: bytes
    serial: int
    """1 for the first, one more at each rotation; a lower one is void."""
    created: int
    """Unix seconds."""


class DeviceCertificate(msgspec.Struct, array_like=True, frozen=True):
    """By the ASK (label `device`): these two keys are a device of the account."""

    device: str
    """The device's address."""
    auth_key: bytes
    """Ed25519, signs requests (RFC 9421)."""
    mls_key: bytes
    """Ed25519, the signature key of the device's MLS leaves."""
    created: int
    expires: int
    """Unix seconds."""


class _CredentialIdentity(msgspec.Struct, array_like=True, frozen=True):
    version: int
    ask: Signed
    device: Signed
    log_seq: int
    log_hash: bytes


@dataclass(frozen=True, slots=True)
class Credential:
    """A device's credential, checked up to the root key it names.

    The caller still compares `root` with the root key it knows for the account.
    """

    account: AccountAddress
    device: DeviceAddress
    root: bytes
    ask: bytes
    ask_serial: int
    auth_key: bytes
    mls_key: bytes
    expires: int
    log_seq: int
    """The head of the account log when the credential was made."""
    log_hash: bytes


def make_credential(state: "AccountState", device: DeviceAddress) -> bytes:
    """The MLS credential identity of one device of an account.

    Args:
        state: the account log, as read.
        device: a device that it lists.
    """
    entry = state.devices[device.device]
    return encode(
        _CredentialIdentity(1, entry.ask, entry.signed, state.seq, state.head)
    )


def read_credential(identity: bytes, now: int | None) -> Credential:
    """Check an MLS credential identity: root → ASK → device, and its dates.

    Args:
        identity: the bytes in the leaf.
        now: unix seconds; None: its dates were judged when its leaf came in.

    Raises:
        IdentityError: says which link of the chain does not hold.
    """
    if len(identity) > CREDENTIAL_MAX:
        raise IdentityError("A credential is longer than 1 KiB.")
    try:
        parts = decode(identity, _CredentialIdentity)
        ask = decode(parts.ask.payload, AskCertificate)
        certificate = decode(parts.device.payload, DeviceCertificate)
        account = parse_account(ask.account)
        device = parse_device(certificate.device)
    except (Malformed, AddressError) as error:
        raise IdentityError("A credential cannot be read.") from error
    if parts.version != 1:
        raise IdentityError("A credential is of a version that is not known here.")
    verify("ask", ask.root, parts.ask.payload, parts.ask.signature)
    _check_device(parts.device, certificate, account, ask.ask)
    if now is not None and not (
        certificate.created - CLOCK_SLACK <= now <= certificate.expires
    ):
        raise IdentityError(f"The certificate of {device} has expired.")
    return Credential(
        account=account,
        device=device,
        root=ask.root,
        ask=ask.ask,
        ask_serial=ask.serial,
        auth_key=certificate.auth_key,
        mls_key=certificate.mls_key,
        expires=certificate.expires,
        log_seq=parts.log_seq,
        log_hash=parts.log_hash,
    )


def credential_device(identity: bytes) -> str:
    """The device address in a credential, read without any check.

    For leaves whose credential was checked when they came in: a certificate that
    expires later must not make a group unreadable.

    Raises:
        IdentityError: it cannot be read.
    """
    try:
        parts = decode(identity, _CredentialIdentity)
        return decode(parts.device.payload, DeviceCertificate).device
    except Malformed as error:
        raise IdentityError("A credential cannot be read.") from error


def _check_device(
    signed: Signed,
    certificate: DeviceCertificate,
    account: AccountAddress,
    ask: bytes,
) -> None:
    verify("device", ask, signed.payload, signed.signature)
    try:
        device = parse_device(certificate.device)
    except AddressError as error:
        raise IdentityError("A certificate names no device.") from error
    if device.account != account:
        raise IdentityError("A certificate is for a device of another account.")
    if len(certificate.auth_key) != 32 or len(certificate.mls_key) != 32:
        raise IdentityError("A device's keys have 32 bytes each.")
    if device.device != device_id(certificate.auth_key, certificate.mls_key):
        raise IdentityError("A device's id does not follow from its keys.")
    if not 0 < certificate.expires - certificate.created <= 2 * DEVICE_LIFETIME:
        raise IdentityError("A device certificate's dates make no sense.")


# --- the account log ---------------------------------------------------------


class EntryKind(StrEnum):
    """What an account log's entry does."""

    GENESIS = "genesis"
    DEVICE_ADD = "device_add"
    DEVICE_RENEW = "device_renew"
    """The same device and keys, for longer."""
    DEVICE_REVOKE = "device_revoke"
    ASK_ROTATE = "ask_rotate"


class _AccountEntry(msgspec.Struct, array_like=True, frozen=True):
    version: int
    account: str
    seq: int
    previous: bytes
    time: int
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
    revoked: frozenset[str]
    seq: int
    head: bytes
    """The chain's hash after entry `seq`."""

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
    if entry.seq > ACCOUNT_LOG_ENTRIES:
        raise IdentityError(f"The account log of {account} is too long.")
    changed = (
        _begin(account, entry, signed)
        if state is None
        else _continue(state, entry, signed)
    )
    return replace(changed, seq=entry.seq, head=chain(head, data))


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
        revoked=frozenset(),
        seq=1,
        head=GENESIS,
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
                state, ask=ask.ask, ask_serial=ask.serial, ask_signed=ask_signed
            )
        case EntryKind.DEVICE_ADD:
            device, added = _read_device(state, entry.body)
            if device in state.devices or device in state.revoked:
                raise IdentityError("A device stands twice in an account log.")
            if len(state.devices) >= DEVICES_MAX:
                raise IdentityError(f"An account has at most {DEVICES_MAX} devices.")
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
            return replace(state, devices=left, revoked=state.revoked | {device})
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
    _check_device(signed, certificate, state.account, state.ask)
    device = certificate.device.rpartition("/")[2]
    return device, Device(certificate, signed, state.ask_signed)


# --- writing entries ---------------------------------------------------------


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
