"""Signed HTTP requests to the account's own node.

Thin: it signs (RFC 9421), sends, and turns what comes back into a wire struct or an
error. It knows no room and no database. A node that says our clock is wrong is
believed, and the request is signed and sent once more.
"""

import asyncio
import contextlib
import ssl
import zlib
from dataclasses import dataclass
from functools import lru_cache
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import aiohttp
from yarl import URL

from client.clock import Clock
from client.errors import (
    ClientError,
    NodeNonsense,
    NodeUnreachable,
    NodeUntrusted,
    UpgradeFailed,
    UpgradeRefused,
)
from client.model import Profile
from client.network.refusals import refusal_of
from protocol.address import DeviceAddress
from protocol.codec import MSGPACK, decode, decode_json, encode
from protocol.errors import BadRequest, Malformed, Problem, Refused, SignatureExpired
from protocol.key import KeyPair
from protocol.signature import sign_request
from protocol.wire import VERSION, NodeDocument

__all__ = ["CONNECT_TIMEOUT", "REQUEST_TIMEOUT", "Signer", "Transport"]

CONNECT_TIMEOUT = 10.0
"""Seconds for DNS, TCP and TLS; a phone's network at its worst takes a few."""

REQUEST_TIMEOUT = 30.0
"""Seconds for a whole request: the node may have to ask another node first."""

ANSWER_MAX = 16 * 1024 * 1024
"""Bytes of an answer: the tree of 4,000 leaves (8 MiB) is the largest thing."""

DISCOVERY_MAX = 1024 * 1024
"""Bytes of a discovery document: a key log of 1,000 revisions."""

OCTETS = "application/octet-stream"

