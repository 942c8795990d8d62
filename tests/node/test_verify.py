"""`telex-node verify`: what is in order passes; whatever was changed is named."""

import asyncio
import json
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from node.app import Node
from node.cli import main
from node.storage.chain import log_number
from node.storage.schema import DatabaseProblem, migrate
from node.storage.verify import Report, chains, verify
from protocol.log import LogId
from tests.node.blobs import blob_id, upload
from tests.node.phone import Phone, phone
from tests.node.server import make_settings, running
from tests.node.world import World, meet

VAULT = "ab" * 16
BLOB = b"cipher" * 100
BLOB_ID = blob_id(BLOB)


async def fill(node: Node) -> str:
    """Two accounts, a room of thirty entries, a backup; the room's id."""
    async with phone(node, "alice") as alice, phone(node, "bob") as bob:
        await alice.register()
        await bob.register()
        await bob.upload_packages()
        room = await alice.create_room()
        await alice.add(room, bob.account)
        for _ in range(28):
            await alice.submit(alice.message(room))
        async with alice.session() as session:
            await session.ack(**{room.id: 30})
            await session.submit(alice.message(room))
        await alice.vault("PUT", f"/{VAULT}/1", b"sealed" * 100)
        assert await upload(alice, BLOB) == BLOB_ID
        assert (await until_cursor(node, alice, room.id)) == 30
    return str(room.id)


async def until_cursor(node: Node, device: Phone, room: str) -> int:
    """The device's stored cursor, once there is one."""
    for _ in range(100):
        found: int | None = await node.store.read(
            lambda c: c.exec_driver_sql(
                "SELECT seq FROM cursor WHERE reader = ? AND log = ?",
                (device.address, room),
            ).scalar()
        )
        if found:
            return found
    return 0


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The data of a node that was stopped, and its room."""
    settings = make_settings(tmp_path_factory.mktemp("verify"))

    async def live() -> str:
        async with running(settings) as node:
            return await fill(node)

    return settings.data_dir, asyncio.run(live())


@pytest.fixture
def copy(stored: tuple[Path, str], tmp_path: Path) -> tuple[Path, str]:
    """A copy of it to spoil."""
    shutil.copytree(stored[0], tmp_path / "copy")
    return tmp_path / "copy" / "node.db", stored[1]


def change(path: Path, *statements: str) -> None:
    """Write what no node would."""
    with sqlite3.connect(path, isolation_level=None) as connection:
        for statement in statements:
            assert connection.execute(statement).rowcount != 0, statement
    connection.close()


async def test_a_whole_database_passes_also_while_the_node_writes(
    tmp_path: Path,
) -> None:
    settings = make_settings(tmp_path)
    async with running(settings) as node:
        await fill(node)
        found = verify(settings.database)
    assert found.findings == []
    assert (found.entries, found.accounts, found.files) == (32, 2, 2)
    assert verify(settings.database).findings == []


async def test_a_node_that_writes_meanwhile_gives_no_findings(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Chunks of seven entries, so that heads move between any two of them."""
    monkeypatch.setattr(chains, "CHUNK_ROWS", 7)
    async with phone(node, "alice") as alice:
        await alice.register()
        rooms = [await alice.create_room() for _ in range(3)]
        over = asyncio.Event()

        async def write() -> int:
            count = 0
            while not over.is_set():
                await alice.submit(alice.message(rooms[count % 3]))
                count += 1
            return count

        writers = [asyncio.create_task(write()) for _ in range(3)]
        seen: list[int] = []
        for _ in range(5):
            found = await asyncio.to_thread(verify, node.settings.database)
            assert found.findings == []
            seen.append(found.entries)
        over.set()
        written = sum(await asyncio.gather(*writers))
    assert seen[0] < seen[-1] <= written + 3


FLIP = "UPDATE entry SET {0} = CAST(x'58' || substr({0}, 2) AS BLOB) WHERE "

