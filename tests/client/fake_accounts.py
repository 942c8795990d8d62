"""Accounts of the fake node: their logs, their devices, key packages."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

from aiohttp import web

from protocol.account_log import read_account_log
from protocol.address import parse_account
from protocol.errors import (
    AccountTaken,
    BadLogin,
    BadRecovery,
    IdentityError,
    LogForked,
    NoKeyPackage,
    UnknownAccount,
)
from protocol.key import verify
from protocol.log import GENESIS, chain, mailbox_id
from protocol.wire import (
    AccountLog,
    AddDevice,
    Claim,
    Claimed,
    ClaimedPackage,
    KeyPackageCount,
    KeyPackageUpload,
    Login,
    Recover,
    Register,
)
from tests.client.fake_state import (
    NAME,
    FakeState,
    answer,
    body_of,
    device_in,
)


@dataclass
class FakeAccounts(FakeState):
    """Accounts by name, and what their devices left to be added to rooms."""

    secrets: dict[str, bytes] = field(default_factory=dict)
    accounts: dict[str, list[bytes]] = field(default_factory=dict)
    packages: dict[str, list[bytes]] = field(default_factory=lambda: defaultdict(list))
    last_resort: dict[str, bytes] = field(default_factory=dict)
    lie_of: Callable[[str, list[bytes], str], list[bytes]] = lambda a, e, d: e
    """Changes the account log that a device is shown: account, entries, device."""

    def account_routes(self, v1: str) -> list[web.RouteDef]:
        """What they answer."""
        one = f"{v1}/accounts/{{name}}"
        return [
            web.post(f"{v1}/accounts", self.register),
            web.post(f"{one}/login", self.login),
            web.post(f"{one}/devices", self.add_device),
            web.post(f"{one}/recover", self.recover),
            web.get(f"{one}/log", self.account_log),
            web.post(f"{one}/log", self.extend_log),
            web.put(f"{v1}/key-packages", self.put_packages),
            web.get(f"{v1}/key-packages", self.count_packages),
            web.post(f"{v1}/key-packages/claim", self.claim),
        ]

    async def register(self, request: web.Request) -> web.Response:
        body = await body_of(request, Register)
        account = f"{body.name}@{NAME}"
        if account in self.accounts:
            raise AccountTaken
        self.accounts[account] = list(body.log)
        self.secrets[account] = body.login_secret
        self.cursors[device_in(request), mailbox_id(account)] = 0
        return answer(AccountLog(account, body.log))

    async def login(self, request: web.Request) -> web.Response:
        account = f"{request.match_info['name']}@{NAME}"
        if self.secrets.get(account) != (await body_of(request, Login)).login_secret:
            raise BadLogin
        return answer(AccountLog(account, self.accounts[account]))

    async def add_device(self, request: web.Request) -> web.Response:
        account = f"{request.match_info['name']}@{NAME}"
        self.accounts[account] += (await body_of(request, AddDevice)).entries
        self.cursors[device_in(request), mailbox_id(account)] = 0
        return answer(AccountLog(account, self.accounts[account]))

    async def recover(self, request: web.Request) -> web.Response:
        account = f"{request.match_info['name']}@{NAME}"
        body = await body_of(request, Recover)
        if account not in self.accounts:
            raise BadRecovery
        root = read_account_log(parse_account(account), self.accounts[account]).root
        try:
            verify("recover", root, body.proof.payload, body.proof.signature)
        except IdentityError:
            raise BadRecovery from None
        if body.entries:
            if body.entries[-1] not in self.accounts[account]:
                self.accounts[account] += body.entries
            self.secrets[account] = body.login_secret
            self.cursors[device_in(request), mailbox_id(account)] = 0
        return answer(AccountLog(account, self.accounts[account]))

    async def account_log(self, request: web.Request) -> web.Response:
        account = request.match_info["name"]
        parse_account(account)
        if account not in self.accounts:
            raise UnknownAccount
        after = int(request.query.get("after", 0))
        entries = self.lie_of(account, self.accounts[account], device_in(request))
        return answer(
            AccountLog(account, entries[after:], len(entries), hash_at(entries))
        )

    async def extend_log(self, request: web.Request) -> web.Response:
        if "renewal" in self.fail:
            raise self.fail.pop("renewal")
        account = request.match_info["name"]
        fresh = (await body_of(request, AccountLog)).entries
        try:
            read_account_log(parse_account(account), self.accounts[account] + fresh)
        except IdentityError as error:
            raise LogForked from error
        self.accounts[account] += fresh
        for device in self._devices(account):
            self.cursors.setdefault((device, mailbox_id(account)), 0)
        return answer(AccountLog(account, self.accounts[account]))

    async def put_packages(self, request: web.Request) -> web.Response:
        body = await body_of(request, KeyPackageUpload)
        device = device_in(request)
        self.packages[device] += body.packages
        if body.last_resort is not None:
            self.last_resort[device] = body.last_resort
        return await self.count_packages(request)

    async def count_packages(self, request: web.Request) -> web.Response:
        device = device_in(request)
        return answer(
            KeyPackageCount(len(self.packages[device]), device in self.last_resort)
        )

    async def claim(self, request: web.Request) -> web.Response:
        claim, claimed = await body_of(request, Claim), Claimed([])
        for account in claim.accounts:
            before = len(claimed.packages)
            wanted = self._devices(account) - set(claim.skip)
            for device in sorted(wanted):
                stock = self.packages[device]
                package = stock.pop(0) if stock else self.last_resort.get(device)
                if package is not None:
                    last = not stock and package == self.last_resort.get(device)
                    claimed.packages.append(ClaimedPackage(device, package, last))
            if wanted and len(claimed.packages) == before:
                claimed.failed[account] = NoKeyPackage().problem()
        return answer(claimed)

    def _devices(self, account: str) -> set[str]:
        if account not in self.accounts:
            return set()
        state = read_account_log(parse_account(account), self.accounts[account])
        return set(map(str, state.addresses()))


def hash_at(entries: list[bytes]) -> bytes:
    """The chain's hash over an account log."""
    head = GENESIS
    for entry in entries:
        head = chain(head, entry)
    return head
