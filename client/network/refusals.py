"""What nodes refuse: read without harm, and whether it means "later" or "no"."""

from http import HTTPStatus

from msgspec.structs import replace

from client.text import visible_line
from protocol.errors import (
    AccountDisabled,
    DeviceRevoked,
    PeerUntrusted,
    Problem,
    Refused,
    SessionReplaced,
    refusal,
)

__all__ = ["refusal_of", "says_later"]

WORDS_MAX = 500
"""Characters of a node's words: a few sentences; more would fill the screen."""


def refusal_of(problem: Problem) -> Refused:
    """The error that a problem document stands for, its words made harmless.

    They are the node's own, and end on the screen.
    """
    return refusal(
        replace(
            problem,
            title=visible_line(problem.title)[:WORDS_MAX],
            detail=visible_line(problem.detail)[:WORDS_MAX],
        )
    )


_LATER = (AccountDisabled, DeviceRevoked, PeerUntrusted, SessionReplaced)
"""About this session or the two nodes, and nothing that was sent can help it."""


def says_later(error: Refused) -> bool:
    """Whether a refusal is about the moment, the line or this session.

    Then what was to be sent is kept, however long it takes; every other refusal is
    about the thing itself, and final.
    """
    return (
        isinstance(error, _LATER)
        or error.status >= HTTPStatus.INTERNAL_SERVER_ERROR
        or error.status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.TOO_MANY_REQUESTS)
    )
