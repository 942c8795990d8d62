"""Published vectors (RFC 9421, RFC 9530) and other people's implementations.

The vectors use fields, keys and components that our profile does not allow, so they
run against the library's core through the same verifier and Ed25519 that
`protocol.signature` plugs into it. A case passes, or is skipped with its reason; a
corrupted case must fail. The interop tests at the end do the same against
implementations that share no code with that core.
"""

import base64
import copy
import hashlib
import importlib
import json
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import pytest
from apsig.rfc9421 import RFC9421Signer, RFC9421Verifier
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from http_message_signatures import (
    ContentDigest,
    HTTPSignatureAlgorithm,
    HTTPSignatureComponentResolver,
    HTTPSignatureKeyResolver,
    InvalidSignature,
    algorithms,
)
from http_sf.compat import Item
from http_sf.retrofit import retrofit
from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

from protocol.errors import DigestMismatch, Refused, SignatureInvalid
from protocol.signature import (
    Request,
    content_digest,
    read_claim,
    sign_request,
    verify_content_digest,
    verify_request,
)
from protocol.signature_core import Ed25519
from protocol.signature_core import Verifier as CoreVerifier

pytestmark = pytest.mark.filterwarnings("ignore:Using only a label")

VECTORS = Path(__file__).parents[1] / "vectors"

Case = dict[str, Any]


def load(name: str) -> Any:
    return json.loads((VECTORS / name).read_text())


SIGNATURES: list[Case] = load("rfc9421/signatures.json")
BASE_LINES: list[Case] = load("rfc9421/base-lines.json")
B26: Case = load("rfc9421/ed25519-b26.json")
DIGESTS: list[Case] = load("rfc9530/digests.json")

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


# --- the runner ---------------------------------------------------------------


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