CHANGES: list[tuple[str, str, str]] = [
    (FLIP.format("data") + "seq = 17 AND log = #", "entry_changed", "Entry 17 of log"),
    (FLIP.format("hash") + "seq = 17 AND log = #", "entry_changed", "Entry 17 of log"),
    (FLIP.format("previous") + "seq = 9 AND log = #", "chain_broken", "from entry 8"),
    (FLIP.format("event") + "seq = 5 AND log = #", "event_id_wrong", "Entry 5 of"),
    ("DELETE FROM entry WHERE seq = 12 AND log = #", "entry_missing", "entry 12 is"),
    ("DELETE FROM entry WHERE seq < 4 AND log = #", "entry_missing", "entries 1 to 3"),
    ("DELETE FROM entry WHERE seq > 20 AND log = #", "head_wrong", "last entry is 20"),
    ("DELETE FROM entry WHERE log = #", "entry_missing", "All 31 entries"),
    ("UPDATE log SET head = 40 WHERE id = ?", "head_wrong", "said to be 40"),
    ("UPDATE log SET hash = x'00' WHERE id = ?", "head_wrong", "hash of log"),
    ("UPDATE log SET number = 7 WHERE id = ?", "entry_missing", "All 31 entries"),
    ("DELETE FROM log WHERE id = ?", "log_missing", "it has no log here"),
    ("DELETE FROM room WHERE id = ?", "room_missing", "its group is missing"),
    ("UPDATE cursor SET seq = 99 WHERE log = ?", "cursor_wrong", "stands at 99"),
    ("UPDATE member SET until = 77 WHERE room = ?", "member_wrong", "to 77"),
    (
        "INSERT INTO member SELECT room, reader, 9, NULL, node FROM member"
        " WHERE room = ?",
        "member_twice",
        "is twice a member",
    ),
    (
        "UPDATE roster SET device = device || 'x' WHERE room = ?",
        "roster_wrong",
        "no valid device",
    ),
]


@pytest.mark.parametrize(("statement", "code", "words"), CHANGES)
def test_what_was_changed_in_a_room_is_named(
    copy: tuple[Path, str], statement: str, code: str, words: str
) -> None:
    path, room = copy
    number = log_number(LogId(room))
    change(path, statement.replace("?", f"'{room}'").replace("#", str(number)))
    findings = verify(path).findings
    named = [f.text for f in findings if f.code == code and words in f.text]
    assert named and room in named[0], findings
    assert "restore" in named[0] and named[0].count(". ") == 0


ELSEWHERE: list[tuple[str, str]] = [
    ("UPDATE account_entry SET data = substr(data, 2) WHERE seq = 2", "account_log"),
    ("UPDATE account_entry SET seq = 3 WHERE seq = 2", "account_log_broken"),
    ("UPDATE device SET expires = 5", "device_wrong"),
    ("DELETE FROM device", "device_wrong"),
    ("UPDATE account SET root = x'00'", "account_wrong"),
    ("DELETE FROM account", "account_missing"),
    ("DELETE FROM account_entry", "account_log_missing"),
    ("DELETE FROM log WHERE kind = 'mailbox'", "mailbox_missing"),
    ("UPDATE vault SET size = 1", "vault_wrong"),
    ("DELETE FROM vault", "vault_missing"),
    ("DELETE FROM blob", "blob_missing"),
    ("UPDATE blob_holder SET size = 1", "blob_missing"),
]


@pytest.mark.parametrize(("statement", "code"), ELSEWHERE)
def test_what_was_changed_elsewhere_is_named(
    copy: tuple[Path, str], statement: str, code: str
) -> None:
    change(copy[0], statement)
    assert any(f.code.startswith(code) for f in verify(copy[0]).findings)


async def test_a_copy_of_another_node_s_room_is_followed_too(world: World) -> None:
    one, two = world.nodes
    async with (
        phone(one, "alice", tls=world.tls) as alice,
        phone(two, "bob", tls=world.tls) as bob,
    ):
        await alice.register()
        await bob.register()
        await bob.upload_packages()
        async with bob.session() as other:
            room, _ = await meet(alice, bob, other)
            for _ in range(5):
                await alice.submit(alice.message(room))
            await other.entries(room.id, 5)
    for settings in world.settings:
        assert verify(settings.database).findings == []
    copy = world.settings[1].database
    change(copy, f"DELETE FROM entry WHERE log = {log_number(room.id)} AND seq = 5")
    (finding,) = verify(copy).findings
    assert finding.where == f"{room.id} 5" and finding.code == "entry_missing"


