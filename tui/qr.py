"""QR codes in cells: two modules above each other in one half block.

A cell is about twice as high as wide, so half blocks come out square. The light
border that scanners need is part of the rows; black on white must be set by who
draws them, whatever the theme. Where there are no colours (`plain`) the light
modules are drawn and the dark ones are left as the terminal's background.
"""

__all__ = ["QR_BORDER", "qr_rows"]

QR_BORDER = 2
"""Modules of light around the code: four by the standard, but two are enough on a
screen, and a row of a small terminal is saved twice."""


def qr_rows(text: str, *, plain: bool = False, border: int = QR_BORDER) -> list[str]:
    """The code as rows of equal width.

    Args:
        text: what a scanner reads.
        plain: draw light modules with the foreground, for terminals without colour.
        border: modules of light around the code.
    """
    import segno

    code = segno.make(text, error="l", boost_error=False, micro=False)
    size = len(code.matrix) + 2 * border
    dark = [bytearray(size) for _ in range(size + size % 2)]
    for y, row in enumerate(code.matrix):
        for x, module in enumerate(row):
            dark[y + border][x + border] = module
    if size % 2 and plain:
        # The row below the last one is not part of the code: as the background.
        dark[-1] = bytearray([1]) * size
    signs = "█▀▄ " if plain else " ▄▀█"
    return [
        "".join(
            signs[2 * upper + lower]
            for upper, lower in zip(dark[y], dark[y + 1], strict=True)
        )
        for y in range(0, len(dark), 2)
    ]
