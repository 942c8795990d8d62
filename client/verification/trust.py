"""People's root keys: pinned, compared with the person, changed, accepted or refused.

A root key *is* a person. The first one we see is pinned (and shown as unverified);
every other one later is an alarm, and nothing is sent to that person's rooms until
somebody chose: accept the new key, which is then as unverified as any that is new, or
keep the old one. Verified is a root, not a device: who adds a device stays verified.
"""

from typing import NamedTuple

import msgspec

from client.account.me import get_meta
from client.model import Trust
from client.quiet import Quiet
from client.storage.alarms import forget, raise_alarm, settle
from client.storage.store import Tx
from protocol.codec import decode, encode
from protocol.errors import Malformed
from protocol.log import GENESIS, LogId
from protocol.whole import Whole

__all__ = [
    "REGISTER",
    "Known",
    "accept",
    "check_root",
    "keep",
    "known",
    "own_account",
    "receive",
    "set_verified",
    "trust_of",
    "untold",
]

REGISTER = "contact"
"""The register of the self group in which our devices share this."""

KEY_CHANGED = "key_changed"


class Known(NamedTuple):
    """What is known of somebody's root key."""

    root: bytes
    other: bytes | None
    """A root key that was shown instead of it."""
    verified: bool
    kept: bool
    """Whether `other` was refused by a person."""

    @property
    def trust(self) -> Trust:
        """In one word."""
        if self.other is not None:
            return Trust.CHANGED
        return Trust.VERIFIED if self.verified else Trust.UNVERIFIED


class _Shared(Quiet, msgspec.Struct, array_like=True, frozen=True):
    """What our devices tell each other about a person."""

    version: Whole
    root: bytes
    verified: bool
    chosen: bool
    """Whether a person decided on this root, or it was only the first one seen."""
    refused: bytes
    """A root that a person did not accept; empty if there is none."""


def known(tx: Tx, account: str) -> Known | None:
    """What is known of somebody; None: nothing yet."""
    row = tx.one(
        "SELECT root, other_root, verified_root, kept FROM contact WHERE account = ?",
        account,
    )
    if row is None:
        return None
    root, other, verified, kept = row
    return Known(
        bytes(root),
        None if other is None else bytes(other),
        verified is not None and bytes(verified) == bytes(root),
        bool(kept),
    )


def trust_of(tx: Tx, account: str) -> Trust:
    """How far somebody's keys are known."""
    found = known(tx, account)
    return Trust.UNVERIFIED if found is None else found.trust


def check_root(tx: Tx, account: str, root: bytes, room: LogId | None) -> bool:
    """Compare a root key with the pinned one; pins it if there is none.

    Returns:
        Whether it is the one known so far. If it is not, an alarm was raised, unless
        it is one that the person had before.
    """
    found = known(tx, account)
    if found is None:
        tx.execute(
            "INSERT INTO contact (account, root, head, entries) VALUES (?, ?, ?, ?)",
            account,
            root,
            GENESIS,
            encode([]),
        )
        return True
    if found.root == root:
        return True
    former = "SELECT 1 FROM former_root WHERE account = ? AND root = ?"
    if tx.one(former, account, root) is not None:
        return False
    if account == own_account(tx):
        _impersonated(tx, account, found.root, root, room)
        return False
    if found.other != root:
        tx.execute(
            "UPDATE contact SET other_root = ?, kept = 0 WHERE account = ?",
            root,
            account,
        )
        touch(tx, account)
    raise_alarm(
        tx,
        KEY_CHANGED,
        _fact(account, root),
        room,
        f"The keys of {account} are not the ones known so far"
        f"{', though you had verified them' if found.verified else ''}. It may be a "
        "new start of theirs after a loss, or somebody between you: ask them another "
        "way, by voice or in person. Nothing is sent to them until you accept the new "
        "key or keep the old one.",
        evidence=f"account: {account}\nknown root: {found.root.hex()}\n"
        f"shown root: {root.hex()}",
    )
    return False


def _impersonated(
    tx: Tx, account: str, root: bytes, shown: bytes, room: LogId | None
) -> None:
    """Our own root key cannot change: somebody else says that they are us."""
    raise_alarm(
        tx,
        KEY_CHANGED,
        _fact(account, shown),
        room,
        f"Somebody says to be you, {account}, with another root key. Either your "
        "account was made anew at its node, or the node lies. Your own key stays as it "
        "is; tell the people you talk to, and the node's admin.",
        evidence=f"account: {account}\nyour root: {root.hex()}\n"
        f"shown root: {shown.hex()}",
    )


