"""Logging: lines for people, or JSON for programs, on standard error.

What goes in is decided where it is logged: never bodies, keys or passwords.
"""

import json
import logging
import sys
import time
from typing import Literal

__all__ = ["set_up"]


class _Text(logging.Formatter):
    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s: %(message)s")
        self.converter = time.gmtime
        self.default_time_format = "%Y-%m-%dT%H:%M:%S"
        self.default_msec_format = "%s.%03dZ"


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": round(record.created, 3),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def set_up(level: str, format: Literal["text", "json"] | str) -> None:
    """Send everything from `level` up to standard error.

    Args:
        level: debug, info, warning or error.
        format: text or json.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json() if format == "json" else _Text())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # Their lines at info and debug are about themselves, and some hold addresses.
    for name in ("asyncio", "alembic", "sqlalchemy", "aiohttp"):
        logging.getLogger(name).setLevel(logging.WARNING)
