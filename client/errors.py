"""What can go wrong at a client; `str()` of each is a sentence for people.

TelexError
├── Refused                 by a node, from `protocol.errors`, passed through
└── ClientError             everything that happens on this side
    ├── NoProfile           nothing was set up in this folder
    ├── ProfileExists       something was
    ├── ProfileInUse        another process has it open
    ├── ProfileDamaged      a file of it cannot be read
    ├── ProfileTooNew       written by a newer Telex
    ├── StorageFailed       the database could not be written or read
    ├── WrongPassword
    ├── WrongPhrase         not this account's 24 words, or no words at all
    ├── BadText             a text or name that cannot be sent
    ├── NodeUnreachable     no answer; trying again can help
    │   └── UpgradeFailed   no WebSocket stood, though something answered
    │       └── UpgradeRefused  something on the way lets none through
    ├── NodeUntrusted       its TLS certificate or its name is not right
    ├── NodeNonsense        it answered something that cannot be understood
    ├── LogBroken           a log was rewritten or does not continue
    ├── KeyChanged          a person's root key is not the one known so far
    ├── RoomInactive        this device cannot write in this room (now)
    ├── ChangeFailed        a change of a room's members did not come through
    ├── Unverified          a room asks for verified people, and somebody is not
    ├── Mismatch            what was compared is not the same: somebody may listen
    ├── SasRefused          a comparison cannot begin or go on, and why
    ├── CallRefused         a call cannot begin or be answered, and why
    ├── UnknownAlarm
    ├── UnknownMessage
    ├── ArchiveRefused      a backup or a history is not what it should be
    ├── BackupFailed        nothing was backed up, or came back, and why
    ├── KeyringFailed       the system's keyring does not give or take the key
    ├── LinkUnknown         a code that is wrong, used up or expired
    ├── LinkExpired         nobody answered the code of this new device in time
    ├── LinkRefused         what came from the other device does not hold
    ├── NotManager          this device may not link or revoke others
    ├── RecoveryFull        the account's list of devices has no room left
    ├── PhraseNeeded        this takes the recovery phrase
    ├── UnknownDevice       the account has no such device
    ├── KeyPackageLost      an invitation to a key that is gone from this device
    ├── KeyPackageStale     a device's packages are all past their dates
    ├── UnknownAilment      it is repaired already
    ├── OwnLost             a message of this device that it does not have
    └── Closed              the client was closed
"""

from typing import ClassVar

from protocol.errors import TelexError

__all__ = [
    "ArchiveRefused",
    "BackupFailed",
    "BadText",
    "CallRefused",
    "ChangeFailed",
    "ClientError",
    "Closed",
    "KeyChanged",
    "KeyPackageLost",
    "KeyPackageStale",
    "KeyringFailed",
    "LinkExpired",
    "LinkRefused",
    "LinkUnknown",
    "LogBroken",
    "Mismatch",
    "NoProfile",
    "NodeNonsense",
    "NodeUnreachable",
    "NodeUntrusted",
    "NotManager",
    "OwnLost",
    "PhraseNeeded",
    "ProfileDamaged",
    "ProfileExists",
    "ProfileInUse",
    "ProfileTooNew",
    "RecoveryFull",
    "RoomInactive",
    "SasRefused",
    "StorageFailed",
    "UnknownAilment",
    "UnknownAlarm",
    "UnknownDevice",
    "UnknownMessage",
    "Unverified",
    "UpgradeFailed",
    "UpgradeRefused",
    "WrongPassword",
    "WrongPhrase",
]


class ClientError(TelexError):
    """The root of what goes wrong on this side."""


class NoProfile(ClientError):
    """Nothing was set up in this folder: register or log in first."""


class ProfileExists(ClientError):
    """An account was already set up in this folder."""


class ProfileInUse(ClientError):
    """Another process has this profile open."""


class ProfileDamaged(ClientError):
    """A file of the profile is missing, cut short or not ours."""


class ProfileTooNew(ClientError):
    """The database was written by a newer Telex."""


class StorageFailed(ClientError):
    """The database could not be written or read; nothing was changed."""


class WrongPassword(ClientError):
    """The password does not open this profile."""

    def __init__(self) -> None:
        super().__init__("The password is wrong; try again.")


class WrongPhrase(ClientError):
    """The recovery phrase is not one, or not this account's."""


class BadText(ClientError):
    """A text or name that cannot be sent; says what is wrong with it."""


class NodeUnreachable(ClientError):
    """The node does not answer; trying again later can help."""


