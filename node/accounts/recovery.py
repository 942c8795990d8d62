"""Recovery: an account taken back by its root key, without the password.

The root key is made from the 24 words and stands on no device, so neither a stolen
device nor a password is enough; the node checks a signature by the root over a fresh
proof, and what is appended begins with a new account signing key, which the root must
have signed as well.

What this does not protect: who has the 24 words is the person.
"""

import asyncio

from sqlalchemy import select

from node.accounts.account import Accounts
from node.accounts.ledger import Standing, log_answer, read_standing, verified
from node.accounts.password import Hasher
from node.clock import Clock
from node.limit import Buckets
from node.storage.store import Store
from node.storage.tables import AccountRow, core
from protocol.account_log import AccountState
from protocol.address import parse_account, parse_device
from protocol.codec import decode
from protocol.errors import (
    AccountDisabled,
    BadIdentity,
    BadRecovery,
    BadRequest,
    IdentityError,
    Malformed,
    SignatureExpired,
    UnknownKey,
)
from protocol.key import KeyPair, Signed, verify
from protocol.limits import CLOCK_FUTURE, CLOCK_PAST
from protocol.replay import NonceCache
from protocol.wire import AccountLog, Recover, RecoverProof

__all__ = ["Recovery"]

PROOFS_MAX = 20_000
"""Proofs remembered: who makes one is who has the root key of an account here."""

RATE, BURST = 1 / 30, 10.0
"""Proofs that do not hold, a second and at once, from one address: each costs us a
signature to check. Nobody guesses one, so an account needs no guard, and has none:
with it a stranger could keep its owner out."""

_account = core(AccountRow)


class Recovery:
    """Checks proofs and takes accounts over; who fails too often has to wait."""

    def __init__(
        self,
        store: Store,
        accounts: Accounts,
        node: str,
        clock: Clock,
        hasher: Hasher,
    ) -> None:
        """Make the one of a node."""
        self._store = store
        self._accounts = accounts
        self._node = node
        self._clock = clock
        self._hasher = hasher
        self._failures = Buckets(
            RATE, BURST, "Too many recoveries failed from your address."
        )
        self._proofs = NonceCache(PROOFS_MAX)
        # Stands in for the root of an account that does not exist: what is asked
        # about it takes as long, and is refused in the same words.
        self._nobody = KeyPair.from_seed(bytes(32)).public

    async def prove(self, name: str, signed: Signed, remote: str) -> Standing:
        """Check a proof by the root key, and show the account to who made it.

        Args:
            name: the account's, without the node.
            signed: over a `RecoverProof`.
            remote: the address that asks, for limits.

        Raises:
            BadRecovery: there is no such account, or another root signed.
            BadRequest, SignatureExpired, Replayed: the proof is none, or old.
            AccountDisabled, TooMany.
        """
        account = parse_account(f"{name}@{self._node}")
        now = self._clock()
        try:
            proof = decode(signed.payload, RecoverProof)
        except Malformed as error:
            raise BadRequest(str(error)) from error
        if len(proof.nonce) != 16:
            raise BadRequest("A proof's nonce has 16 bytes.")
        if not now - CLOCK_PAST <= proof.time <= now + CLOCK_FUTURE:
            raise SignatureExpired(
                "The proof's time is outside the window.", server_time=int(now)
            )
        root: bytes | None = await self._store.read(
            lambda c: c.scalar(select(_account.c.root).where(_account.c.name == name))
        )
        try:
            verify("recover", root or self._nobody, signed.payload, signed.signature)
        except IdentityError as error:
            self._failures.take(remote, now)
            raise BadRecovery() from error
        if root is None or proof.account != str(account):
            self._failures.take(remote, now)
            raise BadRecovery()
        self._proofs.check(name, proof.nonce.hex(), int(now))
        standing = await self._store.read(lambda c: read_standing(c, account))
        if standing is None:
            raise BadRecovery()
        if standing.disabled:
            raise AccountDisabled()
        return standing

    def show(self, standing: Standing) -> AccountLog:
        """The account log, for who has proved to be its root."""
        return log_answer(standing.state.account, standing.entries)

    async def read_takeover(
        self, standing: Standing, request: Recover, keyid: str
    ) -> tuple[AccountState, bytes]:
        """Check the entries that take an account over.

        Args:
            standing: what `prove` gave.
            request: with entries and a new login secret.
            keyid: the device that signs the request.

        Returns:
            The state after them, and the key that must have signed the request: that
            of the device they add. Then call `take_over`.

        Raises:
            BadIdentity, BadRequest, UnknownKey: what is wrong with them.
        """
        if len(request.login_secret) != 32:
            raise BadRequest("A login secret has 32 bytes.")
        state = await self._accounts.continued(standing, request.entries)
        before = await asyncio.to_thread(_before, standing, state, len(request.entries))
        # A new ASK is signed by the root: without one, the entries could be the work
        # of a stolen device that saw a proof go by.
        if state.ask_serial <= before.ask_serial:
            raise BadIdentity("A recovery begins with a new account signing key.")
        device = parse_device(keyid)
        added = state.devices.get(device.device)
        if (
            added is None
            or device.device in before.devices
            or device.account != state.account
        ):
            raise UnknownKey("Sign with the device that the recovery adds.")
        return state, added.certificate.auth_key

    async def take_over(self, state: AccountState, request: Recover) -> AccountLog:
        """Append the entries and set the new login secret, both or neither.

        Raises:
            LogForked: somebody else appended meanwhile; prove and try again.
            NodeBusy: too many log-ins wait.
        """
        hashed = await self._hasher.make(request.login_secret)
        return await self._accounts.append(state, request.entries, login_hash=hashed)


def _before(standing: Standing, state: AccountState, count: int) -> AccountState:
    """The log before the entries, also if the same ones were appended already."""
    if standing.state.seq < state.seq:
        return standing.state
    return verified(state.account, standing.entries[:-count])
