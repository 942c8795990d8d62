"""Blobs over HTTP: parts of uploads in, ranges of bytes out (RFC 9110, section 14)."""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import asynccontextmanager, contextmanager

from aiohttp import hdrs, web

from node.api.gate import Gate
from node.api.message import OCTETS, answer, number, problem, read, read_body
from node.blobs.fetch import BlobFetcher
from node.blobs.keeper import BlobKeeper
from node.blobs.source import Source
from protocol.address import parse_node
from protocol.blob import NewBlob, parse_blob_id, read_range
from protocol.errors import (
    BadRequest,
    NodeBusy,
    RangeUnsatisfiable,
    Refused,
    TooLarge,
    TooMany,
    UnsupportedMedia,
)
from protocol.limits import BLOB_PART_MAX
from protocol.wire import Empty

__all__ = ["BlobApi", "BlobSender"]

log = logging.getLogger(__name__)

PIECE = 64 * 1024
"""Bytes sent in one go."""

SENDING_MAX = 256
"""Blobs on their way out at one time: some 128 KiB and an open file each."""

SENDING_EACH = 8
"""Of them to one device, or to one other node."""

STALLED = 60.0
"""Seconds in which a reader must take a piece: 10 kbit/s."""

LOOKED = 1.0
"""Seconds after which is looked whether who waits for bytes is still there."""

LEFT = 499
"""The status that nobody reads, of who has left; web servers log it so."""


class BlobSender:
    """Streams blobs out, bounded in how many."""

    def __init__(self) -> None:
        self._sending: Counter[str] = Counter()

    @property
    def sending(self) -> int:
        """How many are on their way out."""
        return self._sending.total()

    async def send(
        self, request: web.Request, blob: str, opened: Awaitable[Source], to: str
    ) -> web.StreamResponse:
        """Answer a GET or HEAD for a blob.

        Args:
            request: with `Range`, `If-Range` and `If-None-Match`, or without.
            blob: its id, which is its ETag too: the bytes under it never change.
            opened: the way to its bytes; awaited once there is room to send them.
            to: who asked, for the limit.

        Raises:
            Refused: nothing was sent.
        """
        with self._room(to, opened):
            try:
                async with _while_there(request) as limit:
                    source = await opened
                    try:
                        return await _send(request, f'"{blob}"', source)
                    finally:
                        source.close()
            except TimeoutError:
                if not limit.expired():
                    raise
                log.debug("whoever waited for a file has left")
                return web.Response(status=LEFT)

    @contextmanager
    def _room(self, to: str, opened: Awaitable[Source]) -> Iterator[None]:
        busy = self._sending
        full = busy.total() >= SENDING_MAX
        if full or busy[to] >= SENDING_EACH:
            if asyncio.iscoroutine(opened):
                opened.close()
            if full:
                raise NodeBusy("Too many files are being sent.", retry_after=2)
            raise TooMany("Too many files at one time.", retry_after=2)
        busy[to] += 1
        try:
            yield
        finally:
            busy[to] -= 1
            if not busy[to]:
                del busy[to]


@asynccontextmanager
async def _while_there(request: web.Request) -> AsyncIterator[asyncio.Timeout]:
    """Go on while the connection stands; the timeout has expired if it does not."""
    loop = asyncio.get_running_loop()
    timer: asyncio.TimerHandle
    async with asyncio.timeout(None) as limit:

        def look() -> None:
            nonlocal timer
            if request.transport is None or request.transport.is_closing():
                limit.reschedule(loop.time())
            else:
                timer = loop.call_later(LOOKED, look)

        timer = loop.call_later(LOOKED, look)
        try:
            yield limit
        finally:
            timer.cancel()


async def _send(request: web.Request, tag: str, source: Source) -> web.StreamResponse:
    headers = {
        hdrs.ETAG: tag,
        hdrs.ACCEPT_RANGES: "bytes",
        hdrs.CACHE_CONTROL: "private, immutable, max-age=31536000",
    }
    if _matches(request.headers.get(hdrs.IF_NONE_MATCH, ""), tag):
        return web.Response(status=304, headers=headers)
    try:
        part = _asked_range(request, tag, source.size)
    except RangeUnsatisfiable as error:
        refused = problem(error)
        refused.headers[hdrs.CONTENT_RANGE] = f"bytes */{source.size}"
        return refused
    first, end = part or (0, source.size)
    response = web.StreamResponse(status=206 if part else 200, headers=headers)
    response.content_type = OCTETS
    response.content_length = end - first
    if part:
        response.headers[hdrs.CONTENT_RANGE] = f"bytes {first}-{end - 1}/{source.size}"
    if request.method == hdrs.METH_HEAD:
        await response.prepare(request)
        return response
    # The first piece before the head: what cannot be read can still be refused.
    piece = await source.read(first, min(PIECE, end - first))
    await response.prepare(request)
    await _stream(request, response, source, piece, (first, end))
    return response


