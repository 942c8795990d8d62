"""`telex link`, `devices`, `recover`, `backup`, `verify`, `doctor`, `passphrase`."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from client.errors import KeyringFailed, WrongPassword
from client.model import Ailment, LinkProgress, RestoreProgress, Trust
from protocol.errors import TelexError
from tests.tui.fake_client import FakeClient
from tests.tui.fake_trust import CODE, FakeLinking, Wrong, fingerprint
from tui import cli
from tui.screens.verify import digit_rows

BOB = "bob@example.org"
PHRASE = " ".join(["abandon"] * 23 + ["art"])
PASSWORD = "correct horse"


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeClient:
    """A profile that opens with the right password."""
    made = FakeClient()
    (tmp_path / "key.json").write_text("{}")
    monkeypatch.setenv("TELEX_PASSWORD", PASSWORD)

    async def open_it(_: object, __: object, *, password: str | None = None) -> object:
        if password is None:
            raise KeyringFailed("The keyring is locked.")
        if password != PASSWORD:
            raise WrongPassword
        return made

    monkeypatch.setattr("client.engine.Client.open", classmethod(open_it))
    return made


def telex(folder: Path, *words: str, typed: str = "") -> Result:
    """Run a command; an error of ours becomes what `main` prints."""
    run = CliRunner().invoke(
        cli.cli, ["--profile", str(folder), *words], input=typed, color=False
    )
    if run.exception is not None and not isinstance(run.exception, SystemExit):
        assert isinstance(run.exception, TelexError), run.exc_info
        run.output_bytes += str(run.exception).encode()
    return run


def test_devices_are_a_table(client: FakeClient, tmp_path: Path) -> None:
    for words in (["devices"], ["devices", "list"]):
        run = telex(tmp_path, *words)
        assert run.exit_code == 0, run.output
        lines = run.output.splitlines()
        assert lines[0].split() == ["NAME", "ID", "ADDED", "UNTIL", "LAST", "SEEN"]
        assert "laptop" in lines[1] and "this device, manager" in lines[1]
        assert "phone" in lines[2] and "bbbbbbbb" in lines[2]
        assert max(map(len, lines)) <= 80
    assert client.closed


def test_a_device_is_named_by_its_name_or_the_beginning_of_its_id(
    client: FakeClient, tmp_path: Path
) -> None:
    phone = client.devices.all[1].id
    assert telex(tmp_path, "devices", "rename", "bbb", "pocket").exit_code == 0
    assert telex(tmp_path, "devices", "rename", "pocket", "tablet").exit_code == 0
    assert f"rename {phone} tablet" in client.asked
    run = telex(tmp_path, "devices", "rename", "nothing", "x")
    assert run.exit_code == 1 and "No device is called nothing" in run.output
    own = client.devices.all[0]
    client.devices.all.append(replace(own, id=own.id + "2", own=False))
    run = telex(tmp_path, "devices", "revoke", "aaaa", "--yes")
    assert run.exit_code == 1 and "give the id of one" in run.output


def test_revoke_asks_and_takes_the_words_where_it_must(
    client: FakeClient, tmp_path: Path
) -> None:
    own, phone = client.devices.all
    run = telex(tmp_path, "devices", "revoke", "laptop", "--yes")
    assert run.exit_code == 1 and "from another one of yours" in run.output
    run = telex(tmp_path, "devices", "revoke", "phone", typed="n\n")
    assert run.exit_code == 1 and not client.devices.all[1].revoked
    client.devices.all = [replace(own, manager=False), phone]
    words = tmp_path / "words"
    words.write_text(PHRASE.upper().replace(" ", "\n"))
    run = telex(
        *(tmp_path, "devices", "revoke", "phone", "--yes", "--phrase-file", str(words))
    )
    assert run.exit_code == 0, run.output
    assert f"revoke {phone.id} {PHRASE}" in client.asked
    assert "abandon" not in run.output


def test_approve_shows_what_it_lets_in_and_waits(
    client: FakeClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    approve = client.devices.approve

    async def and_go_on(*args: object, **values: object) -> None:
        await approve(*args, **values)  # type: ignore[arg-type]
        loop = asyncio.get_running_loop()
        for n, stage in enumerate(("joining", "history", "done")):
            progress = LinkProgress(stage, n, 2, "")  # type: ignore[arg-type]
            loop.call_later(0.01 * (n + 1), client.tell_link, progress)

    monkeypatch.setattr(client.devices, "approve", and_go_on)
    run = telex(tmp_path, "devices", "approve", CODE, typed="n\n")
    assert run.exit_code == 1 and "tablet" in run.output
    run = telex(tmp_path, "devices", "approve", CODE, "--manager", typed="y\n")
    assert run.exit_code == 0, run.output
    assert "becomes a device of alice@example.org" in run.output
    assert "The new device joins the chats" in run.output
    assert "The new device has everything" in run.output
    assert "approve tablet manager=True history=True" in client.asked
    # Without the code on the command line it is asked for.
    run = telex(tmp_path, "devices", "approve", "--yes", typed=f"{CODE}\n")
    assert run.exit_code == 0 and "Code on the new device" in run.output
    assert "tablet" in run.output
    client.devices.refuse_next = Wrong("No device shows this code.")
    run = telex(tmp_path, "devices", "approve", "x")
    assert run.exit_code == 1 and "No device shows this code." in run.output


def test_link_prints_code_and_picture_and_follows(
    client: FakeClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def wait() -> FakeClient:
        loop = asyncio.get_running_loop()
        loop.call_later(0.05, client.tell_link, LinkProgress("history", 7, 0, ""))
        loop.call_later(0.06, client.tell_link, LinkProgress("done", 0, 0, ""))
        return client

    class Linking(FakeLinking):
        async def __aenter__(self) -> "Linking":
            return self

        async def __aexit__(self, *_: object) -> None:
            await self.close()

    linking = Linking("alice@example.org", wait)
    asked = {}

    def link(*_: object, **values: str) -> Linking:
        asked.update(values)
        return linking

    monkeypatch.setattr("client.engine.Client.link", link)
    monkeypatch.setenv("TERM", "dumb")
    (tmp_path / "ca.pem").write_text("x")
    run = CliRunner().invoke(
        cli.cli,
        [
            *("--profile", str(tmp_path / "new"), "--ca-file"),
            *(str(tmp_path / "ca.pem"), "link", "alice@example.org"),
            *("--name", "tablet"),
        ],
    )
    assert run.exit_code == 0, run.output
    assert asked == {"password": PASSWORD, "device_name": "tablet"}
    assert f"Code:  {CODE}" in run.output
    assert "telex:link:alice@example.org" in run.output
    assert "█████" in run.output and "\x1b" not in run.output
    assert max(len(line) for line in run.output.splitlines()) <= 80
    assert "This device has everything" in run.output
    assert "This device belongs to alice@example.org now." in run.output
    assert linking.closed and client.closed
    assert PASSWORD not in run.output


def test_recover_and_drill(
    client: FakeClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = {}

    async def recover(*_: object, **values: str) -> FakeClient:
        asked.update(values)
        loop = asyncio.get_running_loop()
        loop.call_later(0.05, client.tell, RestoreProgress("messages", 1, 2))
        loop.call_later(0.06, client.tell, RestoreProgress("done", 2, 2))
        return client

    monkeypatch.setattr("client.engine.Client.recover", recover)
    account = "alice@example.org"
    run = telex(tmp_path, "recover", account, typed=PHRASE.upper() + "\n")
    assert run.exit_code == 0, run.output
    assert asked["phrase"] == PHRASE and asked["password"] == PASSWORD
    assert "is yours again" in run.output and "abandon" not in run.output
    assert "Your history is back." in run.output
    client.closed = False
    run = telex(tmp_path, "recover", account, "--drill", typed=PHRASE + "\n")
    assert run.exit_code == 0
    # The verdict first, then what it rests on.
    assert run.stdout.splitlines()[0] == "Everything would come back."
    assert "rooms     3" in run.stdout
    assert f"drill {PHRASE}" in client.asked
    client.backup.report = replace(
        client.backup.report, ok=False, lost=["10 messages of Garden."]
    )
    run = telex(tmp_path, "recover", account, "--drill", typed=PHRASE + "\n")
    assert run.exit_code == 1 and "! 10 messages of Garden." in run.output
    assert run.stdout.splitlines()[0] == "Not all would come back."
    run = telex(tmp_path, "recover", "dora@example.org", "--drill", typed="x\n")
    assert run.exit_code == 1 and "This profile is of alice" in run.output


def test_backup_commands(client: FakeClient, tmp_path: Path) -> None:
    run = telex(tmp_path, "backup")
    assert "backup    on" in run.output and "messages  1234" in run.output
    assert "size      4.8 MiB of 100 MiB" in run.output
    assert "messages  1235" in telex(tmp_path, "backup", "now").output
    assert telex(tmp_path, "backup", "off", typed="n\n").exit_code == 1
    assert "backup    on" in telex(tmp_path, "backup", "status").output
    assert "backup    off" in telex(tmp_path, "backup", "off", "--yes").output
    assert "backup    on" in telex(tmp_path, "backup", "on").output


def test_verify_prints_and_compares(
    client: FakeClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.add_room(BOB, direct=True)
    monkeypatch.setenv("TERM", "dumb")
    mark = fingerprint(BOB)
    run = telex(tmp_path, "verify", BOB)
    assert run.exit_code == 0, run.output
    assert run.output.splitlines()[:3] == digit_rows(mark.digits)
    assert mark.uri in run.output and "█" in run.output
    run = telex(tmp_path, "verify", BOB, "--digits", mark.digits[::-1])
    assert run.exit_code == 1 and "somebody may stand between you" in run.output
    assert not any(call.startswith("confirm") for call in client.asked)
    for typed in (mark.digits, mark.uri):
        run = telex(tmp_path, "verify", BOB, "--digits", typed)
        assert run.exit_code == 0 and "bob@example.org is verified" in run.output
    run = telex(tmp_path, "verify", BOB, "--withdraw")
    assert run.exit_code == 0 and client.asked[-1] == f"withdraw {BOB}"
    assert Trust.UNVERIFIED in {m.trust for m in client.all_members()}


def test_doctor_says_what_is_open(client: FakeClient, tmp_path: Path) -> None:
    run = telex(tmp_path, "doctor")
    assert run.exit_code == 0 and "Everything can be read and sent." in run.output
    room = client.add_room("Garden", [BOB])
    client.doctor.ailments["1"] = Ailment(
        "1",
        room,
        None,
        "lost_keys",
        "The keys are gone.",
        "",
        "rejoin",
        "Join.",
        "open",
    )
    run = telex(tmp_path, "doctor")
    assert run.exit_code == 1
    assert run.output.splitlines()[:4] == [
        "what    lost_keys in Garden (open)",
        "cause   The keys are gone.",
        "device  none at fault",
        "repair  Join.",
    ]
    one = replace(client.doctor.ailments["1"], device=client.device)
    client.doctor.ailments["1"] = one
    assert "device  this device\n" in telex(tmp_path, "doctor").output
    run = telex(tmp_path, "doctor", "--repair")
    assert run.exit_code == 0 and "repair_all" in client.asked


def test_passphrase(client: FakeClient, tmp_path: Path) -> None:
    run = telex(tmp_path, "passphrase", typed="battery\nbattery\n")
    assert run.exit_code == 0, run.output
    assert client.asked == ["password battery"] and "battery" not in run.output
    for flag, call in (
        ("--keyring", "keyring True"),
        ("--no-keyring", "keyring False"),
    ):
        assert telex(tmp_path, "passphrase", flag).exit_code == 0
        assert client.asked[-1] == call


def test_a_locked_keyring_falls_back_to_the_password(
    client: FakeClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "key.json").write_text('{"keyring": "x"}')
    monkeypatch.delenv("TELEX_PASSWORD")
    run = telex(tmp_path, "devices", typed=f"{PASSWORD}\n")
    assert run.exit_code == 0, run.output
    assert "The keyring is locked." in run.output and "laptop" in run.output


def test_without_a_profile_nothing_is_asked(tmp_path: Path) -> None:
    for words in (["devices"], ["doctor"], ["backup"], ["passphrase", "--keyring"]):
        run = telex(tmp_path / "none", *words)
        assert run.exit_code == 1
        assert "telex register" in run.output or "no account" in run.output.lower()
