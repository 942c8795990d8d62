"""The command line: light to start, one sentence when something is wrong."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from client.errors import KeyringFailed, NodeUnreachable
from client.storage import system_keyring
from tests.tui.fake_client import WORDS, FakeClient
from tui import cli
from tui.config import ConfigError, Settings, load_settings, save_settings
from tui.locations import default_locations, profile_locations

LOADED = """
import json, sys
import tui.cli
try:
    tui.cli.cli.main(["--help"], standalone_mode=False)
except SystemExit:
    pass
print(json.dumps(sorted(sys.modules)), file=sys.stderr)
"""


def modules(program: str) -> set[str]:
    """The top-level modules that a program loads."""
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    names = json.loads(run.stderr.splitlines()[-1])
    return {str(name).partition(".")[0] for name in names}


def test_help_loads_nothing_heavy() -> None:
    heavy = {"textual", "rich", "aiohttp", "nacl", "client", "e2ee", "msgspec"}
    assert modules(LOADED) & (heavy | {"asyncio", "node", "federation"}) == set()


def test_memory_is_guarded_before_anything_is_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done: list[str] = []
    monkeypatch.setattr("client.storage.hardening.harden", lambda: done.append("guard"))
    monkeypatch.setattr(cli.cli, "main", lambda **_: done.append("commands"))
    with pytest.raises(SystemExit):
        cli.main()
    assert done == ["guard", "commands"]


def test_the_screens_load_no_server_and_no_calls() -> None:
    program = (
        "import json, sys, tui.app, tui.demo\n"
        "print(json.dumps(sorted(sys.modules)), file=sys.stderr)"
    )
    loaded = modules(program)
    assert (
        loaded & {"node", "federation", "aiortc", "av", "sqlmodel", "trustme"} == set()
    )


def telex(*words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run the program as a person would, without a terminal."""
    return subprocess.run(
        [sys.executable, "-m", "tui.cli", *words],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        env={"PATH": "/usr/bin:/bin", "HOME": environ.pop("HOME", "/"), **environ},
        timeout=60,
    )


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["--help"], 0, "Without a command it opens the chat"),
        (["version"], 0, "telex "),
        ([], 1, "The chat needs a terminal"),
        (["demo"], 1, "The demo needs a terminal"),
        (["nonsense"], 2, "No such command"),
        (["register", "alice@example.org"], 2, "--invite"),
        (["register", "Alice", "--invite", "x"], 1, "is not an address"),
        (["send", "bob@example.org", "hi"], 1, "no account"),
    ],
)
def test_every_end_is_a_sentence(
    words: list[str], code: int, says: str, tmp_path: Path
) -> None:
    run = telex(
        "--profile", str(tmp_path / "p"), *words, TELEX_PASSWORD="correct horse"
    )
    assert run.returncode == code, run
    assert "Traceback" not in run.stdout + run.stderr
    if says != "no account":
        assert says in run.stdout + run.stderr


def test_register_prints_the_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    client = FakeClient()

    async def register(*_: object, **values: str) -> object:
        asked.append(values["password"])
        return client, list(WORDS)

    monkeypatch.setattr("client.engine.Client.register", classmethod(register))
    (tmp_path / "password").write_text("correct horse\n")
    (tmp_path / "ca.pem").write_text("x")
    run = CliRunner().invoke(
        cli.cli,
        [
            *("--profile", str(tmp_path / "p"), "--ca-file", str(tmp_path / "ca.pem")),
            *("register", "alice@example.org", "--invite", "code", "--yes"),
            *("--password-file", str(tmp_path / "password")),
        ],
    )
    assert run.exit_code == 0, run.output
    assert asked == ["correct horse"]
    assert [word for word in WORDS if word in run.output] == WORDS
    assert "correct horse" not in run.output
    assert client.closed
    saved = load_settings(tmp_path / "p" / "tui.toml")
    assert saved.ca_file == str(tmp_path / "ca.pem")


