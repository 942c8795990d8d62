"""Published vectors of signatures (RFC 9421), and what runs them.

The vectors use fields, keys and components that our profile does not allow, so they
run against the library's core through the same verifier and Ed25519 that
`protocol.signature` plugs into it.
"""

import base64
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from http_message_signatures import (
    HTTPSignatureAlgorithm,
    HTTPSignatureComponentResolver,
    HTTPSignatureKeyResolver,
    InvalidSignature,
    algorithms,
)
from http_sf.compat import Item

from protocol.signature_core import Ed25519
from protocol.signature_core import Verifier as CoreVerifier

VECTORS = Path(__file__).parents[1] / "vectors"

Case = dict[str, Any]


def load(name: str) -> Any:
    return json.loads((VECTORS / name).read_text())


SIGNATURES: list[Case] = load("rfc9421/signatures.json")
BASE_LINES: list[Case] = load("rfc9421/base-lines.json")
B26: Case = load("rfc9421/ed25519-b26.json")

LIBRARY_LIMITS = {
    "tr": "http-message-signatures 3.0.0 has no trailers (`;tr`); neither have we",
}
"""Component parameters the library cannot do; a case that needs one is skipped, and
`test_limits_of_the_library_are_still_there` fails when a reason is out of date."""

KEYED: dict[str, type[HTTPSignatureAlgorithm]] = {
    "ed25519": Ed25519,
    "hmac-sha256": algorithms.HMAC_SHA256,
}
"""Algorithms whose keys the vectors give; cases of others come without a key."""


class VectorFailed(Exception):
    """The library and a vector disagree."""


@dataclass
class Fields:
    lines: list[tuple[str, str]]

    def items(self) -> Iterable[tuple[str, str]]:
        return self.lines


@dataclass
class RequestMessage:
    method: str
    url: str
    request_target: str
    headers: Fields


@dataclass
class ResponseMessage:
    status_code: int
    headers: Fields
    request: RequestMessage | None


def message(given: Case, extra: Iterable[tuple[str, str]] = ()) -> Any:
    """A vector's message as the library wants it, in any form of target."""
    lines = [(name, value) for name, value in given["headers"]]
    fields = Fields([*lines, *extra])
    if "status" in given:
        request = given.get("request")
        return ResponseMessage(
            given["status"], fields, message(request) if request else None
        )
    target, scheme = given["target"], given.get("scheme", "https")
    host = next((value for name, value in lines if name.lower() == "host"), "")
    if "://" in target:  # absolute form
        url = target
    elif target == "*":
        url = f"{scheme}://{host}"
    elif given["method"] == "CONNECT":  # authority form
        url = f"{scheme}://{target}"
    else:
        url = f"{scheme}://{host}{target}"
    return RequestMessage(given["method"], url, target, fields)


def base_line(given: Case, component: str) -> str:
    node = Item()
    node.parse(component.encode())
    resolver: Any = HTTPSignatureComponentResolver
    return f"{component}: {resolver(message(given)).resolve(node)}"


def run_base_line(case: Case) -> None:
    line = base_line(case["message"], case["component"])
    if line != case["base_line"]:
        raise VectorFailed(f"{line!r} is not {case['base_line']!r}")


class AnyKey(HTTPSignatureKeyResolver):
    def __init__(self, key: Any) -> None:
        self.key = key

    def resolve_public_key(self, key_id: str) -> Any:
        return self.key


def verify_core(algorithm: type[HTTPSignatureAlgorithm], key: Any, case: Case) -> bytes:
    """The library's verifier over a case; gives the base it verified."""
    seen: list[bytes] = []
    parameters = case["signature_input"].rpartition(")")[2]
    alg = re.search(r';alg="([^"]*)"', parameters)

    class Recording(algorithm):  # type: ignore[valid-type, misc]
        algorithm_id = alg[1] if alg else algorithm.algorithm_id

        def verify(self, signature: bytes, message: bytes) -> None:
            seen.append(message)
            super().verify(signature, message)

    class Verifier(CoreVerifier):
        allow_label_only_selection = True

    label, signature = case["label"], case["signature"] or "AAAA"
    extra = (
        ("Signature-Input", f"{label}={case['signature_input']}"),
        ("Signature", f"{label}=:{signature}:"),
    )
    Verifier(signature_algorithm=Recording, key_resolver=AnyKey(key)).verify(
        message(case["message"], extra), max_age=None, expect_label=label
    )
    return seen[0]


class Unkeyed(HTTPSignatureAlgorithm):
    """Accepts everything: for cases that give a base and no key."""

    algorithm_id = "unkeyed"

    def __init__(self, public_key: object = None, private_key: object = None) -> None:
        pass

    def verify(self, signature: bytes, message: bytes) -> None:
        return None


def run_signature(case: Case) -> None:
    base = verify_core(Unkeyed, b"", case)
    if base.decode() != case["signature_base"]:
        raise VectorFailed(f"{base!r} is not the base")
    key = case["key"]
    if key is None:
        return
    algorithm = KEYED[key["alg"]]
    if "secret_base64" in key:
        public = private = base64.b64decode(key["secret_base64"])
    else:
        public = bytes.fromhex(key["public_hex"])
        private = bytes.fromhex(key["private_seed_hex"])
    try:
        verify_core(algorithm, public, case)
        valid = True
    except InvalidSignature:
        valid = False
    if valid is not case["valid"]:
        raise VectorFailed(f"verified: {valid}")
    signed = base64.b64encode(algorithm(private_key=private).sign(base)).decode()
    if (signed == case["signature"]) is not case["valid"]:
        raise VectorFailed(f"signing gives {signed}")


def skip_what_the_library_cannot(text: str) -> None:
    for parameter, reason in LIBRARY_LIMITS.items():
        if re.search(rf'";(?:[^" ]*;)?{parameter}\b', text):
            pytest.skip(reason)


def named(cases: Iterable[Case]) -> dict[str, Case]:
    return {case["id"]: case for case in cases}
