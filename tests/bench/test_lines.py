"""The load's own readers take frames and stanzas however they are cut."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bench.peers.xmpp import Stream
from node.bench.line import Line, Tap, header
from node.bench.plan import BenchProblem, Place, Terminal

UPGRADED = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"
cuts = st.lists(st.integers(1, 2000), max_size=40)


class _Line(Line):
    def __init__(self) -> None:
        super().__init__(Terminal("a", "localhost:1"), Place("localhost:1", 1, 1))
        self.frames: list[bytes] = []

    def frame(self, payload: bytes) -> None:
        self.frames.append(payload)


class _Stream(Stream):
    def __init__(self) -> None:
        super().__init__()
        self.ids: list[str] = []

    def stanza(self, name: str, attributes: dict[str, str]) -> None:
        if name == "message":
            self.ids.append(attributes["id"])


def pieces(data: bytes, sizes: list[int]) -> list[bytes]:
    found, at = [], 0
    for size in sizes:
        found.append(data[at : at + size])
        at += size
    return [*found, data[at:]]


def from_node(payload: bytes) -> bytes:
    """As a server sends it: the same header without the mask."""
    start = header(len(payload))[:-4]
    return bytes((start[0], start[1] & 0x7F)) + start[2:] + payload


async def test_frames_come_whole_however_they_are_cut() -> None:
    @given(st.lists(st.sampled_from([0, 1, 125, 126, 65535, 65536]), max_size=6), cuts)
    def check(sizes: list[int], where: list[int]) -> None:
        payloads = [bytes([n % 256]) * size for n, size in enumerate(sizes)]
        line = _Line()
        stream = UPGRADED + b"".join(map(from_node, payloads))
        for piece in pieces(stream, where):
            line.data_received(piece)
        assert line.frames == payloads
        assert line._upgraded.done()

    check()


async def test_bytes_of_any_kind_do_not_break_a_line() -> None:
    @given(st.binary(max_size=300), cuts)
    def check(data: bytes, where: list[int]) -> None:
        line = _Line()
        for piece in pieces(UPGRADED + data, where):
            line.data_received(piece)

    check()


async def test_a_refused_upgrade_says_why() -> None:
    line = _Line()
    line.data_received(b'HTTP/1.1 401 Unauthorized\r\n\r\n{"code": "unknown_key"}')
    error = line._upgraded.exception()
    assert isinstance(error, BenchProblem)
    assert "401" in str(error) and "unknown_key" in str(error)


async def test_stanzas_come_whole_however_they_are_cut() -> None:
    @given(st.integers(0, 30), cuts)
    def check(count: int, where: list[int]) -> None:
        stream = _Stream()
        text = "<stream:stream xmlns:stream='s'>" + "".join(
            f"<message id='m{n}'><body>&lt;message id='x'/></body></message>"
            for n in range(count)
        )
        for piece in pieces(text.encode(), where):
            stream.data_received(piece)
        assert stream.ids == [f"m{n}" for n in range(count)]

    check()


async def test_what_is_no_xml_ends_a_stream() -> None:
    stream = _Stream()
    stream.data_received(b"<a></b>")
    assert "no XML" in stream.ended.result()


async def test_an_answer_comes_whole() -> None:
    @given(cuts)
    def check(where: list[int]) -> None:
        tap = Tap()
        tap._answer = line._upgraded.get_loop().create_future()
        data = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"
        for piece in pieces(data, where):
            tap.data_received(piece)
        assert tap._answer.result() == (200, b"abc")

    line = _Line()
    check()
