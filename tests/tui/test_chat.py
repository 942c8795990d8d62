"""The main screen: rooms, timeline, writing, states; as a person sees them."""

from pathlib import Path

import pytest
from textual import events

from client.model import Connection, State
from tests.tui.fake_client import FakeClient
from tests.tui.looking import looking
from tui.history import PAGE, WINDOW

BOB = "bob@example.org"
CAROL = "carol@example.net"


@pytest.fixture
def client() -> FakeClient:
    return FakeClient()


async def test_rooms_show_their_last_line_and_unread(
    client: FakeClient, tmp_path: Path
) -> None:
    bob = client.add_room(BOB, direct=True)
    garden = client.add_room("Garden", [BOB, CAROL])
    client.hear(bob, BOB, "good morning")
    client.hear(bob, BOB, "are you there?")
    client.hear(garden, CAROL, "who has seeds?")
    async with looking(tmp_path, client=client) as sight:
        await sight.sees("bob", "are you there?", "Garden", "carol: who has se")
        assert " 2 " in sight.row("are you there?")
        assert "3 unread" in sight.text
        # Nothing was opened, so nothing counts as read.
        assert not any(call.startswith("mark_read") for call in client.asked)
        await sight.press("alt+a")
        await sight.sees("1 new message")
        await sight.until(lambda: f"mark_read {garden}" in client.asked)
        await sight.sees("2 unread")


async def test_writing_and_the_states_of_a_message(
    client: FakeClient, tmp_path: Path
) -> None:
    room = client.add_room(BOB, direct=True)
    async with looking(tmp_path, client=client) as sight:
        await sight.sees("Nothing here yet")
        await sight.type("hello bob")
        await sight.press("enter")
        await sight.until(lambda: len(client.all_messages(room)) == 1)
        message = client.all_messages(room)[0]
        await sight.until(lambda: "◷" in sight.row("▎ hello bob"))
        for state, glyph in (
            (State.SENT, " ✓"),
            (State.DELIVERED, "✓✓"),
            (State.READ, "✓✓"),
        ):
            client.confirm(message.id, state)
            await sight.rest()
            assert glyph in sight.row("▎ hello bob")
        # The word for the sign is one key away.
        await sight.press("up")
        await sight.sees("✓✓ read")
        assert sight.chat.composer.text == ""


async def test_a_refused_message_can_be_sent_again_or_discarded(
    client: FakeClient, tmp_path: Path
) -> None:
    room = client.add_room(BOB, direct=True)
    first = client.say(room, "one", State.PENDING)
    second = client.say(room, "two", State.PENDING)
    async with looking(tmp_path, client=client) as sight:
        client.refuse(first.id, "You may not do this in this room.")
        client.refuse(second.id, "Too large.")
        await sight.sees("✗ Not sent. You may not do this", "Send again")
        await sight.press("up", "up", "s")
        await sight.until(lambda: f"retry {first.id}" in client.asked)
        await sight.misses("You may not do this")
        await sight.press("down", "d")
        await sight.sees("Throw this message away?")
        # The safe answer has the focus: Enter does nothing bad.
        await sight.press("enter")
        await sight.rest()
        assert f"discard {second.id}" not in client.asked
        await sight.press("d", "left", "enter")
        await sight.until(lambda: f"discard {second.id}" in client.asked)
        await sight.misses("Too large.")


async def test_enter_sends_and_other_keys_break_the_line(
    client: FakeClient, tmp_path: Path
) -> None:
    room = client.add_room(BOB, direct=True)
    async with looking(tmp_path, client=client) as sight:
        await sight.type("one")
        for key in ("ctrl+j", "shift+enter", "alt+enter"):
            await sight.press(key)
            await sight.type("x")
        await sight.press("enter")
        await sight.until(lambda: client.all_messages(room))
        assert client.all_messages(room)[0].text == "one\nx\nx\nx"
        # Enter on nothing sends nothing.
        await sight.press("enter", "space", "enter", "ctrl+j", "enter")
        await sight.rest()
        assert len(client.all_messages(room)) == 1


