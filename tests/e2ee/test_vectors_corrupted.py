"""A vector with one wrong value is noticed: every case of every file, every field.

Of each case one value of each field is changed by one bit (of a list of epochs or
leaves, a seeded one), and some more seeded ones; then the runner must fail it.
"""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from e2ee.vectors import run_document
from tests.vectors.primitives import PRIMITIVES

VECTORS = Path(__file__).parent.parent / "vectors"
LISTS = sorted(
    path for folder in ("mls", "hpke") for path in (VECTORS / folder).glob("*.json")
)
GROUPS = sorted((VECTORS / "wycheproof").glob("*.json"))
MORE = 100
"""Seeded values of a case beside those of each field; most cases have fewer."""
LONG = {"passive-client-random": 20}
"""Fewer of those that take long."""
REGISTERED = {"cipher_suite", "kem_id", "kdf_id", "aead_id"}
"""Numbers that would make a case be skipped."""

Place = tuple[Any, ...]

UNCHECKABLE = {
    # Whoever proposes an Add or a Remove changes nothing about the tree.
    ("tree-operations", "proposal_sender"),
    # A PSK that no proposal uses.
    ("passive-client-handling-commit", "external_psks.*.psk"),
    ("passive-client-handling-commit", "external_psks.*.psk_id"),
    ("passive-client-welcome", "external_psks.*.psk"),
    ("passive-client-welcome", "external_psks.*.psk_id"),
    # `cryptography` draws the randomness of ML-KEM itself; `enc` is checked.
    ("hpke-pq-xwing", "ikmE"),
}
"""Values that nothing can check: file, field, and why."""


def values(data: Any, place: Place = ()) -> Iterator[Place]:
    """Give the places of all values that are not containers."""
    items: Any = ()
    if isinstance(data, dict):
        items = data.items()
    elif isinstance(data, list):
        items = enumerate(data)
    elif data is not None:
        yield place
    for key, value in items:
        yield from values(value, (*place, key))


def field_of(place: Place) -> str:
    return ".".join("*" if isinstance(key, int) else key for key in place)


def corrupt(field: str, value: Any) -> Any:
    """Change a value as little as possible."""
    if isinstance(value, int):
        return value + 1
    try:
        raw = bytearray.fromhex(value)
    except ValueError:
        return value + "x"
    # Of the ciphertext only the first bytes are sampled; elsewhere the last byte:
    # no header, and of an X25519 key none of the bits that do not count.
    at = 0 if field == "sender_data.ciphertext" else -1
    if not raw:
        return "00"
    raw[at] ^= 1
    return raw.hex()


def corrupted(case: Any, place: Place) -> Any:
    changed = copy.deepcopy(case)
    inner = changed
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = corrupt(field_of(place), inner[place[-1]])
    return changed


def chosen(name: str, number: int, case: Any) -> list[Place]:
    """Choose one place of each field that can be checked, and some more."""
    fields: dict[str, list[Place]] = {}
    for place in values(case):
        field = field_of(place)
        if field not in REGISTERED and (name, field) not in UNCHECKABLE:
            fields.setdefault(field, []).append(place)
    rng = random.Random(f"{name} {number}")
    places = [rng.choice(found) for found in fields.values()]
    everything = [place for found in fields.values() for place in found]
    more = rng.sample(everything, min(LONG.get(name, MORE), len(everything)))
    return list(dict.fromkeys([*places, *more]))


def outcome(name: str, document: Any) -> tuple[int, int]:
    report = run_document(name, document, PRIMITIVES)
    return report.passed, report.failed


@pytest.mark.parametrize(
    "path", [path for path in LISTS if path.stem != "messages"], ids=lambda p: p.stem
)
def test_one_wrong_bit_fails(path: Path) -> None:
    for number, case in enumerate(json.loads(path.read_text())):
        places = chosen(path.stem, number, case)
        assert places
        for place in places:
            label = f"{number}: {'.'.join(map(str, place))}"
            assert outcome(path.stem, [corrupted(case, place)]) == (0, 1), label


def test_messages_must_keep_their_form() -> None:
    """These are syntax alone: signatures and tags are not meant to verify."""
    for case in json.loads((VECTORS / "mls" / "messages.json").read_text()):
        for name, value in case.items():
            wrongs = [value[:-2], value + "00"]
            if name != "remove_proposal":  # any four bytes are a leaf index
                wrongs.append("ff" + value[2:])
            for wrong in wrongs:
                assert outcome("messages", [{**case, name: wrong}]) == (0, 1), name


TESTED = {
    "ed25519": ("msg", "sig"),
    "x25519": ("shared", "private", "public"),
    "chacha20_poly1305": ("key", "iv", "aad", "msg", "ct", "tag"),
    "xchacha20_poly1305": ("key", "iv", "aad", "msg", "ct", "tag"),
    "hkdf_sha256": ("ikm", "salt", "info", "okm"),
}
"""Fields of Wycheproof, by file."""


def flipped(value: str, rng: random.Random) -> str:
    """Flip a bit in the middle: X25519 ignores some at both ends."""
    raw = bytearray.fromhex(value)
    if not raw:
        return "00"
    raw[len(raw) // 2] ^= 1 << rng.randrange(8)
    return raw.hex()


def corruptions(name: str, test: Any, rng: random.Random) -> Iterator[Any]:
    """Give wrong forms of a test of Wycheproof."""
    if test["result"] == "invalid":
        yield {**test, "result": "valid"}
        return
    yield {**test, "result": "invalid"}
    for field in TESTED[name]:
        # HMAC fills a short key up with zeros, so one more changes nothing; and a
        # public key that gives zero does so with every private one.
        empty = field == "salt" and not test[field]
        zero = field == "private" and not int(test["shared"], 16)
        if not empty and not zero:
            yield {**test, field: flipped(test[field], rng)}


@pytest.mark.parametrize("path", GROUPS, ids=lambda path: path.stem)
def test_a_wrong_case_of_wycheproof_fails(path: Path) -> None:
    document = json.loads(path.read_text())
    rng = random.Random(path.stem)
    for group in document["testGroups"]:
        for test in group["tests"]:
            wrong = list(corruptions(path.stem, test, rng))
            groups = [{**group, "tests": wrong}]
            given = outcome(path.stem, {**document, "testGroups": groups})
            assert given == (0, len(wrong)), test["tcId"]
