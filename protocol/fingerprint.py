"""What two people compare to know that they have each other's root keys.

Two ways:

- The *fingerprint* of two people: sixty digits, a string of emoji or a QR code. It
  never changes while the root keys are the same, and both see the same one. Each
  person's half is a slow hash of the root key and the address alone, so nobody can
  look for a key that fits both sides at once: to pass, a false key must meet a whole
  half, 99 bits of digits or 72 bits of emoji, each try costing 5,200 hashes.
- A *short authentication string* (SAS, as in ZRTP, RFC 6189 section 4.3): seven emoji
  or twelve digits that two devices make on the spot. Its 42 bits are enough because
  whoever begins has committed to an ephemeral key before seeing the other one: who
  stands between gets one guess, in the open. Both root keys go into it, so when the
  strings are equal the roots are.

Neither protects against somebody who holds a person's root key or unlocked device.
"""

import hashlib
import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from dataclasses import dataclass
from typing import NamedTuple

from nacl import bindings
from nacl.exceptions import CryptoError

from protocol.address import parse_account
from protocol.codec import encode
from protocol.errors import AddressError, IdentityError, Malformed

__all__ = [
    "EMOJI",
    "Emoji",
    "Party",
    "SasContext",
    "fingerprint_digits",
    "fingerprint_emoji",
    "fingerprint_uri",
    "read_fingerprint_uri",
    "sas_commitment",
    "sas_digits",
    "sas_emoji",
    "sas_public",
    "sas_secret",
]

VERSION = b"\x00\x01"
"""Of the fingerprint; another one would be another number for everybody."""

ITERATIONS = 5200
"""Rounds of SHA-512 for one half: 5 ms to show it, 12 bits more for a forger."""

GROUPS = 6
"""Groups of five digits in one half: 99 bits."""

EMOJI_HALF = 12
"""Emoji in one half: 72 bits."""

URI_PREFIX = "telex:verify:1/"
URI_MAX = 1024
"""Characters: two addresses of at most 320 each, and two keys."""


class Emoji(NamedTuple):
    """A symbol of the table, two cells wide in a terminal, and what it is called."""

    symbol: str
    english: str
    chinese: str


# One code point each, drawn as a picture everywhere since Unicode 9, no two alike in
# shape even where a terminal has no colours. The order is part of the protocol.
EMOJI: tuple[Emoji, ...] = (
    Emoji("🐶", "dog", "狗"),
    Emoji("🐎", "horse", "马"),
    Emoji("🐘", "elephant", "大象"),
    Emoji("🐫", "camel", "骆驼"),
    Emoji("🐓", "rooster", "公鸡"),
    Emoji("🐧", "penguin", "企鹅"),
    Emoji("🐢", "turtle", "乌龟"),
    Emoji("🐍", "snake", "蛇"),
    Emoji("🐟", "fish", "鱼"),
    Emoji("🐙", "octopus", "章鱼"),
    Emoji("🐌", "snail", "蜗牛"),
    Emoji("🦋", "butterfly", "蝴蝶"),
    Emoji("🐝", "bee", "蜜蜂"),
    Emoji("🐸", "frog", "青蛙"),
    Emoji("🐭", "mouse", "老鼠"),
    Emoji("🦉", "owl", "猫头鹰"),
    Emoji("🌵", "cactus", "仙人掌"),
    Emoji("🌲", "tree", "松树"),
    Emoji("🌻", "sunflower", "向日葵"),
    Emoji("🍁", "leaf", "枫叶"),
    Emoji("🍄", "mushroom", "蘑菇"),
    Emoji("🍎", "apple", "苹果"),
    Emoji("🍌", "banana", "香蕉"),
    Emoji("🍇", "grapes", "葡萄"),
    Emoji("🍓", "strawberry", "草莓"),
    Emoji("🌽", "corn", "玉米"),
    Emoji("🥕", "carrot", "胡萝卜"),
    Emoji("🍞", "bread", "面包"),
    Emoji("🍕", "pizza", "披萨"),
    Emoji("🎂", "cake", "蛋糕"),
    Emoji("🥚", "egg", "鸡蛋"),
    Emoji("🍦", "ice cream", "冰淇淋"),
    Emoji("🌙", "moon", "月亮"),
    Emoji("⭐", "star", "星星"),
    Emoji("🌈", "rainbow", "彩虹"),
    Emoji("🔥", "fire", "火"),
    Emoji("⛄", "snowman", "雪人"),
    Emoji("🌍", "globe", "地球"),
    Emoji("🔑", "key", "钥匙"),
    Emoji("🔔", "bell", "铃铛"),
    Emoji("🔨", "hammer", "锤子"),
    Emoji("🔒", "lock", "锁"),
    Emoji("📚", "books", "书"),
    Emoji("📷", "camera", "相机"),
    Emoji("📞", "telephone", "电话"),
    Emoji("⏰", "clock", "闹钟"),
    Emoji("💡", "light bulb", "灯泡"),
    Emoji("🎁", "gift", "礼物"),
    Emoji("🎈", "balloon", "气球"),
    Emoji("🎸", "guitar", "吉他"),
    Emoji("🥁", "drum", "鼓"),
    Emoji("🎩", "hat", "礼帽"),
    Emoji("👓", "glasses", "眼镜"),
    Emoji("👞", "shoe", "鞋"),
    Emoji("👑", "crown", "王冠"),
    Emoji("🚗", "car", "汽车"),
    Emoji("🚲", "bicycle", "自行车"),
    Emoji("🚀", "rocket", "火箭"),
    Emoji("⛵", "sailboat", "帆船"),
    Emoji("⚓", "anchor", "锚"),
    Emoji("⚽", "football", "足球"),
    Emoji("🏆", "trophy", "奖杯"),
    Emoji("🏠", "house", "房子"),
    Emoji("🤖", "robot", "机器人"),
)
"""64 symbols: six bits each."""


