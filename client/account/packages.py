"""This device's key packages: by which others add it to rooms while it is away.

100 single-use ones and a last resort lie at the node; when fewer than half are left
they are filled up. Private halves stay here until a Welcome used them (those of the
last resort until it is replaced), and no longer than the packages are valid.
"""

import logging

from client.account.me import Me
from client.clock import Clock
from client.network.transport import Transport
from client.storage.store import Store, Tx
from e2ee import KeyPackageBundle, new_key_package
from protocol.credential import read_credential
from protocol.limits import KEY_PACKAGES_WANTED
from protocol.wire import KeyPackageCount, KeyPackageUpload

__all__ = ["LIFETIME", "find_bundle", "new_bundle", "refill", "run_low", "spend"]

LIFETIME = 90 * 24 * 3600
"""Seconds that a key package is valid."""

REPLACE_AFTER = 30 * 24 * 3600 * 1000
"""Milliseconds after which the last resort is replaced."""

GRACE = 24 * 3600
"""Seconds by which a package begins in the past: clocks are wrong."""

logger = logging.getLogger(__name__)


def new_bundle(me: Me, clock: Clock, *, last_resort: bool = False) -> KeyPackageBundle:
    """A new key package with its private keys, for as long as our certificate."""
    now = clock.now()
    expires = read_credential(me.credential, None).expires
    return new_key_package(
        signature_private=me.mls.seed,
        identity=me.credential,
        not_before=now - GRACE,
        not_after=min(now + LIFETIME, max(expires, now + 1)),
        last_resort=last_resort,
    )


async def refill(store: Store, transport: Transport, me: Me, clock: Clock) -> None:
    """Fill up the packages that lie at the node, if they run low.

    Raises:
        Refused, ClientError: the node took none.
    """
    count = await transport.get("/key-packages", KeyPackageCount)
    wanted = (
        KEY_PACKAGES_WANTED - count.single_use
        if count.single_use < KEY_PACKAGES_WANTED // 2
        else 0
    )
    fresh = count.last_resort and not await store.run(
        lambda tx: _is_old(tx, clock.now_ms())
    )
    if wanted == 0 and fresh:
        return
    upload = await store.run(
        lambda tx: _make(tx, me, clock, wanted, last_resort=not fresh)
    )
    await transport.request("PUT", "/key-packages", KeyPackageCount, upload)
    await store.run(lambda tx: _uploaded(tx, clock.now(), last_resort=not fresh))
    logger.info("uploaded %d key packages", wanted)


def run_low(tx: Tx) -> bool:
    """Whether so many packages were used since the last time that `refill` is due."""
    row = tx.one("SELECT count(*) FROM key_package WHERE NOT last_resort")
    used = tx.one(
        "SELECT 1 FROM key_package WHERE last_resort AND generation = 1 AND created = 0"
    )
    return used is not None or row is None or row[0] < KEY_PACKAGES_WANTED // 2


def find_bundle(tx: Tx, ref: bytes) -> KeyPackageBundle | None:
    """The package that a Welcome names, if it is ours."""
    row = tx.one("SELECT bundle FROM key_package WHERE ref = ?", ref)
    return None if row is None else KeyPackageBundle.decode(bytes(row[0]))


def spend(tx: Tx, ref: bytes) -> None:
    """Delete the private half of a package that was used (not of a last resort)."""
    tx.execute("DELETE FROM key_package WHERE ref = ? AND last_resort = 0", ref)
    # A last resort that was used is replaced at the next chance.
    tx.execute("UPDATE key_package SET created = 0 WHERE ref = ?", ref)


def _make(
    tx: Tx, me: Me, clock: Clock, wanted: int, *, last_resort: bool
) -> KeyPackageUpload:
    # Kept before they are sent, and never sent again: if the answer is lost nobody
    # can know whether one of them was given to somebody already.
    upload = KeyPackageUpload(
        [_keep(tx, new_bundle(me, clock), clock) for _ in range(wanted)]
    )
    if last_resort:
        upload.last_resort = _keep(tx, new_bundle(me, clock, last_resort=True), clock)
    return upload


def _keep(tx: Tx, bundle: KeyPackageBundle, clock: Clock) -> bytes:
    tx.execute(
        "INSERT INTO key_package (ref, bundle, last_resort, created)"
        " VALUES (?, ?, ?, ?)",
        bundle.ref,
        bundle.encode(),
        bundle.last_resort,
        clock.now_ms(),
    )
    return bundle.key_package


def _uploaded(tx: Tx, now: int, *, last_resort: bool) -> None:
    if last_resort:
        # Welcomes to the one before may be on their way: keep one generation.
        tx.execute("DELETE FROM key_package WHERE last_resort AND generation >= 2")
        tx.execute(
            "UPDATE key_package SET generation = generation + 1 WHERE last_resort"
        )
    expired = (now - LIFETIME - GRACE) * 1000
    tx.execute("DELETE FROM key_package WHERE NOT last_resort AND created < ?", expired)


def _is_old(tx: Tx, now: int) -> bool:
    row = tx.one(
        "SELECT max(created) FROM key_package WHERE last_resort AND generation = 1"
    )
    return row is None or row[0] is None or abs(now - int(row[0])) > REPLACE_AFTER
