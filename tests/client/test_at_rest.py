"""What lies on the disk: nothing readable, nothing that was deleted, never half."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from client import Client
from client.account.me import get_meta, set_meta
from client.archive import Kind, begin, read_archive, writer
from client.archive.segment import EMPTY, Place, open_segment
from client.errors import BadText, ClientError, KeyringFailed, WrongPassword
from client.storage import keyfile, system_keyring
from client.storage import store as storage
from client.storage.keyfile import change_password, read_key
from client.storage.store import Store
from tests.client.archives import (
    KEY,
    VAULT,
    Shelf,
    add_room,
    add_text,
    fill,
    lines,
    make,
    message_id,
    write,
)
from tests.client.conftest import Join
from tests.client.fake_node import FakeNode
from tests.client.people import (
    ALICE,
    BOB,
    PASSWORD,
    all_bytes,
    messages_of,
    profile,
    texts,
    until,
)

PLANTED = "zanzibar planted"
PAGE, RESERVED = 4096, 80
"""SQLCipher 4: a page ends with its IV (16) and its HMAC (64)."""


def pages(directory: Path, key: bytes) -> Iterator[bytes]:
    """Every page on the disk, decrypted: free ones and the log's old ones too."""
    database = (directory / "telex.db").read_bytes()
    for at in range(0, len(database), PAGE):
        yield decrypt(database[at : at + PAGE], key, first=at == 0)
    log = directory / "telex.db-wal"
    wal = log.read_bytes() if log.exists() else b""
    for at in range(32, len(wal) - PAGE, PAGE + 24):
        (number,) = struct.unpack(">I", wal[at : at + 4])
        yield decrypt(wal[at + 24 : at + 24 + PAGE], key, first=number == 1)


def decrypt(page: bytes, key: bytes, *, first: bool) -> bytes:
    iv = page[-RESERVED : -RESERVED + 16]
    cipher = Cipher(algorithms.AES(key), modes.CBC(iv)).decryptor()
    return cipher.update(page[16 if first else 0 : -RESERVED]) + cipher.finalize()


def is_on_disk(directory: Path, key: bytes, word: str) -> bool:
    return any(word.encode() in page for page in pages(directory, key))


async def test_what_is_deleted_is_gone_from_every_page(tmp_path: Path) -> None:
    store = make(tmp_path)
    key = read_key(tmp_path / "key.json", "correct horse")
    for n in range(3):  # long ones have pages of their own
        await store.run(lambda tx, n=n: add_room(tx, n) if n else None)  # type: ignore[misc]
    await store.run(lambda tx: add_text(tx, 1, 5, PLANTED))
    await store.run(lambda tx: add_text(tx, 1, 6, f"{PLANTED} " * 600))
    await store.run(lambda tx: set_meta(tx, "seed", PLANTED.encode()))
    (tmp_path / "telex.db.v1").write_bytes(b"a copy from before a migration")
    assert PLANTED.encode() not in all_bytes(tmp_path)
    assert is_on_disk(tmp_path, key, PLANTED), "the reader of pages works"
    await store.run(
        lambda tx: [
            tx.execute("DELETE FROM message WHERE id = ?", message_id(1, 5)),
            tx.execute("DELETE FROM message WHERE id = ?", message_id(1, 6)),
            tx.execute("DELETE FROM meta WHERE key = 'seed'"),
        ]
    )
    assert is_on_disk(tmp_path, key, PLANTED), "the write-ahead log still had it"
    await store.scrub()
    assert not is_on_disk(tmp_path, key, PLANTED)
    assert not (tmp_path / "telex.db.v1").exists()
    await store.run(lambda tx: add_text(tx, 1, 7, "and it goes on"))
    await store.close()


async def test_used_keys_leave_the_log_by_themselves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "CHECKPOINT_DELAY", 0.2)
    store = make(tmp_path)
    key = read_key(tmp_path / "key.json", "correct horse")
    await store.run(lambda tx: set_meta(tx, "ratchet", PLANTED.encode()))
    await store.run(lambda tx: set_meta(tx, "ratchet", b"the next one"))
    assert is_on_disk(tmp_path, key, PLANTED)

    async def there() -> bool:
        return is_on_disk(tmp_path, key, PLANTED)

    await until(there, lambda seen: not seen)
    assert is_on_disk(tmp_path, key, "the next one")
    await store.close()


