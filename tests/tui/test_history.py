"""The window over a room: bounded, without gaps, whatever arrives meanwhile."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from client.model import Message, MessageId, Position, State
from protocol.log import LogId
from tui.history import PAGE, WINDOW, History, Page


def message(number: int, *, position: int | None = None, text: str = "") -> Message:
    return Message(
        id=MessageId(f"{number:032x}"),
        room=LogId("r" * 52),
        position=Position(number if position is None else position),
        sender="bob@example.org",
        device="",
        time=0,
        kind="text",
        text=text,
        state=State.RECEIVED,
        own=False,
    )


class Log:
    """What the client would answer."""

    def __init__(self, count: int) -> None:
        self.messages = [message(number) for number in range(1, count + 1)]

    def page(self, page: Page) -> Sequence[Message]:
        found = self.messages
        if page.before is not None:
            found = [one for one in found if one.position < page.before]
        return found[-page.limit :]

    def grow(self) -> Message:
        self.messages.append(message(len(self.messages) + 1))
        return self.messages[-1]


def check(history: History, log: Log) -> None:
    """The window is a piece of the log, and what is missing is counted."""
    assert len(history.messages) <= 2 * WINDOW
    ids = [one.id for one in history.messages]
    start = next(i for i, one in enumerate(log.messages) if one.id == ids[0])
    assert ids == [one.id for one in log.messages[start : start + len(ids)]]
    after = len(log.messages) - start - len(ids)
    assert history.at_end == (after == 0)
    assert history.missing == after
    if start:
        assert history.has_older


@given(
    st.integers(1, 1500),
    st.lists(st.sampled_from(["older", "newer", "grow", "burst"]), max_size=40),
)
def test_the_window_is_always_a_piece_of_the_log(count: int, steps: list[str]) -> None:
    log, history = Log(count), History()
    history.reset(log.page(Page(None, PAGE)), PAGE)
    for step in steps:
        if step == "older" and history.has_older:
            page = history.older()
            history.put_older(log.page(page), page.limit)
        elif step == "newer" and not history.at_end:
            history.put_newer(log.page(history.newer()))
        elif step in ("grow", "burst"):
            for _ in range(1 if step == "grow" else 150):
                history.put(log.grow())
        check(history, log)
    while not history.at_end:
        history.put_newer(log.page(history.newer()))
        check(history, log)


def test_a_message_that_is_confirmed_moves_to_its_place() -> None:
    history = History()
    waiting = message(9, position=1000)
    history.reset([message(1), message(2), waiting], PAGE)
    history.put(message(5))
    assert [one.position for one in history.messages] == [1, 2, 5, 1000]
    history.put(message(9, position=3, text="mine"))
    assert [one.position for one in history.messages] == [1, 2, 3, 5]
    assert history.remove(message(9).id)
    assert not history.remove(message(9).id)


def test_what_lies_before_the_window_is_left_to_its_page() -> None:
    history = History()
    history.reset([message(number) for number in range(500, 500 + PAGE)], PAGE)
    assert not history.put(message(3))
    assert history.messages[0].id == message(500).id