def test_register_asks_for_the_password_twice_and_for_paper(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []
    client = FakeClient()
    client.keyring_trouble = KeyringFailed("There is no keyring here.")

    async def register(*_: object, **values: object) -> object:
        asked.append(values["backup"])
        return client, list(WORDS)

    async def reopen(*_: object, **__: object) -> object:
        return client

    there = [True]
    monkeypatch.setattr("client.engine.Client.register", classmethod(register))
    monkeypatch.setattr("client.engine.Client.open", classmethod(reopen))
    monkeypatch.setattr(system_keyring, "available", lambda: there[0])
    monkeypatch.setattr("client.enrol.quiz", lambda words: [1, 9, 24])
    run = CliRunner().invoke(
        cli.cli,
        ["--profile", str(tmp_path), "register", "a@b.example", "--invite", "x"],
        input="secret one\nsecret two\nsecret one\nsecret one\n\nn\ny\n"
        "wrong\nword1\nWORD9\n word24 \ny\n",
    )
    assert run.exit_code == 0, run.output
    assert "do not match" in run.output
    assert run.output.count("Have you written them down?") == 2
    assert run.output.count("This is not word 1;") == 1
    assert "secret" not in run.output
    # Both are offered, the keyring after the words: it does not cost them.
    assert asked == [True] and client.closed
    assert "Keep an encrypted backup" in run.output
    assert "The keyring is not used: There is no keyring here." in run.output
    assert run.output.index("word24") < run.output.index("keyring open Telex here")
    # Without a keyring there is nothing to ask.
    there[0] = False
    run = CliRunner().invoke(
        cli.cli,
        ["--profile", str(tmp_path), "register", "a@b.example", "--invite", "x"],
        input="secret one\nsecret one\n\ny\nword1\nword9\nword24\n",
    )
    assert run.exit_code == 0, run.output
    assert "keyring" not in run.output and "Now start: telex" in run.output


def test_a_node_that_does_not_answer_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def register(*_: object, **__: object) -> object:
        raise NodeUnreachable("b.example does not answer; try again later.")

    monkeypatch.setattr("client.engine.Client.register", classmethod(register))
    monkeypatch.setenv("TELEX_PASSWORD", "correct horse")
    monkeypatch.setattr(
        "sys.argv",
        [
            "telex",
            "--profile",
            str(tmp_path),
            "register",
            "a@b.example",
            "--invite=x",
            "--yes",
        ],
    )
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 1
    assert capsys.readouterr().err == (
        "telex: b.example does not answer; try again later.\n"
    )


def test_locations_follow_xdg(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", "/home/x")
    monkeypatch.setenv("XDG_DATA_HOME", "relative")
    monkeypatch.setenv("XDG_CONFIG_HOME", "/conf")
    locations = default_locations()
    assert locations.profile == Path("/home/x/.local/share/telex")
    assert locations.config == Path("/conf/telex/tui.toml")
    own = profile_locations(tmp_path / "deep" / "er")
    own.prepare()
    assert (tmp_path / "deep" / "er").stat().st_mode & 0o777 == 0o700


def test_settings_survive_and_keep_what_they_do_not_know(tmp_path: Path) -> None:
    path = tmp_path / "sub" / "tui.toml"
    assert load_settings(path) == Settings()
    path.parent.mkdir()
    path.write_text('theme = "light"\nfuture = ["a", 1, true]\n')
    settings = load_settings(path).changed(bell=True, ca_file='/a "b"\\c\n')
    save_settings(path, settings)
    again = load_settings(path)
    assert again == settings
    assert again.extra == (("future", ["a", 1, True]),)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("theme = ", "not valid TOML"),
        ('theme = "blue"', 'theme must be one of "dark", "light"'),
        ("bell = 1", "bell must be true or false"),
        ("ca_file = 3", "ca_file must be a text"),
    ],
)
def test_wrong_settings_are_a_sentence(tmp_path: Path, content: str, says: str) -> None:
    path = tmp_path / "tui.toml"
    path.write_text(content)
    with pytest.raises(ConfigError, match=says):
        load_settings(path)
