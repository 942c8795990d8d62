"""Mailboxes: where Welcomes for an account's devices are put, here or elsewhere."""

from hashlib import blake2b

from node.peers.outgoing import send
from node.storage.chain import append, find_entry, get_log
from node.storage.store import Transaction
from protocol.address import AccountAddress, parse_device
from protocol.codec import encode
from protocol.errors import UnknownAccount
from protocol.log import Kind, LogId, event_id, mailbox_id, make_submission
from protocol.wire import AddressedWelcome, Receipt, WelcomeMail

__all__ = ["deliver_welcome", "put"]


def deliver_welcome(
    transaction: Transaction,
    welcome: AddressedWelcome,
    *,
    node: str,
    sender: str,
    room: LogId,
    commit: Receipt,
    tree_hash: bytes,
    now: float,
) -> None:
    """Put a Welcome into its device's mailbox, or on its way to the other node.

    Args:
        transaction: the one that appends the commit.
        welcome: with the device it is for.
        node: this node's name, the hub of the room.
        sender: the device that committed.
        room: the room.
        commit: the receipt of the commit.
        tree_hash: names the tree after the commit.
        now: unix seconds.
    """
    assert commit.seq is not None and commit.hash is not None
    account = parse_device(welcome.device).account
    mail = WelcomeMail(
        room=room,
        hub=node,
        device=welcome.device,
        key_package_ref=welcome.key_package_ref,
        seq=commit.seq,
        hash=commit.hash,
        tree_hash=tree_hash,
        welcome=welcome.welcome,
    )
    # The same commit gives the same mail, whenever it is delivered again.
    txn = blake2b(
        commit.event_id + welcome.key_package_ref,
        digest_size=16,
        person=b"telex welcome 1",
    ).digest()
    submission = make_submission(
        mailbox_id(str(account)), sender, txn, Kind.WELCOME, encode(mail)
    )
    if account.node == node:
        put(transaction, account, submission, now)
    else:
        send(transaction, submission, origin=node, destination=account.node, now=now)


def put(
    transaction: Transaction, account: AccountAddress, submission: bytes, now: float
) -> Receipt:
    """Append to the mailbox of an account of this node; a repeat changes nothing.

    Raises:
        UnknownAccount: there is none.
    """
    name = mailbox_id(str(account))
    log = get_log(transaction.connection, name)
    if log is None:
        raise UnknownAccount()
    event = event_id(submission)
    known = find_entry(transaction.connection, name, event)
    if known is not None:
        return known
    return append(transaction, log, submission, event, int(now * 1000))
