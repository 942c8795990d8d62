"""The database's tables, as numbered migrations.

`PRAGMA user_version` counts the migrations that were applied. A migration, once
released, is never changed; the next one goes behind it. Times are milliseconds
since 1970 unless a comment says otherwise.
"""

from client.storage.schema_calls import CALLS

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

_TRUST = """
-- What a room is for: '' to talk; 'self' binds the account's own devices.
ALTER TABLE room ADD COLUMN purpose TEXT NOT NULL DEFAULT '';

-- Our keys may be older than what we sent with them: join again before writing.
ALTER TABLE room ADD COLUMN rewound INTEGER NOT NULL DEFAULT 0;
-- Seconds after which messages vanish; 0: they stay.
ALTER TABLE room ADD COLUMN disappearing INTEGER NOT NULL DEFAULT 0;

-- Where the node goes on behind entries that it leaves out.
ALTER TABLE log ADD COLUMN gap INTEGER NOT NULL DEFAULT 0;

-- External commits of ours that were sent and not seen in the log yet.
CREATE TABLE staged_join (
    room TEXT PRIMARY KEY,
    hash BLOB NOT NULL,               -- SHA-256 of the commit
    epoch INTEGER NOT NULL,           -- the one that it ends
    submission BLOB NOT NULL,
    bundle BLOB NOT NULL,
    state BLOB NOT NULL,
    mls_epoch BLOB NOT NULL,          -- the group after it
    mls_ratchet BLOB NOT NULL
) WITHOUT ROWID;

-- The newest epoch known of a room; once its keys are gone also the e2ee.PublicGroup
-- that follows its log, and where that led: SHA-256 of the context after a commit.
CREATE TABLE trail (room TEXT PRIMARY KEY, epoch INTEGER NOT NULL, data BLOB);
CREATE TABLE trail_point (room TEXT, seq INTEGER, context BLOB, UNIQUE (room, seq));

-- Who came and went, as the group's commits say it (not the hub).
CREATE TABLE presence (
    room TEXT NOT NULL,
    account TEXT NOT NULL,
    seq INTEGER NOT NULL,
    inside INTEGER NOT NULL,
    PRIMARY KEY (room, account, seq)
) WITHOUT ROWID;

-- Entries that could not be read, until they are.
CREATE TABLE ailment (
    id TEXT PRIMARY KEY,              -- of the line that stands for it
    room TEXT NOT NULL,
    seq INTEGER NOT NULL,
    time INTEGER NOT NULL,            -- at the hub
    kind TEXT NOT NULL,               -- of the submission: a log.Kind
    device TEXT NOT NULL,             -- its sender
    txn BLOB NOT NULL,
    code TEXT NOT NULL,
    state TEXT NOT NULL,              -- a doctor.ailment.Stage
    tries INTEGER NOT NULL DEFAULT 0,
    due INTEGER NOT NULL DEFAULT 0,   -- when it is asked for (again)
    content BLOB NOT NULL DEFAULT x'' -- decrypted, and for a newer version to read
) WITHOUT ROWID;
CREATE INDEX ailment_room ON ailment (room, state, seq);

-- What was said and is no line of a timeline, for who could not read it.
CREATE TABLE silent (
    room TEXT NOT NULL,
    id TEXT NOT NULL,
    seq INTEGER NOT NULL,
    device TEXT NOT NULL,
    kind TEXT NOT NULL,               -- empty if it means nothing later: a receipt
    body BLOB NOT NULL,               -- of what this device wrote
    PRIMARY KEY (room, id)
) WITHOUT ROWID;
CREATE INDEX silent_seq ON silent (room, seq);

-- The private keys of our requests: what is not for all is sealed for them.
CREATE TABLE resend_key (
    public BLOB PRIMARY KEY,
    private BLOB NOT NULL,
    time INTEGER NOT NULL
) WITHOUT ROWID;

-- What others asked for, until somebody has sent it again.
CREATE TABLE answer (
    room TEXT NOT NULL,
    id TEXT NOT NULL,
    key BLOB NOT NULL,                -- it is sealed for; empty: for all
    due INTEGER NOT NULL,             -- 0: it was sent
    sent INTEGER NOT NULL DEFAULT 0,  -- how often
    time INTEGER NOT NULL,
    PRIMARY KEY (room, id, key)
) WITHOUT ROWID;
CREATE INDEX answer_due ON answer (room, due);

-- When messages vanish; `due` 0: not begun.
CREATE TABLE expiry (
    message TEXT PRIMARY KEY,
    room TEXT NOT NULL,
    seconds INTEGER NOT NULL,
    due INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX expiry_due ON expiry (due);
CREATE INDEX expiry_room ON expiry (room, due);

-- Messages that were deleted here: nothing brings them back.
CREATE TABLE removal (
    message TEXT PRIMARY KEY,
    room TEXT NOT NULL,
    time INTEGER NOT NULL
) WITHOUT ROWID;

-- When this device last renewed its leaf there, by a commit of its own or by joining.
ALTER TABLE room ADD COLUMN updated INTEGER NOT NULL DEFAULT 0;

-- The entries that last said its name, and when messages vanish: older ones, that are
-- sent again late, change nothing.
ALTER TABLE room ADD COLUMN named INTEGER NOT NULL DEFAULT 0;
ALTER TABLE room ADD COLUMN timed INTEGER NOT NULL DEFAULT 0;

-- What our own devices agree on, the last writer wins. `dirty`: not told them yet.
CREATE TABLE own_register (
    register TEXT NOT NULL,
    key TEXT NOT NULL,
    value BLOB NOT NULL,              -- empty: deleted
    time INTEGER NOT NULL,
    dirty INTEGER NOT NULL,
    PRIMARY KEY (register, key)
) WITHOUT ROWID;
CREATE INDEX own_register_dirty ON own_register (time) WHERE dirty;

-- Devices that are being linked by this one, until all is done.
CREATE TABLE link_job (
    device TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    stage TEXT NOT NULL,              -- an account.linker.Step
    slot TEXT NOT NULL,               -- where the answer goes
    answer BLOB NOT NULL,             -- sealed, the same bytes at each try
    rooms INTEGER NOT NULL DEFAULT 0, -- in how many it is added
    vault TEXT NOT NULL,              -- where its history goes, empty for none
    note TEXT NOT NULL DEFAULT ''     -- why none goes
) WITHOUT ROWID;

-- People's keys: which root was compared with the person (`root`, or an old one),
-- whether the other one was refused, whether a person chose this root, and whether
-- our other devices know all that.
ALTER TABLE contact ADD COLUMN verified_root BLOB;
ALTER TABLE contact ADD COLUMN kept INTEGER NOT NULL DEFAULT 0;
ALTER TABLE contact ADD COLUMN chosen INTEGER NOT NULL DEFAULT 0;
ALTER TABLE contact ADD COLUMN told INTEGER NOT NULL DEFAULT 0;

-- Root keys that a person had before, until a newer one was accepted.
CREATE TABLE former_root (
    account TEXT NOT NULL,
    root BLOB NOT NULL,
    PRIMARY KEY (account, root)
) WITHOUT ROWID;

-- Who stands in rooms, as MLS has it; `hold`: why nothing is sent there for now.
CREATE TABLE member (
    room TEXT NOT NULL,
    device TEXT NOT NULL,
    account TEXT NOT NULL,
    PRIMARY KEY (room, device)
) WITHOUT ROWID;
CREATE INDEX member_account ON member (account, room);
ALTER TABLE room ADD COLUMN hold TEXT NOT NULL DEFAULT '';
ALTER TABLE room ADD COLUMN refuse_unverified INTEGER NOT NULL DEFAULT 0;

-- Devices that stand in a room and not in their account's log, or no longer.
CREATE TABLE suspect (
    device TEXT PRIMARY KEY,
    why TEXT NOT NULL,                -- a verification.audit.Suspicion
    since INTEGER NOT NULL
) WITHOUT ROWID;

-- What is to be held against the node again, and when.
CREATE TABLE audit (
    kind TEXT NOT NULL,               -- a verification.audit.Kind
    subject TEXT NOT NULL,            -- an account or a room
    due INTEGER NOT NULL,
    tries INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (kind, subject)
) WITHOUT ROWID;

-- Alarms, once for each fact, also when they were dismissed.
CREATE TABLE alarm (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    code TEXT NOT NULL,
    fact TEXT NOT NULL,
    time INTEGER NOT NULL,
    room TEXT,
    text TEXT NOT NULL,
    evidence TEXT NOT NULL,
    dismissed INTEGER NOT NULL DEFAULT 0,
    UNIQUE (code, fact)
);

-- Comparisons of short strings (SAS), ours and those of our other devices.
CREATE TABLE sas (
    id TEXT PRIMARY KEY,              -- for the application
    session BLOB NOT NULL,            -- on the wire: of who was first in the log
    room TEXT NOT NULL,
    account TEXT NOT NULL,
    role TEXT NOT NULL,               -- a verification.session.Role
    stage TEXT NOT NULL,              -- a model.SasStage
    device TEXT NOT NULL DEFAULT '',  -- the other one, once it is known
    private BLOB,                     -- X25519, until the strings are made
    commitment BLOB,
    key BLOB,                         -- the other side's
    seq INTEGER,                      -- of the request, once it was read ...
    log_hash BLOB,
    authenticator BLOB,               -- ... with the group as it was there
    root BLOB NOT NULL,               -- of the account, when it began
    emoji TEXT NOT NULL DEFAULT '',
    digits TEXT NOT NULL DEFAULT '',
    accepted INTEGER NOT NULL DEFAULT 0,      -- our acceptance was the first
    agreed INTEGER NOT NULL DEFAULT 0,        -- by the other side
    began INTEGER NOT NULL,
    ended INTEGER NOT NULL DEFAULT 0,
    code TEXT NOT NULL DEFAULT '',
    detail TEXT NOT NULL DEFAULT ''
) WITHOUT ROWID;
CREATE INDEX sas_room ON sas (room, ended);

-- Archives that this device writes (backup, transfer) or reads (restore), and how far.
CREATE TABLE archive (
    id TEXT PRIMARY KEY,              -- 32 hex digits: the vault that it lies in
    kind TEXT NOT NULL,               -- an archive.job.Kind
    key BLOB NOT NULL,
    count INTEGER NOT NULL DEFAULT 0, -- segments, and the hash of the last one
    hash BLOB NOT NULL,
    place BLOB NOT NULL,              -- what the next one begins with
    whole INTEGER NOT NULL DEFAULT 0, -- when it was complete last
    messages INTEGER NOT NULL DEFAULT 0,
    size INTEGER NOT NULL DEFAULT 0,  -- bytes
    stale INTEGER NOT NULL DEFAULT 0, -- since when it holds what was deleted here
    segment BLOB                      -- the last one, until it is stored elsewhere
);

-- What changed since it went into the backup: a message (m), room (r), contact (c)
-- or register (o), and what is gone (g).
CREATE TABLE archive_change (
    n INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL,
    id TEXT NOT NULL
);
CREATE UNIQUE INDEX archive_change_id ON archive_change (kind, id);

-- From an archive, not from the room's log: a later archive may replace it.
ALTER TABLE message ADD COLUMN archived INTEGER NOT NULL DEFAULT 0;

CREATE TRIGGER message_removed AFTER DELETE ON message
WHEN OLD.kind = 'text' AND OLD.seq IS NOT NULL
    AND NOT EXISTS (SELECT 1 FROM removal WHERE message = OLD.id)
BEGIN
    INSERT INTO removal VALUES (OLD.id, OLD.room, 1000 * strftime('%s', 'now'));
END;

CREATE TRIGGER archive_removal AFTER INSERT ON removal
WHEN EXISTS (SELECT 1 FROM archive WHERE kind = 'backup')
BEGIN
    DELETE FROM archive_change WHERE kind IN ('m', 'g') AND id = NEW.message;
    INSERT INTO archive_change (kind, id) VALUES ('g', NEW.message);
    UPDATE archive SET stale = 1000 * strftime('%s', 'now')
        WHERE kind = 'backup' AND stale = 0;
END;

CREATE TRIGGER archive_message_in AFTER INSERT ON message
WHEN NEW.seq IS NOT NULL AND EXISTS (SELECT 1 FROM archive WHERE kind = 'backup')
BEGIN
    DELETE FROM archive_change WHERE kind = 'm' AND id = NEW.id;
    INSERT INTO archive_change (kind, id) VALUES ('m', NEW.id);
END;

CREATE TRIGGER archive_message_up AFTER UPDATE OF text, kind, seq ON message
WHEN NEW.seq IS NOT NULL AND EXISTS (SELECT 1 FROM archive WHERE kind = 'backup')
BEGIN
    DELETE FROM archive_change WHERE kind = 'm' AND id = NEW.id;
    INSERT INTO archive_change (kind, id) VALUES ('m', NEW.id);
END;

-- A text that something else takes the place of is to leave the backup.
CREATE TRIGGER archive_text_up AFTER UPDATE OF text, kind ON message
WHEN OLD.kind = 'text' AND OLD.seq IS NOT NULL AND OLD.text != NEW.text
BEGIN
    UPDATE archive SET stale = 1000 * strftime('%s', 'now')
        WHERE kind = 'backup' AND stale = 0;
END;

CREATE TRIGGER archive_text_over BEFORE INSERT ON message
WHEN EXISTS (SELECT 1 FROM message m WHERE m.id = NEW.id AND m.kind = 'text'
    AND m.seq IS NOT NULL AND m.text != NEW.text)
BEGIN
    UPDATE archive SET stale = 1000 * strftime('%s', 'now')
        WHERE kind = 'backup' AND stale = 0;
END;

CREATE TRIGGER archive_room_in AFTER INSERT ON room
WHEN NEW.purpose = '' AND EXISTS (SELECT 1 FROM archive WHERE kind = 'backup')
BEGIN
    DELETE FROM archive_change WHERE kind = 'r' AND id = NEW.id;
    INSERT INTO archive_change (kind, id) VALUES ('r', NEW.id);
END;

CREATE TRIGGER archive_room_up
AFTER UPDATE OF title, direct, status, read, disappearing ON room
WHEN NEW.purpose = '' AND EXISTS (SELECT 1 FROM archive WHERE kind = 'backup')
BEGIN
    DELETE FROM archive_change WHERE kind = 'r' AND id = NEW.id;
    INSERT INTO archive_change (kind, id) VALUES ('r', NEW.id);
END;

CREATE TRIGGER archive_contact_in AFTER INSERT ON contact
WHEN EXISTS (SELECT 1 FROM archive WHERE kind = 'backup')
BEGIN
    DELETE FROM archive_change WHERE kind = 'c' AND id = NEW.account;
    INSERT INTO archive_change (kind, id) VALUES ('c', NEW.account);
END;

CREATE TRIGGER archive_contact_up
AFTER UPDATE OF root, seq, other_root, verified_root ON contact
WHEN EXISTS (SELECT 1 FROM archive WHERE kind = 'backup')
BEGIN
    DELETE FROM archive_change WHERE kind = 'c' AND id = NEW.account;
    INSERT INTO archive_change (kind, id) VALUES ('c', NEW.account);
END;

CREATE TRIGGER archive_register AFTER INSERT ON own_register
WHEN EXISTS (SELECT 1 FROM archive WHERE kind = 'backup')
BEGIN
    DELETE FROM archive_change
        WHERE kind = 'o' AND id = NEW.register || ' ' || NEW.key;
    INSERT INTO archive_change (kind, id)
        VALUES ('o', NEW.register || ' ' || NEW.key);
END;
"""

MIGRATIONS: tuple[str, ...] = (_FIRST, _TRUST, CALLS)
"""`MIGRATIONS[n]` leads from version n to n + 1."""
