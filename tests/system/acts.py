"""What a person does at a terminal with the chat open."""

import re

from tests.system.terminal import Terminal

FIVE = re.compile(r"(?<![\d:])\d{5}(?=\s)")
"""A group of a fingerprint; a port in an address has a colon before it."""


def say(terminal: Terminal, text: str) -> None:
    """Type a message and send it."""
    terminal.write(text)
    terminal.wait(lambda screen: text in screen.splitlines()[-2])
    terminal.press("enter")


def sent(terminal: Terminal, text: str) -> None:
    """Type a message, send it, and wait until a node has it."""
    say(terminal, text)
    shows(terminal, text)
    terminal.wait(
        lambda _: any(
            text in line and line.rstrip().endswith("✓")
            for line in timeline(terminal).splitlines()
        )
    )


def direct(terminal: Terminal, address: str) -> None:
    """Open a direct chat."""
    terminal.wait("online").press("ctrl+n")
    terminal.wait("To whom do you want to write?").write(address)
    terminal.wait(address).press("enter")
    terminal.wait(" encrypted")


def group(terminal: Terminal, name: str, *members: str) -> None:
    """Make a group."""
    terminal.wait("online").press("ctrl+g")
    terminal.wait("Name of the group").write(name)
    terminal.press("tab")
    terminal.write(" ".join(members))
    terminal.wait(members[-1][-12:]).press("enter")
    terminal.wait(f"{len(members) + 1} members")


def open_unread(terminal: Terminal, text: str) -> None:
    """Wait for a message in the list of chats, and open its chat."""
    terminal.wait(text)
    terminal.press("f6")
    shows(terminal, text)


def open_news(terminal: Terminal, text: str) -> None:
    """Open the first chat that has something unread, and wait for a text there."""
    terminal.wait("unread").wait("online")
    terminal.press("f6")
    shows(terminal, text)


def open_first(terminal: Terminal, text: str) -> None:
    """Open the chat at the top of the list, and wait for a text there."""
    terminal.wait("online").press("alt+1")
    shows(terminal, text)


def shows(terminal: Terminal, text: str, timeout: float = 20.0) -> None:
    """Wait until the open chat shows a text."""
    terminal.wait(lambda _: text in timeline(terminal), timeout)


def delete_last(terminal: Terminal) -> None:
    """Choose the last message, and come to the question how to delete it."""
    terminal.press("up")
    terminal.wait("D delete").write("d")
    terminal.wait("Delete this message?")


def timeline(terminal: Terminal) -> str:
    """The timeline alone, without the list of chats and the bars."""
    return "\n".join(line.partition("▕")[2] for line in terminal.lines[2:-2])


def chats(terminal: Terminal) -> str:
    """The list of chats alone."""
    return "\n".join(line.partition("▕")[0] for line in terminal.lines)


def menu(terminal: Terminal, key: str) -> None:
    """Open one of the panels for devices, keys and backup."""
    terminal.press("ctrl+o")
    terminal.wait("Devices, keys and backup").write(key)


def words_on(terminal: Terminal) -> list[str]:
    """The 24 words that stand numbered on a screen, in their order."""
    found = dict(re.findall(r"\b(\d{1,2})\.? +([a-z]{3,8})\b", terminal.text))
    return [found[str(number)] for number in range(1, 25)]


def code_on(terminal: Terminal) -> str:
    """The code that a new device shows."""
    code = re.search(r"\b(?:[0-9A-Z]{4}-){3}[0-9A-Z]{4}\b", terminal.text)
    assert code is not None, terminal.text
    return code[0]


def digits_in(text: str) -> str:
    """The sixty digits of a fingerprint, wherever they stand first."""
    found = "".join(FIVE.findall(text + "\n"))[:60]
    assert len(found) == 60, text
    return found
