"""Whether the STUN and TURN servers of the settings answer, asked from here."""

import ssl
import time
from concurrent.futures import ThreadPoolExecutor

from node.calls.access import password, read_secret
from node.calls.stun import StunProblem, allocate, bind
from node.config import ConfigProblem, Settings
from protocol.ice_url import IceUrl, parse_ice_url

__all__ = ["check_calls"]


def check_calls(settings: Settings) -> list[tuple[str, str]]:
    """Ask every server, all at once; a few seconds where one is silent.

    Returns:
        For each URL of the settings a sentence about what is wrong; empty if it
        answers, and for TURN relays with our credentials.

    Raises:
        ConfigProblem: the secret or `ca_file` cannot be used.
    """
    calls = settings.calls
    username, credential = f"{int(time.time()) + 60}:check", ""
    if calls.turn_secret_file is not None:
        credential = password(read_secret(calls.turn_secret_file), username)
    context = ssl.create_default_context()
    if settings.ca_file is not None:
        try:
            context.load_verify_locations(settings.ca_file)
        except OSError as error:
            raise ConfigProblem(
                f"ca_file {settings.ca_file} cannot be used: {error}."
            ) from error

    def ask(text: str) -> str:
        url = parse_ice_url(text)
        try:
            if url.scheme == "stun":
                bind(url)
            else:
                allocate(url, username, credential, context)
        except StunProblem as problem:
            return f"The {url.scheme.upper()} server {_where(url)} {problem}"
        return ""

    urls = [*calls.stun, *calls.turn]
    with ThreadPoolExecutor(max(1, len(urls))) as pool:
        return list(zip(urls, pool.map(ask, urls), strict=True))


def _where(url: IceUrl) -> str:
    kind = "tls" if url.scheme == "turns" else url.transport
    return f"{url.host} (port {url.port}/{kind})"
