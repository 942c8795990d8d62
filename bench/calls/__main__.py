"""Measures calls and prints one JSON array of {name, value, unit}.

    python -m bench.calls [PART ...] [--rounds N] [--quick]

Progress goes to stderr, and so does the reason of a part that cannot be measured here.
What is measured on what: bench/README.md.
"""

import argparse
import importlib
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path

from bench.calls.report import Result, Skip, need_library, need_linux, progress

PARTS = {
    "setup": "accepted to first sound, through two nodes",
    "ear": "mouth to ear, through virtual sound devices",
    "loss": "how it sounds on a network that loses packets",
    "links": "narrow links: sound and pictures, or sound alone",
    "dead": "a peer that died",
    "servers": "STUN and TURN servers that do not answer",
    "cpu": "processor time of a call",
    "screen": "drawing pictures, and keys meanwhile",
    "memory": "30 calls in a row",
}
"""Each a module here with `run(folder, rounds)`."""

ROUNDS = 3


def main() -> int:
    """Measure what is asked for; 1 if a part failed, which is no figure."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.calls",
        description="Measures calls; prints one JSON array.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="\n".join(f"  {name:8} {what}" for name, what in PARTS.items()),
    )
    parser.add_argument(
        "parts", nargs="*", metavar="PART", help="all, if none is named"
    )
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="calls of each kind")
    args = parser.parse_args()
    unknown = set(args.parts) - set(PARTS)
    if unknown or args.rounds < 1:
        parser.error(
            f"no such part: {', '.join(sorted(unknown))}"
            if unknown
            else "--rounds: at least one call is measured"
        )
    results: list[Result] = []
    failed = False
    for name in args.parts or PARTS:
        try:
            results += measure(name, args.rounds)
        except Skip as skip:
            progress(f"{name}: skipped: {skip}")
        except Exception as error:
            failed = True
            progress(f"{name}: failed: {type(error).__name__}: {error}")
    print(json.dumps(results, indent=2))
    return 1 if failed else 0


def measure(name: str, rounds: int) -> list[Result]:
    """What one part gives; raises `Skip` if it cannot be measured here."""
    need_linux()
    for library in ("numpy", "aiortc", "av", "pytest", "trustme"):
        need_library(library, "make setup")
    progress(f"{name}: {PARTS[name]} ...")
    begun = time.monotonic()
    # Short: sockets of the sound server lie in it.
    folder = Path(tempfile.mkdtemp(prefix="tlx"))
    try:
        found: list[Result] = importlib.import_module(f"bench.calls.{name}").run(
            folder, rounds
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    progress(f"{name}: took {time.monotonic() - begun:.0f} s")
    return found


if __name__ == "__main__":
    sys.exit(main())
