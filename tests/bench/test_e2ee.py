"""The measurements run, and print what they say they do. No time is judged."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench.room import NOW, Device, Guest, invite, make_room
from e2ee.errors import E2eeError

ROOT = Path(__file__).parents[2]
NAMES = {
    *("protect", "unprotect", "olm_encrypt", "olm_decrypt"),
    *("megolm_encrypt", "megolm_decrypt"),
    *("commit_full_tree", "commit_blank_parents", "apply_commit", "hub_check"),
    *("join_by_welcome", "join_by_welcome_known"),
    *("welcomes_for_999", "welcomes_for_999_unchecked"),
    *("memory_group_1000", "memory_group_1000_alone"),
}


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bench.e2ee", *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )


def test_it_prints_one_array_of_figures() -> None:
    done = bench("--members", "5", "--rounds", "2", "--messages", "3")
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)
    assert len(results) == len(NAMES)
    assert {entry["name"] for entry in results} == NAMES
    for entry in results:
        assert set(entry) == {"name", "value", "unit"}
        assert entry["unit"] in ("1/s", "ms", "MB")
        assert entry["value"] >= 0
    assert next(e["value"] for e in results if e["name"] == "memory_group_1000") > 5


def test_too_few_members_are_refused() -> None:
    done = bench("--members", "2")
    assert done.returncode == 2
    assert "3 members" in done.stderr


@pytest.mark.parametrize("blank", [True, False])
@pytest.mark.parametrize("members", [3, 4, 9])
def test_a_made_up_room_is_a_real_one(members: int, blank: bool) -> None:
    """All that is measured in it works, and its tree is what it says."""
    devices = [Device.make(f"p{number}") for number in range(members)]
    room = make_room(devices, blank=blank)
    hub = room.hub()  # checks the whole tree
    # Two subtrees with a member in each have a parent in common.
    assert len(list(room.tree.parents())) == (0 if blank else members - 1)
    groups = [room.member(leaf) for leaf in range(members)]
    for committer in (0, members - 1):
        staged = groups[committer].commit(now=NOW)
        hub, _ = hub.process_commit(staged.commit, staged.group_info, now=NOW)
        for leaf, group in enumerate(groups):
            if leaf == committer:
                group.apply_own(staged)
            else:
                group.process_commit(staged.commit, now=NOW)
        assert len({group.epoch_authenticator for group in groups}) == 1
    assert groups[1].decrypt(groups[0].encrypt(b"text")).content == b"text"


def test_a_guest_joins_with_its_own_keys_alone() -> None:
    devices = [Device.make(name) for name in ("a", "b", "c")]
    guest = invite(make_room(devices[:-1], blank=False), devices[-1])
    assert Guest.decode(guest.encode()) == guest
    assert len(guest.join().members()) == 3
    stranger = Guest(devices[0].mls_seed, guest.bundle, guest.welcome, guest.tree)
    with pytest.raises(E2eeError):
        stranger.join()
