"""The bodies of every request, answer and WebSocket frame (docs/protocol.md).

Grouped as they are met: discovery, accounts, key packages, logs, the WebSocket,
then what nodes say to nodes. Names of structs are what the thing is; the paths
they belong to stand in their docstrings.
"""

from typing import Any, Literal

import msgspec

from protocol.errors import Problem
from protocol.key import Signed
from protocol.log import LogId
from protocol.presence import People, Presence, Typing, Typist
from protocol.whole import Whole

VERSION = "1"
"""The version of the wire that this code speaks; it stands in every path."""

# --- discovery ---------------------------------------------------------------


class NodeDocument(msgspec.Struct):
    """`GET /.well-known/telex`, unsigned: who a node is and where it answers."""

    name: str
    """The name after the @ in its accounts' addresses."""
    base_url: str
    """`https://host[:port]` under which `/telex/...` lies, without a slash."""
    versions: list[str]
    software: str
    registration: Literal["invite", "open", "closed"]
    keys: list[bytes]
    """The node's key log, oldest first (`node_identity`)."""
    time: Whole
    """Unix seconds."""


# --- accounts ----------------------------------------------------------------


class _Secret:
    """A body with a login secret in it: shown, it names its fields and no values."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"{type(self).__name__}(...)"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return []


class Register(_Secret, msgspec.Struct):
    """`POST /telex/v1/accounts`, signed by the device that `log` adds."""

    name: str
    """The part before the @."""
    login_secret: bytes
    """32 bytes made from the password (`key.login_secret`); the password
    itself never leaves the device."""
    log: list[bytes]
    """The first entries of the account log: genesis and the first device."""
    invite: str = ""


class Login(_Secret, msgspec.Struct):
    """`POST /telex/v1/accounts/{name}/login`, unsigned: answers `AccountLog`."""

    login_secret: bytes


class AddDevice(_Secret, msgspec.Struct):
    """`POST /telex/v1/accounts/{name}/devices`, signed by the new device."""

    login_secret: bytes
    entries: list[bytes]
    """Continue the account log: a new account signing key, then the device."""


class AccountLog(msgspec.Struct):
    """`GET /telex/v1/accounts/{address}/log?after=N`: entries N+1 and on.

    `POST` to the same path appends `entries` to one's own log (a device revoked or
    added, a key renewed), signed by a device of the account; answers the whole log.
    """

    account: str
    entries: list[bytes]
    seq: Whole = 0
    """How many entries the node has in all."""
    hash: bytes = b""
    """The chain's hash after entry `seq`: what the node stands for."""


class Recover(_Secret, msgspec.Struct):
    """`POST /telex/v1/accounts/{name}/recover`: by the root key, without password.

    Without entries it answers the `AccountLog`, so that the next ones can be made;
    with entries (a new account signing key, then a device) it appends them, takes
    `login_secret` in place of the one before, and is signed by the new device.
    """

    proof: Signed
    """By the root key, label `recover`, over a `RecoverProof`."""
    entries: list[bytes] = []
    login_secret: bytes = b""


class RecoverProof(msgspec.Struct, array_like=True, frozen=True):
    """What the root key signs to be shown its account."""

    account: str
    time: Whole
    """Unix seconds; held against the window of request signatures."""
    nonce: bytes
    """16 random bytes; a proof is taken once."""


class LinkSlot(msgspec.Struct):
    """Half of a meeting of two devices of one account, sealed for the node.

    `PUT /telex/v1/links/{id}/offer`, unsigned, by the device that is to be linked;
    `GET` of it and `PUT /telex/v1/links/{id}/answer` by a device of this node;
    `GET .../answer?timeout=S` by the one that waits, unsigned, at most 25 seconds at
    a time. `id`: 32 hex digits. A slot lives ten minutes and is written once.
    """

    data: bytes
    """At most `limits.LINK_MAX` bytes."""


class Vault(msgspec.Struct):
    """A run of sealed segments that an account keeps at its node.

    `PUT /telex/v1/vaults/{vault}/{n}?kind=K` stores segment n (1, 2, 3 ... without
    gaps; the same bytes again change nothing) as `application/octet-stream`; `GET`
    of the same path answers it, `GET /telex/v1/vaults/{vault}` this struct, and
    `DELETE` ends the vault. `vault`: 32 hex digits.
    """

    vault: str
    kind: Literal["backup", "transfer"]
    """A transfer is dropped by itself after a week."""
    segments: Whole
    size: Whole
    """Bytes in all."""
    created: Whole
    """Unix seconds."""


class Vaults(msgspec.Struct):
    """`GET /telex/v1/vaults`: all of an account's, and what room is left."""

    vaults: list[Vault]
    used: Whole
    quota: Whole
    """Bytes."""


