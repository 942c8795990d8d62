"""The second migration: who is who, several devices, history, removal, repair."""

__all__ = ["TRUST"]

TRUST = """
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
