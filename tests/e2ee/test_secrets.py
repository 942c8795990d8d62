"""No secret is ever shown: not in a repr, not in a str, not in an exception."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator

import pytest

from e2ee import ALLOW_ALL, Group
from e2ee.errors import E2eeError
from e2ee.secret_tree import APPLICATION_RATCHET
from tests.e2ee.support import NOW, Room, bundle_for, commit_in


def shown(value: object) -> str:
    return f"{value!r} {value!s}"


def appears(secret: bytes, text: str) -> bool:
    return secret.hex() in text or repr(secret)[2:-1] in text


def test_nothing_shows_a_secret() -> None:
    room = Room.of(3)
    key = os.urandom(32)
    bundle = bundle_for("q", key)
    group = room["p0"]
    group.encrypt(b"plaintext that nobody should see")
    room.propose("p0", group.propose_update())
    staged = group.commit(add=[bundle.key_package], include_pending=False, now=NOW)
    state = group._epoch
    found = group._ratchets.find(1, APPLICATION_RATCHET, 3)
    stored = next(iter(group._pending.values()))
    secrets = [
        bundle.init_private,
        bundle.encryption_private,
        staged.leaf_private,
        staged.path_secret,
        stored.private,
        found.key,
        found.nonce,
        *state.private_keys.values(),
        *(
            getattr(state.secrets, field.name)
            for field in dataclasses.fields(state.secrets)
            if getattr(state.secrets, field.name)
        ),
        group._signature_private,
        room.people["p0"].signature_private,
    ]
    assert all(secrets)
    values = [
        group,
        state,
        state.secrets,
        bundle,
        staged,
        stored,
        found,
        group._ratchets,
        group._ratchets._ratchets,
        group._saved(),
        room.hub,
        commit_in(staged),
    ]
    for value in values:
        text = shown(value)
        for secret in secrets:
            assert not appears(secret, text), type(value)


def test_decrypted_content_is_not_in_the_repr() -> None:
    room = Room.of(2)
    got = room["p1"].decrypt(room["p0"].encrypt(b"between us"))
    assert "between us" not in shown(got)


def dataclasses_of_package() -> Iterator[type]:
    import importlib
    import pkgutil

    import e2ee

    for module in pkgutil.walk_packages(e2ee.__path__, "e2ee."):
        if module.name.endswith("__main__"):
            continue
        for value in vars(importlib.import_module(module.name)).values():
            if isinstance(value, type) and dataclasses.is_dataclass(value):
                yield value


def test_fields_that_sound_secret_are_hidden() -> None:
    words = ("secret", "private", "psk_value", "nonce_value")
    public = {"encrypted_path_secret", "secrets"}
    checked = 0
    for cls in set(dataclasses_of_package()):
        for field in dataclasses.fields(cls):
            if field.name in public and cls.__name__ in ("UpdatePathNode", "Welcome"):
                continue
            if any(word in field.name for word in words):
                checked += 1
                assert not field.repr, f"{cls.__name__}.{field.name}"
    assert checked > 15


def test_exceptions_say_nothing_secret() -> None:
    room = Room.of(2)
    group = room["p1"]
    message = room["p0"].encrypt(b"very secret words")
    state = group._epoch
    for at in range(0, len(message), 7):
        wrong = bytearray(message)
        wrong[at] ^= 255
        with pytest.raises(E2eeError) as caught:
            group.decrypt(bytes(wrong))
        text = shown(caught.value) + shown(caught.value.__cause__)
        assert "secret words" not in text
        for secret in state.private_keys.values():
            assert not appears(secret, text)


def test_groups_are_not_pickled_by_accident() -> None:
    group = Group.create(
        group_id=b"g",
        signature_private=os.urandom(32),
        identity=b"x",
        now=NOW,
        validator=ALLOW_ALL,
    )
    import pickle

    with pytest.raises(TypeError):
        pickle.dumps(group)
