"""Accounts over HTTP: registering, logging in, devices, account logs, key packages."""

from collections.abc import Awaitable, Callable

from aiohttp import web

from node.accounts.account import Accounts, signing_key
from node.accounts.key_package import KeyPackages
from node.accounts.recovery import Recovery
from node.api.gate import Gate
from node.api.message import answer, number, read
from protocol.address import parse_account
from protocol.errors import NotAllowed
from protocol.wire import (
    AccountLog,
    AddDevice,
    Claim,
    KeyPackageUpload,
    Login,
    Recover,
    Register,
)

__all__ = ["AccountApi"]

RemoteLog = Callable[[str, int], Awaitable[AccountLog]]
"""Asks another node for the log of one of its accounts, after so many entries."""


class AccountApi:
    """Handlers about accounts."""

    def __init__(
        self,
        gate: Gate,
        accounts: Accounts,
        recovery: Recovery,
        key_packages: KeyPackages,
        node: str,
        remote_log: RemoteLog,
    ) -> None:
        self._gate = gate
        self._accounts = accounts
        self._recovery = recovery
        self._key_packages = key_packages
        self._node = node
        self._remote_log = remote_log

    def routes(self) -> list[web.RouteDef]:
        """What `Application.add_routes` takes."""
        return [
            web.post("/telex/v1/accounts", self.register),
            web.post("/telex/v1/accounts/{name}/login", self.login),
            web.post("/telex/v1/accounts/{name}/devices", self.add_device),
            web.post("/telex/v1/accounts/{name}/recover", self.recover),
            web.get("/telex/v1/accounts/{address}/log", self.log),
            web.post("/telex/v1/accounts/{address}/log", self.append),
            web.put("/telex/v1/key-packages", self.upload),
            web.get("/telex/v1/key-packages", self.count),
            web.post("/telex/v1/key-packages/claim", self.claim),
        ]

    async def register(self, request: web.Request) -> web.Response:
        """Make an account; signed by the device that its log adds."""
        remote = self._gate.stranger(request)
        claim = self._gate.claim(request)
        body = await read(request, Register)
        state = self._accounts.read_registration(body)
        await self._gate.verify(request, signing_key(state, claim.keyid))
        return answer(request, await self._accounts.register(body, state, remote))

    async def login(self, request: web.Request) -> web.Response:
        """Answer the account log to who knows the login secret; unsigned."""
        remote = self._gate.stranger(request)
        body = await read(request, Login)
        name = request.match_info["name"]
        return answer(
            request, await self._accounts.login(name, body.login_secret, remote)
        )

    async def add_device(self, request: web.Request) -> web.Response:
        """Append a device to the account log; signed by the new device."""
        remote = self._gate.stranger(request)
        claim = self._gate.claim(request)
        body = await read(request, AddDevice)
        name = request.match_info["name"]
        state = await self._accounts.read_addition(name, body, remote)
        await self._gate.verify(request, signing_key(state, claim.keyid))
        return answer(request, await self._accounts.append(state, body.entries))

    async def recover(self, request: web.Request) -> web.Response:
        """Show an account to its root key, or give it a new device and password.

        Signed by the device that is added, and only with entries.
        """
        remote = self._gate.stranger(request)
        body = await read(request, Recover)
        name = request.match_info["name"]
        standing = await self._recovery.prove(name, body.proof, remote)
        if not body.entries:
            return answer(request, self._recovery.show(standing))
        keyid = self._gate.claim(request).keyid
        state, key = await self._recovery.read_takeover(standing, body, keyid)
        await self._gate.verify(request, key)
        return answer(request, await self._recovery.take_over(state, body))

    async def log(self, request: web.Request) -> web.Response:
        """The log of any account, here or elsewhere."""
        await self._gate.device(request)
        account = parse_account(request.match_info["address"])
        after = number(request, "after", 0) or 0
        if account.node == self._node:
            return answer(request, await self._accounts.log(account, after))
        return answer(request, await self._remote_log(str(account), after))

    async def append(self, request: web.Request) -> web.Response:
        """Continue one's own account log: revoke a device, add one, renew a key."""
        device = await self._gate.device(request)
        account = parse_account(request.match_info["address"])
        if account != device.account:
            raise NotAllowed("A device changes its own account alone.")
        body = await read(request, AccountLog)
        state = await self._accounts.read_continuation(account, body.entries)
        return answer(request, await self._accounts.append(state, body.entries))

    async def upload(self, request: web.Request) -> web.Response:
        """Store key packages of the device."""
        device = await self._gate.device(request)
        body = await read(request, KeyPackageUpload)
        return answer(request, await self._key_packages.upload(device, body))

    async def count(self, request: web.Request) -> web.Response:
        """How many key packages the device has here."""
        device = await self._gate.device(request)
        return answer(request, await self._key_packages.count(device.address))

    async def claim(self, request: web.Request) -> web.Response:
        """A key package of each device of some accounts."""
        device = await self._gate.device(request)
        body = await read(request, Claim)
        account = str(device.account)
        return answer(request, await self._key_packages.claim(body, account))
