"""The parts of the client in memory that are about devices, keys, backup and repair.

Each keeps what a test put there, notes what it was asked in `calls`, and raises what
the test hung into `refuse_next` first.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from client.model import (
    Ailment,
    BackupStatus,
    Device,
    DevicesChanged,
    DrillReport,
    Fingerprint,
    KeyChange,
    LinkChanged,
    LinkOffer,
    LinkProgress,
    LinkRequest,
    MemberDevice,
    Sas,
    SasChanged,
    Trust,
)
from protocol.errors import TelexError
from protocol.log import LogId

if TYPE_CHECKING:
    from tests.tui.fake_client import FakeClient

DAY = 86_400
CODE = "ABCD-EFGH-JKLM-NPQR"
EMOJI = [
    *(("🐶", "dog"), ("🌵", "cactus"), ("⚓", "anchor"), ("🍎", "apple")),
    *(("🚲", "bicycle"), ("🔑", "key"), ("🎸", "guitar")),
]


class Wrong(TelexError):
    """What a test lets go wrong."""


def fingerprint(account: str, seed: int = 0) -> Fingerprint:
    """Digits that differ by account and seed."""
    start = sum(account.encode()) + seed
    digits = " ".join(f"{(start * (n + 7)) % 100000:05}" for n in range(12))
    key = "0123456789-abcdefghijklmnopqrstuvwxyz_ABCDE"
    uri = f"telex:verify:1/alice@example.org/{key}/{account}/{key}"
    return Fingerprint(account, digits, "🐶 🌵 ⚓ 🍎 🚲 🔑 🎸", uri)


class Part:
    """What the parts share."""

    def __init__(self, client: "FakeClient") -> None:
        self.client = client
        self.refuse_next: Exception | None = None

    def _asked(self, call: str) -> None:
        self.client.asked.append(call)
        if self.refuse_next is not None:
            error, self.refuse_next = self.refuse_next, None
            raise error


class FakeDevices(Part):
    """One's own devices."""

    def __init__(self, client: "FakeClient") -> None:
        super().__init__(client)
        now = client.now // 1000
        self.all = [
            Device(client.device, "laptop", now - 9 * DAY, now + 80 * DAY, True, True),
            Device(
                f"{client.account}/bbbbbbbbbbbbbbbb",
                "phone",
                now - 3 * DAY,
                now + 87 * DAY,
                False,
                False,
                client.now - DAY * 1000,
            ),
        ]
        self.offer = LinkOffer(client.account, f"{client.account}/cccccccc", "tablet")

    async def list(self) -> "list[Device]":
        self._asked("devices")
        return [*self.all]

    async def rename(self, device: str, name: str) -> None:
        self._asked(f"rename {device} {name}")
        self._change(device, name=name)

    async def revoke(self, device: str, *, phrase: str | None = None) -> None:
        self._asked(f"revoke {device} {phrase}")
        self._change(device, revoked=True)

    async def look(self, code: str) -> LinkOffer:
        self._asked(f"look {code}")
        return self.offer

    async def approve(
        self, offer: LinkOffer, *, manager: bool = False, history: bool = True
    ) -> None:
        self._asked(f"approve {offer.name} manager={manager} history={history}")

    def _change(self, device: str, **values: Any) -> None:
        self.all = [
            replace(one, **values) if one.id == device else one for one in self.all
        ]
        self.client.tell(DevicesChanged())

    def progress(
        self, stage: Any, done: int = 0, total: int = 0, detail: str = ""
    ) -> None:
        """The linking of a device goes on."""
        self.client.tell(LinkChanged(LinkProgress(stage, done, total, detail)))


class FakeBackup(Part):
    """The encrypted backup."""

    def __init__(self, client: "FakeClient") -> None:
        super().__init__(client)
        self.report = DrillReport(True, 3, 1234, 5, client.now, [])
        self.refuse_enable: Exception | None = None
        """Raised unless the words are given."""
        self.now_is = BackupStatus(True, client.now, 1234, 5_000_000, 100 << 20, "")

    async def status(self) -> BackupStatus:
        self._asked("status")
        return self.now_is

    async def enable(self, *, phrase: str | None = None) -> None:
        self._asked(f"enable {phrase}")
        if phrase is None and self.refuse_enable is not None:
            raise self.refuse_enable
        self.now_is = replace(self.now_is, enabled=True)

    async def disable(self) -> None:
        self._asked("disable")
        self.now_is = replace(self.now_is, enabled=False)

    async def drill(
        self,
        *,
        phrase: str | None = None,
        progress: Callable[[int, int], object] = lambda done, total: None,
    ) -> DrillReport:
        self._asked(f"drill {phrase}")
        progress(1, 2)
        return self.report

    async def now(
        self, progress: Callable[[int, int], object] = lambda done, total: None
    ) -> BackupStatus:
        self._asked("now")
        progress(1234, 1235)
        self.now_is = replace(self.now_is, messages=self.now_is.messages + 1)
        return self.now_is


