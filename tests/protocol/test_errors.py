"""Refusals keep their code over the wire; no code is used twice."""

import pytest

from protocol.codec import decode_json, encode_json
from protocol.errors import CODES, Problem, Refused, StaleEpoch, refusal


def test_every_refusal_comes_back_as_its_own_class() -> None:
    for code, kind in CODES.items():
        problem = decode_json(encode_json(kind("because").problem()), Problem)
        back = refusal(problem)
        assert type(back) is kind and back.code == code
        assert "because" in str(back)
        assert kind.title.endswith(".") and 400 <= kind.status < 600


def test_an_unknown_code_is_still_a_sentence() -> None:
    error = refusal(Problem("from_the_future", "The node wants a newer Telex.", 400))
    assert type(error) is Refused and "wants a newer Telex" in str(error)


def test_what_a_client_needs_to_go_on_travels_with_it() -> None:
    back = refusal(StaleEpoch(epoch=7, retry_after=3, server_time=5).problem())
    assert (back.epoch, back.retry_after, back.server_time) == (7, 3, 5)


def test_two_refusals_cannot_share_a_code() -> None:
    with pytest.raises(TypeError):
        type("Copy", (Refused,), {"code": "not_found"})
