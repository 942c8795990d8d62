"""Kitty's graphics protocol (sw.kovidgoyal.net/kitty/graphics-protocol).

A picture goes zlib-compressed in chunks of base64 and is placed at the cursor, over a
number of cells to which the terminal scales it. Each picture replaces the one before
by another image id: the new one stands before the old one goes, so nothing flickers.
"""

import base64
import zlib

from media.view.shape import Pixels

__all__ = ["BEHIND", "CHUNK", "delete", "draw"]

CHUNK = 4096
"""Bytes of base64 in one escape sequence: the protocol's limit."""

BEHIND = -1_073_741_825
"""Layer below cells that have a background colour of their own: a dialog or another
screen over the picture hides it, even before it is deleted."""


def draw(picture: Pixels, image: int, columns: int, rows: int) -> str:
    """Transmit a picture and place it at the cursor, which does not move.

    Args:
        picture: of any size; the terminal scales it.
        image: a number from 1 for `delete`.
        columns: cells that it covers, as `rows`.
    """
    high, wide = picture.shape[:2]
    packed = zlib.compress(picture.tobytes(), 1)
    data = base64.b64encode(packed).decode()
    parts = [data[at : at + CHUNK] for at in range(0, len(data), CHUNK)]
    # q=2: no answers; they would come as keys.
    first = (
        f"a=T,q=2,f=24,o=z,t=d,i={image},p=1,s={wide},v={high},"
        f"c={columns},r={rows},C=1,z={BEHIND},"
    )
    last = len(parts) - 1
    return "".join(
        f"\x1b_G{first if at == 0 else 'q=2,'}m={int(at != last)};{part}\x1b\\"
        for at, part in enumerate(parts)
    )


def delete(image: int) -> str:
    """Take a picture off the screen and out of the terminal's memory."""
    return f"\x1b_Ga=d,d=I,i={image},q=2\x1b\\"