class Empty(msgspec.Struct):
    """An answer that says no more than its status."""


# --- key packages ------------------------------------------------------------


class KeyPackageUpload(msgspec.Struct):
    """`PUT /telex/v1/key-packages`: adds to what the device has there."""

    packages: list[bytes] = []
    last_resort: bytes | None = None
    """Replaces the one before."""


class KeyPackageCount(msgspec.Struct):
    """`GET /telex/v1/key-packages`, and the answer to an upload."""

    single_use: Whole
    last_resort: bool


class Claim(msgspec.Struct):
    """`POST /telex/v1/key-packages/claim` and `/telex/fed/v1/...`.

    Answers `Claimed` with one package for each valid device of the accounts. The
    same `claim_id` answers the same packages for ten minutes.
    """

    claim_id: bytes
    """16 random bytes."""
    accounts: list[str]
    claimer: str = ""
    """Between nodes: the account that asks."""
    skip: list[str] = []
    """Addresses of devices that need none."""


class ClaimedPackage(msgspec.Struct):
    """A key package of one device."""

    device: str
    package: bytes
    last_resort: bool = False


class Claimed(msgspec.Struct):
    """What a claim got; `failed` names the accounts it got nothing for, and why."""

    packages: list[ClaimedPackage]
    failed: dict[str, Problem] = {}


# --- calls -------------------------------------------------------------------


class IceServer(msgspec.Struct, omit_defaults=True):
    """A STUN or TURN server (RFC 7064, RFC 7065) that this node vouches for."""

    urls: list[str]
    username: str = ""
    credential: str = ""
    """Short-lived, for TURN; empty for STUN."""

    def __repr__(self) -> str:
        return f"IceServer({self.urls!r})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [("urls", self.urls)]


class IceServers(msgspec.Struct):
    """`GET /telex/v1/ice`, signed by a device: how its calls find a way.

    Empty where the node has none. A device asks again when half of `seconds` is over;
    what it has begun with them goes on beyond it.
    """

    servers: list[IceServer]
    seconds: Whole
    """From now, in which the credentials are good for something new."""


# --- logs --------------------------------------------------------------------


class CreateRoom(msgspec.Struct, array_like=True):
    """The body of a `create` submission, the first entry of a room."""

    seed: bytes
    """Bytes of a `log.RoomSeed`; their hash is the room's id and MLS group id."""
    group_info: bytes
    """MLSMessage(GroupInfo) of epoch 0."""
    ratchet_tree: bytes
    """The tree of epoch 0: the creator's leaf alone."""


class AddressedWelcome(msgspec.Struct, array_like=True):
    """A Welcome and the device it is for."""

    device: str
    key_package_ref: bytes
    welcome: bytes
    """MLSMessage(Welcome) with one recipient, without the tree."""


class Bundle(msgspec.Struct):
    """What goes with a commit: appended whole or not at all."""

    group_info: bytes
    """MLSMessage(GroupInfo) of the epoch after the commit, without the tree."""
    welcomes: list[AddressedWelcome] = []


class Submit(msgspec.Struct):
    """`POST /telex/v1/logs/{log}/entries` and `/telex/fed/v1/...`."""

    submission: bytes
    bundle: Bundle | None = None


class Receipt(msgspec.Struct, omit_defaults=True):
    """What became of a submission."""

    event_id: bytes
    state: Literal["committed", "pending", "rejected"]
    """committed: in the log, on disk. pending: on this node's disk, on its way to
    the room's hub. rejected: the hub refused it, `problem` says why."""
    seq: Whole | None = None
    hash: bytes | None = None
    problem: Problem | None = None


class Page(msgspec.Struct):
    """`GET .../logs/{log}/entries?after=N&limit=M` (or `before=N`)."""

    log: LogId
    after: Whole
    """The seq before the first entry here."""
    previous: bytes
    """The chain's hash at `after`."""
    entries: list[bytes]
    head: Whole
    """The newest seq that the node has and that you may read."""
    checkpoint: "SignedCheckpoint | None" = None
    """Between nodes: over the last entry here, by the log's owner."""


class Tree(msgspec.Struct):
    """`GET .../logs/{log}/tree/{hash}`: a ratchet tree by its tree hash (hex)."""

    ratchet_tree: bytes


class GroupState(msgspec.Struct):
    """`GET .../logs/{room}/group`: what a member's device joins by, by itself.

    Answered by the room's hub, through the node of whoever asks.
    """

    seq: Whole
    """The newest entry when this was read."""
    hash: bytes
    """The chain's hash at `seq`."""
    epoch: Whole
    group_info: bytes
    """MLSMessage(GroupInfo) with `external_pub`, without the tree."""
    tree_hash: bytes
    """Names the tree to fetch."""


