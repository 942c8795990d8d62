"""The log: in a file, because the screen belongs to the chat.

It never holds texts, keys or passwords: the packages below do not log them, and
nothing here logs what people write.
"""

import logging
import logging.handlers
import os
from pathlib import Path

__all__ = ["LOG_BYTES", "start_logging"]

LOG_BYTES = 1024 * 1024
"""Bytes before the log begins anew; one older file is kept. Weeks of normal use."""


def start_logging(path: Path) -> None:
    """Log to this file; TELEX_DEBUG=1 logs more."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handler = logging.handlers.RotatingFileHandler(
        path, maxBytes=LOG_BYTES, backupCount=1, encoding="utf-8", delay=True
    )
    handler.setFormatter(
        logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
    )
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(logging.DEBUG if os.environ.get("TELEX_DEBUG") else logging.INFO)