async def test_a_paste_of_many_lines_is_one_message(
    client: FakeClient, tmp_path: Path
) -> None:
    room = client.add_room(BOB, direct=True)
    async with looking(tmp_path, client=client) as sight:
        sight.app.post_message(events.Paste("def f():\n    return 1\n"))
        await sight.sees("return 1")
        assert client.all_messages(room) == []
        await sight.press("enter")
        await sight.until(lambda: client.all_messages(room))
        assert client.all_messages(room)[0].text == "def f():\n    return 1"


async def test_quick_messages_keep_their_order(
    client: FakeClient, tmp_path: Path
) -> None:
    room = client.add_room(BOB, direct=True)
    async with looking(tmp_path, client=client) as sight:
        for number in range(8):
            await sight.type(str(number))
            await sight.press("enter")
        await sight.until(lambda: len(client.all_messages(room)) == 8)
        texts = [message.text for message in client.all_messages(room)]
        assert texts == [str(number) for number in range(8)]


async def test_what_is_typed_right_after_enter_is_kept(
    client: FakeClient, tmp_path: Path
) -> None:
    """A terminal delivers a fast typist's keys in one read: none waits for another."""
    room = client.add_room(BOB, direct=True)
    async with looking(tmp_path, client=client) as sight:
        await sight.sees("Nothing here yet")
        for key in ("o", "n", "e", "enter", "enter", "t", "w", "o"):
            sight.app.post_message(events.Key(key, key if len(key) == 1 else "\r"))
        await sight.until(lambda: len(client.all_messages(room)) == 1)
        await sight.rest()
        assert [m.text for m in client.all_messages(room)] == ["one"]
        await sight.sees("two")
        await sight.press("enter")
        await sight.until(
            lambda: [m.text for m in client.all_messages(room)] == ["one", "two"]
        )


async def test_reply_and_its_cancelling(client: FakeClient, tmp_path: Path) -> None:
    room = client.add_room(BOB, direct=True)
    client.hear(room, BOB, "the question", seen=True)
    asked = client.all_messages(room)[0]
    async with looking(tmp_path, client=client) as sight:
        await sight.press("ctrl+r")
        await sight.sees("Reply to bob: the question")
        await sight.press("escape")
        await sight.misses("Reply to bob")
        await sight.press("up", "r")
        await sight.sees("Reply to bob")
        await sight.type("the answer")
        await sight.press("enter")
        await sight.until(lambda: len(client.all_messages(room)) == 2)
        quote = client.all_messages(room)[1].reply_to
        assert quote is not None and quote.id == asked.id
        await sight.sees("┃ bob: the question")
        await sight.misses("Reply to bob")


async def test_drafts_stay_with_their_room(client: FakeClient, tmp_path: Path) -> None:
    bob = client.add_room(BOB, direct=True)
    client.hear(bob, BOB, "x", seen=True)
    client.add_room(CAROL, direct=True)
    async with looking(tmp_path, client=client) as sight:
        await sight.type("half a thought")
        await sight.press("alt+down")
        await sight.sees("Draft: half a")
        assert sight.chat.composer.text == ""
        await sight.press("alt+up")
        await sight.sees("half a thought")
        assert sight.chat.composer.text == "half a thought"


async def test_messages_arrive_while_one_types(
    client: FakeClient, tmp_path: Path
) -> None:
    bob = client.add_room(BOB, direct=True)
    other = client.add_room("Garden", [BOB, CAROL])
    client.hear(bob, BOB, "x", seen=True)
    async with looking(tmp_path, client=client) as sight:
        await sight.type("typ")
        client.hear(bob, BOB, "here is one")
        client.hear(other, CAROL, "and [b]one[/b] there")
        await sight.type("ing")
        await sight.sees("here is one", "carol in Garden", "and [b]one[/b] there")
        assert sight.chat.composer.text == "typing"
        await sight.until(lambda: f"mark_read {bob}" in client.asked)
        assert f"mark_read {other}" not in client.asked


