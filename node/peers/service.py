"""What other nodes may ask of this one: the port `federation.ports.Services`."""

from aiohttp import web

from node.accounts.account import Accounts
from node.accounts.key_package import KeyPackages
from node.api.blob import BlobSender
from node.blobs.keeper import BlobKeeper
from node.peers.log import PeerLogs
from node.presence.service import PresenceService
from node.rooms.hub import Hub
from node.rooms.incoming import read_incoming
from node.rooms.page import Pages
from node.rooms.state import RoomStates
from protocol.address import parse_account
from protocol.errors import BadRequest, NotAllowed
from protocol.log import LogId
from protocol.presence import PeerPresence, PeerPresenceAnswer
from protocol.wire import (
    AccountLog,
    Claim,
    Claimed,
    GroupState,
    Hello,
    Page,
    Receipt,
    Roster,
    Submit,
    Tree,
)

__all__ = ["PeerServices"]


class PeerServices:
    """One method for each endpoint; the peer is authenticated, its rights are not."""

    def __init__(
        self,
        accounts: Accounts,
        key_packages: KeyPackages,
        hub: Hub,
        pages: Pages,
        states: RoomStates,
        logs: PeerLogs,
        blobs: BlobKeeper,
        blob_sender: BlobSender,
        presence: PresenceService,
    ) -> None:
        self._accounts = accounts
        self._key_packages = key_packages
        self._hub = hub
        self._pages = pages
        self._states = states
        self._logs = logs
        self._blobs = blobs
        self._blob_sender = blob_sender
        self._presence = presence

    async def claim(self, peer: str, claim: Claim) -> Claimed:
        """Key packages of accounts of ours."""
        return await self._key_packages.claim_for_peer(peer, claim)

    async def account_log(self, peer: str, address: str, after: int) -> AccountLog:
        """The log of an account of ours."""
        return await self._accounts.log(parse_account(address), after)

    async def submit(self, peer: str, log: LogId, submit: Submit) -> Receipt:
        """Append to a room of ours now.

        Raises:
            Refused: why not.
        """
        incoming = read_incoming(submit.submission)
        if incoming.submission.log != log:
            raise BadRequest("The submission is for another log than the request.")
        if incoming.sender.account.node != peer:
            raise NotAllowed("A node carries what its own accounts write.")
        return await self._hub.submit(incoming, submit.bundle)

    async def page(self, peer: str, log: LogId, after: int, limit: int) -> Page:
        """Entries of a log of ours that the peer may read."""
        return await self._pages.page_for_peer(peer, log, after, limit)

    async def tree(self, peer: str, log: LogId, tree_hash: str) -> Tree:
        """A ratchet tree of a room of ours."""
        try:
            digest = bytes.fromhex(tree_hash)
        except ValueError as error:
            raise BadRequest("A tree's hash is written in hex digits.") from error
        return await self._states.tree_for_peer(peer, log, digest)

    async def group(self, peer: str, log: LogId) -> GroupState:
        """What a device joins a room of ours by."""
        return await self._states.group_for_peer(peer, log)

    async def roster(self, peer: str, log: LogId) -> Roster:
        """To which devices the entries of a room of ours go."""
        return await self._states.roster_for_peer(peer, log)

    async def blob(self, peer: str, request: web.Request) -> web.StreamResponse:
        """A blob that an account of ours keeps here."""
        blob = request.match_info["blob"]
        opened = self._blobs.open(blob, held=True)
        return await self._blob_sender.send(request, blob, opened, f"peer:{peer}")

    async def presence(self, peer: str, body: PeerPresence) -> PeerPresenceAnswer:
        """Who of its people is there, and who of ours shows itself to them."""
        return self._presence.receive(peer, body)

    async def hello(self, peer: str, hello: Hello) -> None:
        """Move the peer's cursors to where it says it is."""
        await self._logs.move_cursors(peer, hello.cursors)