class UpgradeFailed(NodeUnreachable):
    """Something took our connection, and no session stood on it."""


class UpgradeRefused(UpgradeFailed):
    """Something between us and the node lets no WebSocket through."""


class NodeUntrusted(ClientError):
    """The node's TLS certificate or its name is not the expected one."""


class NodeNonsense(ClientError):
    """The node answered something that cannot be understood."""


class LogBroken(ClientError):
    """A log was rewritten or does not continue what was read before."""


class KeyChanged(ClientError):
    """A person's root key is not the one that was known so far."""


class RoomInactive(ClientError):
    """This device cannot write in this room, or not now."""


class ChangeFailed(ClientError):
    """A change of a room's members did not come through."""


class Unverified(ClientError):
    """A room asks that everybody in it is verified, and somebody is not."""


class Mismatch(ClientError):
    """What was compared is not the same: somebody may stand between the two."""


class SasRefused(ClientError):
    """A comparison of short strings cannot begin or go on, and why."""


class CallRefused(ClientError):
    """A call cannot begin, be answered or be changed, and why."""


class UnknownAlarm(ClientError):
    """There is no such alarm here."""

    def __init__(self) -> None:
        super().__init__("There is no such alarm on this device.")


class UnknownMessage(ClientError):
    """There is no such message here."""

    def __init__(self) -> None:
        super().__init__("There is no such message on this device.")


class ArchiveRefused(ClientError):
    """An archive, or a segment of one, that is taken in no part; `code` says why."""

    TITLES: ClassVar[dict[str, str]] = {
        "archive_malformed": "This is no archive that Telex can read.",
        "archive_version": "This archive was written by a newer Telex: update Telex.",
        "archive_key": "This archive belongs to another account or another key.",
        "archive_order": "A part of this archive is missing, or not in its place.",
        "archive_damaged": "A part of this archive was changed or damaged.",
        "archive_truncated": "This archive ends before it is complete.",
        "archive_rolled_back": "The node shows an older archive than it had before.",
        "archive_foreign": "The node's archive has parts that this device did not "
        "write.",
    }

    def __init__(self, code: str, detail: str = "") -> None:
        super().__init__(f"{self.TITLES[code]} {detail}".rstrip())
        self.code = code


class BackupFailed(ClientError):
    """Nothing was backed up, or came back; says why."""


class KeyringFailed(ClientError):
    """The system's keyring is missing, locked, or refuses; says what to do."""


class LinkUnknown(ClientError):
    """A code that leads to no device: mistyped, used up or expired; says which."""


class LinkExpired(ClientError):
    """Nobody answered the code of this new device in time."""

    def __init__(self) -> None:
        super().__init__("Nobody confirmed this code in time: begin with a new one.")


class LinkRefused(ClientError):
    """What came from the other device, or from the node about it, does not hold."""


class NotManager(ClientError):
    """This device may not link other devices."""

    def __init__(self) -> None:
        super().__init__(
            "This device may not link others: do it on one that manages the account's "
            "devices, or log in on the new one with the recovery phrase."
        )


class RecoveryFull(ClientError):
    """The account's list of devices has no room for one more that the words set up."""


class PhraseNeeded(ClientError):
    """This takes the recovery phrase; says why."""


class UnknownDevice(ClientError):
    """The account has no such device."""

    def __init__(self) -> None:
        super().__init__("Your account has no such device; look at the list again.")


class KeyPackageLost(ClientError):
    """An invitation came to a key that this device has no more."""

    code = "key_package_lost"

    def __init__(self) -> None:
        super().__init__(
            "An invitation came to a key that this device has no more; it comes in "
            "by itself instead."
        )


class KeyPackageStale(ClientError):
    """Nothing valid could be claimed for a device, however often it was tried."""

    code = "key_package_stale"

    def __init__(self, device: str) -> None:
        super().__init__(
            f"{device} cannot be added before it has been online: the keys that it "
            "left at its node are past their dates (key_package_stale)."
        )


class UnknownAilment(ClientError):
    """There is no such ailment, or not any more."""

    def __init__(self) -> None:
        super().__init__("This is repaired already; nothing is to be done.")


class OwnLost(ClientError):
    """The log holds what this device wrote, and this device does not."""

    def __init__(self) -> None:
        super().__init__("This device does not have what it wrote itself.")


class Closed(ClientError):
    """The client was closed."""

    def __init__(self) -> None:
        super().__init__("This client was closed; open it again.")
