"""Key packages: uploaded by devices, claimed one for each device by whoever adds it.

A single-use package is handed out once; when none is left, the last-resort one is,
again and again, until the device comes back and refills. The same claim answers the
same packages for ten minutes, so that a lost answer costs nothing.
"""

import asyncio
from collections.abc import Awaitable, Callable

from sqlalchemy import Connection, bindparam, delete, func, insert, select

from e2ee.public_group import E2eeError, key_package_info
from node.accounts.device import Device
from node.clock import Clock
from node.limit import Buckets
from node.storage.store import Store, Transaction
from node.storage.tables import (
    AccountRow,
    ClaimRow,
    DeviceRow,
    KeyPackageRow,
    core,
)
from protocol.address import parse_account
from protocol.codec import decode, encode
from protocol.credential import read_credential
from protocol.errors import (
    AccountDisabled,
    AddressError,
    BadAddress,
    BadIdentity,
    BadRequest,
    IdentityError,
    NoKeyPackage,
    Problem,
    Refused,
    TooMany,
    UnknownAccount,
)
from protocol.limits import (
    CLAIM_ACCOUNTS,
    DEVICES_MAX,
    KEY_PACKAGE_MAX,
    KEY_PACKAGES_MAX,
)
from protocol.wire import (
    Claim,
    Claimed,
    ClaimedPackage,
    KeyPackageCount,
    KeyPackageUpload,
)

__all__ = ["ForwardClaim", "KeyPackages"]

CLAIM_KEPT = 600
"""Seconds in which the same claim answers the same."""

SKIP_MAX = CLAIM_ACCOUNTS * DEVICES_MAX
"""Devices that a claim may name as not needed: all there can be."""

ForwardClaim = Callable[[str, Claim], Awaitable[Claimed]]
"""Asks another node for packages of its accounts."""

_package = core(KeyPackageRow)
_claim = core(ClaimRow)
_device = core(DeviceRow)
_account = core(AccountRow)

# The oldest first, so that packages are used before they expire.
_NEXT = (
    select(_package.c.ref, _package.c.package)
    .where(
        _package.c.device == bindparam("device"),
        _package.c.last_resort == bindparam("last_resort"),
        _package.c.not_after > bindparam("now"),
    )
    .order_by(_package.c.uploaded, _package.c.ref)
    .limit(1)
)


