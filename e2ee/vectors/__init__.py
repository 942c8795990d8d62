"""Runs the MLS working group's test vectors (mlswg/mls-implementations).

    python -m e2ee.vectors FOLDER

runs every `*.json` in the folder that has the name of a known kind, prints one line
per file and a sum, and exits with 1 if anything failed. A case whose suite needs a
primitive that is not built in is skipped, with the reason, and never counted as
passed; `run_folder` takes more suites (the tests bring AES-128-GCM).
"""

from __future__ import annotations

from e2ee.vectors.runner import CHECKS, Report, run_file, run_folder

__all__ = ["CHECKS", "Report", "run_file", "run_folder"]
