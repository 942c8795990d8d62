"""`python -m tests.vectors FOLDER...`: as `e2ee.vectors`, with `PRIMITIVES`."""

from __future__ import annotations

import sys

from e2ee.vectors import main
from tests.vectors.primitives import PRIMITIVES

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], PRIMITIVES))