async def test_reading_above_is_not_disturbed(
    client: FakeClient, tmp_path: Path
) -> None:
    room = client.add_room(BOB, direct=True)
    for number in range(60):
        client.hear(room, BOB, f"line {number:03}", seen=True)
    async with looking(tmp_path, client=client) as sight:
        await sight.sees("line 059")
        await sight.press("pageup", "pageup")
        await sight.rest()
        before = [row[:-1] for row in sight.part("#timeline")[:-1]]
        client.asked.clear()
        client.hear(room, BOB, "far below")
        await sight.sees("1 new message · Ctrl+End")
        after = [row[:-1] for row in sight.part("#timeline")[:-1]]
        assert before == after
        assert not any(call.startswith("mark_read") for call in client.asked)
        await sight.press("ctrl+end")
        await sight.sees("far below")
        await sight.misses("Ctrl+End")
        await sight.until(lambda: f"mark_read {room}" in client.asked)


async def test_a_long_room_is_read_in_pages(client: FakeClient, tmp_path: Path) -> None:
    room = client.add_room(BOB, direct=True)
    count = WINDOW + 5 * PAGE
    for number in range(count):
        client.hear(room, BOB, f"line {number:05}", seen=True)
    async with looking(tmp_path, client=client) as sight:
        history = sight.chat.timeline.history
        assert len(history.messages) == PAGE
        while "line 00000" not in "".join(sight.part("#timeline")):
            sight.chat.timeline.action_oldest()
            await sight.rest()
            assert len(history.messages) <= WINDOW
        assert not history.at_end
        # Down again: nothing is left out, nothing comes twice.
        seen: list[str] = []
        while not history.at_end or "line 01099" not in seen:
            for line in sight.part("#timeline"):
                if "line 0" in line:
                    word = "line " + line.split("line ")[1][:5]
                    if word not in seen:
                        seen.append(word)
            sight.chat.timeline.action_page(1)
            await sight.pilot.pause(0.02)
        assert seen == sorted(seen)
        assert len(seen) == count
        assert len(history.messages) <= WINDOW


async def test_unread_line_and_where_reading_begins(
    client: FakeClient, tmp_path: Path
) -> None:
    client.add_room(CAROL, direct=True)
    room = client.add_room(BOB, direct=True)
    client.hear(room, BOB, "old", seen=True)
    for number in range(80):
        client.hear(room, BOB, f"new {number:02}")
    async with looking(tmp_path, client=client) as sight:
        await sight.press("alt+1")
        await sight.sees("80 new messages", "new 00")
        await sight.rest()
        assert f"mark_read {room}" not in client.asked
        await sight.press("ctrl+end")
        await sight.sees("new 79")
        await sight.until(lambda: f"mark_read {room}" in client.asked)


async def test_offline_says_why_and_still_takes_messages(
    client: FakeClient, tmp_path: Path
) -> None:
    room = client.add_room(BOB, direct=True)
    client.hear(room, BOB, "history", seen=True)
    client.connection = Connection.OFFLINE
    client.connection_detail = "example.org does not answer; trying again in 8 s."
    async with looking(tmp_path, client=client) as sight:
        await sight.sees("history", "example.org does not answer", "is sent later")
        await sight.type("later")
        await sight.press("enter")
        await sight.until(lambda: "◷" in sight.row("▎ later"))
        client.go(Connection.ONLINE)
        client.confirm(client.all_messages(room)[-1].id, State.SENT)
        await sight.sees("● online · alice@example.org")
        await sight.misses("does not answer")


async def test_an_alarm_stays_in_view(client: FakeClient, tmp_path: Path) -> None:
    async with looking(tmp_path, client=client) as sight:
        client.alarm("The key of bob@example.org changed.")
        await sight.sees("Security warning", "The key of bob@example.org changed.")


async def test_two_hundred_events_cost_one_drawing(
    client: FakeClient, tmp_path: Path
) -> None:
    room = client.add_room(BOB, direct=True)
    client.hear(room, BOB, "x", seen=True)
    async with looking(tmp_path, client=client) as sight:
        drawn = 0
        show = sight.chat.rooms_list.show

        def count(rooms: object) -> None:
            nonlocal drawn
            drawn += 1
            show(rooms)  # type: ignore[arg-type]

        sight.chat.rooms_list.show = count  # type: ignore[method-assign]
        for number in range(200):
            client.hear(room, BOB, f"burst {number}")
        await sight.sees("burst 199")
        await sight.rest()
        assert drawn <= 4