def own_account(tx: Tx) -> str:
    """This profile's account; empty while it is being made."""
    return (get_meta(tx, "device") or b"").decode().partition("/")[0]


def set_verified(tx: Tx, account: str, verified: bool) -> None:
    """A person compared the pinned root key with its owner, or takes that back."""
    tx.execute(
        "UPDATE contact SET verified_root = CASE WHEN ? THEN root END, told = 0,"
        " chosen = max(chosen, ?) WHERE account = ?",
        verified,
        verified,
        account,
    )
    touch(tx, account)


def accept(tx: Tx, account: str) -> None:
    """Pin the root key that was shown; it is unverified, as any new one."""
    found = known(tx, account)
    if found is not None and found.other is not None:
        _replace(tx, account, found, found.other)
        tx.execute(
            "UPDATE contact SET verified_root = NULL, chosen = 1, told = 0"
            " WHERE account = ?",
            account,
        )
        touch(tx, account)


def keep(tx: Tx, account: str) -> None:
    """Refuse the root key that was shown; it stays shut out."""
    found = known(tx, account)
    if found is not None and found.other is not None:
        tx.execute(
            "UPDATE contact SET kept = 1, chosen = 1, told = 0 WHERE account = ?",
            account,
        )
        settle(tx, KEY_CHANGED, _fact(account, found.other))
        touch(tx, account)


def touch(tx: Tx, account: str) -> None:
    """Every room with somebody looks different now."""
    tx.rooms |= {
        LogId(row[0])
        for row in tx.all(
            "SELECT room FROM member WHERE account = ?"
            " UNION SELECT id FROM room WHERE direct AND title = ?",
            account,
            account,
        )
    }


# --- with our other devices ----------------------------------------------------


def untold(tx: Tx) -> list[tuple[str, bytes]]:
    """What our other devices do not know yet, by account; it counts as told now."""
    rows = tx.all("SELECT account, chosen, other_root FROM contact WHERE NOT told")
    found = []
    for account, chosen, other in rows:
        state = known(tx, account)
        assert state is not None
        refused = bytes(other) if state.kept and other is not None else b""
        shared = _Shared(1, state.root, state.verified, bool(chosen), refused)
        found.append((str(account), encode(shared)))
    tx.execute("UPDATE contact SET told = 1 WHERE NOT told")
    return found


def receive(tx: Tx, account: str, value: bytes) -> None:
    """Take over what another device of ours knows of somebody."""
    try:
        shared = decode(value, _Shared)
    except Malformed:
        return
    if shared.version != 1 or len(shared.root) != 32 or account == own_account(tx):
        return
    if len(shared.refused) not in (0, 32):
        return
    found = known(tx, account)
    if found is None:
        check_root(tx, account, shared.root, None)
    elif found.root != shared.root:
        if not shared.chosen:
            # It saw another one first than we did: one of us was lied to.
            check_root(tx, account, shared.root, None)
            return
        _replace(tx, account, found, shared.root)
    elif not shared.chosen:
        # It only saw the key; what a person said here counts more, there too.
        tx.execute("UPDATE contact SET told = NOT chosen WHERE account = ?", account)
        return
    tx.execute(
        "UPDATE contact SET verified_root = CASE WHEN ? THEN root END, told = 1,"
        " chosen = ? WHERE account = ?",
        shared.verified,
        shared.chosen,
        account,
    )
    if shared.refused and shared.refused != shared.root:
        tx.execute(
            "UPDATE contact SET other_root = ?, kept = 1 WHERE account = ?"
            " AND (other_root IS NULL OR other_root = ?)",
            shared.refused,
            account,
            shared.refused,
        )
        settle(tx, KEY_CHANGED, _fact(account, shared.refused))
    touch(tx, account)


def _replace(tx: Tx, account: str, found: Known, root: bytes) -> None:
    """Another root is this person's from now on; its account log begins anew."""
    tx.execute("INSERT OR IGNORE INTO former_root VALUES (?, ?)", account, found.root)
    tx.execute("DELETE FROM former_root WHERE account = ? AND root = ?", account, root)
    tx.execute(
        "UPDATE contact SET root = ?, seq = 0, head = ?, entries = ?, kept = 0,"
        " other_root = CASE WHEN other_root = ? THEN NULL ELSE other_root END"
        " WHERE account = ?",
        root,
        GENESIS,
        encode([]),
        root,
        account,
    )
    settle(tx, KEY_CHANGED, _fact(account, root))
    # Should the key of before come back as *the* key, that is news again.
    forget(tx, KEY_CHANGED, _fact(account, found.root))


def _fact(account: str, root: bytes) -> str:
    return f"{account} {root.hex()}"