class KeyPackages:
    """The key packages of this node's devices, and claims for anybody's."""

    def __init__(
        self,
        store: Store,
        node: str,
        clock: Clock,
        forward: ForwardClaim,
        claims_per_minute: float,
    ) -> None:
        """`forward` asks another node; it may raise `Refused`."""
        self._store = store
        self._node = node
        self._clock = clock
        self._forward = forward
        self._limit = Buckets(
            claims_per_minute / 60,
            claims_per_minute * 10,
            "Too many people were added to chats.",
        )

    async def upload(self, device: Device, upload: KeyPackageUpload) -> KeyPackageCount:
        """Store packages of a device; those it has already are passed by.

        Raises:
            BadRequest, BadIdentity: one of them is wrong, so none is stored.
            TooMany: more than a device may keep here.
        """
        if len(upload.packages) > KEY_PACKAGES_MAX:
            raise TooMany(f"A device keeps at most {KEY_PACKAGES_MAX} key packages.")
        now = int(self._clock())
        rows = await asyncio.to_thread(_check, device, upload, now)

        def write(transaction: Transaction) -> KeyPackageCount:
            connection = transaction.connection
            connection.execute(
                delete(_package).where(
                    _package.c.device == device.address, _package.c.not_after <= now
                )
            )
            if upload.last_resort is not None:
                connection.execute(
                    delete(_package).where(
                        _package.c.device == device.address, _package.c.last_resort
                    )
                )
            known = set(
                connection.scalars(
                    select(_package.c.ref).where(
                        _package.c.ref.in_([row["ref"] for row in rows])
                    )
                )
            )
            new = {row["ref"]: row for row in rows if row["ref"] not in known}
            if new:
                connection.execute(insert(_package), list(new.values()))
            count = _count(connection, device.address)
            if count.single_use > KEY_PACKAGES_MAX:
                raise TooMany(
                    f"A device keeps at most {KEY_PACKAGES_MAX} key packages."
                )
            return count

        size = sum(map(len, upload.packages)) + KEY_PACKAGE_MAX
        return await self._store.write(write, size=size)

    async def count(self, device: str) -> KeyPackageCount:
        """How many a device has here."""
        return await self._store.read(lambda c: _count(c, device))

    async def claim(self, claim: Claim, claimer: str) -> Claimed:
        """One package for each device of the accounts, wherever they are.

        Args:
            claim: as a device asked.
            claimer: its account.

        Returns:
            What there was; accounts that gave nothing are in `failed`.

        Raises:
            BadRequest, TooMany: the claim as a whole is refused.
        """
        self._check_claim(claim)
        self._limit.take(claimer, self._clock(), len(claim.accounts))
        answer = Claimed(packages=[], failed={})
        nodes: dict[str, list[str]] = {}
        for text in dict.fromkeys(claim.accounts):
            try:
                nodes.setdefault(parse_account(text).node, []).append(text)
            except AddressError as error:
                answer.failed[text] = BadAddress(str(error)).problem()
        parts = await asyncio.gather(
            *(
                self._claim_at(node, claim, accounts, claimer)
                for node, accounts in nodes.items()
            )
        )
        for part in parts:
            answer.packages.extend(part.packages)
            answer.failed.update(part.failed)
        return answer

    async def claim_for_peer(self, peer: str, claim: Claim) -> Claimed:
        """What another node asks on behalf of one of its accounts.

        Raises:
            BadRequest, TooMany, AddressError: the claim is refused.
        """
        self._check_claim(claim)
        if parse_account(claim.claimer).node != peer:
            raise BadRequest("The claimer is not an account of the node that asks.")
        self._limit.take(f"peer:{peer}", self._clock(), len(claim.accounts))
        return await self._claim_here(claim, claim.accounts, f"{peer}|{claim.claimer}")

    def _check_claim(self, claim: Claim) -> None:
        if len(claim.claim_id) != 16:
            raise BadRequest("A claim_id has 16 bytes.")
        if not 0 < len(claim.accounts) <= CLAIM_ACCOUNTS:
            raise BadRequest(f"A claim names 1 to {CLAIM_ACCOUNTS} accounts.")
        if len(claim.skip) > SKIP_MAX:
            raise BadRequest("A claim skips more devices than there can be.")

    async def _claim_at(
        self, node: str, claim: Claim, accounts: list[str], claimer: str
    ) -> Claimed:
        if node == self._node:
            return await self._claim_here(claim, accounts, claimer)
        asked = Claim(claim.claim_id, accounts, claimer, claim.skip)
        try:
            answer = await self._forward(node, asked)
        except Refused as error:
            problem = error.problem()
            return Claimed(packages=[], failed=dict.fromkeys(accounts, problem))
        return _only_asked(answer, accounts)

    async def _claim_here(
        self, claim: Claim, accounts: list[str], claimer: str
    ) -> Claimed:
        now, skip = int(self._clock()), frozenset(claim.skip)

        def write(transaction: Transaction) -> bytes:
            connection = transaction.connection
            connection.execute(delete(_claim).where(_claim.c.expires <= now))
            stored: bytes | None = connection.scalar(
                select(_claim.c.answer).where(
                    _claim.c.claimer == claimer, _claim.c.claim_id == claim.claim_id
                )
            )
            if stored is not None:
                return _without_revoked(connection, stored)
            answer = Claimed(packages=[], failed={})
            for account in accounts:
                packages, problem = self._take(connection, account, skip, now)
                answer.packages.extend(packages)
                if problem is not None:
                    answer.failed[account] = problem
            encoded = encode(answer)
            connection.execute(
                insert(_claim).values(
                    claimer=claimer,
                    claim_id=claim.claim_id,
                    answer=encoded,
                    expires=now + CLAIM_KEPT,
                )
            )
            return encoded

        return decode(await self._store.write(write), Claimed)

    def _take(
        self, connection: Connection, account: str, skip: frozenset[str], now: int
    ) -> tuple[list[ClaimedPackage], Problem | None]:
        try:
            address = parse_account(account)
        except AddressError as error:
            return [], BadAddress(str(error)).problem()
        disabled = connection.execute(
            select(_account.c.disabled).where(_account.c.name == address.local)
        ).first()
        if address.node != self._node or disabled is None:
            return [], UnknownAccount().problem()
        if disabled[0]:
            return [], AccountDisabled().problem()
        devices = connection.scalars(
            select(_device.c.address).where(
                _device.c.name == address.local,
                ~_device.c.revoked,
                _device.c.expires > now,
            )
        ).all()
        wanted = [device for device in devices if device not in skip]
        packages = [
            package
            for device in wanted
            if (package := _pop(connection, device, now)) is not None
        ]
        if packages or (devices and not wanted):
            return packages, None
        return [], NoKeyPackage().problem()


