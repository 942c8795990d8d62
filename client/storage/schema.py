"""The database's tables, as numbered migrations.

`PRAGMA user_version` counts the migrations that were applied. A migration, once
released, is never changed; the next one goes behind it. Times are milliseconds
since 1970 unless a comment says otherwise.
"""

from client.storage.schema_calls import CALLS
from client.storage.schema_trust import TRUST

__all__ = ["MIGRATIONS"]

_FIRST = """
-- Who we are: account, device, key seeds, credential, the node's address.
CREATE TABLE meta (
    key TEXT PRIMARY KEY,
    value BLOB NOT NULL
) WITHOUT ROWID;

-- People whose root key we know, ourselves among them.
CREATE TABLE contact (
    account TEXT PRIMARY KEY,
    root BLOB NOT NULL,
    seq INTEGER NOT NULL DEFAULT 0,   -- account log: how far we read it
    head BLOB NOT NULL,
    entries BLOB NOT NULL,            -- MessagePack list of its entries
    other_root BLOB                   -- a root key that was shown instead
) WITHOUT ROWID;

-- Logs that we read, and how far. `broken`: why we stopped reading, for good.
CREATE TABLE log (
    id TEXT PRIMARY KEY,
    seq INTEGER NOT NULL,
    hash BLOB NOT NULL,
    term INTEGER NOT NULL DEFAULT 1,
    broken TEXT NOT NULL DEFAULT ''
) WITHOUT ROWID;

-- The chain's hash at each seq that we read (`seen` 1), or that somebody told us
-- ahead of our reading (`seen` 0).
CREATE TABLE link (
    log TEXT NOT NULL,
    seq INTEGER NOT NULL,
    hash BLOB NOT NULL,
    seen INTEGER NOT NULL,
    PRIMARY KEY (log, seq)
) WITHOUT ROWID;

-- Entries of kinds that this version does not know, for one that does.
CREATE TABLE unknown_entry (
    log TEXT NOT NULL,
    seq INTEGER NOT NULL,
    entry BLOB NOT NULL,
    PRIMARY KEY (log, seq)
) WITHOUT ROWID;

-- Entries that came while the room's keys were missing: read once they are there.
CREATE TABLE held_entry (
    log TEXT NOT NULL,
    seq INTEGER NOT NULL,
    entry BLOB NOT NULL,
    PRIMARY KEY (log, seq)
) WITHOUT ROWID;

CREATE TABLE room (
    id TEXT PRIMARY KEY,
    hub TEXT NOT NULL,
    direct INTEGER NOT NULL,
    title TEXT NOT NULL,
    status TEXT NOT NULL,             -- a timeline.Status
    note TEXT NOT NULL DEFAULT '',
    members INTEGER NOT NULL DEFAULT 0,
    activity INTEGER NOT NULL DEFAULT 0,
    joined INTEGER NOT NULL DEFAULT 0,        -- seq of the entry that let us in
    read INTEGER NOT NULL DEFAULT 0,          -- our read marker: a seq
    delivered INTEGER NOT NULL DEFAULT 0,     -- newest text of others: a seq
    read_told INTEGER NOT NULL DEFAULT 0,     -- what our receipts said so far
    delivered_told INTEGER NOT NULL DEFAULT 0,
    asked INTEGER NOT NULL DEFAULT 0          -- when we last asked to be re-added
) WITHOUT ROWID;
CREATE INDEX room_title ON room (title, id) WHERE direct;

-- MLS state. Two tables because an epoch is large and changes seldom, ratchets are
-- small and change with each message.
CREATE TABLE mls_epoch (room TEXT PRIMARY KEY, data BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE mls_ratchet (room TEXT PRIMARY KEY, data BLOB NOT NULL) WITHOUT ROWID;

-- Our key packages with their private keys.
CREATE TABLE key_package (
    ref BLOB PRIMARY KEY,
    bundle BLOB NOT NULL,
    last_resort INTEGER NOT NULL,
    created INTEGER NOT NULL,
    generation INTEGER NOT NULL DEFAULT 0     -- last resort: 1 newest, 2 before it
) WITHOUT ROWID;

-- Welcomes that wait for their tree, or for the room's log to reach `seq`.
CREATE TABLE welcome (
    room TEXT NOT NULL,
    seq INTEGER NOT NULL,
    mail BLOB NOT NULL,               -- wire.WelcomeMail
    sender TEXT NOT NULL,
    tree BLOB,
    PRIMARY KEY (room, seq)
) WITHOUT ROWID;

CREATE TABLE message (
    id TEXT PRIMARY KEY,
    room TEXT NOT NULL,
    position INTEGER NOT NULL,
    seq INTEGER,
    kind TEXT NOT NULL,
    sender TEXT NOT NULL,
    device TEXT NOT NULL,
    time INTEGER NOT NULL,
    text TEXT NOT NULL,
    reply_to TEXT,
    state INTEGER NOT NULL,
    own INTEGER NOT NULL,
    code TEXT NOT NULL DEFAULT '',
    error TEXT NOT NULL DEFAULT ''
) WITHOUT ROWID;
CREATE UNIQUE INDEX message_position ON message (room, position);
CREATE INDEX message_unread ON message (room, seq) WHERE own = 0 AND kind = 'text';

-- What others told us they have: a seq, by account.
CREATE TABLE receipt (
    room TEXT NOT NULL,
    account TEXT NOT NULL,
    delivered INTEGER NOT NULL,
    read INTEGER NOT NULL,
    PRIMARY KEY (room, account)
) WITHOUT ROWID;

-- What we write, in order, until it is in the room's log.
CREATE TABLE outbox (
    n INTEGER PRIMARY KEY AUTOINCREMENT,
    room TEXT NOT NULL,
    txn BLOB NOT NULL UNIQUE,
    kind TEXT NOT NULL,               -- of the submission: a log.Kind
    content BLOB NOT NULL,            -- message: what will be encrypted
    message TEXT,                     -- the timeline row that it is
    submission BLOB,                  -- once it was encrypted: the bytes to send
    event_id BLOB,
    state TEXT NOT NULL,              -- a letters.Stage
    tries INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX outbox_room ON outbox (room, n);
CREATE INDEX outbox_event ON outbox (event_id);

-- What we want to change about a room's members, whatever its epoch is by then.
CREATE TABLE intent (
    n INTEGER PRIMARY KEY AUTOINCREMENT,
    room TEXT NOT NULL,
    kind TEXT NOT NULL,               -- a changes.Want
    subject TEXT NOT NULL,            -- an account, or of readd a device
    package BLOB,                     -- readd: the key package it asked with
    due INTEGER NOT NULL,             -- not before: ranked members wait
    tries INTEGER NOT NULL DEFAULT 0,
    UNIQUE (room, kind, subject)
);

-- Commits that were sent and not seen in the log yet, with the state after them.
CREATE TABLE staged (
    room TEXT PRIMARY KEY,
    hash BLOB NOT NULL,               -- SHA-256 of the commit
    submission BLOB NOT NULL,
    bundle BLOB NOT NULL,
    state BLOB NOT NULL
) WITHOUT ROWID;
"""

MIGRATIONS: tuple[str, ...] = (_FIRST, TRUST, CALLS)
"""`MIGRATIONS[n]` leads from version n to n + 1."""
