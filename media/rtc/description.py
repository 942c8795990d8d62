"""The other side's description (SDP, RFC 8866): bounded before anything reads it.

It comes from a member of the room, but from a program that may not be ours. What
passes has one line of sound, at most one of pictures and one data channel, all in one
bundle, and exactly one SHA-256 fingerprint: the key we will talk to and no other.
"""

import ipaddress
import re
from dataclasses import dataclass
from typing import Literal

from aioice import Candidate
from aiortc.sdp import MediaDescription, SessionDescription

from media.port import MediaError

__all__ = ["Description", "clean", "read", "read_candidate"]

MAX_SIZE = 32_768
"""Characters; ours has 4,000, a browser's 8,000."""

MAX_LINES = 600
MAX_LINE = 1_024

MAX_CANDIDATES = 32
"""Each is a destination that we send packets to: RFC 8445 has 100 checks in all."""

KINDS = ("audio", "video", "application")
FINGERPRINT = re.compile(r"[0-9A-F]{2}(:[0-9A-F]{2}){31}", re.IGNORECASE)
CREDENTIAL = re.compile(r"[A-Za-z0-9+/]{4,256}")  # RFC 8839, section 5.4
MID = re.compile(r"[A-Za-z0-9_.+-]{1,16}")
EVERYBODY = ipaddress.IPv4Address("255.255.255.255")
CANDIDATE = re.compile(
    r"(?:a=)?candidate:([A-Za-z0-9+/]{1,32} 1 udp \d{1,10} \S{1,64} \d{1,5} typ "
    r"(?:host|srflx|relay)(?: \S+)*)",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Description:
    """What was read: safe to be given to aiortc."""

    text: str
    """Without candidates, and with SHA-256 as the only fingerprint."""
    kinds: tuple[str, ...]
    """Of its lines, in the order of the bundle."""
    candidates: tuple[str, ...]
    red: int | None = None
    """Payload type by which copies of Opus are understood (RFC 2198)."""


def clean(sdp: str) -> str:
    """Our description as it is given away.

    Candidates stand in the first line only (the others share its transport), and
    nothing says that they are all: those of servers follow.
    """
    kept: list[str] = []
    sections = 0
    for line in sdp.splitlines():
        sections += line.startswith("m=")
        if line == "a=end-of-candidates":
            continue
        if line.startswith("a=candidate:") and sections > 1:
            continue
        kept.append(line)
    return "\r\n".join(kept) + "\r\n"


def read_candidate(line: str) -> Candidate | None:
    """Read one `candidate:...` (RFC 8839, section 5.1); None if we cannot use it."""
    match = CANDIDATE.fullmatch(line.strip()) if len(line) <= MAX_LINE else None
    if match is None:
        return None
    try:
        candidate = Candidate.from_sdp(match[1])
    except (ValueError, AssertionError, IndexError):
        return None
    usable = 0 < candidate.port < 65_536 and candidate.priority < 2**32
    return candidate if usable and names_one(candidate.host) else None


def names_one(host: str) -> bool:
    """Whether it is an address of one machine, or a name that aioice looks into."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return True
    mapped = getattr(address, "ipv4_mapped", None) or address
    return not (mapped.is_multicast or mapped.is_unspecified or mapped == EVERYBODY)


def read(sdp: str, code: Literal["bad_offer", "bad_answer"]) -> Description:
    """Check a description.

    Raises:
        MediaError: With that code, and what is wrong.
    """
    try:
        return check(sdp)
    except Bad as error:
        raise bad(code, str(error)) from None


def bad(code: str, why: str) -> MediaError:
    """The error for a description."""
    return MediaError(
        code,
        f"The other side's program describes the call in a way that cannot be used "
        f"({why}); call again, or update Telex on both sides.",
    )


class Bad(ValueError):
    """What is wrong with a description."""


def check(sdp: str) -> Description:
    """As `read`; raises `Bad`."""
    lines = sdp.splitlines() if len(sdp) <= MAX_SIZE else []
    if not 5 < len(lines) <= MAX_LINES or max(map(len, lines)) > MAX_LINE:
        raise Bad("its size")
    candidates = [line for line in lines if line.startswith("a=candidate:")]
    rest = [
        line
        for line in lines
        if not line.startswith(("a=candidate:", "a=end-of-candidates"))
    ]
    text = "\r\n".join(only_sha256(rest)) + "\r\n"
    try:
        parsed = SessionDescription.parse(text)
    except Exception as error:
        # aiortc's parser fails in as many ways as Python has errors.
        raise Bad("its form") from error
    check_lines(parsed.media)
    few = tuple(candidates[:MAX_CANDIDATES])
    return Description(text, bundled(parsed), few, find_red(parsed.media))


def only_sha256(lines: list[str]) -> list[str]:
    """Leave one fingerprint: the same for all lines, by SHA-256."""
    found: set[str] = set()
    sections = [False]
    kept = []
    for line in lines:
        if line.startswith("m="):
            sections.append(False)
        if line.startswith("a=fingerprint:"):
            words = line.split(":", 1)[1].split()
            if len(words) != 2 or words[0].lower() != "sha-256":
                continue
            if not FINGERPRINT.fullmatch(words[1]):
                raise Bad("its fingerprint")
            found.add(words[1].upper())
            sections[-1] = True
            line = f"a=fingerprint:sha-256 {words[1].upper()}"
        kept.append(line)
    if len(found) != 1 or not (sections[0] or all(sections[1:])):
        raise Bad("its fingerprint: one by SHA-256 must be there")
    return kept


def check_lines(media: list[MediaDescription]) -> None:
    """Look at what each line says."""
    kinds = [line.kind for line in media]
    if "audio" not in kinds or len(set(kinds)) != len(kinds):
        raise Bad("its lines")
    for line in media:
        if line.kind not in KINDS or not MID.fullmatch(line.rtp.muxId or ""):
            raise Bad("its lines")
        if line.dtls is None or not line.dtls.fingerprints:
            raise Bad("its DTLS role")
        check_access(line, media[0])
        if line.kind == "application":
            if line.profile == "DTLS/SCTP" or not 0 < (line.sctp_port or 0) < 65_536:
                raise Bad("its data channel")
        else:
            check_media(line)


def find_red(media: list[MediaDescription]) -> int | None:
    """The payload type of copies of Opus; None if the other side has none."""
    codecs = next(line for line in media if line.kind == "audio").rtp.codecs
    opus = [c.payloadType for c in codecs if c.name.lower() == "opus"]
    for codec in codecs:
        carried = "/".join(codec.parameters).split("/")
        if codec.name.lower() == "red" and carried[0] == str(opus[0]):
            return codec.payloadType
    return None


def check_access(line: MediaDescription, first: MediaDescription) -> None:
    """One name and password for ICE, in the form that RFC 8839 has."""
    ice = line.ice
    for value in (ice and ice.usernameFragment, ice and ice.password):
        if not value or not CREDENTIAL.fullmatch(value):
            raise Bad("its ICE password")
    if ice != first.ice:
        raise Bad("its ICE password: there are two")


def check_media(line: MediaDescription) -> None:
    """Codecs, sources and extensions within what their packets can hold."""
    if not line.rtcp_mux or line.direction is None:
        raise Bad(f"its line for {line.kind}")
    wanted = {"opus"} if line.kind == "audio" else {"vp8", "h264"}
    if not any(codec.name.lower() in wanted for codec in line.rtp.codecs):
        raise Bad(f"its codecs for {line.kind}")
    if any(not 0 <= (codec.payloadType or 0) < 128 for codec in line.rtp.codecs):
        raise Bad("its codecs")
    if any(not 0 <= source.ssrc < 2**32 for source in line.ssrc):
        raise Bad("its sources")
    if any(not 0 < extension.id < 256 for extension in line.rtp.headerExtensions):
        raise Bad("its extensions")


def bundled(parsed: SessionDescription) -> tuple[str, ...]:
    """The kinds in the order of the bundle, which must hold them all."""
    kinds = {line.rtp.muxId: line.kind for line in parsed.media}
    groups = [group for group in parsed.group if group.semantic == "BUNDLE"]
    items = [str(item) for item in groups[0].items] if len(groups) == 1 else []
    if sorted(items) != sorted(kinds) or len(kinds) != len(parsed.media):
        raise Bad("its bundle")
    return tuple(kinds[item] for item in items)