@pytest.fixture(autouse=True)
def example_dict_is_a_dictionary(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the vectors' README says of the field types for `sf` and `key`."""
    monkeypatch.setitem(retrofit, "example-dict", "dictionary")


def named(cases: Iterable[Case]) -> dict[str, Case]:
    return {case["id"]: case for case in cases}


# --- RFC 9421 -----------------------------------------------------------------


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


# --- RFC 9530 -----------------------------------------------------------------


class Sha512(ContentDigest):
    algorithm = "sha-512"


@pytest.mark.parametrize("case", DIGESTS, ids=named(DIGESTS).keys())
def test_content_digest_vector(case: Case) -> None:
    body = bytes.fromhex(case["content_hex"])
    make: Callable[[bytes], str] = content_digest
    if case["alg"] == "sha-512":  # understood, never sent
        make = Sha512.create
    assert make(body) == case["field"]
    verify_content_digest(case["field"], body)


@pytest.mark.parametrize("case", DIGESTS, ids=named(DIGESTS).keys())
def test_corrupted_content_digest_vector_fails(case: Case) -> None:
    body = bytes.fromhex(case["content_hex"])
    name, _, value = case["field"].partition("=:")
    other = "A" if value[0] != "A" else "B"
    for field in (f"{name}=:{other}{value[1:]}", f"{name}=:{value[4:]}", name, ""):
        with pytest.raises(DigestMismatch):
            verify_content_digest(field, body)
    with pytest.raises(DigestMismatch):
        verify_content_digest(case["field"], body + b"\0")


# --- interop: other implementations -------------------------------------------

SEED = bytes(range(32))
PUBLIC = bytes(SigningKey(SEED).verify_key)
NOW = 1_800_000_000
BODY = b'{"hello": "world"}'


def signed(query: str = "after=7&limit=%20x") -> tuple[Request, dict[str, str]]:
    headers = sign_request(
        method="POST",
        authority="chat.example.org:7401",
        path="/telex/fed/v1/a%2Fb",
        query=query,
        content_type="application/json",
        body=BODY,
        destination="example.org",
        keyid="other.example#k1",
        private_key=SEED,
        created=NOW,
    )
    request = Request(
        "POST",
        "chat.example.org:7401",
        "/telex/fed/v1/a%2Fb",
        query,
        [("Host", "chat.example.org:7401"), *headers.items()],
    )
    return request, headers


def accept(request: Request) -> None:
    claim = verify_request(
        request, public_key=PUBLIC, body=BODY, destination="example.org", now=NOW
    )
    assert claim.keyid == "other.example#k1"


def resigned(request: Request, parameters: str, signature: bytes) -> Request:
    """The request with somebody else's signature in place of ours."""
    kept = [one for one in request.headers if not one[0].startswith("Signature")]
    mine = [
        ("Signature-Input", f"sig1={parameters}"),
        ("Signature", f"sig1=:{base64.b64encode(signature).decode()}:"),
    ]
    return Request(
        request.method, request.authority, request.path, request.query, [*kept, *mine]
    )


def test_interop_by_hand() -> None:
    """The profile written out from the RFC's text with no library at all."""
    request, _ = signed()
    digest = base64.b64encode(hashlib.sha256(BODY).digest()).decode()
    parameters = (
        '("@query" "telex-destination" "@path" "content-digest" "@method" '
        '"content-type" "@authority");tag="telex";alg="ed25519";'
        f'nonce="{"A" * 22}";keyid="other.example#k1";'
        f"expires={NOW + 60};created={NOW}"
    )
    base = (
        '"@query": ?after=7&limit=%20x\n'
        '"telex-destination": example.org\n'
        '"@path": /telex/fed/v1/a%2Fb\n'
        f'"content-digest": sha-256=:{digest}:\n'
        '"@method": POST\n'
        '"content-type": application/json\n'
        '"@authority": chat.example.org:7401\n'
        f'"@signature-params": {parameters}'
    )
    signature = SigningKey(SEED).sign(base.encode()).signature
    accept(resigned(request, parameters, signature))
    with pytest.raises(SignatureInvalid):
        accept(resigned(request, parameters, signature[::-1]))


def apsig_verify(case: Case) -> str | None:
    verifier = RFC9421Verifier(
        ed25519.Ed25519PublicKey.from_public_bytes(PUBLIC),
        "POST",
        "/inbox",
        "example.org",
        {
            "Date": "Tue, 20 Apr 2021 02:07:55 GMT",
            "Signature-Input": f"sig1={case['signature_input']}",
            "Signature": f"sig1=:{case['signature']}:",
        },
    )
    return verifier.verify()  # type: ignore[no-any-return]


def core_signed_for_apsig(parameters: str) -> Case:
    """Our core's signature over what apsig can express."""
    case: Case = {
        "label": "sig1",
        "message": {
            "method": "POST",
            "target": "/inbox",
            "headers": [
                ["Host", "example.org"],
                ["Date", "Tue, 20 Apr 2021 02:07:55 GMT"],
            ],
        },
        "signature_input": f'("@method" "@path" "@authority" "date");{parameters}',
        "signature": None,
    }
    base = verify_core(Unkeyed, b"", case)
    signature = Ed25519(private_key=SEED).sign(base)
    case["signature"] = base64.b64encode(signature).decode()
    return case


def test_interop_apsig_verifies_what_our_core_signs() -> None:
    created = int(time.time())  # apsig reads the clock itself
    case = core_signed_for_apsig(f'created={created};alg="ed25519";keyid="k"')
    assert apsig_verify(case) == "k"
    first = case["signature"][0]
    case["signature"] = ("B" if first == "A" else "A") + case["signature"][1:]
    assert apsig_verify(case) is None


def test_interop_our_core_verifies_what_apsig_signs() -> None:
    """apsig signs with RSA only; the base is what both sides must agree on."""
    key = rsa.generate_private_key(65537, 2048)
    headers = RFC9421Signer(key, "k").sign(
        "POST", "/inbox", "example.org", {"content-type": "text/plain"}, BODY
    )
    sent = {name: headers[name] for name in ("date", "content-type", "content-length")}
    case: Case = {
        "label": "sig1",
        "message": {
            "method": "POST",
            "target": "/inbox",
            "headers": [["Host", "example.org"], *map(list, sent.items())],
        },
        "signature_input": headers["Signature-Input"].removeprefix("sig1="),
        "signature": headers["Signature"].removeprefix("sig1=:").removesuffix(":"),
    }
    verify_core(algorithms.RSA_V1_5_SHA256, key.public_key(), case)
    case["message"]["target"] = "/outbox"
    with pytest.raises(InvalidSignature):
        verify_core(algorithms.RSA_V1_5_SHA256, key.public_key(), case)


def test_interop_apsig_cannot_do_our_profile() -> None:
    """Why there is another one below: it drops every parameter but three, so that no
    signature with expires, nonce or tag verifies; and it has no "@query"."""
    created = int(time.time())
    for more in (f";expires={created + 60}", ';nonce="n"', ';tag="telex"'):
        parameters = f'created={created};alg="ed25519";keyid="k"{more}'
        assert apsig_verify(core_signed_for_apsig(parameters)) is None


class HttpParser:
    """The part of PyPI's `http-parser` that `httpsig` uses; it builds no longer."""

    raw: ClassVar[bytes]

    def execute(self, raw: bytes, length: int) -> None:
        head, _, self.body = raw.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        self.method, self.url, _ = first.split(" ")
        self.headers = {
            name.lower(): value.strip()
            for name, _, value in (line.partition(":") for line in lines)
        }

    def get_headers(self) -> dict[str, str]:
        return self.headers

    def get_method(self) -> str:
        return self.method

    def get_url(self) -> str:
        return self.url

    def get_path(self) -> str:
        return self.url.partition("?")[0]

    def get_query_string(self) -> str:
        return self.url.partition("?")[2]

    def get_status_code(self) -> int:
        return 0

    def recv_body(self) -> bytes:
        return self.body


@pytest.fixture
def httpsig(monkeypatch: pytest.MonkeyPatch) -> Any:
    """PyPI's httpsigpy 0.0.8, by an author of RFC 9421, over http-sfv."""
    package, parser = ModuleType("http_parser"), ModuleType("http_parser.parser")
    parser.__dict__["HttpParser"] = HttpParser
    monkeypatch.setitem(sys.modules, "http_parser", package)
    monkeypatch.setitem(sys.modules, "http_parser.parser", parser)
    try:
        return importlib.import_module("httpsig")
    except ImportError:
        pytest.skip("pip install httpsigpy http-sfv pycryptodomex")


def on_the_wire(request: Request) -> bytes:
    target = f"{request.path}?{request.query}" if request.query else request.path
    lines = [f"{name}: {value}" for name, value in request.headers]
    head = "\r\n".join([f"{request.method} {target} HTTP/1.1", *lines])
    return head.encode() + b"\r\n\r\n" + BODY


@pytest.mark.parametrize("query", ["after=7&limit=%20x", ""])
def test_interop_httpsigpy_verifies_what_we_sign(httpsig: Any, query: str) -> None:
    request, headers = signed(query)
    parsed = httpsig.parse_components(on_the_wire(request))
    found = parsed["inputSignatures"]["telex"]
    assert found["params"]["tag"] == "telex" and len(found["coveredComponents"]) == 7
    made = httpsig.generate_base(parsed, found["coveredComponents"], found["params"])
    signature = base64.b64decode(headers["Signature"][len("telex=:") : -1])
    base = made["signatureInput"].encode()
    VerifyKey(PUBLIC).verify(base, signature)
    with pytest.raises(BadSignatureError):
        VerifyKey(PUBLIC).verify(
            base.replace(b"example.org", b"example.com"), signature
        )


@pytest.mark.parametrize("query", ["after=7&limit=%20x", ""])
def test_interop_we_verify_what_httpsigpy_signs(httpsig: Any, query: str) -> None:
    request, _ = signed(query)
    covered = (
        *("@method", "@authority", "@path", "@query"),
        *("content-type", "content-digest", "telex-destination"),
    )
    made = httpsig.generate_base(
        httpsig.parse_components(on_the_wire(request)),
        [{"id": name} for name in covered],
        {
            "created": NOW,
            "expires": NOW + 60,
            "nonce": "A" * 22,
            "keyid": "other.example#k1",
            "alg": "ed25519",
            "tag": "telex",
        },
    )
    signature = SigningKey(SEED).sign(made["signatureInput"].encode()).signature
    accept(resigned(request, made["signatureParams"], signature))
    with pytest.raises(SignatureInvalid):
        accept(resigned(request, made["signatureParams"], signature[::-1]))


def test_interop_algovoi_reads_what_we_sign() -> None:
    """PyPI's algovoi-rfc9421-verifier 0.4.4 has its own parser and base, but no
    "@query": that one line is put in here."""
    other = pytest.importorskip("algovoi_rfc9421_verifier")
    request, headers = signed()
    parsed = other.parse_signature_input(headers["Signature-Input"])
    _, signature = other.parse_signature_value(headers["Signature"])
    other.verify_content_digest(BODY, headers["Content-Digest"])
    other.check_freshness(parsed.parameters, parsed.covered_components, now=NOW)
    lines = [
        f'"@query": ?{request.query}'
        if name == "@query"
        else other.build_signing_base(
            [name],
            method=request.method,
            authority=request.authority,
            path=request.path,
            headers=headers,
            mode="rfc9421",
            signature_params_raw="",
        ).splitlines()[0]
        for name in parsed.covered_components
    ]
    base = "\n".join([*lines, f'"@signature-params": {parsed.params_block}'])
    assert other.verify_signature(base, signature, PUBLIC.hex())
    assert not other.verify_signature(base + " ", signature, PUBLIC.hex())