def _without_revoked(connection: Connection, stored: bytes) -> bytes:
    """The answer to a repeated claim, without devices that have ended since."""
    answer = decode(stored, Claimed)
    devices = [package.device for package in answer.packages]
    ended = set(
        connection.scalars(
            select(_device.c.address).where(
                _device.c.address.in_(devices), _device.c.revoked
            )
        )
    )
    if not ended:
        return stored
    left = [package for package in answer.packages if package.device not in ended]
    return encode(Claimed(left, answer.failed))


def _pop(connection: Connection, device: str, now: int) -> ClaimedPackage | None:
    values = {"device": device, "last_resort": False, "now": now}
    row = connection.execute(_NEXT, values).first()
    if row is not None:
        connection.execute(delete(_package).where(_package.c.ref == row.ref))
        return ClaimedPackage(device, row.package)
    last = connection.execute(_NEXT, values | {"last_resort": True}).first()
    return None if last is None else ClaimedPackage(device, last.package, True)


def _count(connection: Connection, device: str) -> KeyPackageCount:
    rows = connection.execute(
        select(_package.c.last_resort, func.count())
        .where(_package.c.device == device)
        .group_by(_package.c.last_resort)
    ).all()
    found = {bool(last_resort): count for last_resort, count in rows}
    return KeyPackageCount(found.get(False, 0), True in found)


def _check(
    device: Device, upload: KeyPackageUpload, now: int
) -> list[dict[str, object]]:
    """The rows to store; verifies the signatures of each package."""
    single = [(package, False) for package in upload.packages]
    last = [(upload.last_resort, True)] if upload.last_resort is not None else []
    return [
        _check_package(device, package, last_resort, now)
        for package, last_resort in (*single, *last)
    ]


def _check_package(
    device: Device, package: bytes, last_resort: bool, now: int
) -> dict[str, object]:
    if len(package) > KEY_PACKAGE_MAX:
        raise BadRequest(f"A key package has at most {KEY_PACKAGE_MAX} bytes.")
    try:
        info = key_package_info(package)
        credential = read_credential(info.identity, now)
    except E2eeError as error:
        raise BadRequest(f"A key package is wrong: {error}.") from error
    except IdentityError as error:
        raise BadIdentity(str(error)) from error
    if str(credential.device) != device.address:
        raise BadIdentity("A key package is of another device.")
    if info.signature_key != device.mls_key or credential.mls_key != device.mls_key:
        raise BadIdentity("A key package is signed by another key than the device's.")
    if info.last_resort != last_resort:
        raise BadRequest("Only the last-resort package is marked as such.")
    if info.not_after <= now:
        raise BadRequest("A key package has expired.")
    return {
        "ref": info.ref,
        "device": device.address,
        "package": package,
        "last_resort": last_resort,
        "not_after": info.not_after,
        "uploaded": now,
    }


def _only_asked(answer: Claimed, accounts: list[str]) -> Claimed:
    """Drop what another node said about accounts that it was not asked for."""
    wanted = set(accounts)
    packages = [p for p in answer.packages if p.device.rpartition("/")[0] in wanted]
    failed = {name: why for name, why in answer.failed.items() if name in wanted}
    return Claimed(packages, failed)
