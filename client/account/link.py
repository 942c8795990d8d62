"""How two devices of one account meet through a node that learns nothing.

The new device makes a code of 80 random bits and shows it; its person types it into a
device that is in already. From code and account both sides derive where the halves of
their meeting lie at the node and under which keys: whoever can read an offer, or
write one that can be read, knows the code, so the code is what vouches for each side
to the other. The answer is sealed under a Diffie-Hellman exchange of this meeting too
(X25519), so a code that is found later opens nothing, and is bound to the offer that
it answers.

    slot, offer key, answer key = HKDF-SHA256(code, salt account)
    offer   XChaCha20-Poly1305(offer key; the new device's keys and name)
    answer  ephemeral key, XChaCha20-Poly1305(HKDF(answer key ‖ X25519); what a device
            of the account must know), with SHA-256(offer) as associated data

A code is good for one meeting and ten minutes. 80 bits cannot be tried by a node that
keeps the halves for ever; they are still not to be shown to anybody.
"""

import hashlib
import hmac
import secrets
from dataclasses import dataclass, field
from typing import TypeVar

import msgspec
from nacl import bindings
from nacl.exceptions import CryptoError

from client.errors import LinkRefused, LinkUnknown
from client.quiet import Quiet
from protocol.address import parse_account
from protocol.codec import decode, encode
from protocol.errors import AddressError, Malformed
from protocol.limits import LINK_MAX
from protocol.whole import Whole

__all__ = [
    "ALPHABET",
    "CODE_LENGTH",
    "Answer",
    "Meeting",
    "Offer",
    "new_code",
    "open_answer",
    "open_offer",
    "parse_code",
    "parse_link",
    "seal_answer",
    "seal_offer",
    "show_code",
    "uri_of",
]

ALPHABET = "0123456789ACDEFGHJKMNPQRSTUVWXYZ"
"""Of each pair that looks alike (0 O, 1 I L, 8 B) one stands here: 32 are left."""

CODE_LENGTH = 16
"""Characters of five bits each: 80 bits."""

SCHEME = "telex:link:"

NAME_MAX = 64
"""Characters of a device's name."""

TEXT_MAX = 1024
"""Characters of what may be a code: a QR code's text with a long address."""

_ALIKE = str.maketrans("OILB", "0118")

K = TypeVar("K", bound=msgspec.Struct)


class Offer(msgspec.Struct, array_like=True, frozen=True):
    """What the new device shows of itself."""

    version: Whole
    account: str
    auth_key: bytes
    mls_key: bytes
    """The two public keys that its certificate will name (`protocol.credential`)."""
    exchange_key: bytes
    """X25519, for the answer to this offer."""
    name: str


class Answer(Quiet, msgspec.Struct, array_like=True, frozen=True):
    """What a device of the account tells the new one."""

    version: Whole
    account: str
    device: str
    """The new device's address."""
    root: bytes
    """The account's root key: pinned, whatever the node shows."""
    seq: Whole
    head: bytes
    """The account log up to the new device's entry: its length and chain's hash."""
    rooms: Whole
    """How many rooms it is added to."""
    self_group: str
    """The room id of the self group; empty: there is none yet."""
    ask: bytes = b""
    """The seed of the account signing key, for a device that may manage others."""
    backup: bytes = b""
    """The key of the account's backup, if that device knows it."""
    vault: str = ""
    """Where its history comes from; empty: none comes."""
    vault_key: bytes = b""
    backup_on: bool = False
    """Whether that device backs up."""


@dataclass(frozen=True, slots=True)
class Meeting:
    """What follows from a code."""

    slot: str
    """Where the halves lie at the node: 32 hex digits."""
    offer_key: bytes = field(repr=False)
    answer_key: bytes = field(repr=False)

    @classmethod
    def of(cls, account: str, code: str) -> "Meeting":
        """The meeting of an account and a code, as `parse_code` gives it."""
        secret = hmac.digest(
            b"telex link 1\0" + account.encode(), code.encode(), "sha256"
        )
        return cls(
            _expand(secret, b"slot")[:16].hex(),
            _expand(secret, b"offer"),
            _expand(secret, b"answer"),
        )


# --- the code -----------------------------------------------------------------


def new_code() -> str:
    """A code of 80 random bits, without dashes."""
    return "".join(secrets.choice(ALPHABET) for _ in range(CODE_LENGTH))


def show_code(code: str) -> str:
    """`XXXX-XXXX-XXXX-XXXX`."""
    return "-".join(code[n : n + 4] for n in range(0, CODE_LENGTH, 4))


def uri_of(account: str, code: str) -> str:
    """`telex:link:alice@example.org:CODE`, for a QR code."""
    return f"{SCHEME}{account}:{code}"