async def _stream(
    request: web.Request,
    response: web.StreamResponse,
    source: Source,
    piece: bytes,
    part: tuple[int, int],
) -> None:
    """Write the body; if it cannot be had whole, the connection is cut.

    The asker knows the length, so what breaks off is never taken for the whole.
    """
    at, end = part
    try:
        while True:
            async with asyncio.timeout(STALLED):
                await response.write(piece)
            at += len(piece)
            if at == end:
                return
            piece = await source.read(at, min(PIECE, end - at))
    except (Refused, TimeoutError) as error:
        log.info("a file broke off on its way out: %s", error or "nobody reads it")
        if request.transport is not None:
            request.transport.abort()
    except ConnectionError:
        log.debug("whoever asked for a file has left")


def _asked_range(request: web.Request, tag: str, size: int) -> tuple[int, int] | None:
    """The range of a GET; None: the whole.

    Raises:
        RangeUnsatisfiable.
    """
    if request.method != hdrs.METH_GET:
        return None
    fields = request.headers.getall(hdrs.RANGE, [])
    # If-Range is held against the ETag strongly; a date is no validator of ours.
    if len(fields) != 1 or request.headers.get(hdrs.IF_RANGE, tag) != tag:
        return None
    return read_range(fields[0], size)


def _matches(header: str, tag: str) -> bool:
    """`If-None-Match`, compared weakly (RFC 9110, 13.1.2)."""
    tags = (text.strip().removeprefix("W/") for text in header.split(","))
    return any(each in (tag, "*") for each in tags)


class BlobApi:
    """Handlers about blobs, for devices of this node."""

    def __init__(
        self,
        gate: Gate,
        keeper: BlobKeeper,
        fetcher: BlobFetcher,
        sender: BlobSender,
        node: str,
    ) -> None:
        self._gate = gate
        self._keeper = keeper
        self._fetcher = fetcher
        self._sender = sender
        self._node = node

    def routes(self) -> list[web.RouteDef]:
        """What `Application.add_routes` takes."""
        blob = "/telex/v1/blobs/{blob}"
        return [
            web.get("/telex/v1/blobs", self.list),
            web.post("/telex/v1/blobs", self.begin),
            web.patch(blob, self.append),
            web.get(blob + "/upload", self.upload),
            web.get(blob, self.get),
            web.delete(blob, self.drop),
        ]

    async def list(self, request: web.Request) -> web.Response:
        """What the account keeps."""
        device = await self._gate.device(request)
        after = request.query.get("after", "")
        return answer(request, await self._keeper.list(device.account.local, after))

    async def begin(self, request: web.Request) -> web.Response:
        """Begin an upload, or find it."""
        device = await self._gate.device(request)
        body = await read(request, NewBlob)
        name = device.account.local
        return answer(request, await self._keeper.begin(name, body.blob, body.size))

    async def append(self, request: web.Request) -> web.Response:
        """Store the next part of an upload."""
        # A body that is too large is refused before it is read.
        if (request.content_length or 0) > BLOB_PART_MAX:
            raise TooLarge(f"A part has at most {BLOB_PART_MAX} bytes.")
        device = await self._gate.device(request)
        if request.content_type != OCTETS:
            raise UnsupportedMedia(f"A part of a file is {OCTETS}.")
        offset = number(request, "offset")
        if offset is None:
            raise BadRequest("Say ?offset=N, where this part begins.")
        name, blob = device.account.local, request.match_info["blob"]
        part = await read_body(request)
        return answer(request, await self._keeper.append(name, blob, offset, part))

    async def upload(self, request: web.Request) -> web.Response:
        """How far an upload is."""
        device = await self._gate.device(request)
        name, blob = device.account.local, request.match_info["blob"]
        return answer(request, await self._keeper.upload(name, blob))

    async def get(self, request: web.Request) -> web.StreamResponse:
        """A blob's bytes, from here or from `?node=`."""
        device = await self._gate.device(request)
        blob = parse_blob_id(request.match_info["blob"])
        text = request.query.get("node")
        node = None if text is None else parse_node(text)
        if node == self._node:
            node = None
        opened = self._fetcher.open(blob, node, device.account.local)
        return await self._sender.send(request, blob, opened, device.address)

    async def drop(self, request: web.Request) -> web.Response:
        """The account keeps it no more."""
        device = await self._gate.device(request)
        await self._keeper.drop(device.account.local, request.match_info["blob"])
        return answer(request, Empty())