@dataclass(frozen=True, slots=True)
class Party:
    """One of two people: the address and the root key."""

    account: str
    root: bytes


# --- fingerprints ------------------------------------------------------------


def fingerprint_digits(one: Party, other: Party) -> str:
    """Twelve groups of five digits, the same whoever asks."""
    halves = []
    for half in _halves(one, other):
        groups = [half[n * 5 : n * 5 + 5] for n in range(GROUPS)]
        halves += [f"{int.from_bytes(group, 'big') % 100_000:05}" for group in groups]
    return " ".join(halves)


def fingerprint_emoji(one: Party, other: Party) -> str:
    """Four groups of six emoji, the same whoever asks."""
    symbols = "".join(
        _symbols(half[30:], EMOJI_HALF, of=EMOJI_HALF * 6)
        for half in _halves(one, other)
    )
    return " ".join(symbols[n : n + 6] for n in range(0, len(symbols), 6))


def fingerprint_uri(one: Party, other: Party) -> str:
    """What a QR code holds: both addresses and root keys, the same whoever asks."""
    parts = []
    for party in sorted((one, other), key=lambda party: party.account):
        parts += [
            party.account,
            urlsafe_b64encode(party.root).rstrip(b"=").decode(),
        ]
    return URI_PREFIX + "/".join(parts)


def read_fingerprint_uri(text: str) -> tuple[Party, Party]:
    """Read what `fingerprint_uri` wrote.

    Raises:
        Malformed: it is nothing of the kind.
    """
    text = text.strip()
    if len(text) > URI_MAX or not text.startswith(URI_PREFIX):
        raise Malformed("This is not a code to verify somebody with.")
    parts = text.removeprefix(URI_PREFIX).split("/")
    if len(parts) != 4:
        raise Malformed("This code is incomplete: copy all of it.")
    return _party(*parts[:2]), _party(*parts[2:])


def _party(account: str, root: str) -> Party:
    try:
        key = urlsafe_b64decode(root + "=" * (-len(root) % 4))
        party = Party(str(parse_account(account)), key)
    except (AddressError, Base64Error, ValueError) as error:
        raise Malformed("This code is damaged: copy all of it.") from error
    if len(key) != 32 or urlsafe_b64encode(key).rstrip(b"=").decode() != root:
        raise Malformed("This code is damaged: copy all of it.")
    return party


def _halves(one: Party, other: Party) -> list[bytes]:
    return sorted((_half(one), _half(other)))


def _half(party: Party) -> bytes:
    """64 bytes: SHA-512 iterated over version, root key and address."""
    digest = VERSION + party.root + party.account.encode()
    for _ in range(ITERATIONS):
        digest = hashlib.sha512(digest + party.root).digest()
    return digest


# --- short authentication strings --------------------------------------------


class SasContext(NamedTuple):
    """All that both sides must see alike for their strings to be equal."""

    session: bytes
    """16 bytes, chosen by whoever began."""
    room: str
    seq: int
    """The entry that carried the request, in the room's log ..."""
    log_hash: bytes
    """... the chain's hash there, over all that the room went through ..."""
    epoch_authenticator: bytes
    """... and the MLS epoch in which it stood (RFC 9420 section 8.7)."""
    initiator: str
    """Device address, as `responder`."""
    initiator_root: bytes
    initiator_key: bytes
    responder: str
    responder_root: bytes
    responder_key: bytes


def sas_public(private: bytes) -> bytes:
    """The X25519 public key of 32 random bytes."""
    return bindings.crypto_scalarmult_base(private)


def sas_commitment(session: bytes, device: str, public: bytes) -> bytes:
    """32 bytes that bind whoever begins to a key that is shown later."""
    return hashlib.sha256(
        b"telex sas commitment 1\0" + encode([session, device, public])
    ).digest()


def sas_secret(private: bytes, public: bytes, context: SasContext) -> bytes:
    """32 bytes that both sides have, from which the strings are made.

    Raises:
        IdentityError: the other key is of no use.
    """
    if len(private) != 32 or len(public) != 32:
        raise IdentityError("The other device sent a key that is none.")
    try:
        shared = bindings.crypto_scalarmult(private, public)
    except (CryptoError, RuntimeError, TypeError, ValueError) as error:
        raise IdentityError("The other device sent a key that is none.") from error
    extracted = hmac.digest(b"telex sas 1", shared, "sha256")
    return hmac.digest(extracted, encode(list(context)) + b"\x01", "sha256")


def sas_emoji(secret: bytes) -> tuple[Emoji, ...]:
    """Seven emoji: 42 bits."""
    value = int.from_bytes(_expand(secret, b"emoji"), "big") >> (256 - 42)
    return tuple(EMOJI[value >> shift & 63] for shift in range(36, -1, -6))


def sas_digits(secret: bytes) -> str:
    """Three groups of four digits."""
    value = int.from_bytes(_expand(secret, b"digits"), "big") % 10**12
    digits = f"{value:012}"
    return " ".join(digits[n : n + 4] for n in range(0, 12, 4))


def _expand(secret: bytes, label: bytes) -> bytes:
    return hmac.digest(secret, b"telex sas " + label + b"\x01", "sha256")


def _symbols(data: bytes, count: int, *, of: int) -> str:
    """The first `of` bits as `count` symbols of six bits."""
    value = int.from_bytes(data, "big") >> (len(data) * 8 - of)
    return "".join(EMOJI[value >> shift & 63].symbol for shift in range(of - 6, -1, -6))
