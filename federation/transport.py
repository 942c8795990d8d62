"""Signed HTTP to peers: one session, one pool and one clock offset for each.

A call looks up the peer, signs, sends, checks the answer's size and signature, and
decodes it. Whatever goes wrong becomes a `Refused`: `PeerUnreachable` when there was
no answer that makes sense, else what the peer's problem document says. Nothing here
retries, but for one case: a peer that says our clock is wrong tells us its time, and
is asked once more with that.

TLS is verified against the system's store and `ca_file`. Redirects are not followed
and answers not decompressed: both would let a peer make us do more than we asked.
"""

import asyncio
import secrets
import ssl
from base64 import urlsafe_b64encode
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar

import aiohttp
from yarl import URL

from federation.answer import ANSWER_HEADER, verify_answer
from federation.discovery import Directory
from federation.pinning import PeerBook, base_authority
from federation.policy import PeerPolicy
from federation.ports import Clock, PeerRecord
from federation.refusal import read_refusal
from federation.signer import NodeSigner
from protocol.codec import JSON, MSGPACK, decode, decode_json, encode
from protocol.errors import (
    IdentityError,
    Malformed,
    NodeBusy,
    PeerUnreachable,
    PeerUntrusted,
    SignatureExpired,
)
from protocol.limits import BODY_MAX
from protocol.signature import NONCE_BYTES
from protocol.wire import NodeDocument

__all__ = ["Call", "Transport"]

CONNECT_TIMEOUT: Final = 10.0
"""Seconds for DNS, TCP and TLS: three lost SYNs (1 + 2 + 4 s) and a slow line."""

DOCUMENT_TIMEOUT: Final = 15.0
"""Seconds for a node's document, all in: a person may be waiting for it."""

CALL_TIMEOUT: Final = 20.0
"""Seconds for a request that a person waits for, all in."""

PUSH_TIMEOUT: Final = 60.0
"""Seconds for a push: a megabyte at 1 Mbit/s takes ten, the rest is the peer's."""

CONNECTIONS: Final = 6
"""Connections to one peer: two pushes, and calls that need not wait for them."""

CALLS_MAX: Final = 64
"""Calls to one peer under way or waiting for a connection; more are refused."""

KEEP_ALIVE: Final = 75.0
"""Seconds an idle connection is kept (nginx's default): a chat's pause."""

SESSIONS_MAX: Final = 512
"""Peers with an open session; the one idle for longest is closed for another."""

DOCUMENT_MAX: Final = 512 * 1024
"""Bytes of a node's document: 1,000 revisions of its keys in base64."""

DOCUMENT_CONNECTIONS: Final = 20
"""Documents fetched at one time, at most one from a host."""

OFFSET_MAX: Final = 24 * 3600
"""Seconds of a peer's clock that we follow; further off, its admin must act."""

HEADERS_MAX: Final = 16 * 1024
"""Bytes of an answer's header line and field, twice what aiohttp takes by itself."""

STREAMS_PER_PEER: Final = 4
"""Connections to one peer for blobs, so that pushes never wait behind a film."""

STREAMS_MAX: Final = 16
"""Such connections in all."""

STREAM_IDLE: Final = 30.0
"""Seconds without a byte after which a stream is given up."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Call:
    """A request to a peer, but for who signs it."""

    method: str
    path: str
    """Raw, as it is sent; only characters that nobody normalises."""
    query: str = ""
    body: object = None
    """A wire struct, or None."""
    timeout: float = CALL_TIMEOUT
    answer_max: int = BODY_MAX
    """Bytes of the answer's body that we read."""


@dataclass(slots=True)
class _Line:
    """What stands between us and one peer."""

    session: aiohttp.ClientSession
    offset: int = 0
    """Seconds that its clock is ahead of ours, as far as it told us."""
    calls: int = 0


