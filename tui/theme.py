"""The two looks of the program, and the colours of people.

Colours are chosen for contrast first: text on its background reaches at least
4.5 to 1 in both themes (a test computes it).
"""

from textual.theme import Theme

__all__ = ["DARK", "LIGHT", "PEOPLE_DARK", "PEOPLE_LIGHT", "person_colour"]

DARK = Theme(
    name="telex-dark",
    dark=True,
    primary="#7aa2f7",
    secondary="#8fa3c4",
    accent="#e8a766",
    foreground="#d5dae6",
    background="#14171f",
    surface="#1a1e28",
    panel="#222735",
    success="#8ccf7e",
    warning="#e5c76b",
    error="#f0788c",
    variables={
        "block-cursor-background": "#2d3b5e",
        "block-cursor-foreground": "#ffffff",
        "block-cursor-text-style": "none",
        "footer-key-foreground": "#e8a766",
        "input-selection-background": "#3d4f7c",
        "border": "#7aa2f7",
        "border-blurred": "#2c3344",
        "scrollbar": "#323a4d",
        "scrollbar-hover": "#465170",
        "scrollbar-active": "#7aa2f7",
        "scrollbar-background": "#14171f",
        "scrollbar-background-hover": "#14171f",
        "scrollbar-background-active": "#14171f",
        "own": "#1d2738",
        "chosen": "#2d3b5e",
        "quiet": "#8e99b0",
        "line": "#2c3344",
    },
)

LIGHT = Theme(
    name="telex-light",
    dark=False,
    primary="#2456c4",
    secondary="#50617f",
    accent="#a4530a",
    foreground="#20242e",
    background="#fbfaf7",
    surface="#f2f0ea",
    panel="#e8e5dc",
    success="#2b7424",
    warning="#8a6000",
    error="#bf1f3c",
    variables={
        "block-cursor-background": "#cfdcf8",
        "block-cursor-foreground": "#10131a",
        "block-cursor-text-style": "none",
        "footer-key-foreground": "#a4530a",
        "input-selection-background": "#bcd0f7",
        "border": "#2456c4",
        "border-blurred": "#d3cfc3",
        "scrollbar": "#cfcabb",
        "scrollbar-hover": "#b3ad9b",
        "scrollbar-active": "#2456c4",
        "scrollbar-background": "#fbfaf7",
        "scrollbar-background-hover": "#fbfaf7",
        "scrollbar-background-active": "#fbfaf7",
        "own": "#e9effb",
        "chosen": "#cfdcf8",
        "quiet": "#626878",
        "line": "#d3cfc3",
    },
)

PEOPLE_DARK = (
    "#f2938c",
    "#e8a766",
    "#d9c45f",
    "#93cf7a",
    "#5fcfb4",
    "#67bfe8",
    "#a8a5f5",
    "#e394d4",
)
PEOPLE_LIGHT = (
    "#b3261e",
    "#99480a",
    "#705a00",
    "#2f6f1f",
    "#00695c",
    "#005f8f",
    "#4f46c0",
    "#93248a",
)


def person_colour(address: str, *, dark: bool) -> str:
    """The same colour for the same person on every screen and every start."""
    palette = PEOPLE_DARK if dark else PEOPLE_LIGHT
    # hash() is salted anew in each process; a person's colour must stay.
    return palette[sum(ord(char) * (i + 7) for i, char in enumerate(address)) % 8]
