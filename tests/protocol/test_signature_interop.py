"""Signatures against implementations that share no code with our library's core.

What we sign they verify, what they sign we verify, and what is changed on the way
neither does.
"""

import base64
import hashlib
import importlib
import sys
import time
from types import ModuleType
from typing import Any, ClassVar

import pytest
from apsig.rfc9421 import RFC9421Signer, RFC9421Verifier
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from http_message_signatures import InvalidSignature, algorithms
from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

from protocol.errors import SignatureInvalid
from protocol.signature import Request, sign_request
from protocol.signature_core import Ed25519
from tests.protocol.signing import NOW, PUBLIC, SEED, verify
from tests.protocol.vectors import Case, Unkeyed, verify_core

pytestmark = pytest.mark.filterwarnings("ignore:Using only a label")

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
    claim = verify(request, body=BODY)
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
