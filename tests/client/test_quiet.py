"""What holds secrets, or what people write, prints none of it."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import pkgutil
from collections.abc import Iterator

import msgspec
import pytest

import client as package

SECRET = {
    *("answer_key", "ask", "auth_seed", "backup", "body", "credential", "draft"),
    *("key", "offer_key", "passphrase", "password", "phrase", "private", "secret"),
    *(
        "sdp",
        "offer",
        "answer",
        "seed",
        "segment",
        "text",
        "uri",
        "value",
        "vault_key",
        "words",
    ),
}
"""Names of fields that hold keys, codes, or what people write."""

PUBLIC = {
    ("Alarm", "text"): "what the program says",
    ("Cause", "text"): "what the program says",
    ("Me", "ask"): "a KeyPair, which prints no seed",
    ("Signer", "key"): "a KeyPair, which prints no seed",
    ("Fingerprint", "uri"): "to be shown to anybody",
    ("ResendRequest", "key"): "a public key",
    ("Row", "key"): "a public key",
    ("SasAccept", "key"): "a public key",
    ("SasReveal", "key"): "a public key",
    ("Where", "key"): "a place in the database",
}

PLANTED = "planted secret"


def _classes() -> Iterator[type]:
    for module in pkgutil.walk_packages(package.__path__, "client."):
        for value in vars(importlib.import_module(module.name)).values():
            if inspect.isclass(value) and value.__module__ == module.name:
                yield value


def _fields(kind: type) -> list[str]:
    if issubclass(kind, msgspec.Struct):
        return list(kind.__struct_fields__)
    if dataclasses.is_dataclass(kind):
        return [field.name for field in dataclasses.fields(kind) if field.init]
    return list(getattr(kind, "_fields", ()))


def _holders() -> list[tuple[type, list[str]]]:
    found = []
    for kind in _classes():
        names = [
            name
            for name in _fields(kind)
            if (name in SECRET and (kind.__name__, name) not in PUBLIC)
            or (kind.__name__, name) == ("LinkRequest", "code")
        ]
        if names or kind.__name__ in ("Content", "Registers", "Records"):
            found.append((kind, names))
    return found


@pytest.mark.parametrize(
    "kind", [kind for kind, _ in _holders()], ids=lambda kind: kind.__name__
)
def test_what_holds_secrets_prints_none(kind: type) -> None:
    """All values are planted, so what an inner one would print is seen as well."""
    for planted in (PLANTED, PLANTED.encode()):
        names = dict(_holders())[kind] or _fields(kind)
        values = dict.fromkeys(_fields(kind), "-") | dict.fromkeys(names, planted)
        whole = kind(**values)
        assert PLANTED not in repr(whole), kind
        rich = getattr(whole, "__rich_repr__", None)
        if rich is not None:
            assert PLANTED not in repr(list(rich()))


def test_the_known_holders_are_among_them() -> None:
    names = {kind.__name__ for kind, _ in _holders()}
    assert names >= {
        *("Answer", "LinkRequest", "Meeting", "Row", "Entry", "Registers", "Text"),
        *("Reply", "Again", "Message", "Room", "Job", "MessageRecord", "Me"),
    }