@dataclass(slots=True)
class Transport:
    """Sends calls to peers; `close` it at the end."""

    signer: NodeSigner
    book: PeerBook
    policy: PeerPolicy
    clock: Clock
    ca_file: Path | None = None
    directory: Directory = field(init=False)
    _tls: ssl.SSLContext = field(init=False)
    _lines: OrderedDict[str, _Line] = field(default_factory=OrderedDict)
    _documents: aiohttp.ClientSession | None = None
    _streams: aiohttp.ClientSession | None = None
    _closed: bool = False

    def __post_init__(self) -> None:
        """Load the trusted certificates once; fails here if `ca_file` is none."""
        self._tls = ssl.create_default_context()
        if self.ca_file is not None:
            self._tls.load_verify_locations(cafile=self.ca_file)
        self.directory = Directory(
            self.book, self.policy, self.fetch_document, self.clock
        )

    async def call(self, peer: str, call: Call, answer: type[T]) -> T:
        """Ask a peer.

        Raises:
            PeerUnreachable: no answer, or none that makes sense.
            PeerUntrusted: its keys changed, or its answer is not signed by them.
            PeerBlocked: our policy keeps it out.
            NodeBusy: too many calls to it are under way.
            Refused: what the peer answered.
        """
        record = await self.directory.resolve(peer)
        line = await self._line(peer)
        if line.calls >= CALLS_MAX:
            raise NodeBusy(f"Too much is under way to {peer}.", retry_after=5)
        line.calls += 1
        try:
            try:
                return await self._attempt(record, line, call, answer)
            except SignatureExpired as expired:
                if not self._learn(line, expired):
                    raise
                return await self._attempt(record, line, call, answer)
        finally:
            line.calls -= 1

    @asynccontextmanager
    async def stream(
        self, peer: str, path: str, headers: Mapping[str, str]
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Ask a peer for something long: its answer, whose body is yet to be read.

        The answer is not signed. Ask so only for what its own hash vouches for.

        Args:
            peer: whom.
            path: what it has to GET.
            headers: besides the signature's; they are not signed.

        Raises:
            PeerUnreachable: no answer, or it breaks off while the body is read.
            Refused: as of `call`.
        """
        record = await self.directory.resolve(peer)
        line, call = await self._line(peer), Call("GET", path)
        if self._streams is None:
            self._streams = self._session(STREAMS_MAX, per_host=STREAMS_PER_PEER)
        url = URL(f"{record.base_url}{path}", encoded=True)
        for last in (False, True):
            signed, _ = self._sign(record, line, call, b"")
            request = self._streams.request(
                call.method,
                url,
                headers={**signed, **headers},
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(
                    total=None, sock_connect=CONNECT_TIMEOUT, sock_read=STREAM_IDLE
                ),
            )
            with _reaching(peer):
                async with request as response:
                    if response.status in (200, 206):
                        yield response
                        return
                    data = await _read(response, peer, BODY_MAX)
                    fields = _first_lines(response)
            refused = read_refusal(response.status, fields, data)
            if last or not isinstance(refused, SignatureExpired):
                raise refused
            if not self._learn(line, refused):
                raise refused

    async def fetch_document(self, name: str) -> NodeDocument:
        """A node's document, unsigned; `Directory` decides when.

        Raises:
            PeerUnreachable: there is none, or it cannot be read.
        """
        if self._documents is None:
            self._documents = self._session(DOCUMENT_CONNECTIONS, per_host=1)
        call = Call(
            "GET",
            "/.well-known/telex",
            timeout=DOCUMENT_TIMEOUT,
            answer_max=DOCUMENT_MAX,
        )
        headers = {"Accept": JSON}
        status, fields, body = await self._exchange(
            self._documents, name, f"https://{name}", call, headers, b""
        )
        if status != 200:
            raise PeerUnreachable(f"{name} shows no Telex node (status {status}).")
        media = fields.get("Content-Type", JSON).partition(";")[0].strip()
        read = decode if media == MSGPACK else decode_json
        try:
            return read(body, NodeDocument)
        except Malformed as error:
            raise PeerUnreachable(f"The document of {name} is wrong.") from error

    async def close(self) -> None:
        """Close every connection."""
        self._closed = True
        sessions = [line.session for line in self._lines.values()]
        self._lines.clear()
        sessions += [s for s in (self._documents, self._streams) if s is not None]
        for session in sessions:
            await session.close()

    # --- one attempt ---------------------------------------------------------

    async def _attempt(
        self, record: PeerRecord, line: _Line, call: Call, answer: type[T]
    ) -> T:
        body = b"" if call.body is None else encode(call.body)
        keyid = self.signer.keyid
        headers, nonce = self._sign(record, line, call, body)
        headers["Accept"] = MSGPACK
        status, fields, data = await self._exchange(
            line.session, record.name, record.base_url, call, headers, body
        )
        if status != 200:
            raise read_refusal(status, fields, data)
        value = fields.get(ANSWER_HEADER, "")
        await self._check_answer(record, value, keyid, nonce, data)
        try:
            return decode(data, answer)
        except Malformed as error:
            raise PeerUnreachable(
                f"{record.name} answered something that is no {answer.__name__}."
            ) from error

    def _sign(
        self, record: PeerRecord, line: _Line, call: Call, body: bytes
    ) -> tuple[dict[str, str], bytes]:
        """The headers of a call by our key, and its fresh nonce."""
        nonce = secrets.token_bytes(NONCE_BYTES)
        headers = self.signer.request(
            method=call.method,
            authority=base_authority(record.base_url),
            path=call.path,
            query=call.query,
            content_type=None if call.body is None else MSGPACK,
            body=body,
            destination=record.name,
            created=int(self.clock.time()) + line.offset,
            nonce=nonce,
        )
        return headers, nonce

    async def _exchange(
        self,
        session: aiohttp.ClientSession,
        name: str,
        base_url: str,
        call: Call,
        headers: dict[str, str],
        body: bytes,
    ) -> tuple[int, dict[str, str], bytes]:
        """Send and read; every failure on the way is `PeerUnreachable`."""
        query = f"?{call.query}" if call.query else ""
        url = URL(f"{base_url}{call.path}{query}", encoded=True)
        with _reaching(name):
            async with (
                asyncio.timeout(call.timeout),
                session.request(
                    call.method,
                    url,
                    headers=headers,
                    data=body or None,
                    allow_redirects=False,
                ) as response,
            ):
                data = await _read(response, name, call.answer_max)
                return response.status, _first_lines(response), data

    async def _check_answer(
        self, record: PeerRecord, value: str, keyid: str, nonce: bytes, data: bytes
    ) -> None:
        """The answer is by the pinned key; a signed rotation is looked for once."""
        text = urlsafe_b64encode(nonce).rstrip(b"=").decode()
        for look_again in (True, False):
            key = self.book.identity(record).node_key
            try:
                verify_answer(
                    key, value, keyid=keyid, nonce=text, status=200, body=data
                )
                return
            except IdentityError:
                if look_again:
                    await self.directory.refresh(record.name)
                    record = await self.book.get(record.name)
        raise PeerUntrusted(f"What answers for {record.name} does not hold its key.")

    def _learn(self, line: _Line, expired: SignatureExpired) -> bool:
        """Take the peer's time from its refusal; False if that cannot help."""
        if expired.server_time is None:
            return False
        offset = expired.server_time - int(self.clock.time())
        if offset == line.offset or abs(offset) > OFFSET_MAX:
            return False
        line.offset = offset
        return True

    # --- sessions ------------------------------------------------------------

    async def _line(self, peer: str) -> _Line:
        if self._closed:
            raise NodeBusy("The node is stopping.")
        if peer not in self._lines and len(self._lines) >= SESSIONS_MAX:
            await self._close_idle()
        line = self._lines.get(peer)
        if line is None:
            line = _Line(self._session(CONNECTIONS, per_host=CONNECTIONS))
            self._lines[peer] = line
        self._lines.move_to_end(peer)
        return line

    async def _close_idle(self) -> None:
        for peer, line in self._lines.items():
            if line.calls == 0:
                del self._lines[peer]
                await line.session.close()
                return

    def _session(self, connections: int, per_host: int) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                ssl=self._tls,
                limit=connections,
                limit_per_host=per_host,
                keepalive_timeout=KEEP_ALIVE,
            ),
            timeout=aiohttp.ClientTimeout(
                total=None, connect=None, sock_connect=CONNECT_TIMEOUT
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": "telex-node", "Accept-Encoding": "identity"},
            auto_decompress=False,
            max_line_size=HEADERS_MAX,
            max_field_size=HEADERS_MAX,
        )


