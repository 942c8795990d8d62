"""The one place where errors become answers, and where requests are logged."""

import logging
import time
from collections.abc import Awaitable, Callable

from aiohttp import web

from node.api.compression import shrink
from node.api.message import problem
from protocol.errors import (
    AddressError,
    BadAddress,
    BadIdentity,
    BadRequest,
    IdentityError,
    Malformed,
    NodeFault,
    NotFound,
    Refused,
    TooLarge,
)

__all__ = ["answer_errors", "refusal_of"]

log = logging.getLogger("node.request")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def refusal_of(error: Exception) -> Refused:
    """What the asker is told of an error; faults of ours are logged and not told."""
    match error:
        case Refused():
            return error
        case AddressError():
            return BadAddress(str(error))
        case IdentityError():
            return BadIdentity(str(error))
        case Malformed():
            return BadRequest(str(error))
        case _:
            log.error("a request failed", exc_info=error)
            return NodeFault()


def _told(request: web.Request, error: Refused) -> web.Response:
    response = problem(error)
    shrink(request, response)
    return response


@web.middleware
async def answer_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer every error with a problem document; log one line at debug."""
    started = time.monotonic()
    response: web.StreamResponse
    try:
        response = await handler(request)
    except web.HTTPRequestEntityTooLarge:
        response = _told(request, TooLarge())
    except web.HTTPException as error:
        # No route, or another method than it takes.
        wanted = NotFound() if error.status == 404 else BadRequest(error.reason)
        response = _told(request, wanted)
    except Exception as error:
        response = _told(request, refusal_of(error))
    if log.isEnabledFor(logging.DEBUG):
        log.debug(
            "%s %s %d %.1f ms",
            request.method,
            request.path,
            response.status,
            (time.monotonic() - started) * 1000,
        )
    return response