async def test_a_client_leaves_no_readable_word(
    join: Join, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    alice, bob = await join("alice"), await join("bob")
    room = (await alice.start_direct(BOB)).id
    await alice.send_text(room, PLANTED)
    await until(lambda: texts(bob, room), lambda found: found == [PLANTED])
    await alice.backup.now()
    await alice.backup.drill()
    for name in ("alice", "bob"):
        key = read_key(tmp_path / name / "key.json", PASSWORD)
        assert is_on_disk(tmp_path / name, key, PLANTED)
        assert PLANTED.encode() not in all_bytes(tmp_path / name)
        assert key not in all_bytes(tmp_path / name)
        assert key.hex() not in caplog.text
    seeds = await alice._store.run(
        lambda tx: [bytes(row[0]) for row in tx.all("SELECT value FROM meta")]
    )
    assert caplog.text and PLANTED not in caplog.text
    for seed in (s for s in seeds if len(s) >= 32):
        assert seed not in all_bytes(tmp_path) and seed.hex() not in caplog.text


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux")
def test_a_client_is_not_dumpable() -> None:
    script = (
        "import ctypes, resource\n"
        "from client.storage.hardening import harden\n"
        "harden()\n"
        "print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0),"
        " resource.getrlimit(resource.RLIMIT_CORE)[0])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["0", "0"]


# --- SIGKILL --------------------------------------------------------------------

_CHANGER = """
import sys
from pathlib import Path
from client.storage.keyfile import Strength, change_password
path, weak = Path(sys.argv[1]) / "key.json", Strength(1, 8192)
words = sys.argv[2:]
for n in range(100000):
    change_password(path, words[n % 5], words[(n + 1) % 5], weak)
    print((n + 1) % 5, flush=True)
"""


def test_sigkill_while_the_password_changes_leaves_the_old_or_the_new(
    tmp_path: Path,
) -> None:
    store = make(tmp_path)
    asyncio.run(store.close())
    key = read_key(tmp_path / "key.json", "correct horse")
    words = ["correct horse", "second", "third", "fourth", "fifth"]
    for _ in range(3):
        lines = 5 + os.urandom(1)[0] % 20
        told = kill_after(_CHANGER, lines, str(tmp_path), *words)
        opened = [word for word in words if opens(tmp_path, word)]
        # What was told holds, or the next change was made and not told yet.
        assert opened in ([words[told]], [words[(told + 1) % 5]])
        assert read_key(tmp_path / "key.json", opened[0]) == key
        change_password(tmp_path / "key.json", opened[0], words[0], keyfile.STRENGTH)


def opens(directory: Path, password: str) -> bool:
    try:
        asyncio.run(Store.open(directory, password).close())
    except ClientError:
        return False
    return True


_READER = """
import asyncio, sys
from pathlib import Path
import msgspec
from client.archive import read_archive
from client.storage.store import Store
segments = msgspec.msgpack.decode(Path(sys.argv[2]).read_bytes(), type=list[bytes])
async def main():
    store = Store.open(Path(sys.argv[1]), "correct horse")
    async def source(n):
        return segments[n - 1] if n <= len(segments) else None
    def progress(n, messages, left):
        print(n, flush=True)
    await read_archive(store, sys.argv[3], source, progress=progress)
asyncio.run(main())
"""


def test_sigkill_while_history_comes_in_loses_and_doubles_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "SEGMENT_BYTES", 3000)
    shelf = Shelf()

    async def prepare() -> list[list[object]]:
        old = make(tmp_path / "old")
        await old.run(lambda tx: fill(tx, messages=150))
        await write(old, shelf)
        before = await old.run(lambda tx: [lines(tx, room) for room in (1, 2, 3)])
        await old.close()
        new = make(tmp_path / "new")
        await new.run(lambda tx: begin(tx, VAULT, Kind.RESTORE, KEY))
        await new.close()
        return [list(room) for room in before]

    async def finish() -> tuple[int, list[list[object]]]:
        new = Store.open(tmp_path / "new", "correct horse")
        row = await new.run(lambda tx: tx.one("SELECT count FROM archive"))
        assert row is not None
        assert (await read_archive(new, VAULT, shelf.get)).complete
        after = await new.run(lambda tx: [lines(tx, room) for room in (1, 2, 3)])
        await new.close()
        return int(row[0]), [list(room) for room in after]

    before = asyncio.run(prepare())
    assert len(shelf.segments) > 8
    file = tmp_path / "segments"
    file.write_bytes(msgspec.msgpack.encode(shelf.segments))
    told = kill_after(_READER, 3, str(tmp_path / "new"), str(file), VAULT)
    count, after = asyncio.run(finish())
    assert count >= told and after == before


def kill_after(script: str, lines: int, *arguments: str) -> int:
    """Run a script, SIGKILL it after so many lines; the last number it said."""
    with subprocess.Popen(
        [sys.executable, "-c", script, *arguments], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        told = [int(process.stdout.readline()) for _ in range(lines)]
        process.send_signal(signal.SIGKILL)
        return [*told, *map(int, process.stdout.read().split())][-1]


async def test_a_client_changes_its_password_and_goes_on(
    fake: FakeNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(system_keyring, "TRUSTED", ())  # as on a server
    where = profile(tmp_path, "alice", fake.url)
    alice, _ = await Client.register(where, ALICE, invite="", password=PASSWORD)
    with pytest.raises(WrongPassword):
        await alice.change_password("not it at all", "another long one")
    with pytest.raises(BadText, match="8 characters"):
        await alice.change_password(PASSWORD, "short")
    await alice.change_password(PASSWORD, "another long one")
    with pytest.raises(KeyringFailed, match="no keyring"):
        await alice.use_keyring(True)
    await alice.close()
    with pytest.raises(WrongPassword):
        await Client.open(where, password=PASSWORD)
    with pytest.raises(KeyringFailed):
        await Client.open(where)
    again = await Client.open(where, password="another long one")
    assert again.account == ALICE
    await again.close()


@pytest.mark.parametrize("how", ["deleted", "vanished"])
async def test_what_is_deleted_or_vanishes_is_on_no_disk_and_in_no_backup(
    fake: FakeNode, join: Join, tmp_path: Path, how: str
) -> None:
    alice, bob = await join("alice"), await join("bob")
    room = (await alice.start_direct(BOB)).id
    if how == "vanished":
        await alice.set_disappearing(room, 1)
    message = await alice.send_text(room, PLANTED)
    await until(lambda: texts(bob, room), lambda found: PLANTED in found)
    await until(lambda: messages_of(alice, room, PLANTED), lambda m: m[0].seq)
    await alice.backup.now()
    keys = {
        name: read_key(tmp_path / name / "key.json", PASSWORD)
        for name in ("alice", "bob")
    }
    if how == "deleted":
        for name, key in keys.items():
            assert is_on_disk(tmp_path / name, key, PLANTED)
        await alice.delete_message(message.id, True)
    else:
        await alice.mark_read(room)
        await bob.mark_read(room)
    for client in (alice, bob):
        await until(partial(texts, client, room), lambda found: PLANTED not in found)
    for name, key in keys.items():

        async def there(name: str = name, key: bytes = key) -> bool:
            return is_on_disk(tmp_path / name, key, PLANTED)

        await until(there, lambda seen: not seen)
    await alice.backup.now()
    report = await alice.backup.drill()
    assert report.ok and report.messages == 0
    vault_key = await alice._store.run(lambda tx: get_meta(tx, "backup_key"))
    assert vault_key is not None
    for vault, segments in fake.vaults.of(ALICE).items():
        place = Place(ALICE, bytes.fromhex(vault), EMPTY)
        for segment in segments:
            content, head = open_segment(vault_key, place, segment)
            assert PLANTED.encode() not in content
            place = replace(place, head=head)
