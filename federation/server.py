"""The endpoints that peers call, `/telex/fed/v1/...`: thin handlers over the ports.

Each handler gets a request that `Gate` let through, decodes a struct, calls one port
and answers a struct; the answer is signed for that request. MessagePack or JSON by
`Content-Type` and `Accept`; problems are always `application/problem+json`.
"""

import logging
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from aiohttp import web

from federation.answer import ANSWER_HEADER
from federation.gate import Asked, Gate
from federation.inbox import Inbox
from federation.pinning import PeerBook
from federation.ports import Clock, Services
from federation.sender import Sender
from federation.signer import NodeSigner
from protocol.address import parse_account, parse_device
from protocol.codec import (
    JSON,
    MSGPACK,
    decode,
    decode_json,
    encode,
    encode_json,
)
from protocol.errors import (
    AddressError,
    BadRequest,
    Malformed,
    NodeFault,
    NotAllowed,
    Refused,
    UnsupportedMedia,
)
from protocol.limits import ACCOUNT_LOG_ENTRIES, BATCH_ENTRIES, CLAIM_ACCOUNTS
from protocol.log import LogId, chain, parse_log_id, read_entry, read_submission
from protocol.presence import PeerPresence
from protocol.wire import (
    Claim,
    Empty,
    Hello,
    Page,
    Push,
    SignedCheckpoint,
    Submit,
)

__all__ = ["Server", "problem_response"]

_log = logging.getLogger(__name__)

PREFIX: Final = "/telex/fed/v1"

SEQ_MAX: Final = 1 << 53
"""Beyond every log; JSON numbers stay exact below it."""

