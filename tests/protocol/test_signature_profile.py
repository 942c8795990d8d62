"""Requests truly signed by the right key that the profile refuses all the same."""

import pytest

from protocol.errors import Refused, SignatureInvalid, SignatureMissing
from protocol.signature import COMPONENTS_MAX, KEYID_MAX, LIFETIME_MAX, read_claim
from tests.protocol.signing import (
    COVERED,
    NOW,
    PARAMETERS,
    added,
    crafted,
    post,
    value,
    verify,
    with_header,
)


def test_crafting_gives_true_signatures() -> None:
    verify(crafted())


@pytest.mark.parametrize("name", COVERED)
def test_demands_every_component(name: str) -> None:
    with pytest.raises(SignatureInvalid, match=name):
        verify(crafted([one for one in COVERED if one != name]))


@pytest.mark.parametrize(
    "component",
    [
        *("@scheme", "@target-uri", "@request-target", "@status", "@unknown"),
        *('"@query-param";name="after"', '"@method";req', '"@signature-params"'),
        *('"content-digest";sf', '"content-digest";key="sha-256"', '"content-type";bs'),
        *('"content-type";tr', "Content-Type", "X-Upper", "", "a b", "x-missing"),
        *("accept", "signature", "signature-input"),
    ],
)
def test_refuses_components_that_are_not_of_the_profile(component: str) -> None:
    with pytest.raises(SignatureInvalid):
        verify(crafted([*COVERED, component]))


@pytest.mark.parametrize("name", COVERED)
def test_a_component_with_parameters_does_not_count(name: str) -> None:
    for parameter in ("sf", "bs", "req"):
        changed = [f'"{name}";{parameter}' if one == name else one for one in COVERED]
        with pytest.raises(SignatureInvalid):
            read_claim(crafted(changed))


def test_refuses_components_that_are_not_strings_or_come_twice() -> None:
    for inner in ("method", "1", ":AAAA:", "?1", '"@method"'):
        text = value(post(), "Signature-Input").replace("(", f"({inner} ", 1)
        with pytest.raises(SignatureInvalid):
            read_claim(with_header(post(), "Signature-Input", text))


def test_refuses_too_many_components() -> None:
    extra = [f"x-{number}" for number in range(COMPONENTS_MAX)]
    with pytest.raises(SignatureInvalid, match="too many"):
        verify(crafted([*COVERED, *extra]))


@pytest.mark.parametrize("name", [one for one in PARAMETERS if one != "tag"])
def test_demands_every_parameter(name: str) -> None:
    kept = {key: text for key, text in PARAMETERS.items() if key != name}
    with pytest.raises(SignatureInvalid):
        verify(crafted(None, kept))


@pytest.mark.parametrize(
    "changed",
    [
        {"alg": '"rsa-pss-sha512"'},
        {"alg": '"hmac-sha256"'},
        {"alg": '"ED25519"'},
        {"alg": '""'},
        {"alg": "ed25519"},
        {"alg": "1"},
        {"created": f'"{NOW}"'},
        {"created": f"{NOW}.0"},
        {"created": f"@{NOW}"},
        {"created": ""},
        {"created": "?1"},
        {"expires": f"{NOW}"},
        {"expires": f"{NOW - 1}"},
        {"expires": f"{NOW + LIFETIME_MAX + 1}"},
        {"expires": "999999999999999"},
        {"expires": f'"{NOW + 120}"'},
        {"nonce": '""'},
        {"nonce": '"MDEyMzQ1Njc4OWFiY2RlZ"'},
        {"nonce": '"MDEyMzQ1Njc4OWFiY2RlZgg"'},
        {"nonce": '"MDEyMzQ1Njc4OWFiY2RlZg=="'},
        {"nonce": '"MDEyMzQ1Njc4OWFiY2RlZh"'},
        {"nonce": '"MDEyMzQ1Njc4OWFi+2RlZg"'},
        {"nonce": "MDEyMzQ1Njc4OWFiY2RlZg"},
        {"nonce": ":MDEyMzQ1Njc4OWFiY2RlZg==:"},
        {"keyid": '""'},
        {"keyid": f'"{"k" * (KEYID_MAX + 1)}"'},
        {"keyid": "alice"},
        {"keyid": "?1"},
        {"more": '"1"'},
        {"req": ""},
    ],
    ids=str,
)
def test_refuses_parameters_out_of_bounds(changed: dict[str, str]) -> None:
    with pytest.raises(SignatureInvalid):
        read_claim(crafted(None, PARAMETERS | changed))


@pytest.mark.parametrize("tag", ['"web-bot-auth"', '"Telex"', '""', "telex", "1", None])
def test_a_signature_with_another_tag_is_none_of_ours(tag: str | None) -> None:
    parameters = {key: text for key, text in PARAMETERS.items() if key != "tag"}
    if tag is not None:
        parameters["tag"] = tag
    with pytest.raises(SignatureMissing):
        verify(crafted(None, parameters))


def test_an_algorithm_that_is_a_token_is_refused_before_the_key_is_used() -> None:
    """A Token equals the String of the same text in `http_sf`."""
    request = crafted(None, PARAMETERS | {"alg": "ed25519"})
    with pytest.raises(SignatureInvalid):
        read_claim(request)


def test_refuses_two_signatures_with_our_tag() -> None:
    request = post()
    two = added(
        request,
        (
            "Signature-Input",
            value(request, "Signature-Input").replace("telex=", "b=", 1),
        ),
        ("Signature", value(request, "Signature").replace("telex=", "b=", 1)),
    )
    with pytest.raises(SignatureInvalid, match="two"):
        verify(two)


@pytest.mark.parametrize("name", ["Signature-Input", "Signature"])
def test_refuses_a_label_twice(name: str) -> None:
    request = post()
    with pytest.raises(SignatureInvalid):
        read_claim(added(request, (name, value(request, name))))
    joined = f"{value(request, name)}, {value(request, name)}"
    with pytest.raises(SignatureInvalid):
        read_claim(with_header(request, name, joined))


def test_refuses_a_parameter_twice() -> None:
    request = post()
    for more_text in (";created=1", ';alg="ed25519"', ';tag="telex"', ';keyid="m"'):
        text = value(request, "Signature-Input") + more_text
        with pytest.raises(SignatureInvalid):
            read_claim(with_header(request, "Signature-Input", text))


def test_refuses_a_label_without_its_signature() -> None:
    request = post()
    other = value(request, "Signature").replace("telex=", "other=", 1)
    with pytest.raises(SignatureInvalid):
        read_claim(with_header(request, "Signature", other))


@pytest.mark.parametrize("text", ["telex", "telex=1", 'telex="a"', "telex=(:AAAA:)"])
def test_refuses_a_signature_that_is_not_bytes(text: str) -> None:
    with pytest.raises(SignatureInvalid):
        read_claim(with_header(post(), "Signature", text))


@pytest.mark.parametrize("name", ["Signature-Input", "Signature"])
def test_a_missing_signature_is_said_to_be_missing(name: str) -> None:
    with pytest.raises(SignatureMissing) as caught:
        verify(with_header(post(), name, None))
    assert (caught.value.code, caught.value.status) == ("signature_missing", 401)
    with pytest.raises(Refused):
        verify(with_header(post(), name, ""))
