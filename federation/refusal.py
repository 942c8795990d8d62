"""What a peer's refusal means to us: its problem document, cleaned, as an error.

A peer's words may end up on a person's screen or in our log, so they are cut short
and control, bidi and other invisible characters are dropped.
"""

from collections.abc import Mapping

from federation.retry import Failure
from protocol.codec import decode_json
from protocol.errors import (
    Malformed,
    NotFound,
    PeerRefused,
    PeerUnreachable,
    Problem,
    Refused,
    TooLarge,
    TooMany,
    refusal,
)

__all__ = ["failure_of", "for_local_user", "read_refusal", "shown"]

TEXT_MAX = 300
"""Characters of a peer's sentence that are kept."""

WAIT_MAX = 24 * 3600
"""Seconds that a peer can ask us, and through us a client, to wait."""


def shown(text: str) -> str:
    """A peer's text as it may be shown: one line, visible, short."""
    return "".join(c for c in text if c.isprintable())[:TEXT_MAX]


def read_refusal(status: int, fields: Mapping[str, str], body: bytes) -> Refused:
    """The error of an answer that is not 200.

    A proxy in front of the peer answers without a problem document; then the status
    decides.
    """
    retry_after = _seconds(fields.get("Retry-After", ""))
    media = fields.get("Content-Type", "").partition(";")[0].strip().lower()
    if media == "application/problem+json":
        try:
            problem = decode_json(body, Problem)
        except Malformed:
            problem = None
        if problem is not None:
            problem.title, problem.detail = shown(problem.title), shown(problem.detail)
            if problem.retry_after is None:
                problem.retry_after = retry_after
            else:
                problem.retry_after = min(max(problem.retry_after, 0), WAIT_MAX)
            return refusal(problem)
    detail = f"It answered with status {status} and no reason."
    kind: type[Refused] = PeerRefused
    if status == 429:
        kind = TooMany
    elif status >= 500:
        kind = PeerUnreachable
    elif status in (404, 410):
        kind = NotFound
    elif status == 413:
        kind = TooLarge
    return kind(detail, retry_after=retry_after)


def failure_of(error: Refused) -> Failure:
    """Whether an error means "come again" or "we do not want you"."""
    return Failure.REFUSED if error.status in (401, 403) else Failure.UNREACHABLE


def for_local_user(peer: str, error: Refused) -> Refused:
    """A peer's refusal as our own user may see it.

    What concerns the request itself (no such account, stale epoch ...) passes. What
    concerns the two nodes (signatures, faults) would look as if the user's own
    request was meant, so it becomes `PeerRefused`.
    """
    if error.status == 401 or error.code in ("node_fault", "refused"):
        return PeerRefused(f"{peer}: {error}", retry_after=error.retry_after)
    if error.code == "node_busy":
        return PeerUnreachable(f"{peer}: {error}", retry_after=error.retry_after)
    return error


def _seconds(value: str) -> int | None:
    """`Retry-After` in seconds; its form with a date is passed by."""
    value = value.strip()
    if value.isascii() and value.isdigit() and len(value) < 10:
        return min(int(value), WAIT_MAX)
    return None