T = TypeVar("T")
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Server:
    """Routes for peers."""

    def __init__(
        self,
        *,
        gate: Gate,
        inbox: Inbox,
        services: Services,
        sender: Sender,
        book: PeerBook,
        signer: NodeSigner,
        clock: Clock,
    ) -> None:
        self._gate = gate
        self._inbox = inbox
        self._services = services
        self._sender = sender
        self._book = book
        self._signer = signer
        self._clock = clock

    def routes(self) -> list[web.RouteDef]:
        """For `Application.add_routes`."""
        log = PREFIX + "/logs/{log}"
        account = PREFIX + "/accounts/{address}/log"
        return [
            web.post(PREFIX + "/push", self._handler(self._push)),
            web.post(PREFIX + "/hello", self._handler(self._hello)),
            web.get(log + "/entries", self._handler(self._page)),
            web.post(log + "/entries", self._handler(self._submit)),
            web.get(log + "/tree/{hash}", self._handler(self._tree)),
            web.get(log + "/group", self._handler(self._group)),
            web.get(log + "/roster", self._handler(self._roster)),
            web.post(PREFIX + "/key-packages/claim", self._handler(self._claim)),
            web.get(account, self._handler(self._account_log)),
            web.post(PREFIX + "/presence", self._handler(self._presence)),
            web.get(PREFIX + "/blobs/{blob}", _refusing(self._blob), allow_head=False),
        ]

    def _handler(self, handle: Callable[[Asked], Awaitable[object]]) -> _Handler:
        """Authenticate before and sign after a handler; turn errors into problems."""

        async def answer(request: web.Request) -> web.StreamResponse:
            asked = await self._gate.admit(request)
            with self._gate.slot(asked.peer):
                await self._heard(asked)
                return self._answer(asked, await handle(asked))

        return _refusing(answer)

    async def _heard(self, asked: Asked) -> None:
        await self._book.heard(asked.peer)
        self._sender.nudge(asked.peer)

    async def _blob(self, request: web.Request) -> web.StreamResponse:
        """Streamed; it may take long, so it holds no slot but one of the service's."""
        asked = await self._gate.admit(request)
        await self._heard(asked)
        return await self._services.blob(asked.peer, request)

    def _answer(self, asked: Asked, answer: object) -> web.Response:
        if JSON in asked.request.headers.get("Accept", ""):
            media, body = JSON, encode_json(answer)
        else:
            media, body = MSGPACK, encode(answer)
        signed = self._signer.answer(asked.claim, 200, body)
        return web.Response(
            body=body, content_type=media, headers={ANSWER_HEADER: signed}
        )

    # --- logs ----------------------------------------------------------------

    async def _push(self, asked: Asked) -> object:
        return await self._inbox.receive(asked.peer, _body(asked, Push))

    async def _hello(self, asked: Asked) -> object:
        hello = _body(asked, Hello)
        for log, seq in hello.cursors.items():
            parse_log_id(log)
            if not 0 <= seq < SEQ_MAX:
                raise BadRequest("A cursor is out of range.")
        await self._services.hello(asked.peer, hello)
        await self._book.succeeded(asked.peer)
        self._sender.recall(asked.peer)
        return Empty()

    async def _page(self, asked: Asked) -> object:
        log = _log_id(asked)
        after = _number(asked, "after", 0, 0, SEQ_MAX)
        limit = _number(asked, "limit", BATCH_ENTRIES, 1, BATCH_ENTRIES)
        page = await self._services.page(asked.peer, log, after, limit)
        if page.entries:
            page.checkpoint = self._checkpoint(page)
        return page

    def _checkpoint(self, page: Page) -> SignedCheckpoint:
        digest = page.previous
        for entry in page.entries:
            digest = chain(digest, entry)
        term = read_entry(page.entries[-1]).term
        seq = page.after + len(page.entries)
        now = self._clock.time()
        return self._signer.checkpoint(page.log, term, seq, digest, now)

    async def _submit(self, asked: Asked) -> object:
        log = _log_id(asked)
        submit = _body(asked, Submit)
        submission = read_submission(submit.submission)
        if submission.log != log:
            raise BadRequest("The submission is for another log.")
        if parse_device(submission.sender).account.node != asked.peer:
            raise NotAllowed("A node submits for its own accounts alone.")
        return await self._services.submit(asked.peer, log, submit)

    async def _tree(self, asked: Asked) -> object:
        tree_hash = asked.request.match_info["hash"]
        if len(tree_hash) != 64 or not set(tree_hash) <= set("0123456789abcdef"):
            raise BadRequest("A tree's hash has 64 hex digits.")
        return await self._services.tree(asked.peer, _log_id(asked), tree_hash)

    async def _group(self, asked: Asked) -> object:
        return await self._services.group(asked.peer, _log_id(asked))

    async def _roster(self, asked: Asked) -> object:
        return await self._services.roster(asked.peer, _log_id(asked))

    async def _presence(self, asked: Asked) -> object:
        return await self._services.presence(asked.peer, _body(asked, PeerPresence))

    # --- accounts ------------------------------------------------------------

    async def _claim(self, asked: Asked) -> object:
        claim = _body(asked, Claim)
        if len(claim.accounts) > CLAIM_ACCOUNTS or len(claim.claim_id) != 16:
            raise BadRequest(
                f"A claim has an id of 16 bytes and {CLAIM_ACCOUNTS} accounts at most."
            )
        for account in claim.accounts:
            parse_account(account)
        if claim.claimer and parse_account(claim.claimer).node != asked.peer:
            raise NotAllowed("A node claims for its own accounts alone.")
        return await self._services.claim(asked.peer, claim)

    async def _account_log(self, asked: Asked) -> object:
        address = str(parse_account(asked.request.match_info["address"]))
        after = _number(asked, "after", 0, 0, ACCOUNT_LOG_ENTRIES)
        return await self._services.account_log(asked.peer, address, after)


def _refusing(answer: _Handler) -> _Handler:
    """A handler whose errors become problems."""

    async def handler(request: web.Request) -> web.StreamResponse:
        try:
            return await answer(request)
        except Refused as error:
            return problem_response(error)
        except (Malformed, AddressError) as error:
            return problem_response(BadRequest(str(error)))
        except Exception:
            _log.exception("a request of a peer failed: %s", request.path)
            return problem_response(NodeFault())

    return handler


def problem_response(error: Refused) -> web.Response:
    """A refusal as its problem document."""
    headers = {}
    if error.retry_after is not None:
        headers["Retry-After"] = str(error.retry_after)
    return web.Response(
        status=error.status,
        body=encode_json(error.problem()),
        content_type="application/problem+json",
        headers=headers,
    )


def _body(asked: Asked, kind: type[T]) -> T:
    media = asked.request.content_type.lower()
    if media == MSGPACK:
        return decode(asked.body, kind)
    if media == JSON:
        return decode_json(asked.body, kind)
    raise UnsupportedMedia()


def _log_id(asked: Asked) -> LogId:
    return parse_log_id(asked.request.match_info["log"])


def _number(asked: Asked, name: str, default: int, least: int, most: int) -> int:
    text = asked.request.query.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= 16):
        raise BadRequest(f"{name} is not a number.")
    return min(max(int(text), least), most)
