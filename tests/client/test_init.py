"""The package's face: honest exports, and an import that costs little."""

import subprocess
import sys

import client
import client.errors
import client.model

HEAVY = ("textual", "sqlmodel", "aiohttp", "sqlcipher3", "nacl", "mnemonic", "node")


def loaded_after(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(*sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    return set(result.stdout.split())


def test_importing_the_package_loads_nothing_heavy() -> None:
    assert not loaded_after("import client").intersection(HEAVY)


def test_the_client_itself_needs_no_screen_and_no_server() -> None:
    loaded = loaded_after("from client import Client")
    assert "aiohttp" in loaded
    assert not loaded.intersection(
        ("textual", "sqlmodel", "sqlalchemy", "node", "federation", "tui")
    )


def test_everything_that_is_exported_exists() -> None:
    for module in (client, client.errors, client.model):
        for name in module.__all__:
            assert getattr(module, name) is not None
        assert sorted(module.__all__) == list(module.__all__)


def test_every_error_is_exported_and_ours() -> None:
    own = {
        name
        for name, value in vars(client.errors).items()
        if isinstance(value, type) and value.__module__ == "client.errors"
    }
    assert own == set(client.errors.__all__)
