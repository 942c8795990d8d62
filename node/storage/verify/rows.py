"""The rows that hang on logs and accounts: do they fit each other?

Tables are read in ranges of rowids, so that no read holds up a checkpoint, however
large a table is.
"""

import sqlite3
from collections.abc import Iterator

from node.storage.verify.source import RESTORE, Database, Findings, Progress
from protocol.account_log import AccountState, read_account_log
from protocol.address import parse_account
from protocol.errors import AddressError, IdentityError
from protocol.log import mailbox_id

__all__ = ["check_accounts", "check_rows"]

RANGE = 20_000
"""Rows of one transaction that only compares: some ten milliseconds."""

ACCOUNTS = 20
"""Accounts of one transaction; their signatures are checked outside of it."""

_ROWS: tuple[tuple[str, str, str, str], ...] = (
    (
        "cursor",
        "cursor_wrong",
        "SELECT c.log, printf('The cursor of %s in log %s stands at %d, and the log "
        "ends at %s', c.reader, c.log, c.seq, ifnull(l.head, 'nothing: it is gone'))"
        " FROM cursor c LEFT JOIN log l ON l.id = c.log WHERE {range} AND (l.id IS NULL"
        " OR c.seq < 0 OR (c.seq > l.head AND l.owner = :node))",
        "c",
    ),
    (
        "member",
        "member_wrong",
        "SELECT m.room, printf('The membership of %s in room %s runs from %d to %s, "
        "and the room ends at %s', m.reader, m.room, m.since, ifnull(m.until, 'now'),"
        " ifnull(l.head, 'nothing: it is gone'))"
        " FROM member m LEFT JOIN log l ON l.id = m.room WHERE {range} AND"
        " (l.id IS NULL OR m.since < 1 OR m.until < m.since OR m.until > l.head"
        " OR (m.since > l.head AND l.owner = :node))",
        "m",
    ),
    (
        "member",
        "member_twice",
        "SELECT m.room, printf('%s is twice a member of room %s at entry %d',"
        " m.reader, m.room, n.since) FROM member m JOIN member n ON n.room = m.room"
        " AND n.reader = m.reader AND n.since > m.since WHERE {range} AND"
        " (m.until IS NULL OR n.since < m.until)",
        "m",
    ),
    (
        "log",
        "room_missing",
        "SELECT l.id, printf('Room %s has a log, but its group is missing', l.id)"
        " FROM log l LEFT JOIN room r ON r.id = l.id WHERE {range}"
        " AND l.kind = 'room' AND l.owner = :node AND r.id IS NULL",
        "l",
    ),
    (
        "room",
        "log_missing",
        "SELECT r.id, printf('Room %s has a group, but it has no log here', r.id)"
        " FROM room r LEFT JOIN log l ON l.id = r.id AND l.kind = 'room'"
        " AND l.owner = :node WHERE {range} AND l.id IS NULL",
        "r",
    ),
    (
        "roster",
        "roster_wrong",
        "SELECT t.room, printf('The roster of room %s names %s, which is no valid "
        "device, or the room is gone', t.room, t.device) FROM roster t"
        " LEFT JOIN room r ON r.id = t.room"
        " LEFT JOIN device d ON d.address = t.device AND NOT d.revoked"
        " WHERE {range} AND (r.id IS NULL OR"
        " (d.address IS NULL AND instr(t.device, '@' || :node || '/')))",
        "t",
    ),
    (
        "account",
        "account_log_missing",
        "SELECT a.name, printf('The account %s has no account log', a.name)"
        " FROM account a WHERE {range}"
        " AND NOT EXISTS (SELECT 1 FROM account_entry e WHERE e.name = a.name)",
        "a",
    ),
    (
        "account_entry",
        "account_missing",
        "SELECT e.name, printf('There is an account log of %s, but no such account',"
        " e.name) FROM account_entry e LEFT JOIN account a ON a.name = e.name"
        " WHERE {range} AND e.seq = 1 AND a.name IS NULL",
        "e",
    ),
    (
        "vault",
        "vault_wrong",
        "SELECT v.name || '/' || v.vault, printf('The backup %s of %s is said to have "
        "%d segments and %d bytes, and has others', v.vault, v.name, v.segments,"
        " v.size) FROM vault v WHERE {range} AND (v.segments, v.size, v.segments) IS"
        " NOT (SELECT count(*), ifnull(sum(s.size), 0), max(s.n) FROM segment s"
        " WHERE s.name = v.name AND s.vault = v.vault)",
        "v",
    ),
    (
        "segment",
        "vault_missing",
        "SELECT s.name || '/' || s.vault, printf('There is a segment %d of the backup "
        "%s of %s, but no such backup', s.n, s.vault, s.name) FROM segment s"
        " LEFT JOIN vault v ON v.name = s.name AND v.vault = s.vault"
        " WHERE {range} AND v.vault IS NULL",
        "s",
    ),
    (
        "blob_holder",
        "blob_missing",
        "SELECT h.blob, printf('%s keeps blob %s of %d bytes, and there is none',"
        " h.name, h.blob, h.size) FROM blob_holder h"
        " LEFT JOIN blob b ON b.id = h.blob AND b.size = h.size"
        " WHERE {range} AND b.id IS NULL",
        "h",
    ),
)
"""Table, code, query of what is wrong (where, sentence), and the table's alias."""


