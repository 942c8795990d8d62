"""`python -m e2ee.vectors FOLDER...`."""

from __future__ import annotations

import sys

from e2ee.vectors.runner import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