CONNECTIONS = 4
"""Connections to the node at one time, beside the session's."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Signer:
    """Who signs: a device and its request key."""

    device: DeviceAddress
    key: KeyPair


class Transport:
    """Requests to one node; an async context manager that owns the connections."""

    def __init__(
        self, profile: Profile, node: str, clock: Clock, signer: Signer | None
    ) -> None:
        self._node = node
        self._clock = clock
        self.signer = signer
        self._override = profile.node_url
        self._base: URL | None = URL(profile.node_url) if profile.node_url else None
        self._profile = profile
        self._http: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections."""
        http, self._http = self._http, None
        if http is not None:
            await http.close()

    def forget_address(self) -> None:
        """Ask the node's name for its address again at the next request."""
        if self._override is None:
            self._base = None

    async def get(self, path: str, kind: type[T]) -> T:
        """Signed GET; see `request`."""
        return await self.request("GET", path, kind)

    async def post(self, path: str, body: object, kind: type[T]) -> T:
        """Signed POST; see `request`."""
        return await self.request("POST", path, kind, body)

    async def request(
        self, method: str, path: str, kind: type[T], body: object | None = None
    ) -> T:
        """Send a request and decode its answer.

        Args:
            method: GET, POST, PUT or DELETE.
            path: from `/accounts...` on, with its query, percent-encoded.
            kind: the struct that the answer is.
            body: a wire struct, if the request has one.

        Raises:
            Refused: the node's refusal.
            NodeUnreachable, NodeUntrusted, NodeNonsense.
        """
        answer = await self._retried(
            method, path, b"" if body is None else encode(body), MSGPACK
        )
        try:
            return decode(answer, kind)
        except Malformed as error:
            raise NodeNonsense(
                f"The node {self._node} answered something that this Telex cannot "
                "read; one of the two may need an update."
            ) from error

    async def upload(self, path: str, data: bytes) -> None:
        """Signed PUT of bytes that are no wire struct; raises as `request` does."""
        await self._retried("PUT", path, data, OCTETS)

    async def download(self, path: str) -> bytes:
        """Signed GET of bytes that are no wire struct; raises as `request` does."""
        return await self._retried("GET", path, b"", OCTETS)

    async def _retried(self, method: str, path: str, data: bytes, kind: str) -> bytes:
        try:
            return await self._send(method, path, data, kind)
        except SignatureExpired as error:
            if error.server_time is None:
                raise
            self._clock.learn(error.server_time)
            return await self._send(method, path, data, kind)

    async def _send(
        self, method: str, path: str, data: bytes, kind: str = MSGPACK
    ) -> bytes:
        url = await self.url(path)
        headers = self.headers(method, url, data, kind)
        try:
            async with (
                asyncio.timeout(REQUEST_TIMEOUT),
                self._session().request(
                    method,
                    url,
                    data=data or None,
                    headers={**headers, "Accept": kind},
                    allow_redirects=False,
                ) as answer,
            ):
                content = await _read(answer, ANSWER_MAX)
                if answer.status >= HTTPStatus.MULTIPLE_CHOICES:
                    raise _refused(answer.status, content)
                return content
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise self.failure(error) from error

    async def url(self, path: str) -> URL:
        """The URL of a path below `/telex/v1`.

        Raises:
            NodeUnreachable, NodeUntrusted, NodeNonsense: the node was not found.
        """
        if self._base is None:
            self._base = await self._discover()
        base = str(self._base).rstrip("/")
        return URL(f"{base}/telex/v{VERSION}{path}", encoded=True)

    def headers(
        self, method: str, url: URL, data: bytes = b"", kind: str = MSGPACK
    ) -> dict[str, str]:
        """The headers that sign a request (none if there is no signer yet)."""
        if self.signer is None:
            return {"Content-Type": kind} if data else {}
        return sign_request(
            method=method,
            authority=_authority(url),
            path=url.raw_path,
            query=url.raw_query_string,
            content_type=kind if data else None,
            body=data,
            destination=self._node,
            keyid=str(self.signer.device),
            private_key=self.signer.key.seed,
            created=self._clock.now(),
        )

    async def websocket(
        self, *, heartbeat: float, frame_max: int
    ) -> aiohttp.ClientWebSocketResponse:
        """Open the session's WebSocket.

        Raises:
            Refused, NodeUnreachable, NodeUntrusted, NodeNonsense.
        """
        try:
            return await self._upgrade(heartbeat, frame_max)
        except SignatureExpired as error:
            if error.server_time is None:
                raise
            self._clock.learn(error.server_time)
            return await self._upgrade(heartbeat, frame_max)

    async def _upgrade(
        self, heartbeat: float, frame_max: int
    ) -> aiohttp.ClientWebSocketResponse:
        url = await self.url("/ws")
        headers = self.headers("GET", url)
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                return await self._session().ws_connect(
                    url,
                    headers=headers,
                    heartbeat=heartbeat,
                    max_msg_size=frame_max,
                    compress=0,
                )
        except aiohttp.WSServerHandshakeError as error:
            # aiohttp drops the body; the same request without the upgrade has it.
            raise await self._why_refused(error.status) from error
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
            if isinstance(error, aiohttp.ClientConnectorError):
                raise self.failure(error) from error
            raise UpgradeFailed(str(self.failure(error))) from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise self.failure(error) from error

    async def _why_refused(self, status: int) -> ClientError | Refused:
        try:
            await self._send("GET", "/ws", b"")
        except BadRequest:
            # To the node it was no upgrade: so something on the way took that off.
            pass
        except Refused as error:
            if error.status == status:
                return error
        except ClientError:
            pass
        return UpgradeRefused(
            f"The node {self._node} does not open a session (status {status}); "
            "Telex keeps trying."
        )

    async def document(self) -> NodeDocument:
        """The node's discovery document, from where the profile says or its name.

        Raises:
            NodeUnreachable, NodeUntrusted, NodeNonsense.
        """
        base = self._override or f"https://{self._node}"
        url = URL(f"{base.rstrip('/')}/.well-known/telex", encoded=True)
        try:
            async with (
                asyncio.timeout(REQUEST_TIMEOUT),
                self._session().get(
                    url, headers={"Accept": MSGPACK}, allow_redirects=False
                ) as answer,
            ):
                content = await _read(answer, DISCOVERY_MAX)
                if answer.status != HTTPStatus.OK:
                    raise NodeUnreachable(
                        f"There is no Telex node at {self._node} (status "
                        f"{answer.status}); check the address."
                    )
                as_json = "json" in answer.content_type
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise self.failure(error) from error
        try:
            read = decode_json if as_json else decode
            document: NodeDocument = read(content, NodeDocument)
        except Malformed as error:
            raise NodeNonsense(
                f"What answers at {self._node} is not a Telex node; check the address."
            ) from error
        if document.name != self._node:
            raise NodeUntrusted(
                f"The node at {self._node} calls itself {document.name!a}; tell "
                "its admin, nothing was sent there."
            )
        if VERSION not in document.versions:
            raise NodeNonsense(
                f"The node {self._node} speaks another version: update Telex."
            )
        self._clock.learn(document.time)
        return document

    async def _discover(self) -> URL:
        url = URL((await self.document()).base_url)
        if url.scheme != "https" or not url.host:
            raise NodeUntrusted(
                f"The node {self._node} gives an address without TLS; tell its admin, "
                "nothing was sent there."
            )
        return url

    def failure(self, error: Exception) -> ClientError:
        """What a failure of the network means, in a sentence."""
        node = self._node
        if isinstance(error, aiohttp.ClientConnectorCertificateError | ssl.SSLError):
            return NodeUntrusted(
                f"The TLS certificate of {node} is not valid for it or not trusted; "
                "tell its admin, or give its CA's file."
            )
        if isinstance(error, aiohttp.ClientConnectorDNSError):
            return NodeUnreachable(
                f"The node {node} cannot be found; check your network and the address."
            )
        if isinstance(error, TimeoutError):
            return NodeUnreachable(
                f"The node {node} does not answer in time; check your network."
            )
        return NodeUnreachable(
            f"The node {node} cannot be reached; check your network, or it is down."
        )

    def _session(self) -> aiohttp.ClientSession:
        if self._http is None:
            self._http = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=CONNECTIONS, ssl=_tls_context(self._profile.ca_file)
                ),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                headers={"Accept-Encoding": "gzip"},
            )
        return self._http


