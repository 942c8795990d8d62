"""What holds secrets and may meet a log: shown, it names itself and no values."""

from typing import Any

__all__ = ["Quiet"]


class Quiet:
    """Comes first among the bases of a Struct, or of a dataclass with `repr=False`."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"{type(self).__name__}(...)"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return []
