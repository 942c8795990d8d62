"""What somebody typed, pasted or scanned, held against a person's keys."""

import hmac

from protocol.errors import TelexError
from tui.backend import VerificationPort
from tui.text import say

__all__ = ["DigitsDiffer", "check_typed"]

DIGITS = 60


class DigitsDiffer(TelexError):
    """The digits are not those of this person; says what that may mean."""


async def check_typed(port: VerificationPort, account: str, text: str) -> None:
    """Compare a code (`telex:verify:...`) or sixty digits with the keys known here.

    Raises:
        DigitsDiffer: other digits, or not sixty.
        TelexError: the code is not one, or holds other keys.
    """
    text = text.strip()
    if ":" in text:
        await port.check_uri(account, text)
        return
    digits = "".join(char for char in text if char.isdecimal())
    if len(digits) != DIGITS:
        raise DigitsDiffer(say("digits.count", count=len(digits)))
    known = (await port.fingerprint(account)).digits.replace(" ", "")
    if not hmac.compare_digest(digits.encode(), known.encode()):
        raise DigitsDiffer(say("digits.differ", who=account))
