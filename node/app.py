"""The node, put together: services, federation, HTTP; started and stopped in order.

    node = Node(settings)
    await node.start()      # database, services, sockets, then federation
    ...
    await node.stop()       # sessions are told, what is queued is written, then closed

Everything is passed to whoever needs it here; no other module builds a service.
"""

import asyncio
import logging
import os
import ssl
from collections.abc import Coroutine
from typing import Any

from aiohttp import web
from sqlalchemy import Connection, insert, select

from federation.policy import PeerPolicy
from federation.service import Federation
from node.accounts.account import Accounts
from node.accounts.device import Devices
from node.accounts.key_package import KeyPackages
from node.accounts.link import Links
from node.accounts.password import Hasher
from node.accounts.recovery import Recovery
from node.accounts.vault import VaultKeeper
from node.api.account import AccountApi
from node.api.blob import BlobApi, BlobSender
from node.api.discovery import DiscoveryApi
from node.api.door import Door, listen_on, note_peers
from node.api.gate import Gate
from node.api.ice import IceApi
from node.api.log import LogApi
from node.api.middleware import answer_errors
from node.api.patience import IDLE, Patience
from node.api.socket import SocketApi
from node.api.sync import SyncApi
from node.api.vault import LinkApi, VaultApi
from node.blobs.fetch import BlobFetcher
from node.blobs.keeper import BlobKeeper
from node.calls.access import IceAccess
from node.clock import Clock, system_clock
from node.config import ConfigProblem, Settings
from node.descriptors import advice, open_files, open_files_limit, sessions_of
from node.housekeeping import keep_house
from node.keys import NodeKeys, load_keys
from node.limit import Buckets
from node.local import LocalStatus, NodeState
from node.lock import DataLock, Running, take_lock
from node.peers.inbox import PeerInbox
from node.peers.pruning import Pruner
from node.peers.service import PeerServices
from node.peers.store import Peers
from node.peers.wake import PeerWake
from node.presence.service import PresenceService
from node.rooms.hub import Hub
from node.rooms.newest import Newest
from node.rooms.page import Pages
from node.rooms.state import RoomStates
from node.rooms.submission import Submissions
from node.sessions.delivery import Delivery
from node.sessions.poll import Polls
from node.storage.schema import DatabaseProblem, migrate
from node.storage.store import QUEUE_MAX, Store, Transaction
from node.storage.tables import SettingRow, core
from node.version import VERSION
from node.watchdog import Watchdog
from protocol.errors import TelexError
from protocol.limits import BODY_MAX

__all__ = ["Node", "StartProblem"]

log = logging.getLogger(__name__)

SHUTDOWN_TIMEOUT = 5.0
"""Seconds that requests under way and sessions have to end when the node stops."""

_setting = core(SettingRow)


class StartProblem(TelexError):
    """The node cannot start; says why and what to do."""


