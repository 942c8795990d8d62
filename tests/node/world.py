"""Two real nodes over HTTPS on loopback, and people who meet on them."""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import trustme

from node.app import Node
from node.config import Settings, Tls
from tests.node.phone import Phone, Room, Socket, mail
from tests.node.server import make_node, make_settings


@dataclass
class World:
    """Two nodes that trust one private authority."""

    tls: ssl.SSLContext
    settings: list[Settings]
    nodes: list[Node]

    async def restart(self, at: int) -> None:
        """Start a node again that was stopped."""
        self.nodes[at] = make_node(self.settings[at])
        await self.nodes[at].start()


@asynccontextmanager
async def two_nodes(directory: Path) -> AsyncIterator[World]:
    """Start them; what runs at the end is stopped."""
    ca = trustme.CA()
    ca_file = directory / "ca.pem"
    ca.cert_pem.write_to_path(str(ca_file))
    cert = ca.issue_cert("localhost", "127.0.0.1")
    files = Tls(directory / "cert.pem", directory / "key.pem")
    cert.private_key_pem.write_to_path(str(files.key_file))
    for pem in cert.cert_chain_pems:
        pem.write_to_path(str(files.cert_file), append=True)
    settings = [make_settings(directory, tls=files, ca_file=ca_file) for _ in range(2)]
    tls = ssl.create_default_context()
    ca.configure_trust(tls)
    found = World(tls, settings, [make_node(each) for each in settings])
    for node in found.nodes:
        await node.start()
    try:
        yield found
    finally:
        for node in found.nodes:
            await node.stop()


async def meet(alice: Phone, bob: Phone, other: Socket) -> tuple[Room, Room]:
    """A room of alice's with bob in it, both groups up to date."""
    room = await alice.create_room()
    await alice.add(room, bob.account)
    welcome = mail((await other.entries(bob.mailbox, 1))[0])
    joined = await bob.join(welcome)
    await other.ack(**{room.id: welcome.seq, bob.mailbox: 1})
    return room, joined
