"""Answers in fewer bytes, where that pays (RFC 9110, sections 8.4 and 12.5.3).

JSON shrinks to about six tenths, rosters to three tenths, lists of rooms to four.
Pages of ciphertext in MessagePack shrink by their envelopes alone, a quarter at best,
and cost a millisecond for each 60 KB: they go as they are. So do answers of less than
a kilobyte.

Compression tells an eavesdropper how alike two parts of an answer are (BREACH). That
needs a secret and a text of the attacker's in one answer, and somebody else's power
to have it asked for again and again. Here every request is signed by the device that
asks, nothing of a request comes back in an answer, and what is listed by its secret
name (blobs, vaults, links) is not compressed at all.
"""

from aiohttp import hdrs, web
from aiohttp.web_response import ContentCoding

from protocol.blob import Blobs, BlobUpload
from protocol.codec import JSON
from protocol.wire import AccountLog, LinkSlot, Rooms, Roster, Vault, Vaults

__all__ = ["SYNC_MAX", "choose_coding", "compress", "shrink"]

SMALL = 1024
"""Bytes below which nothing is gained: it is one packet either way."""

SYNC_MAX = 64 * 1024
"""Bytes that are compressed at once, in a millisecond; more is a thread's work."""

_DENSE = (AccountLog, Roster, Rooms)
"""What repeats itself in MessagePack too."""

_SECRET = (Blobs, BlobUpload, LinkSlot, Vault, Vaults)
"""What names things that only those may have who know their names."""

_CODINGS = {"gzip": ContentCoding.gzip, "deflate": ContentCoding.deflate}


def compress(
    request: web.Request, response: web.Response, value: object, media: str
) -> None:
    """Have an answer compressed, if it pays and the asker takes it.

    Args:
        request: what was asked.
        response: the answer, with its body.
        value: what the body says.
        media: how it says it.
    """
    if isinstance(value, _SECRET):
        return
    if media == JSON or isinstance(value, _DENSE):
        shrink(request, response)


def shrink(request: web.Request, response: web.Response) -> None:
    """The same for a body that is known to shrink."""
    response.headers[hdrs.VARY] = hdrs.ACCEPT_ENCODING
    body = response.body
    if isinstance(body, bytes) and len(body) >= SMALL:
        coding = choose_coding(request.headers.get(hdrs.ACCEPT_ENCODING, ""))
        if coding is not None:
            response.enable_compression(coding)


def choose_coding(header: str) -> ContentCoding | None:
    """The coding that `Accept-Encoding` likes best; None: none of ours."""
    best, liked = None, 0.0
    for part in header.lower().split(","):
        name, _, weight = part.partition(";")
        coding = _CODINGS.get(name.strip())
        if coding is None:
            continue
        quality = _quality(weight.strip())
        if quality > liked:
            best, liked = coding, quality
    return best


def _quality(text: str) -> float:
    """A weight, `q=0.8`; 1 without one, 0 if it is none."""
    if not text:
        return 1.0
    name, _, number = text.partition("=")
    try:
        found = float(number) if name.strip() == "q" else 0.0
    except ValueError:
        return 0.0
    return found if 0 <= found <= 1 else 0.0
