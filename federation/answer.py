"""Signed answers: that it was the pinned node that answered, not only its TLS.

A request is signed (`protocol.signature`); its answer would otherwise be vouched for
by a TLS certificate alone, and whoever obtains one could swallow what we push and
ack it. So every successful answer between nodes carries `Telex-Answer`: the node
key's signature (label `answer`) over the asker's keyid and fresh nonce, the status
and the body. An answer cannot be made for, or moved to, another request.

What it does not protect: refusals. They are unsigned, since a proxy makes some of
them, and cause waiting at worst.
"""

from base64 import b64decode, b64encode

from protocol.codec import encode
from protocol.errors import IdentityError
from protocol.key import KeyPair, sign, verify

__all__ = ["ANSWER_HEADER", "sign_answer", "verify_answer"]

ANSWER_HEADER = "Telex-Answer"


def sign_answer(key: KeyPair, keyid: str, nonce: str, status: int, body: bytes) -> str:
    """The value of `Telex-Answer` for an answer to a request that verified.

    Args:
        key: the answering node's.
        keyid: who signed the request.
        nonce: of the request's signature, in its text form.
        status: of the answer.
        body: of the answer, the bytes that will be sent.
    """
    payload = encode((keyid, nonce, status, body))
    return b64encode(sign("answer", key, payload)).decode()


def verify_answer(
    public: bytes, value: str, *, keyid: str, nonce: str, status: int, body: bytes
) -> None:
    """Check the `Telex-Answer` of an answer to a request of ours.

    Raises:
        IdentityError: the node did not sign this answer to this request.
    """
    try:
        signature = b64decode(value, validate=True)
    except ValueError as error:
        raise IdentityError("An answer's signature cannot be read.") from error
    verify("answer", public, encode((keyid, nonce, status, body)), signature)
