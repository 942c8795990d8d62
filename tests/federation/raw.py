"""A peer that says exactly what a test wants it to say."""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
from yarl import URL

from protocol.codec import MSGPACK, decode_json
from protocol.errors import Problem
from protocol.key import KeyPair
from protocol.signature import sign_request
from tests.federation.nodes import TestNode

__all__ = ["Answer", "RawPeer"]


@dataclass
class Answer:
    status: int
    body: bytes
    headers: Mapping[str, str]

    @property
    def code(self) -> str:
        """The problem's code; an answer without a problem fails the test."""
        assert self.headers["Content-Type"].startswith("application/problem+json")
        problem = decode_json(self.body, Problem)
        assert problem.status == self.status and problem.title
        return problem.code


@dataclass
class RawPeer:
    """Signs as some node, and lets a test change what is sent."""

    keyid: str
    key: KeyPair = field(repr=False)
    ca_file: Path
    sent: dict[str, str] = field(default_factory=dict)
    """The headers of the last request."""

    async def send(
        self,
        target: TestNode,
        method: str,
        path: str,
        body: bytes = b"",
        *,
        query: str = "",
        destination: str | None = None,
        created: int | None = None,
        media: str = MSGPACK,
        headers: Mapping[str, str] | None = None,
        replace: Mapping[str, str | None] | None = None,
        sent_path: str | None = None,
        sent_body: bytes | None = None,
    ) -> Answer:
        """Sign a request, then send it with what the test replaces in it."""
        clock = target.clock
        assert clock is not None
        signed = sign_request(
            method=method,
            authority=target.name,
            path=path,
            query=query,
            content_type=media if method == "POST" else None,
            body=body,
            destination=destination or target.name,
            keyid=self.keyid,
            private_key=self.key.seed,
            created=int(clock.time()) if created is None else created,
        )
        lines = {**signed, **(headers or {}), **(replace or {})}
        self.sent = {name: value for name, value in lines.items() if value is not None}
        shown = f"{sent_path or path}{'?' + query if query else ''}"
        return await self.deliver(
            target, method, shown, body if sent_body is None else sent_body
        )

    async def deliver(
        self, target: TestNode, method: str, path: str, body: bytes
    ) -> Answer:
        """Send `self.sent` as it is: a second time, it is a replay."""
        tls = ssl.create_default_context(cafile=str(self.ca_file))
        url = URL(f"https://{target.name}{path}", encoded=True)
        async with (
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=tls)) as session,
            session.request(
                method,
                url,
                data=body or None,
                headers=self.sent,
                skip_auto_headers=["Content-Type"],
            ) as answer,
        ):
            return Answer(answer.status, await answer.read(), dict(answer.headers))
