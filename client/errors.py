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
    ├── NodeUntrusted       its TLS certificate or its name is not right
    ├── NodeNonsense        it answered something that cannot be understood
    ├── LogBroken           a log was rewritten or does not continue
    ├── KeyChanged          a person's root key is not the one known so far
    ├── RoomInactive        this device cannot write in this room (now)
    ├── ChangeFailed        a change of a room's members did not come through
    ├── Unverified          a room asks for verified people, and somebody is not
    ├── Mismatch            what was compared is not the same: somebody may listen
    ├── SasRefused          a comparison cannot begin or go on, and why
    ├── UnknownAlarm
    ├── UnknownMessage
    └── Closed              the client was closed
"""

from protocol.errors import TelexError

__all__ = [
    "BadText",
    "ChangeFailed",
    "ClientError",
    "Closed",
    "KeyChanged",
    "LogBroken",
    "Mismatch",
    "NoProfile",
    "NodeNonsense",
    "NodeUnreachable",
    "NodeUntrusted",
    "ProfileDamaged",
    "ProfileExists",
    "ProfileInUse",
    "ProfileTooNew",
    "RoomInactive",
    "SasRefused",
    "StorageFailed",
    "UnknownAlarm",
    "UnknownMessage",
    "Unverified",
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


class UnknownAlarm(ClientError):
    """There is no such alarm here."""

    def __init__(self) -> None:
        super().__init__("There is no such alarm on this device.")


class UnknownMessage(ClientError):
    """There is no such message here."""

    def __init__(self) -> None:
        super().__init__("There is no such message on this device.")


class Closed(ClientError):
    """The client was closed."""

    def __init__(self) -> None:
        super().__init__("This client was closed; open it again.")