class Roster(msgspec.Struct):
    """`GET .../logs/{room}/roster`: to which devices the node lets the room's
    entries go; members hold it against the MLS group."""

    seq: Whole
    """The newest entry when this was read."""
    devices: list[str]
    accounts: list[str]


class RoomState(msgspec.Struct):
    """One room of an account."""

    room: LogId
    hub: str
    """The node that orders it."""
    head: Whole
    cursor: Whole | None
    """What the asking device has acked; None: it never read this room."""


class Rooms(msgspec.Struct):
    """`GET /telex/v1/rooms`: the rooms that the account is in."""

    rooms: list[RoomState]


class WelcomeMail(msgspec.Struct, array_like=True):
    """The body of a `welcome` submission in a mailbox."""

    room: LogId
    hub: str
    device: str
    """The device that it is for; the account's others pass it by."""
    key_package_ref: bytes
    seq: Whole
    """The commit's entry: read the room from here on."""
    hash: bytes
    """The chain's hash at `seq`."""
    tree_hash: bytes
    """Names the tree to fetch."""
    welcome: bytes


# --- the WebSocket, /telex/v1/ws ---------------------------------------------


class Ready(msgspec.Struct, tag_field="t", tag="ready"):
    """Node to device, first: the session stands."""

    time: Whole
    """Unix seconds at the node."""
    mailbox: LogId


class Entries(msgspec.Struct, tag_field="t", tag="entries"):
    """Node to device: entries after the device's cursor, in order, no gap."""

    log: LogId
    after: Whole
    entries: list[bytes]
    head: Whole


class SubmitFrame(msgspec.Struct, tag_field="t", tag="submit"):
    """Device to node: a submission; answered by `ResultFrame` with the same id."""

    id: Whole
    submission: bytes
    bundle: Bundle | None = None


class ResultFrame(msgspec.Struct, tag_field="t", tag="result"):
    """Node to device: a receipt, or the problem that kept it from being one."""

    id: Whole
    receipt: Receipt | None = None
    problem: Problem | None = None


class OutcomeFrame(msgspec.Struct, tag_field="t", tag="outcome"):
    """Node to device: a submission that was pending was refused by the hub.

    Sent to a device that is there; one that was away learns it by submitting the
    same bytes again, which answers the stored receipt.
    """

    log: LogId
    receipt: Receipt


class AckFrame(msgspec.Struct, tag_field="t", tag="ack"):
    """Device to node: what it has stored, by log.

    An ack is the device's cursor: acking a log for the first time starts its
    reading there (0: from the beginning). A cursor never goes back.
    """

    cursors: dict[LogId, Whole]


class ProblemFrame(msgspec.Struct, tag_field="t", tag="problem"):
    """Node to device: a frame was refused, or why the node closes the session."""

    problem: Problem


FromNode = Ready | Entries | ResultFrame | OutcomeFrame | ProblemFrame | People | Typist
FromDevice = SubmitFrame | AckFrame | Presence | Typing
# --- between nodes, /telex/fed/v1 --------------------------------------------


class SignedCheckpoint(msgspec.Struct, array_like=True):
    """A `log.Checkpoint` with its owner's signature (label `checkpoint`)."""

    payload: bytes
    keyid: str
    signature: bytes


class Stream(msgspec.Struct):
    """A run of entries of one log, from its owner's cursor for this peer."""

    log: LogId
    after: Whole
    previous: bytes
    """The chain's hash at `after`."""
    entries: list[bytes]
    head: Whole
    checkpoint: SignedCheckpoint
    """Over the last entry here."""
    floor: Whole = 0
    """Of an outgoing log: its owner no longer holds entries up to this seq, because
    they were acked long ago. A receiver that lacks them goes on behind it."""


class Push(msgspec.Struct):
    """`POST /telex/fed/v1/push`: rooms that the sender is hub of, and its outgoing
    log for the receiver (submissions for its rooms, mail for its accounts)."""

    streams: list[Stream]


class StreamAck(msgspec.Struct):
    """How far the receiver has a log on disk, and what became of what it was asked
    to append (outgoing logs only). `problem`: it will not take this log."""

    log: LogId
    seq: Whole
    outcomes: list[Receipt] = []
    problem: Problem | None = None


class PushAck(msgspec.Struct):
    """The answer to a push. `credit` is how many entries the next one may hold;
    0: wait a little and probe with an empty push."""

    acks: list[StreamAck]
    credit: Whole


class Hello(msgspec.Struct):
    """`POST /telex/fed/v1/hello`: I am back; my cursors in your logs, by log."""

    cursors: dict[LogId, Whole]
