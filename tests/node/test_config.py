"""Settings: the example is the schema, and mistakes get one clear sentence."""

from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest

from node.config import ConfigProblem, Settings, load, parse, render

EXAMPLE = Path(__file__).parents[2] / "config.example.toml"


def settings_of(kind: Any, prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for entry in fields(kind):
        default = getattr(entry, "default_factory", None)
        if is_dataclass(default):
            found |= settings_of(default, f"{prefix}{entry.name}.")
        else:
            found[prefix + entry.name] = entry
    return found


def test_the_example_file_is_the_schema() -> None:
    assert EXAMPLE.read_text() == render(), (
        'write it again: python -c "from node.config import render; '
        "print(render(), end='')\" > config.example.toml"
    )


def test_the_example_holds_every_default() -> None:
    assert load(EXAMPLE) == parse({"name": "example.org"}, EXAMPLE.parent)


def test_every_setting_is_shown_and_explained() -> None:
    lines = EXAMPLE.read_text().splitlines()
    known = settings_of(Settings)
    assert len(known) > 15
    for name, entry in known.items():
        key = name.rpartition(".")[2]
        assert any(line.startswith((f"{key} = ", f"# {key} = ")) for line in lines), (
            name
        )
        assert entry.metadata["help"].rstrip().endswith((".", "::", "all.", "1"))
        if "int" in str(entry.type) or "float" in str(entry.type):
            assert entry.metadata["unit"], f"{name} has no unit"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({}, "name is missing"),
        ({"name": "Example.org"}, "lower case"),
        ({"name": "a", "colour": 1}, "no setting colour"),
        ({"name": "a", "limits": {"x": 1}}, "no setting limits.x"),
        ({"name": "a", "limits": 3}, "limits must be a section"),
        ({"name": "a", "listen": {"port": "80"}}, "listen.port must be a whole number"),
        ({"name": "a", "listen": {"port": True}}, "listen.port must be a whole number"),
        ({"name": "a", "listen": {"port": 70000}}, "between 1 and 65535"),
        ({"name": "a", "listen": {"host": "example.org"}}, "IP address"),
        ({"name": "a", "registration": "maybe"}, "one of invite, open, closed"),
        ({"name": "a", "tls": {"cert_file": "x"}}, "belong together"),
        ({"name": "a", "federation": {"domains": "x"}}, "list of texts"),
        ({"name": "a", "base_url": "example.org"}, "https://host"),
        ({"name": "a", "log": {"level": "loud"}}, "log.level must be one of"),
    ],
)
def test_mistakes_get_one_sentence(data: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigProblem) as caught:
        parse(data, Path("/"))
    text = str(caught.value)
    assert words in text
    assert "\n" not in text and text.endswith(".")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigProblem, match="telex-node init"):
        load(tmp_path / "none.toml")
    bad = tmp_path / "bad.toml"
    bad.write_text("name = ")
    with pytest.raises(ConfigProblem, match="not valid TOML"):
        load(bad)
    bad.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigProblem, match="cannot be read"):
        load(bad)


def test_paths_start_at_the_file_and_the_port_in_the_name(tmp_path: Path) -> None:
    file = tmp_path / "node.toml"
    file.write_text(
        render(
            {
                "name": "example.org:8443",
                "tls.cert_file": "c.pem",
                "tls.key_file": "/k.pem",
            }
        )
    )
    settings = load(file)
    assert settings.data_dir == tmp_path / "data"
    assert settings.tls.cert_file == tmp_path / "c.pem"
    assert settings.tls.key_file == Path("/k.pem")
    assert (settings.port, settings.public_url) == (8443, "https://example.org:8443")
    with pytest.raises(ValueError, match="no such settings"):
        render({"nam": 1})