def spoil_byte(path: Path) -> None:
    path.write_bytes(b"?" + path.read_bytes()[1:])


FILES: list[tuple[Callable[[Path], object], str]] = [
    (Path.unlink, "No such file"),
    (lambda path: path.write_bytes(b"short"), "5 bytes instead of 600"),
    (spoil_byte, "other bytes"),
]


@pytest.mark.parametrize(("kind", "name"), [("vaults", VAULT), ("blobs", BLOB_ID)])
@pytest.mark.parametrize(("spoil", "words"), FILES)
def test_a_file_that_is_not_its_row_s_is_named(
    copy: tuple[Path, str],
    spoil: Callable[[Path], object],
    words: str,
    kind: str,
    name: str,
) -> None:
    file = next((copy[0].parent / kind).glob("*/*"))
    spoil(file)
    (finding,) = verify(copy[0]).findings
    assert finding.code == "file_wrong" and words in finding.text
    assert file.name in finding.text and name in finding.text
    assert verify(copy[0], quick=True).findings == [finding] * (words != "other bytes")


def test_a_damaged_page_is_named_and_the_rest_is_checked(
    copy: tuple[Path, str],
) -> None:
    path, _ = copy
    change(path, "VACUUM", "PRAGMA wal_checkpoint(TRUNCATE)")
    with sqlite3.connect(path) as connection:
        root, size = connection.execute(
            "SELECT rootpage, (SELECT page_size FROM pragma_page_size)"
            " FROM sqlite_master WHERE name = 'entry'"
        ).fetchone()
    connection.close()
    data = bytearray(path.read_bytes())
    data[(root - 1) * size : root * size] = b"\xff" * size
    path.write_bytes(data)
    found = verify(path)
    codes = {f.code for f in found.findings}
    assert {"page_damaged", "unreadable"} <= codes
    assert any("table entry" in f.text for f in found.findings)
    assert found.accounts == 2 and found.files == 2


def test_files_that_are_no_database(tmp_path: Path, copy: tuple[Path, str]) -> None:
    with pytest.raises(DatabaseProblem, match="There is no database"):
        verify(tmp_path / "none.db")
    (tmp_path / "text.db").write_text("no database" * 1000)
    with pytest.raises(DatabaseProblem, match="cannot be read"):
        verify(tmp_path / "text.db")
    migrate(tmp_path / "new.db")
    with pytest.raises(DatabaseProblem, match="nothing to verify: start the node once"):
        verify(tmp_path / "new.db")
    change(copy[0], "DELETE FROM setting WHERE key = 'name'")
    with pytest.raises(DatabaseProblem, match="lost the name"):
        verify(copy[0])
    change(copy[0], "UPDATE alembic_version SET version_num = '0001'")
    with pytest.raises(DatabaseProblem, match="schema 0001"):
        verify(copy[0])


def test_the_command_says_it_in_sentences_or_json(copy: tuple[Path, str]) -> None:
    def run(*arguments: str) -> tuple[int, str]:
        done = CliRunner().invoke(main, ["verify", str(copy[0]), *arguments])
        return done.exit_code, done.stdout

    number = log_number(LogId(copy[1]))
    status, text = run()
    assert status == 0 and "All is in order." in text and "entries/s" in text
    change(copy[0], f"DELETE FROM entry WHERE seq = 12 AND log = {number}")
    status, text = run()
    assert status == 1 and f"Of log {copy[1]}, entry 12 is missing; restore" in text
    status, text = run("--json", "--quick")
    report = json.loads(text)
    assert status == 1 and report["findings"][0]["where"] == f"{copy[1]} 12"
    assert set(Report.__struct_fields__) == report.keys()
