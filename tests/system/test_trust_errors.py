"""What goes wrong on the way to a second device, each in one sentence."""

import asyncio
import os
import secrets
import shutil
import sqlite3
import subprocess
import sys

import pytest

from client import Client, Profile
from tests.system import acts
from tests.system.conftest import Town
from tests.system.world import BIN, PASSWORD, Person, seen

pytestmark = [pytest.mark.system, pytest.mark.long, pytest.mark.timeout(120)]


MANY = 40
"""Messages of sixteen kilobytes."""

HISTORY_DISK = "1m"
"""Has room for a profile, and not for these messages."""


async def write_much(person: Person, to: str) -> None:
    """Messages that are too much for a small disk, and their backup."""
    profile = Profile(person.profile, person.world.ca_file)
    async with await Client.open(profile, password=PASSWORD) as client:
        room = (await client.start_direct(to)).id
        for _ in range(MANY):
            await client.send_text(room, secrets.token_hex(8000))

        async def all_sent() -> bool:
            last = await client.messages(room, limit=1)
            return last[0].seq is not None

        await seen(all_sent)
        await client.backup.now()


def on_a_small_disk(
    person: Person, size: str, script: str, typed: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run a script with a file system of its own at the person's profile."""
    person.profile.mkdir(exist_ok=True)
    mount = f'mount -t tmpfs -o size={size} none "{person.profile}"'
    return subprocess.run(
        ["unshare", "-m", "sh", "-ec", f"{mount}\n{script}"],
        input=typed,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **person.env},
    )


def test_codes_that_lead_nowhere_and_windows_that_close(town: Town) -> None:
    alice = town.settle("alice", town.north)
    assert "16 letters and digits" in alice.refused("devices", "approve", "ABCD")
    wrong = alice.refused("devices", "approve", "2222-3333-4444-5555")
    assert "code" in wrong and "device" in wrong

    # The window with the code is closed: nothing was set up, and it can begin again.
    tablet = alice.machine("tablet")
    first = tablet.terminal("link", alice.address, "--no-qr")
    first.wait("Waiting for the other device")
    first.hang_up()
    second = tablet.terminal("link", alice.address, "--no-qr")
    code = acts.code_on(second.wait("Waiting for the other device"))

    # Ten minutes go by at the node: the code is worth nothing on either device.
    town.north.kill()
    with sqlite3.connect(town.north.data / "node.db") as database:
        assert database.execute("UPDATE link SET expires = 1").rowcount > 0
    town.north.start()
    assert alice.refused("devices", "approve", code) == wrong
    second.wait("Nobody confirmed this code in time", 40)
    assert second.ended() == 1

    # The chat has the profile: a command says who must let go of it.
    chat = alice.terminal()
    chat.wait("online")
    taken = alice.refused("devices", "approve", code)
    assert "open" in taken and "close" in taken.lower(), taken
    chat.hang_up()
    assert "this device" in alice.telex("devices")


def test_a_node_that_is_down_is_named_at_each_step(town: Town) -> None:
    alice = town.settle("alice", town.north)
    new = alice.machine("new")
    town.north.kill()
    try:
        for done in (
            new.refused("link", alice.address),
            new.refused("recover", alice.address, typed=alice.phrase),
        ):
            assert town.north.name in done, done
        assert "this device" in alice.telex("devices")
        assert alice.telex("doctor") == "Everything can be read and sent.\n"
    finally:
        town.north.start()
    # What failed left nothing in the way.
    back = new.run("recover", alice.address, typed=alice.phrase)
    assert back.returncode == 0, back.stderr


small_disks = pytest.mark.skipif(
    sys.platform != "linux"
    or os.getuid() != 0
    or shutil.which("unshare") is None
    or subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode != 0,
    reason="a small file system takes root and mount namespaces",
)


@small_disks
@pytest.mark.parametrize("what", ["profile", "history"])
def test_a_disk_without_space_says_so(town: Town, what: str) -> None:
    """Neither for the profile, or not for the history that comes into it."""
    alice = town.settle("alice", town.north)
    if what == "history":
        asyncio.run(write_much(alice, town.settle("bob", town.south).address))
    new = alice.machine("new")
    size = {"profile": "128k", "history": HISTORY_DISK}[what]
    done = on_a_small_disk(
        new, size, f'exec "{BIN}/telex" recover {alice.address}', alice.phrase
    )
    assert done.returncode == 1, done
    assert "Traceback" not in done.stderr and "did not expect" not in done.stderr
    assert "disk" in done.stderr and "space" in done.stderr, done.stderr
    # With room for the profile it is the history that does not fit.
    assert ("The node knows you again" in done.stdout) == (what == "history"), done
    assert ("your history does not fit" in done.stderr) == (what == "history"), done
    assert "this device" in alice.telex("devices")


@small_disks
def test_a_profile_on_a_full_or_read_only_disk_is_not_called_damaged(
    town: Town,
) -> None:
    alice = town.settle("alice", town.north)
    new = alice.machine("full")
    copy = f'cp -a "{alice.profile}/." "{new.profile}"\n'
    fill = f'cat /dev/zero > "{new.profile}/zero" 2> /dev/null || true\n'
    lock = f'mount -o remount,ro "{new.profile}"\n'
    for trouble in (fill, lock):
        done = on_a_small_disk(new, "4m", f'{copy}{trouble}exec "{BIN}/telex" devices')
        assert done.returncode == 1, done
        assert "damaged" not in done.stderr and "did not expect" not in done.stderr
        assert "disk" in done.stderr and "space" in done.stderr, done.stderr
    done = on_a_small_disk(new, "4m", f'{copy}exec "{BIN}/telex" devices')
    assert done.returncode == 0 and "this device" in done.stdout, done.stderr
