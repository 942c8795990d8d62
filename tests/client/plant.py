"""What a lying hub and its helpers do: groups made up, and what they overhear."""

from __future__ import annotations

import os
from dataclasses import replace

from client import Client
from client.content import read_content
from client.rooms.groups import group_id
from client.storage.store import Tx
from e2ee import (
    Extension,
    Group,
    key_package_info,
)
from e2ee.errors import E2eeError
from protocol.codec import encode
from protocol.log import (
    Kind,
    LogId,
    Submission,
    mailbox_id,
    make_submission,
    read_entry,
    read_submission,
)
from protocol.policy import TELEX_ROOM, RoomValidator, account_of
from protocol.wire import WelcomeMail
from tests.client.fake_node import NAME, FakeNode


class Lax(RoomValidator):
    """The validator of who keeps to no rules."""

    def authorize(self, context: object, sender: object, effects: object) -> None:
        """Allow it."""


async def alarms(client: Client) -> set[str]:
    """The codes of a client's alarms."""
    return {alarm.code for alarm in await client.alarms()}


async def accounts(client: Client, room: LogId) -> list[str]:
    """Who is in the group that a client holds."""

    def look(tx: Tx) -> list[str]:
        group = client._groups.get(tx, room)
        return (
            []
            if group is None
            else sorted({account_of(m.identity) for m in group.members()})
        )

    return await client._store.run(look)


def submissions(fake: FakeNode, room: LogId) -> list[Submission]:
    """What stands in a room's log."""
    return [
        read_submission(read_entry(entry).submission)
        for entry in fake.logs[room].entries
    ]


def overhear(group: Group, said: list[Submission], now: int) -> list[str]:
    """What somebody reads with a group's keys."""
    heard = []
    for submission in said:
        try:
            if submission.kind == Kind.MESSAGE:
                body = read_content(group.decrypt(submission.body).content).body
                heard.append(repr(body))
            elif submission.kind == Kind.COMMIT:
                group.process_commit(submission.body, now=now)
        except E2eeError:
            continue
    return heard


async def plant(
    fake: FakeNode, room: LogId, mallory: Client, victims: list[Client], epoch: int = 1
) -> Group:
    """Mallory makes a group with the room's id, and the hub sends it to all.

    Args:
        epoch: into which the Welcomes lead.
    """

    holder = victims[-1] if epoch == 1 else mallory

    def rules(tx: Tx) -> bytes:
        group = holder._groups.get(tx, room)
        assert group is not None
        return next(e.data for e in group.context.extensions if e.type == TELEX_ROOM)

    data = await holder._store.run(rules)
    now = mallory._clock.now()
    evil = Group.create(
        group_id=group_id(room),
        signature_private=mallory._me.mls.seed,
        identity=mallory._me.credential,
        extensions=[Extension(TELEX_ROOM, data)],
        now=now,
        validator=Lax(mallory._clock.now),
    )
    context = replace(evil.context, epoch=epoch - 1)
    evil._epoch = replace(
        evil._epoch, context=context, encoded_context=context.encode()
    )
    packages = [fake.packages[c.device].pop(0) for c in victims]
    staged = evil.commit(add=packages, now=now)
    txn = os.urandom(16)
    commit = make_submission(room, mallory.device, txn, Kind.COMMIT, staged.commit)
    receipt = fake.append(commit)
    assert receipt.seq is not None and receipt.hash is not None
    evil.apply_own(staged)
    tree_hash, log = evil.context.tree_hash, fake.logs[room]
    log.trees[tree_hash.hex()] = evil.ratchet_tree()
    log.epoch, log.group_info = evil.epoch, staged.group_info
    refs = {key_package_info(p).ref: c for p, c in zip(packages, victims, strict=True)}
    for n, (ref, welcome) in enumerate(staged.welcomes):
        client = refs[ref]
        mail = WelcomeMail(
            room,
            NAME,
            client.device,
            ref,
            receipt.seq,
            receipt.hash,
            tree_hash,
            welcome,
        )
        txn = receipt.hash[:15] + bytes([n])
        box = mailbox_id(client.account)
        fake.append(make_submission(box, NAME, txn, Kind.WELCOME, encode(mail)))
    await fake.flush()
    return evil