def parse_code(text: str) -> str:
    """Read a code as people type it: any case, dashes, blanks, look-alikes.

    Raises:
        LinkUnknown: it cannot be one; says why.
    """
    letters = "".join(c for c in text if c.isalnum()).upper().translate(_ALIKE)
    if len(text) > TEXT_MAX or len(letters) != CODE_LENGTH:
        raise LinkUnknown(
            f"A code has {CODE_LENGTH} letters and digits; type it as the new device "
            "shows it."
        )
    wrong = [c for c in letters if c not in ALPHABET]
    if wrong:
        raise LinkUnknown(f"{wrong[0]!a} stands in no code; check what you typed.")
    return letters


def parse_link(text: str) -> tuple[str, str]:
    """Read a code or the text of a QR code.

    Returns:
        The account that it is for (empty: it does not say), and the code.

    Raises:
        LinkUnknown: it is neither.
    """
    text = text.strip()
    if text[: len(SCHEME)].lower() != SCHEME:
        return "", parse_code(text)
    account, _, code = text[len(SCHEME) : TEXT_MAX].rpartition(":")
    try:
        return str(parse_account(account)), parse_code(code)
    except AddressError as error:
        raise LinkUnknown(f"This link names no account: {error}") from error


# --- the halves ---------------------------------------------------------------


def seal_offer(meeting: Meeting, offer: Offer) -> bytes:
    """The bytes of an offer for the node."""
    return _seal(meeting.offer_key, b"telex link offer 1", encode(offer))


def open_offer(meeting: Meeting, data: bytes, account: str) -> Offer:
    """Read an offer.

    Raises:
        LinkRefused: it was not made with this code, or not for this account.
    """
    offer = _read(_open(meeting.offer_key, b"telex link offer 1", data), Offer)
    keys = (offer.auth_key, offer.mls_key, offer.exchange_key)
    if offer.version != 1 or offer.account != account:
        raise LinkRefused("That device wants to be linked to another account.")
    if any(len(key) != 32 for key in keys) or len(offer.name) > NAME_MAX:
        raise LinkRefused("What that device offers makes no sense: update both.")
    return offer


def seal_answer(meeting: Meeting, sealed_offer: bytes, answer: Answer) -> bytes:
    """The bytes of an answer for the node; `sealed_offer`: what it answers.

    Raises:
        LinkRefused: the offer's key is none.
    """
    offer = open_offer(meeting, sealed_offer, answer.account)
    private = secrets.token_bytes(32)
    public = bindings.crypto_scalarmult_base(private)
    key = _exchange(meeting, private, offer.exchange_key)
    data = public + _seal(key, _binding(sealed_offer), encode(answer))
    if len(data) > LINK_MAX:
        raise LinkRefused("The answer is too long for the node.")
    return data


def open_answer(
    meeting: Meeting, sealed_offer: bytes, private: bytes, data: bytes, account: str
) -> Answer:
    """Read the answer to an offer of ours; `private`: of the offer's exchange key.

    Raises:
        LinkRefused: it was not made with this code for this offer.
    """
    key = _exchange(meeting, private, data[:32])
    answer = _read(_open(key, _binding(sealed_offer), data[32:]), Answer)
    if answer.version != 1 or answer.account != account:
        raise LinkRefused("The answer is for another account.")
    if len(answer.root) != 32 or len(answer.head) != 32:
        raise LinkRefused("The answer makes no sense: update both devices.")
    return answer


def _exchange(meeting: Meeting, private: bytes, public: bytes) -> bytes:
    try:
        shared = bindings.crypto_scalarmult(private, public)
    except (CryptoError, TypeError, ValueError) as error:
        # A key of small order, or none at all.
        raise LinkRefused(_SWAPPED) from error
    return _expand(hmac.digest(meeting.answer_key, shared, "sha256"), b"exchange")


def _binding(sealed_offer: bytes) -> bytes:
    return b"telex link answer 1" + hashlib.sha256(sealed_offer).digest()


_SWAPPED = (
    "What came over the node was not made with this code: somebody may have changed "
    "it. Begin again with a new code."
)


def _seal(key: bytes, binding: bytes, data: bytes) -> bytes:
    nonce = secrets.token_bytes(24)
    return nonce + bindings.crypto_aead_xchacha20poly1305_ietf_encrypt(
        data, binding, nonce, key
    )


def _open(key: bytes, binding: bytes, data: bytes) -> bytes:
    try:
        return bindings.crypto_aead_xchacha20poly1305_ietf_decrypt(
            data[24:], binding, data[:24], key
        )
    except (CryptoError, TypeError, ValueError) as error:
        raise LinkRefused(_SWAPPED) from error


def _read(data: bytes, kind: type[K]) -> K:
    try:
        return decode(data, kind)
    except Malformed as error:
        raise LinkRefused(
            "The two devices do not understand each other: update both."
        ) from error


def _expand(secret: bytes, label: bytes) -> bytes:
    return hmac.digest(secret, b"telex link " + label + b" 1\x01", "sha256")
