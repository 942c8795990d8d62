"""Any text in a signed request: refused with one of our errors."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from protocol.errors import Refused
from protocol.signature import Request, read_claim
from tests.protocol.signing import (
    COVERED,
    FUZZ,
    GARBAGE,
    post,
    value,
    verify,
    with_header,
)


def only_our_errors(call: Callable[[], object]) -> None:
    try:
        call()
    except Refused as error:
        assert error.status == 401
        assert error.code in {
            "signature_missing",
            "signature_invalid",
            "signature_expired",
            "wrong_destination",
            "digest_mismatch",
        }


@pytest.mark.fuzz
@settings(max_examples=FUZZ, deadline=None)
@given(name=st.sampled_from(["Signature-Input", "Signature"]), text=GARBAGE)
@example(name="Signature-Input", text="telex=(@99999999999999);tag=telex")
@example(name="Signature-Input", text='telex=("a";x=@99999999999999);tag="telex"')
def test_fuzz_signature_fields(name: str, text: str) -> None:
    request = with_header(post(), name, text)
    only_our_errors(lambda: read_claim(request))
    with pytest.raises(Refused):
        verify(request)


@pytest.mark.fuzz
@settings(max_examples=FUZZ, deadline=None)
@given(data=st.data(), name=st.sampled_from(["Signature-Input", "Signature"]))
def test_fuzz_edits_of_a_true_field(data: st.DataObject, name: str) -> None:
    """Cut, repeat or replace a piece: refused, or it still says the same."""
    request = post()
    text = value(request, name)
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(len(text), start + 40)))
    changed = text[:start] + data.draw(GARBAGE) + text[end:]
    request = with_header(request, name, changed)
    try:
        claim = verify(request)
    except Refused as error:
        assert error.status == 401
    else:
        assert claim == verify(post())


@pytest.mark.fuzz
@settings(max_examples=FUZZ, deadline=None)
@given(inner=GARBAGE, parameters=GARBAGE)
def test_fuzz_inside_the_list(inner: str, parameters: str) -> None:
    text = f'telex=({inner});{parameters};tag="telex"'
    request = with_header(post(), "Signature-Input", text)
    only_our_errors(lambda: read_claim(request))
    only_our_errors(lambda: verify(request))


@pytest.mark.fuzz
@settings(max_examples=FUZZ, deadline=None)
@given(
    method=GARBAGE,
    authority=GARBAGE,
    path=GARBAGE,
    query=GARBAGE,
    headers=st.lists(
        st.tuples(
            st.one_of(
                st.sampled_from([*COVERED[4:], "signature", "signature-input", "host"]),
                GARBAGE,
            ),
            GARBAGE,
        ),
        max_size=8,
    ),
    body=st.binary(max_size=20),
)
def test_fuzz_whole_requests(
    method: str,
    authority: str,
    path: str,
    query: str,
    headers: list[tuple[str, str]],
    body: bytes,
) -> None:
    request = Request(method, authority, path, query, headers)
    with pytest.raises(Refused):
        verify(request, body=body)
    signed = post()
    for one in (
        replace(signed, method=method),
        replace(signed, authority=authority),
        replace(signed, path=path),
        replace(signed, query=query),
        replace(signed, headers=[*signed.headers, *headers]),
    ):
        only_our_errors(lambda one=one: verify(one, body=body))  # type: ignore[misc]
