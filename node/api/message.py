"""Reading requests and writing answers: MessagePack or JSON, and problems."""

import asyncio
from typing import TypeVar

from aiohttp import web

from node.api.compression import SYNC_MAX, compress
from protocol.codec import (
    JSON,
    MSGPACK,
    decode,
    decode_json,
    encode,
    encode_json,
)
from protocol.errors import BadRequest, Refused, TooLarge, UnsupportedMedia
from protocol.limits import BODY_MAX

__all__ = ["OCTETS", "PROBLEM", "answer", "number", "problem", "read", "read_body"]

PROBLEM = "application/problem+json"

OCTETS = "application/octet-stream"

SEQ_MAX = 1 << 53
"""Beyond every log; JSON numbers stay exact below it."""

BODY_TIMEOUT = 60.0
"""Seconds for a body: the largest one at 300 kbit/s."""

T = TypeVar("T")


async def read_body(request: web.Request) -> bytes:
    """The request's body; kept, so that it can be asked for again.

    Raises:
        TooLarge: it is larger than `BODY_MAX`; found out while it streams in.
        BadRequest: it did not come in time.
    """
    if (request.content_length or 0) > BODY_MAX:
        raise TooLarge(f"A body has at most {BODY_MAX} bytes.")
    try:
        async with asyncio.timeout(BODY_TIMEOUT):
            return await request.read()
    except TimeoutError as error:
        raise BadRequest("Its body came too slowly.") from error
    except web.HTTPRequestEntityTooLarge as error:
        raise TooLarge(f"A body has at most {BODY_MAX} bytes.") from error


async def read(request: web.Request, kind: type[T]) -> T:
    """Decode the request's body by its content type.

    Raises:
        TooLarge, UnsupportedMedia, Malformed.
    """
    body = await read_body(request)
    match request.content_type:
        case "application/msgpack":
            return decode(body, kind)
        case "application/json":
            return decode_json(body, kind)
        case _:
            raise UnsupportedMedia()


def answer(
    request: web.Request, value: object, *, default: str = MSGPACK
) -> web.Response:
    """An answer in the encoding that the request accepts.

    Args:
        request: the request.
        value: a wire struct.
        default: where the request leaves the choice to us.
    """
    accept = request.headers.get("Accept", "")
    if JSON in accept and MSGPACK not in accept:
        chosen = JSON
    elif MSGPACK in accept:
        chosen = MSGPACK
    else:
        chosen = default
    body = encode_json(value) if chosen == JSON else encode(value)
    response = web.Response(body=body, content_type=chosen, zlib_executor_size=SYNC_MAX)
    compress(request, response, value, chosen)
    return response


def problem(error: Refused) -> web.Response:
    """A refusal as an RFC 9457 problem document."""
    headers = {}
    if error.retry_after is not None:
        headers["Retry-After"] = str(error.retry_after)
    return web.Response(
        status=error.status,
        body=encode_json(error.problem()),
        content_type=PROBLEM,
        headers=headers,
    )


def number(request: web.Request, name: str, default: int | None = None) -> int | None:
    """A whole number from the query.

    Raises:
        BadRequest: it is none.
    """
    text = request.query.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= 16):
        raise BadRequest(f"The parameter {name} must be a whole number.")
    value = int(text)
    if value > SEQ_MAX:
        raise BadRequest(f"The parameter {name} is too large.")
    return value
