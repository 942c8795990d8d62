"""What people type by hand: codes, digits, words; whatever it is, an answer comes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import TelexError
from tests.helpers.fuzz import fuzzing
from tests.tui.fake_client import FakeClient
from tests.tui.fake_trust import CODE, fingerprint
from tui.comparing import DigitsDiffer, check_typed
from tui.screens.devices import check_code
from tui.widgets.phrase import feedback, phrase_errors

BOB = "bob@example.org"
GOOD = ["abandon"] * 23 + ["art"]


def test_a_code_is_taken_however_it_is_written() -> None:
    for text in (CODE, CODE.lower(), CODE.replace("-", " "), f"telex:link:a@b:{CODE}"):
        assert check_code(text) == ""
    assert "16 letters" in check_code(CODE[:-1])
    assert "Type the code" in check_code(" - ")


def test_words_are_judged_once_they_are_written() -> None:
    assert feedback("aband") == ("1 of 24 words", True)
    assert feedback("aband ")[1] is False
    assert "Word 1" in feedback("xyzzyx ")[0]
    assert phrase_errors(" ".join(GOOD).upper()) == {"phrase": ""}
    assert "Word 24" in phrase_errors(" ".join([*GOOD[:23], "artt"]))["phrase"]
    assert "here are 25" in phrase_errors(" ".join([*GOOD, "art"]))["phrase"]


async def test_digits_are_compared_without_their_spaces() -> None:
    port = FakeClient().verification
    mark = fingerprint(BOB)
    for text in (mark.digits, mark.digits.replace(" ", "\n"), f" {mark.uri}\n"):
        await check_typed(port, BOB, text)
    for n in (0, 31, 70):
        digits = mark.digits.replace(" ", "")
        n = min(n, len(digits) - 1)
        wrong = digits[:n] + str((int(digits[n]) + 1) % 10) + digits[n + 1 :]
        with pytest.raises(DigitsDiffer, match="somebody may stand between"):
            await check_typed(port, BOB, wrong)


@fuzzing
@given(text=st.text(max_size=200))
def test_anything_typed_gets_an_answer(text: str) -> None:
    import asyncio

    assert isinstance(check_code(text), str)
    assert feedback(text)[0]
    assert phrase_errors(text)["phrase"]
    try:
        asyncio.run(check_typed(FakeClient().verification, BOB, text))
    except TelexError as error:
        assert str(error)
    else:
        raise AssertionError("a random text passed for a fingerprint")


@fuzzing
@given(digits=st.text(alphabet="0123456789٣५", min_size=60, max_size=60))
def test_no_other_sixty_digits_pass(digits: str) -> None:
    import asyncio

    if digits == fingerprint(BOB).digits.replace(" ", ""):
        return
    with pytest.raises(DigitsDiffer):
        asyncio.run(check_typed(FakeClient().verification, BOB, digits))
