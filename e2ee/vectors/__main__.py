"""`python -m e2ee.vectors FOLDER`."""

from __future__ import annotations

import sys
from pathlib import Path

from e2ee.vectors.runner import run_folder


def main(arguments: list[str]) -> int:
    """Run a folder's vectors; 0 all well, 1 a failure, 2 nothing to run."""
    if len(arguments) != 1 or not Path(arguments[0]).is_dir():
        print("usage: python -m e2ee.vectors FOLDER", file=sys.stderr)
        return 2
    report = run_folder(Path(arguments[0]), show=print)
    if not report.files:
        print("There is no *.json in this folder.", file=sys.stderr)
        return 2
    return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
