"""The migration that calls need; `schema` has the order of all."""

__all__ = ["CALLS"]

CALLS = """
-- Calls, as their rooms' logs have them, until a week after they were over.
CREATE TABLE call (
    room TEXT NOT NULL,
    id TEXT NOT NULL,
    began INTEGER NOT NULL,           -- at the hub
    live INTEGER NOT NULL,            -- the log does not say that it is over
    data BLOB NOT NULL,               -- a calls.record.Fact
    PRIMARY KEY (room, id)
) WITHOUT ROWID;
CREATE INDEX call_live ON call (began) WHERE live;

-- Calls that were missed count as unread.
CREATE INDEX message_missed ON message (room, seq) WHERE code = 'call_missed';
"""
