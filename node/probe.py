"""Asking the node that runs on this machine who it is, for `telex-node status`."""

import ssl
import urllib.error
import urllib.request

from node.config import Settings
from protocol.codec import JSON, decode_json
from protocol.errors import Malformed, TelexError
from protocol.wire import NodeDocument

__all__ = ["NoAnswer", "probe"]

TIMEOUT = 5.0
"""Seconds: it is on this machine."""

DOCUMENT_MAX = 512 * 1024
"""Bytes of a document: a thousand revisions of its key."""


class NoAnswer(TelexError):
    """The running node did not answer as it should."""


def probe(url: str, settings: Settings) -> NodeDocument:
    """The document of the node at a local address.

    Its certificate is for its public name and is not checked here: the address came
    from the lock file of our own data directory.

    Raises:
        NoAnswer: there was none, or a wrong one.
    """
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    request = urllib.request.Request(
        f"{url}/.well-known/telex", headers={"Accept": JSON, "Host": settings.name}
    )
    try:
        with urllib.request.urlopen(
            request, timeout=TIMEOUT, context=context
        ) as response:
            return decode_json(response.read(DOCUMENT_MAX), NodeDocument)
    except (OSError, urllib.error.URLError) as error:
        raise NoAnswer(f"It does not answer at {url}: {error}.") from error
    except Malformed as error:
        raise NoAnswer(f"It answers strangely at {url}.") from error