def check_rows(database: Database, found: Findings, progress: Progress) -> None:
    """Hold rooms, rosters, members, cursors and backups against each other."""
    for place, (table, code, query, alias) in enumerate(_ROWS):
        wanted = query.format(range=f"{alias}.rowid > :low AND {alias}.rowid <= :high")
        for low, high in _ranges(database, table):
            with database.moment() as connection:
                rows = connection.execute(
                    wanted, {"low": low, "high": high, "node": database.node}
                ).fetchall()
            for where, text in rows:
                found.add(code, where, f"{text}; {RESTORE}.")
        progress("tables", place + 1, len(_ROWS))


def _ranges(database: Database, table: str) -> Iterator[tuple[int, int]]:
    last = database.number(f"SELECT max(rowid) FROM {table}")
    for low in range(0, last, RANGE):
        yield low, low + RANGE


# --- accounts ---------------------------------------------------------------------


def check_accounts(database: Database, found: Findings, progress: Progress) -> None:
    """Read every account log, signatures and all, and hold the devices against it."""
    total = database.number("SELECT count(*) FROM account")
    after = ""
    while True:
        with database.moment() as connection:
            accounts = [
                (name, root, *_of_account(connection, database.node, name))
                for name, root in connection.execute(
                    "SELECT name, root FROM account WHERE name > ? ORDER BY name"
                    " LIMIT ?",
                    (after, ACCOUNTS),
                ).fetchall()
            ]
        if not accounts:
            return
        for name, root, entries, devices, mailbox in accounts:
            _check_account(database, found, name, root, entries, devices)
            if not mailbox:
                _add_account(found, "mailbox_missing", name, "has no mailbox")
        found.report.accounts += len(accounts)
        after = accounts[-1][0]
        progress("accounts", found.report.accounts, total)


def _of_account(
    connection: sqlite3.Connection, node: str, name: str
) -> tuple[list[tuple[int, bytes]], dict[str, int], bool]:
    """Its log, its valid devices with their ends, and whether it has a mailbox."""
    entries = connection.execute(
        "SELECT seq, data FROM account_entry WHERE name = ? ORDER BY seq", (name,)
    ).fetchall()
    devices = connection.execute(
        "SELECT address, expires FROM device WHERE name = ? AND NOT revoked", (name,)
    ).fetchall()
    mailbox = connection.execute(
        "SELECT 1 FROM log WHERE id = ?", (mailbox_id(f"{name}@{node}"),)
    ).fetchone()
    return entries, dict(devices), mailbox is not None


def _check_account(
    database: Database,
    found: Findings,
    name: str,
    root: bytes,
    entries: list[tuple[int, bytes]],
    devices: dict[str, int],
) -> None:
    state: AccountState | None = None
    if not entries:
        return  # told by `check_rows`
    try:
        account = parse_account(f"{name}@{database.node}")
        for place, (seq, data) in enumerate(entries, 1):
            if seq != place:
                _add_account(
                    found, "account_log_broken", name, f"lacks entry {place} of its log"
                )
                return
            state = read_account_log(account, [data], after=state)
    except (IdentityError, AddressError) as error:
        what = f"has a log that does not hold at entry {place} ({str(error)[:-1]})"
        _add_account(found, "account_log_broken", name, what)
        return
    assert state is not None
    if state.root != root:
        _add_account(
            found, "account_wrong", name, "stands with a root key that is not its log's"
        )
    said = {
        f"{account}/{short}": device.certificate.expires
        for short, device in state.devices.items()
    }
    for address in sorted(said.keys() | devices.keys()):
        if said.get(address) != devices.get(address):
            what = f"has the device {address} in its log or in the table, but not both"
            if address in said and address in devices:
                what = f"has another end of the device {address} in log and table"
            _add_account(found, "device_wrong", name, what)


def _add_account(found: Findings, code: str, name: str, what: str) -> None:
    found.add(code, name, f"The account {name} {what}; {RESTORE}.")
