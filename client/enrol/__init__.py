"""Becoming a device: registering an account, or coming to one that exists.

The recovery phrase exists here for a moment and is stored nowhere: the root key that
follows from it signs the account's first entries (or, later, a new account signing
key), and is forgotten. The password makes the secret that the node knows, and wraps
the database's key; neither gives the other away.

`registration`, `login` and `recovery` are the ways; `profile` is what they share,
`phrase` the 24 words.
"""

from client.enrol.login import log_in
from client.enrol.phrase import QUIZ, check_quiz, quiz, read_phrase
from client.enrol.profile import PASSWORD_MIN, check_password
from client.enrol.recovery import recover
from client.enrol.registration import register

__all__ = [
    "PASSWORD_MIN",
    "QUIZ",
    "check_password",
    "check_quiz",
    "log_in",
    "quiz",
    "read_phrase",
    "recover",
    "register",
]
