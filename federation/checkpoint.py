"""Whether a run of entries is what its owner vouches for: a pure check over bytes.

The chain runs over the entries' bytes, so nothing is decoded but the checkpoint: an
entry that nobody understands is checked like any other and can stop nothing.

What it does not protect: that the run continues what the receiver has (it compares
`previous` with its own hash), and an owner that signs two histories (members compare
hashes inside their messages).
"""

from protocol.codec import decode
from protocol.errors import (
    BadCheckpoint,
    BadRequest,
    IdentityError,
    Malformed,
    TooLarge,
)
from protocol.key import verify
from protocol.limits import BATCH_BYTES, BATCH_ENTRIES, SUBMISSION_MAX
from protocol.log import Checkpoint, chain, parse_log_id
from protocol.node_identity import NodeIdentity
from protocol.wire import Stream

__all__ = ["check_stream"]

ENTRY_MAX = SUBMISSION_MAX + 512 * 1024
"""Bytes of one entry: a submission and the accounts that it brings in and out
(2 x 1,000 members of up to 260 characters)."""

SEQ_MAX = 1 << 53
"""Beyond every log; JSON numbers stay exact below it."""


def check_stream(stream: Stream, owner: NodeIdentity) -> None:
    """Check sizes, the chain over the entries, and the owner's checkpoint over it.

    (1) the shape: a log's id, seqs in range, hashes of 32 bytes, some entries;
    (2) the sizes: entries and bytes, one larger entry alone passes;
    (3) the checkpoint is signed by the owner's key in force;
    (4) it is for this log and this last seq;
    (5) the chain from `previous` over the entries ends in its hash.

    Raises:
        BadRequest, TooLarge: the shape or the sizes.
        BadCheckpoint: the owner does not vouch for these entries.
    """
    # (1)
    count = len(stream.entries)
    try:
        parse_log_id(stream.log)
    except Malformed as error:
        raise BadRequest(str(error)) from error
    last = stream.after + count
    if not (stream.after >= 0 and last <= stream.head < SEQ_MAX and count):
        raise BadRequest("A stream's seqs are out of range, or it is empty.")
    if len(stream.previous) != 32:
        raise BadRequest("A chain's hash has 32 bytes.")

    # (2)
    size = sum(map(len, stream.entries))
    if count > BATCH_ENTRIES or size > (BATCH_BYTES if count > 1 else ENTRY_MAX):
        raise TooLarge("A stream has at most 200 entries and 1 MiB.")

    # (3)
    signed = stream.checkpoint
    if signed.keyid != owner.keyid:
        raise BadCheckpoint("It is not signed by the owner's key in force.")
    try:
        verify("checkpoint", owner.node_key, signed.payload, signed.signature)
        checkpoint = decode(signed.payload, Checkpoint)
    except (IdentityError, Malformed) as error:
        raise BadCheckpoint(str(error)) from error

    # (4)
    if (checkpoint.log, checkpoint.seq) != (stream.log, last):
        raise BadCheckpoint("It is for another log or another entry.")

    # (5)
    digest = stream.previous
    for entry in stream.entries:
        digest = chain(digest, entry)
    if checkpoint.hash != digest:
        raise BadCheckpoint("The chain over the entries ends in another hash.")