@contextmanager
def _reaching(name: str) -> Iterator[None]:
    """Whatever goes wrong on the way to a node is `PeerUnreachable`."""
    try:
        yield
    except TimeoutError as error:
        raise PeerUnreachable(f"{name} did not answer in time.") from error
    except aiohttp.ClientConnectorCertificateError as error:
        raise PeerUnreachable(
            f"The TLS certificate of {name} is not one that is trusted here; "
            "its CA can be added as ca_file."
        ) from error
    except ssl.SSLError as error:
        raise PeerUnreachable(f"TLS with {name} failed.") from error
    except aiohttp.ClientConnectorDNSError as error:
        raise PeerUnreachable(f"The name {name} does not resolve.") from error
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise PeerUnreachable(
            f"The connection to {name} failed ({type(error).__name__})."
        ) from error


async def _read(response: aiohttp.ClientResponse, name: str, limit: int) -> bytes:
    """The answer's body, as long as it stays inside the limit."""
    data = bytearray()
    async for chunk in response.content.iter_any():
        data += chunk
        if len(data) > limit:
            raise PeerUnreachable(f"{name} answered more than {limit} bytes.")
    return bytes(data)


def _first_lines(response: aiohttp.ClientResponse) -> dict[str, str]:
    """The few header fields that matter, the first line of each."""
    names = (ANSWER_HEADER, "Content-Type", "Retry-After")
    found = ((name, response.headers.get(name)) for name in names)
    return {name: value for name, value in found if value is not None}
