"""A submission as it comes in, from a device or from a peer: read and checked once.

Everything that can be said about it without the database is said here.
"""

from functools import lru_cache

import msgspec

from e2ee.public_group import E2eeError, peek
from protocol.address import DeviceAddress, parse_device
from protocol.errors import AddressError, BadAddress, BadRequest, Malformed, TooLarge
from protocol.limits import KEY_PACKAGE_MAX, MESSAGE_MAX, SUBMISSION_MAX
from protocol.log import Kind, LogId, Submission, event_id, group_id, read_submission

__all__ = ["Incoming", "read_incoming"]

_BODY_MAX: dict[str, int] = {
    Kind.CREATE: SUBMISSION_MAX,
    Kind.COMMIT: SUBMISSION_MAX,
    Kind.PROPOSAL: MESSAGE_MAX,
    Kind.MESSAGE: MESSAGE_MAX,
    Kind.JOIN_REQUEST: KEY_PACKAGE_MAX,
    Kind.WELCOME: SUBMISSION_MAX,
}

_CONTENT: dict[str, str] = {
    Kind.MESSAGE: "application",
    Kind.PROPOSAL: "proposal",
    Kind.COMMIT: "commit",
}
"""What an MLS message of each kind must hold."""

_APPLICATION = b"\1"
"""RFC 9420 section 6, ContentType."""

_PRIVATE_MESSAGE = 2
"""RFC 9420 section 6, WireFormat: encrypted; 1 is a PublicMessage."""


class Incoming(msgspec.Struct, frozen=True):
    """A submission, its bytes, and what follows from them."""

    data: bytes
    submission: Submission
    event_id: bytes
    sender: DeviceAddress
    epoch: int | None
    """Of the MLS message in it; None if it holds none."""

    @property
    def account(self) -> str:
        """The account that sends."""
        return str(self.sender.account)


def read_incoming(data: bytes) -> Incoming:
    """Read a submission and check its shape.

    Raises:
        TooLarge, BadRequest, BadAddress: what is wrong with it.
    """
    if len(data) > SUBMISSION_MAX:
        raise TooLarge(f"A submission has at most {SUBMISSION_MAX} bytes.")
    try:
        submission = read_submission(data)
        sender = parse_device(submission.sender)
    except Malformed as error:
        raise BadRequest(str(error)) from error
    except AddressError as error:
        raise BadAddress(str(error)) from error
    # A kind that is not known here is stored and passed on, as long as it is small.
    limit = _BODY_MAX.get(submission.kind, MESSAGE_MAX)
    if len(submission.body) > limit:
        raise TooLarge(f"A {submission.kind} has at most {limit} bytes.")
    epoch = _read_epoch(submission)
    return Incoming(data, submission, event_id(data), sender, epoch)


@lru_cache(maxsize=4096)
def _message_head(log: LogId) -> bytes:
    """How a PrivateMessage of a room begins (RFC 9420 sections 6 and 6.3): nearly
    all that comes in is one, so it is known by these bytes. What is not is read in
    full, and told what is wrong with it."""
    group = group_id(log)
    return b"\0\1\0\2" + bytes((len(group),)) + group


def _read_epoch(submission: Submission) -> int | None:
    """The epoch of the MLS message inside, which must be what its kind says."""
    kind = submission.kind
    if kind not in _CONTENT:
        return None
    if kind == Kind.MESSAGE:
        head, body = _message_head(submission.log), submission.body
        end = len(head) + 8
        if body.startswith(head) and body[end : end + 1] == _APPLICATION:
            return int.from_bytes(body[len(head) : end])
    try:
        seen = peek(submission.body)
    except E2eeError as error:
        raise BadRequest(f"This is no MLS message: {error}.") from error
    encrypted = seen.wire_format == _PRIVATE_MESSAGE
    if seen.content_type != _CONTENT[kind] or encrypted != (kind == Kind.MESSAGE):
        raise BadRequest(f"This is no MLS message of the kind {kind}.")
    if seen.group_id != group_id(submission.log):
        raise BadRequest("The MLS message is of another group.")
    return seen.epoch