class FakeVerification(Part):
    """Keys of people."""

    def __init__(self, client: "FakeClient") -> None:
        super().__init__(client)
        self.changes: list[KeyChange] = []
        self.comparisons_seen: dict[str, Sas] = {}

    async def fingerprint(self, account: str) -> Fingerprint:
        self._asked(f"fingerprint {account}")
        return fingerprint(account)

    async def check_uri(self, account: str, text: str) -> bool:
        self._asked(f"check {account}")
        if text != fingerprint(account).uri:
            raise Wrong("This is not the code of that person.")
        return True

    async def confirm(self, account: str) -> None:
        self._asked(f"confirm {account}")
        self.client.trust(account, Trust.VERIFIED)

    async def withdraw(self, account: str) -> None:
        self._asked(f"withdraw {account}")
        self.client.trust(account, Trust.UNVERIFIED)

    async def start_sas(self, account: str) -> str:
        self._asked(f"start_sas {account}")
        self.go("sas-1", "waiting", account)
        return "sas-1"

    async def accept(self, id: str) -> None:
        self._asked(f"accept {id}")
        self.go(id, "compare")

    async def agree(self, id: str) -> None:
        self._asked(f"agree {id}")
        self.go(id, "agreed")

    async def refuse(self, id: str) -> None:
        self._asked(f"refuse {id}")
        self.go(id, "refused")

    def go(self, id: str, stage: Any, account: str = "") -> None:
        """A comparison goes on."""
        account = account or self.comparisons_seen[id].account
        emoji = EMOJI if stage in ("compare", "agreed", "done") else []
        sas = Sas(id, account, stage, emoji, "1234 5678 9012" if emoji else "", "")
        self.comparisons_seen[id] = sas
        if stage == "done":
            self.client.trust(account, Trust.VERIFIED)
        self.client.tell(SasChanged(sas))

    async def comparisons(self) -> list[Sas]:
        over = ("done", "refused", "failed")
        return [one for one in self.comparisons_seen.values() if one.stage not in over]

    async def device_list(self, account: str) -> list[MemberDevice]:
        self._asked(f"device_list {account}")
        made = self.client.now // 1000
        return [MemberDevice(f"{account}/aaaaaaaaaaaaaaaa", made, Trust.VERIFIED)]

    async def changed(self) -> list[KeyChange]:
        return [*self.changes]

    async def accept_new_key(self, account: str) -> None:
        self._asked(f"accept_new_key {account}")
        self.changes = [one for one in self.changes if one.account != account]
        self.client.trust(account, Trust.UNVERIFIED)

    async def keep_old_key(self, account: str) -> None:
        self._asked(f"keep_old_key {account}")

    def change(self, account: str, *rooms: LogId) -> None:
        """Somebody has another key."""
        old, new = fingerprint(account), fingerprint(account, 1)
        self.changes.append(KeyChange(account, old, new, rooms))
        self.client.trust(account, Trust.CHANGED)


class FakeDoctor(Part):
    """What does not work."""

    def __init__(self, client: "FakeClient") -> None:
        super().__init__(client)
        self.ailments: dict[str, Ailment] = {}

    async def examine(self, room: LogId | None = None) -> list[Ailment]:
        return [one for one in self.ailments.values() if room in (None, one.room)]

    async def repair(self, id: str) -> Ailment:
        self._asked(f"repair {id}")
        self.ailments[id] = replace(self.ailments[id], state="repaired")
        return self.ailments[id]

    async def repair_all(self) -> None:
        self._asked("repair_all")
        for id in self.ailments:
            self.ailments[id] = replace(self.ailments[id], state="repaired")


class FakeLinking:
    """A new device that waits; the test lets it in."""

    def __init__(self, account: str, wait: Callable[[], Any]) -> None:
        self.request = LinkRequest(account, CODE, f"telex:link:{account}:{CODE}")
        self.closed = False
        self._wait = wait

    async def wait(self) -> Any:
        return await self._wait()

    async def close(self) -> None:
        self.closed = True
