"""Keys of people: badges, comparing, changed keys, warnings; as a person sees them."""

from pathlib import Path

import pytest
import segno

from client.model import Trust
from tests.tui.fake_client import FakeClient
from tests.tui.fake_trust import EMOJI, fingerprint
from tests.tui.looking import looking
from tui.badges import SIGNS
from tui.cells import cell_len
from tui.qr import qr_rows
from tui.screens.chat import ChatScreen
from tui.screens.verify import digit_rows

BOB = "bob@example.org"
CAROL = "carol@example.net"


@pytest.fixture
def client() -> FakeClient:
    return FakeClient()


async def test_badges_say_it_by_sign_and_word(
    client: FakeClient, tmp_path: Path
) -> None:
    client.add_room(CAROL, direct=True)
    garden = client.add_room("Garden", [BOB, CAROL])
    bob = client.add_room(BOB, direct=True)
    async with looking(tmp_path, client=client, size=(140, 30)) as sight:
        sight.chat.open_room(bob)
        await sight.sees("◇ bob unverified", "direct chat · ◇ unverified")
        client.trust(BOB, Trust.VERIFIED)
        await sight.sees("◆ bob verified", "direct chat · ◆ verified")
        sight.chat.open_room(garden)
        # A room is as sure as the least sure of its members.
        await sight.sees("3 members · ◇ unverified", "verified · 1 device")
        client.trust(CAROL, Trust.VERIFIED, bad_devices=2)
        await sight.sees("3 members · ◆ verified", "▲ 2 unverified devices")
        client.trust(BOB, Trust.CHANGED)
        await sight.sees("3 members · ▲ key changed", "▲ held: key changed")
    assert len({SIGNS[trust] for trust in Trust}) == len(Trust)
    assert all(cell_len(sign) == 1 for sign in SIGNS.values())


async def test_at_80_columns_a_direct_chat_says_badge_and_encryption(
    client: FakeClient, tmp_path: Path
) -> None:
    dora = "dora3@localhost:45679"
    room = client.add_room(dora, direct=True)
    async with looking(tmp_path, client=client, size=(80, 24)) as sight:
        sight.chat.open_room(room)
        await sight.sees(f"{dora}  ◇ unverified · E2E encrypted")
        client.trust(dora, Trust.VERIFIED)
        await sight.sees(f"{dora}  ◆ verified · ")
        assert "encrypted" in sight.row("◆ verified")


async def test_digits_are_compared_by_eye(client: FakeClient, tmp_path: Path) -> None:
    client.add_room(BOB, direct=True)
    rows = digit_rows(fingerprint(BOB).digits)
    assert [len(row.split()) for row in rows] == [4, 4, 4]
    async with looking(tmp_path, client=client, size=(80, 24)) as sight:
        await sight.press("f7")
        await sight.sees("Is this bob@example.org?", "◇ unverified", *rows)
        await sight.sees("🐶", "Esc Close")
        await sight.press("v")
        await sight.sees("Are all digits the same?")
        await sight.press("enter")
        await sight.rest()
        assert f"confirm {BOB}" not in client.asked
        await sight.press("v", "left", "enter")
        await sight.sees("◆ verified", "✓ bob@example.org is verified.")
        await sight.press("w", "left", "enter")
        await sight.sees("◇ unverified")
        await sight.press("escape")
        assert isinstance(sight.app.screen, ChatScreen)


async def test_the_code_stands_beside_the_digits_or_alone(
    client: FakeClient, tmp_path: Path
) -> None:
    client.add_room(BOB, direct=True)
    first = qr_rows(fingerprint(BOB).uri, border=1)[0].strip()[:7]
    async with looking(tmp_path, client=client, size=(120, 40)) as sight:
        await sight.press("f7")
        await sight.sees("█▀▀▀▀▀█")
    async with looking(tmp_path, client=client, size=(80, 24)) as sight:
        await sight.press("f7")
        await sight.sees("Is this bob@example.org?", "QR code")
        assert "█▀▀▀▀▀█" not in sight.text
        await sight.press("c")
        await sight.sees(first)
        await sight.press("escape")
        await sight.sees("Is this bob@example.org?")
    async with looking(tmp_path, client=client, size=(60, 20)) as sight:
        await sight.press("enter", "f7")
        await sight.sees("Is this bob@example.org?")
        await sight.press("c")
        await sight.sees("The QR code needs a terminal of")


async def test_what_is_typed_is_compared(client: FakeClient, tmp_path: Path) -> None:
    client.add_room(BOB, direct=True)
    mark = fingerprint(BOB)
    wrong = mark.digits[:-1] + ("1" if mark.digits[-1] != "1" else "2")
    async with looking(tmp_path, client=client) as sight:
        await sight.press("f7")
        await sight.sees("type or paste")
        await sight.press("t")
        for text, answer in (
            ("123", "There are 60 digits; here are 3."),
            (wrong, "These are not the digits of bob@example.org"),
            ("telex:verify:other", "This is not the code of that person."),
        ):
            await sight.press("ctrl+a", "ctrl+k")
            await sight.type(text)
            await sight.press("enter")
            await sight.sees(answer)
        assert f"confirm {BOB}" not in client.asked
        await sight.press("ctrl+a", "ctrl+k")
        await sight.type(mark.digits.replace(" ", ""))
        await sight.press("enter")
        await sight.sees("✓ bob@example.org is verified.")


