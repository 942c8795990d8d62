"""The keys of a call, in as many words as there is room for."""

from collections.abc import Sequence

from textual import events
from textual.content import Content
from textual.widgets import Static

from tui.cells import cell_len

__all__ = ["CallKeys"]

GAP = 3
ROWS = ((11, 1), (16, 2))
"""Below so many rows of the terminal the keys take so many; the picture needs some."""
MOST_ROWS = 3


class CallKeys(Static):
    """Keys for the eye and for the mouse; those that come last may find no room."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id, markup=False)
        self._keys: Sequence[tuple[str, str, str]] = ()

    def show(self, keys: Sequence[tuple[str, str, str]]) -> None:
        """Show these (key, word, action)."""
        if list(keys) != list(self._keys):
            self._keys = keys
            self._draw()

    def on_resize(self, event: events.Resize) -> None:
        """The width changed."""
        self._draw()

    def _draw(self) -> None:
        width = self.size.width or self.app.size.width - 2
        height = self.app.size.height
        most = next((rows for below, rows in ROWS if height < below), MOST_ROWS)
        rows: list[list[Content]] = [[]]
        used = 0
        for key, word, action in self._keys:
            need = cell_len(key) + 1 + cell_len(word)
            if rows[-1] and used + GAP + need > width:
                if len(rows) == most:
                    continue
                rows.append([])
                used = 0
            used += need + (GAP if rows[-1] else 0)
            label = Content.assemble((key, "bold $accent"), " ", word)
            rows[-1].append(label.stylize(f"@click={action}"))
        gap = Content(" " * GAP)
        self.update(Content("\n").join(gap.join(row) for row in rows))
