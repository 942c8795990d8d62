"""Published vectors of signatures (RFC 9421).

A case passes, or is skipped with its reason; a corrupted case must fail.
"""

import copy
from collections.abc import Iterator
from typing import Any

import pytest
from http_message_signatures import InvalidSignature
from http_sf.retrofit import retrofit
from nacl.signing import SigningKey

from protocol.errors import Refused
from protocol.signature import Request, content_digest, read_claim
from tests.protocol.vectors import (
    B26,
    BASE_LINES,
    KEYED,
    LIBRARY_LIMITS,
    SIGNATURES,
    Case,
    VectorFailed,
    base_line,
    named,
    run_base_line,
    run_signature,
    skip_what_the_library_cannot,
)

pytestmark = pytest.mark.filterwarnings("ignore:Using only a label")


@pytest.fixture(autouse=True)
def example_dict_is_a_dictionary(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the vectors' README says of the field types for `sf` and `key`."""
    monkeypatch.setitem(retrofit, "example-dict", "dictionary")


@pytest.mark.parametrize(
    "case", named(BASE_LINES).values(), ids=named(BASE_LINES).keys()
)
def test_base_line(case: Case) -> None:
    skip_what_the_library_cannot(case["component"])
    run_base_line(case)


@pytest.mark.parametrize(
    "case", named(SIGNATURES).values(), ids=named(SIGNATURES).keys()
)
def test_signature(case: Case) -> None:
    skip_what_the_library_cannot(case["signature_input"])
    if case["key"] and case["key"]["alg"] not in KEYED:
        pytest.skip(f"no runner for keys of {case['key']['alg']}; Telex uses ed25519")
    run_signature(case)


def b26() -> Case:
    return {
        "label": "sig-b26",
        "message": {
            "method": B26["request"]["method"],
            "target": B26["request"]["target"],
            "headers": [list(one) for one in B26["request"]["headers"].items()],
        },
        "signature_input": B26["signature_base"].rpartition('"@signature-params": ')[2],
        "signature_base": B26["signature_base"],
        "signature": B26["signature_base64"],
        "key": {
            "alg": "ed25519",
            "private_seed_hex": B26["private_seed_hex"],
            "public_hex": B26["public_key_hex"],
        },
        "valid": True,
    }


def test_signature_b26_with_our_key_handling() -> None:
    run_signature(b26())
    seed, public = bytes.fromhex(B26["private_seed_hex"]), B26["public_key_hex"]
    assert bytes(SigningKey(seed).verify_key).hex() == public
    assert (
        content_digest(B26["request"]["body"].encode())
        == (B26["content_digest_sha256"])
    )


def test_our_profile_refuses_the_rfcs_own_signatures() -> None:
    """They are valid, and cover neither a destination nor a nonce."""
    for case in (b26(), *SIGNATURES):
        given = case["message"]
        if "status" in given:
            continue
        path, _, query = given["target"].partition("?")
        request = Request(
            given["method"],
            "example.com",
            path,
            query,
            [
                *((name, value) for name, value in given["headers"]),
                ("Signature-Input", f"sig={case['signature_input']}"),
                ("Signature", f"sig=:{case['signature'] or 'AAAA'}:"),
            ],
        )
        with pytest.raises(Refused):
            read_claim(request)


def test_limits_of_the_library_are_still_there() -> None:
    given = {"method": "GET", "target": "/", "headers": [["Host", "a"], ["X-A", "1"]]}
    for parameter in LIBRARY_LIMITS:
        with pytest.raises(Exception, match="not supported"):
            base_line(given, f'"x-a";{parameter}')


EXAMPLE = [["Host", "www.example.com"], ["Example-Header", "value, with, lots, of"]]
QUERY = (
    "/parameters?var=this%20is%20a%20big%0Amultiline%20value&bar=with+plus+whitespace"
)


@pytest.mark.parametrize(
    ("given", "component", "value"),
    [
        (("POST", "/path", EXAMPLE), '"@method"', "POST"),
        (("GET", "/path?a=b", EXAMPLE), '"@scheme"', "https"),
        (("GET", "/path?a=b", EXAMPLE), '"@path"', "/path"),
        (("GET", "/path?a=b", EXAMPLE), '"@request-target"', "/path?a=b"),
        (
            ("GET", "https://www.example.com/path?a=b", EXAMPLE),
            '"@request-target"',
            "https://www.example.com/path?a=b",
        ),
        (
            ("CONNECT", "www.example.com:80", EXAMPLE),
            '"@request-target"',
            "www.example.com:80",
        ),
        (
            ("GET", QUERY, EXAMPLE),
            '"@query-param";name="var"',
            "this%20is%20a%20big%0Amultiline%20value",
        ),
        (
            ("GET", "/", EXAMPLE),
            '"example-header";bs',
            ":dmFsdWUsIHdpdGgsIGxvdHMsIG9m:",
        ),
    ],
)
def test_more_base_lines(
    given: tuple[str, str, list[list[str]]], component: str, value: str
) -> None:
    """Components of section 2 that the files do not have, by the RFC's rules."""
    method, target, headers = given
    line = base_line(
        {"method": method, "target": target, "headers": headers}, component
    )
    assert line == f"{component}: {value}"


def test_components_of_the_request_in_a_response() -> None:
    request = {"method": "POST", "target": "/a?b", "headers": [["Host", "a.example"]]}
    given = {"status": 503, "headers": [["X-A", "1"]], "request": request}
    assert base_line(given, '"@status"') == '"@status": 503'
    assert base_line(given, '"@method";req') == '"@method";req: POST'
    assert base_line(given, '"@query";req') == '"@query";req: ?b'


def corrupt(case: Case, value: str, *path: str | int) -> Case:
    corrupted = copy.deepcopy(case)
    place: Any = corrupted
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    return corrupted


def corruptions(case: Case) -> Iterator[Case]:
    for name in ("signature_base", "signature_input"):
        yield corrupt(case, case[name].replace("e", "f", 1), name)
    for number, (name, value) in enumerate(case["message"]["headers"]):
        if f'"{name.lower()}"' in case["signature_input"]:
            yield corrupt(case, f"{value}x", "message", "headers", number, 1)
    if case["key"]:
        yield {**case, "valid": not case["valid"]}
    if case["key"] and case["valid"]:
        first, rest = case["signature"][0], case["signature"][1:]
        yield {**case, "signature": ("A" if first != "A" else "B") + rest}


@pytest.mark.parametrize(
    "case", [b26(), *SIGNATURES], ids=["B.2.6", *named(SIGNATURES)]
)
def test_corrupted_signature_vector_fails(case: Case) -> None:
    corrupted = list(corruptions(case))
    assert len(corrupted) >= 2
    for one in corrupted:
        with pytest.raises((VectorFailed, InvalidSignature)):
            run_signature(one)


@pytest.mark.parametrize("case", BASE_LINES, ids=named(BASE_LINES).keys())
def test_corrupted_base_line_fails(case: Case) -> None:
    skip_what_the_library_cannot(case["component"])
    with pytest.raises(VectorFailed):
        run_base_line({**case, "base_line": case["base_line"] + "x"})
    with pytest.raises(VectorFailed):
        run_base_line({**case, "base_line": case["base_line"].swapcase()})