class Node:
    """A running node; `start` it once and `stop` it at the end."""

    def __init__(
        self,
        settings: Settings,
        clock: Clock = system_clock,
        hasher: Hasher | None = None,
    ) -> None:
        """Build everything; nothing is opened yet but the key is read.

        Args:
            settings: of the node.
            clock: tests may set theirs.
            hasher: of log-in secrets; None: one at the full cost.

        Raises:
            KeyProblem, ConfigProblem, AddressError: a setting or file is wrong.
        """
        self.settings = settings
        self._clock = clock
        self._keys: NodeKeys = load_keys(settings.data_dir, settings.name)
        self._tls = _tls_context(settings)
        self._build_storage()
        self._build_accounts(hasher or Hasher())
        self._build_rooms()
        self._patience = Patience()
        self._runner: web.AppRunner | None = None
        self._door = Door(
            per_network=settings.limits.connections_per_address,
            proxies=settings.listen.proxies,
            tls=self._tls,
            sessions=lambda: self._sockets.open,
        )
        self._tasks: list[asyncio.Task[None]] = []
        self._data_lock: DataLock | None = None
        self.watchdog = Watchdog(settings.log.stall_ms / 1000)
        self._local = LocalStatus(settings.data_dir, self.state)

    def _build_storage(self) -> None:
        """The database, and who is told what happens in it."""
        settings, limits = self.settings, self.settings.limits
        self.peer_wake = PeerWake(lambda: self.store, self._wake)
        self.delivery = Delivery(
            lambda: self.store,
            lambda: self.devices,
            self._clock,
            settings.name,
            wake_peers=self.peer_wake.on_event,
            sessions_max=min(limits.connections, sessions_of(open_files_limit())),
            per_address=limits.connections_per_address,
        )
        self.polls = Polls(self.delivery)
        self.store = Store(
            settings.database,
            on_events=self.delivery.on_events,
            on_foreign_change=self._on_foreign_change,
        )

    def _build_accounts(self, hasher: Hasher) -> None:
        """What belongs to people: accounts, devices, and what they keep here."""
        settings, clock = self.settings, self._clock
        self.devices = Devices(self.store, settings.name, clock)
        self.accounts = Accounts(self.store, settings, clock, hasher)
        self.recovery = Recovery(
            self.store, self.accounts, settings.name, clock, hasher
        )
        self.links = Links(self.store, clock)
        self.ice = IceAccess(settings.calls, clock)
        self.vaults = VaultKeeper(
            self.store,
            settings.data_dir / "vaults",
            clock,
            settings.limits.vault_quota,
        )
        self.blobs = BlobKeeper(
            self.store,
            settings.data_dir / "blobs",
            clock,
            quota=settings.limits.blob_quota,
            largest=settings.limits.blob_max,
            days=settings.limits.blob_days,
            copies=settings.limits.blob_cache,
        )
        self.blob_sender = BlobSender()
        self.blob_fetcher = BlobFetcher(
            self.blobs,
            lambda node, blob, offset: self.federation.blob(node, blob, offset),
        )
        self.key_packages = KeyPackages(
            self.store,
            settings.name,
            clock,
            lambda peer, claim: self.federation.claim(peer, claim),
            settings.limits.claims_per_minute,
        )

    def _build_rooms(self) -> None:
        """Rooms, and the other nodes that are in them."""
        name, clock, limits = self.settings.name, self._clock, self.settings.limits
        self.hub = Hub(self.store, name, clock, limits.rooms_per_account)
        self.pages = Pages(self.store, name)
        self.states = RoomStates(self.store, self.hub, name, lambda: self.federation)
        self._pruner = Pruner(self.store, name, clock)
        self.presence = PresenceService(
            name,
            clock,
            self.delivery,
            lambda: self.federation,
            lambda: self.store,
            lambda peer: self._peers.met(peer),
        )
        self.delivery.opened.append(self.presence.opened)
        self.delivery.ended.append(self.presence.ended)
        self.federation = self._federation(PeerInbox(self.store, self.hub, name, clock))
        self.submissions = Submissions(
            self.store,
            self.hub,
            name,
            clock,
            lambda peer, room, submit: self.federation.submit(peer, room, submit),
            Buckets(
                limits.events_per_second,
                limits.events_burst,
                "This device sends too many messages.",
            ),
        )

    def _federation(self, inbox: PeerInbox) -> Federation:
        settings = self.settings
        self._peers = Peers(self.store, self._clock)
        return Federation(
            settings.name,
            self._keys.key,
            peer_store=self._peers,
            log_store=inbox,
            services=PeerServices(
                self.accounts,
                self.key_packages,
                self.hub,
                self.pages,
                self.states,
                inbox,
                self.blobs,
                self.blob_sender,
                self.presence,
            ),
            policy=_policy(settings),
            ca_file=settings.ca_file,
        )

    @property
    def port(self) -> int:
        """The port it listens on."""
        return self._door.port

    def state(self) -> NodeState:
        """How the node is."""
        waiting, size = self.store.waiting
        return NodeState(
            time=self._clock(),
            sessions=self.delivery.sessions,
            waiting=waiting,
            waiting_bytes=size,
            waiting_max=QUEUE_MAX,
            wal_bytes=self.store.journal_bytes(),
            storage=self.store.health,
            stalls=self.watchdog.stalls,
            door=self._door.state,
            files=open_files(),
            files_max=open_files_limit(),
        )

    # --- life -------------------------------------------------------------------

    async def start(self) -> None:
        """Open the database and listen.

        Raises:
            DataInUse, DatabaseProblem, StartProblem: why it cannot.
        """
        settings = self.settings
        self._data_lock = take_lock(settings.data_dir)
        try:
            copy = await asyncio.to_thread(migrate, settings.database)
            if copy is not None:
                log.info("the database was brought up to date; a copy is at %s", copy)
            await self.store.start()
            await self._check_name()
            await self.peer_wake.load()
            await self._peers.load()
            await self.vaults.sweep()
            await self.blobs.sweep()
            await self._listen()
        except BaseException:
            await self._close()
            raise
        await self._local.start()
        self._spawn(self.delivery.watch())
        self._spawn(self._sockets.watch())
        assert self._runner is not None and self._runner.server is not None
        self._spawn(self._patience.watch(self._runner.server))
        self._spawn(self._door.watch())
        self._spawn(self.peer_wake.watch())
        self._spawn(self.presence.run())
        chores = (
            self._pruner.prune,
            self.vaults.prune,
            self.links.prune,
            self.blobs.prune,
        )
        self._spawn(keep_house(chores))
        await self.federation.start()
        # What it takes to start holds up nobody.
        self.watchdog.start()
        scheme = "https" if self._tls is not None else "http"
        self._data_lock.announce(
            Running(
                os.getpid(), int(self._clock()), f"{scheme}://{self._host}:{self.port}"
            )
        )
        log.info(
            "telex-node %s: %s listens on %s port %d (%s)",
            VERSION,
            settings.name,
            settings.listen.host,
            self.port,
            "TLS" if self._tls is not None else "plain HTTP, for behind a proxy",
        )
        if too_low := advice(open_files_limit(), settings.limits.connections):
            log.warning("%s", too_low)

    async def stop(self) -> None:
        """Tell everybody, write what is queued, close everything."""
        log.info("%s stops", self.settings.name)
        self.delivery.stop()
        await self._sockets.stop()
        self.links.stop()
        await self.blob_fetcher.stop()
        await self.federation.stop()
        await self._close()

    async def _close(self) -> None:
        self.watchdog.stop()
        await self._local.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        self._door.close()
        if self._runner is not None:
            await self._runner.cleanup()
        self.delivery.flush()
        await self.store.stop()
        self.hub.close()
        self.accounts.close()
        self.vaults.close()
        self.blobs.close()
        if self._data_lock is not None:
            self._data_lock.release()
            self._data_lock = None

    async def _check_name(self) -> None:
        """The database knows whose it is, and is nobody else's."""
        name = self.settings.name

        def read(connection: Connection) -> str | None:
            query = select(_setting.c.value).where(_setting.c.key == "name")
            found: str | None = connection.scalar(query)
            return found

        def write(transaction: Transaction) -> None:
            row = insert(_setting).values(key="name", value=name)
            transaction.connection.execute(row)

        stored = await self.store.read(read)
        if stored is None:  # else nothing is written: a node may start on a full disk
            await self.store.write(write)
            stored = name
        if stored != name:
            raise DatabaseProblem(
                f"The database {self.settings.database} belongs to the node {stored}, "
                f"but the config says {name}; a node cannot change its name."
            )

    async def _listen(self) -> None:
        settings = self.settings
        runner = web.AppRunner(self._application(), shutdown_timeout=SHUTDOWN_TIMEOUT)
        await runner.setup()
        self._runner = runner
        host = None if settings.listen.host == "*" else settings.listen.host
        try:
            listening = await asyncio.to_thread(listen_on, host, settings.port)
        except OSError as error:
            raise StartProblem(
                f"The node cannot listen on {settings.listen.host} port "
                f"{settings.port}: {error.strerror or error}."
            ) from error
        assert runner.server is not None
        options = {
            "access_log": None,
            "keepalive_timeout": IDLE,
            # Names of headers and values are bounded by the signature's own limits.
            "max_line_size": 16 * 1024,
            "max_field_size": 16 * 1024,
        }
        self._door.open(listening, runner.server, options)

    @property
    def _host(self) -> str:
        """Where commands on this machine reach it."""
        host = self.settings.listen.host
        return "127.0.0.1" if host in ("*", "0.0.0.0", "localhost") else host

    def _application(self) -> web.Application:
        settings, limits = self.settings, self.settings.limits
        name, clock = settings.name, self._clock
        app = web.Application(
            middlewares=[self._patience.note, note_peers, answer_errors],
            client_max_size=BODY_MAX,
        )
        requests = Buckets(
            limits.requests_per_second,
            limits.requests_burst,
            "This device asks for too much.",
        )
        gate = Gate(name, self.devices, clock, requests, settings.listen.proxies)
        app.add_routes(DiscoveryApi(settings, self._keys.revisions, clock).routes())
        app.add_routes(
            AccountApi(
                gate,
                self.accounts,
                self.recovery,
                self.key_packages,
                name,
                self.federation.account_log,
            ).routes()
        )
        newest = Newest(self.store)
        app.add_routes(
            LogApi(gate, self.submissions, self.pages, self.states, newest).routes()
        )
        app.add_routes(VaultApi(gate, self.vaults).routes())
        app.add_routes(LinkApi(gate, self.links).routes())
        app.add_routes(IceApi(gate, self.ice).routes())
        app.add_routes(
            BlobApi(
                gate, self.blobs, self.blob_fetcher, self.blob_sender, name
            ).routes()
        )
        self._sockets = SocketApi(
            gate,
            self.delivery,
            self.submissions,
            limits.events_per_second,
            self.presence.handlers(),
        )
        app.add_routes(self._sockets.routes())
        sync = SyncApi(gate, self.delivery, self.polls, self.presence.handlers())
        app.add_routes(sync.routes())
        app.add_routes(self.federation.routes())
        return app

    def _on_foreign_change(self) -> None:
        """An admin's command wrote to the database."""
        self.delivery.on_foreign_change()
        self._peers.forget()
        self.federation.look_again()

    def _wake(self, peer: str) -> None:
        self.federation.wake(peer)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        task.add_done_callback(_note_end)
        self._tasks.append(task)


def _note_end(task: asyncio.Task[None]) -> None:
    """A part that ends by itself is a fault that nobody must overlook."""
    if not task.cancelled() and task.exception() is not None:
        log.critical("a part of the node has stopped", exc_info=task.exception())


def _tls_context(settings: Settings) -> ssl.SSLContext | None:
    cert, key = settings.tls.cert_file, settings.tls.key_file
    if cert is None or key is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(cert, key)
    except (OSError, ssl.SSLError) as error:
        raise ConfigProblem(
            f"The certificate {cert} with the key {key} cannot be used: {error}."
        ) from error
    return context


def _policy(settings: Settings) -> PeerPolicy:
    domains = tuple(settings.federation.domains)
    match settings.federation.policy:
        case "allow":
            return PeerPolicy(allow=domains)
        case "deny":
            return PeerPolicy(deny=domains)
        case _:
            return PeerPolicy()
