"""Runs published test vectors against this implementation.

    python -m e2ee.vectors FOLDER...

runs every `*.json` in the folders that is of a known kind: the MLS working group's
(mlswg/mls-implementations), HPKE's (RFC 9180) and Project Wycheproof's. It prints one
line per file and a sum, and exits with 1 if anything failed. A case that needs a
primitive that is not built in is skipped, with the reason, and never counted as
passed; callers may bring `Primitives` (the tests bring AES-GCM and X-Wing).
"""

from __future__ import annotations

from e2ee.vectors.case import Primitives
from e2ee.vectors.runner import (
    CHECKS,
    Report,
    main,
    run_document,
    run_file,
    run_folder,
)

__all__ = [
    "CHECKS",
    "Primitives",
    "Report",
    "main",
    "run_document",
    "run_file",
    "run_folder",
]
