"""Measures `e2ee/` and prints one JSON array of {name, value, unit}.

    python -m bench.e2ee [--members N] [--rounds N] [--messages N]

Times are CPU seconds of one core, the median of several rounds. What is measured on
what, and where the time goes: README.md.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from statistics import median

import vodozemac

from bench.room import NOW, Device, Guest, Room, create, invite, make_room
from e2ee import Group, key_package
from protocol import credential

TEXT = 300
"""Bytes of a message."""

Result = dict[str, object]


def seconds(call: Callable[[], object]) -> float:
    """CPU seconds that a call takes."""
    start = time.process_time()
    call()
    return time.process_time() - start


def result(name: str, value: float, unit: str) -> Result:
    """One entry of the array."""
    return {"name": name, "value": float(f"{value:.4g}"), "unit": unit}


def forget() -> None:
    """Let every credential and KeyPackage be one that was never seen."""
    credential._read_chain.cache_clear()
    credential._read_ask.cache_clear()
    credential.credential_device.cache_clear()
    key_package._verify_signatures.cache_clear()


class Bench:
    """The rooms, and how often to measure."""

    def __init__(self, members: int, rounds: int, messages: int) -> None:
        self.rounds = rounds
        self.messages = messages
        self.devices = [Device.make(f"p{number}") for number in range(members)]
        self.full = make_room(self.devices, blank=False)

    def milliseconds(
        self, name: str, call: Callable[[int], Callable[[], object]]
    ) -> Result:
        """Measure what `call` prepares for each round."""
        times = [seconds(call(number)) for number in range(self.rounds)]
        return result(name, median(times) * 1e3, "ms")

    def per_second(self, name: str, call: Callable[[], object]) -> Result:
        """Measure a call that handles `messages` messages."""
        times = [seconds(call) for _ in range(self.rounds)]
        return result(name, self.messages / median(times), "1/s")

    # --- messages

    def talk(self) -> list[Result]:
        """Application messages between two members of the full room."""
        alice, bob = self.full.member(0), self.full.member(len(self.devices) - 1)
        text = os.urandom(TEXT)
        bob.decrypt(alice.encrypt(text))  # opens both secret trees
        sent: list[bytes] = []
        results = [
            self.per_second(
                "protect",
                lambda: sent.extend(alice.encrypt(text) for _ in range(self.messages)),
            )
        ]
        waiting = iter(sent)
        results.append(
            self.per_second(
                "unprotect",
                lambda: [bob.decrypt(next(waiting)) for _ in range(self.messages)],
            )
        )
        return results

    def olm(self) -> list[Result]:
        """The same by Olm, in order, after the first answer."""
        alice, bob = vodozemac.Account(), vodozemac.Account()
        bob.generate_one_time_keys(1)
        (one_time,) = bob.one_time_keys.values()
        here = alice.create_outbound_session(bob.curve25519_key, one_time)
        first = here.encrypt(b"first").to_pre_key()
        if first is None:
            raise RuntimeError("Olm's first message is no pre-key message")
        there, _ = bob.create_inbound_session(alice.curve25519_key, first)
        here.decrypt(there.encrypt(b"answer"))
        text = os.urandom(TEXT)
        sent: list[vodozemac.AnyOlmMessage] = []
        encrypt = self.per_second(
            "olm_encrypt",
            lambda: sent.extend(here.encrypt(text) for _ in range(self.messages)),
        )
        waiting = iter(sent)
        decrypt = self.per_second(
            "olm_decrypt",
            lambda: [there.decrypt(next(waiting)) for _ in range(self.messages)],
        )
        return [encrypt, decrypt]

    def megolm(self) -> list[Result]:
        """The same by Megolm."""
        here = vodozemac.GroupSession()
        there = vodozemac.InboundGroupSession(here.session_key)
        text = os.urandom(TEXT)
        sent: list[vodozemac.MegolmMessage] = []
        encrypt = self.per_second(
            "megolm_encrypt",
            lambda: sent.extend(here.encrypt(text) for _ in range(self.messages)),
        )
        waiting = iter(sent)
        decrypt = self.per_second(
            "megolm_decrypt",
            lambda: [there.decrypt(next(waiting)) for _ in range(self.messages)],
        )
        return [encrypt, decrypt]

    # --- commits

    def commit(self, name: str, room: Room) -> Result:
        """Make a commit that renews a path."""
        committer = room.member(0)
        return self.milliseconds(name, lambda _: lambda: committer.commit(now=NOW))

    def take(self) -> list[Result]:
        """Take such a commit, as another member and as the hub."""
        staged, hub = self.full.member(0).commit(now=NOW), self.full.hub()

        def apply(number: int) -> Callable[[], object]:
            member: Group = self.full.member(1 + number % (len(self.devices) - 1))
            return lambda: member.process_commit(staged.commit, now=NOW)

        def check(_: int) -> Callable[[], object]:
            return lambda: hub.process_commit(
                staged.commit, staged.group_info, now=NOW, welcome_refs=[]
            )

        return [
            self.milliseconds("apply_commit", apply),
            self.milliseconds("hub_check", check),
        ]

    # --- joining

    def join(self, guest: Guest) -> list[Result]:
        """Join the full room: among strangers, and among people met before."""

        def strangers(_: int) -> Callable[[], object]:
            forget()
            return guest.join

        return [
            self.milliseconds("join_by_welcome", strangers),
            self.milliseconds("join_by_welcome_known", lambda _: guest.join),
        ]

    def welcome(self) -> list[Result]:
        """Make a room of everybody by one commit, their Welcomes included."""
        owner = create(self.devices[0])
        packages = [device.key_package().key_package for device in self.devices[1:]]

        def unchecked(_: int) -> Callable[[], object]:
            forget()
            return lambda: owner.commit(add=packages, now=NOW)

        def checked(_: int) -> Callable[[], object]:
            for package in packages:  # as the client does with what it claims
                info = key_package.key_package_info(package)
                credential.read_credential(info.identity, NOW)
            return lambda: owner.commit(add=packages, now=NOW)

        return [
            self.milliseconds("welcomes_for_999", checked),
            self.milliseconds("welcomes_for_999_unchecked", unchecked),
        ]

    def memory(self, guest: Guest) -> list[Result]:
        """Join in a process of its own."""
        done = subprocess.run(
            [sys.executable, "-m", "bench.memory"],
            input=guest.encode(),
            stdout=subprocess.PIPE,
            check=True,
        )
        before, most, _ = map(int, done.stdout.split())
        return [
            result("memory_group_1000", most / 1e6, "MB"),
            result("memory_group_1000_alone", (most - before) / 1e6, "MB"),
        ]

    def run(self) -> list[Result]:
        """Measure everything."""
        blank = make_room(self.devices, blank=True)
        guest = invite(make_room(self.devices[:-1], blank=False), self.devices[-1])
        return [
            *self.talk(),
            self.commit("commit_full_tree", self.full),
            self.commit("commit_blank_parents", blank),
            *self.take(),
            *self.join(guest),
            *self.welcome(),
            *self.memory(guest),
            *self.olm(),
            *self.megolm(),
        ]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Measure e2ee/.")
    parser.add_argument("--members", type=int, default=1000, help="leaves of the room")
    parser.add_argument("--rounds", type=int, default=9, help="of each measurement")
    parser.add_argument("--messages", type=int, default=2000, help="in each round")
    given = parser.parse_args()
    if given.members < 3 or given.rounds < 1 or given.messages < 1:
        parser.error("it takes 3 members, 1 round and 1 message at least")
    results = Bench(given.members, given.rounds, given.messages).run()
    print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