@lru_cache(maxsize=8)  # reading the system's certificates takes 30 ms
def _tls_context(ca_file: Path | None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if ca_file is not None:
        try:
            context.load_verify_locations(ca_file)
        except (OSError, ssl.SSLError) as error:
            raise NodeUntrusted(
                f"The file of certificates {ca_file} cannot be read: give another one."
            ) from error
    return context


def _authority(url: URL) -> str:
    """Exactly the `Host` that aiohttp sends."""
    host = url.host_subcomponent or ""
    return host if url.is_default_port() else f"{host}:{url.port}"


async def _read(answer: aiohttp.ClientResponse, limit: int) -> bytes:
    """The answer's body, unpacked; `limit` holds for what is unpacked.

    aiohttp would unpack it by itself, but without a limit.
    """
    unpack = None
    if answer.headers.get("Content-Encoding", "identity").lower() != "identity":
        unpack = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    content = bytearray()
    try:
        async for chunk in answer.content.iter_chunked(64 * 1024):
            if unpack is not None:
                chunk = unpack.decompress(chunk, limit - len(content) + 1)
            content += chunk
            if len(content) > limit:
                raise NodeNonsense(
                    "The node's answer is far too large; tell its admin."
                )
    except zlib.error as error:
        raise NodeNonsense("The node's answer cannot be unpacked.") from error
    if unpack is not None and not unpack.eof:
        raise NodeUnreachable("The node's answer broke off.")
    return bytes(content)


def _refused(status: int, content: bytes) -> Refused | ClientError:
    with contextlib.suppress(Malformed):
        return refusal_of(decode_json(content, Problem))
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        # A proxy in front of a node that is down.
        return NodeUnreachable(f"The node does not answer (status {status}).")
    return NodeNonsense(
        f"The node answered with status {status} and nothing that Telex can read."
    )