async def test_seven_emoji_from_both_sides(client: FakeClient, tmp_path: Path) -> None:
    client.add_room(BOB, direct=True)
    sas = client.verification
    async with looking(tmp_path, client=client, size=(80, 24)) as sight:
        await sight.press("f7")
        await sight.sees("compare emoji")
        await sight.press("e")
        await sight.sees("Waiting for bob@example.org to accept")
        assert "they are the same" not in sight.text
        sas.go("sas-1", "compare")
        await sight.sees("Do both screens show the same", *(name for _, name in EMOJI))
        await sight.sees(*(symbol for symbol, _ in EMOJI))
        await sight.press("a")
        await sight.sees("You agreed. Waiting for bob@example.org")
        sas.go("sas-1", "done")
        await sight.sees("The keys are the same: bob@example.org is verified.")
        await sight.press("escape")
        await sight.sees("◆ verified")
        await sight.press("escape")
        # The other side asks: a line at the top, not a window in the way of writing.
        await sight.press("h", "i")
        sas.go("sas-2", "asked", CAROL)
        await sight.sees("carol@example.net wants to compare keys with you", "F7")
        assert sight.chat.composer.text == "hi"
        await sight.press("f7")
        await sight.sees("yes, compare now")
        await sight.press("y")
        await sight.sees("Do both screens show the same")
        await sight.press("r")
        await sight.sees("The comparison was refused", "Nobody was verified.")
        asked = [call for call in client.asked if "sas-2" in call]
        assert asked == ["accept sas-2", "refuse sas-2"]


async def test_people_of_a_group_are_chosen_first(
    client: FakeClient, tmp_path: Path
) -> None:
    client.add_room("Garden", [BOB, CAROL])
    client.trust(BOB, Trust.VERIFIED)
    async with looking(tmp_path, client=client) as sight:
        await sight.press("f7")
        await sight.sees("Whom do you want to verify?", "◆ bob  verified")
        await sight.press("enter")
        await sight.sees("Is this carol@example.net?")


async def test_a_changed_key_is_explained_and_chosen_about(
    client: FakeClient, tmp_path: Path
) -> None:
    room = client.add_room(BOB, direct=True)
    client.verification.change(BOB, room)
    async with looking(tmp_path, client=client, size=(80, 24)) as sight:
        await sight.sees("bob@example.org has another key; nothing is sent", "F7")
        await sight.press("f7")
        await sight.sees(
            "The root key of bob@example.org is not the one", "two reasons"
        )
        await sight.sees("known so far", "shown now", "Nothing is sent in: bob")
        await sight.press("k")
        await sight.sees("The old key of")
        assert f"keep_old_key {BOB}" in client.asked
        # It can be thought over: the badge leads there again.
        await sight.misses("has another key; nothing is sent")
        await sight.press("f7")
        await sight.sees("two reasons")
        await sight.press("a")
        await sight.sees("Accept the new key?")
        await sight.press("enter")
        await sight.rest()
        assert f"accept_new_key {BOB}" not in client.asked
        await sight.press("a", "left", "enter")
        await sight.sees("The new key of", "◇ unverified")


async def test_warnings_stay_until_they_are_dismissed(
    client: FakeClient, tmp_path: Path
) -> None:
    room = client.add_room("Garden", [BOB])
    async with looking(tmp_path, client=client, size=(80, 24)) as sight:
        client.alarm("example.org showed two histories of Garden.", room)
        await sight.sees("▲ 1 warning")
        await sight.press("f7")
        await sight.sees("A node shows two histories", "open · Garden", "showed two")
        await sight.press("c")
        await sight.sees("✓ Copied.")
        assert sight.app.clipboard == "example.org showed two histories of Garden."
        # What has a key can be clicked as well.
        keys = sight.part(".panel-keys")[0]
        await sight.pilot.click(".panel-keys", offset=(keys.index("D dismiss") + 3, 0))
        await sight.sees("✓ A node shows two histories  dismissed")
        await sight.press("escape")
        await sight.misses("▲ 1 warning")


def test_a_qr_code_says_what_it_should() -> None:
    """The half blocks, read back, are the modules of the code."""
    text = fingerprint(BOB).uri
    matrix = segno.make(text, error="l", boost_error=False, micro=False).matrix
    for plain in (False, True):
        rows = qr_rows(text, plain=plain)
        assert len({cell_len(row) for row in rows}) == 1
        signs = "█▀▄ " if plain else " ▄▀█"
        modules = []
        for row in rows:
            modules.append([signs.index(sign) >> 1 for sign in row])
            modules.append([signs.index(sign) & 1 for sign in row])
        inner = [row[2:-2] for row in modules[2 : 2 + len(matrix)]]
        assert inner == [list(row) for row in matrix]
        assert not any(map(any, modules[:2]))
