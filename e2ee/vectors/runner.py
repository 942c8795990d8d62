"""Finds vector files, runs their cases and counts."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from e2ee.errors import PrimitiveMissing
from e2ee.suite import BUILT_IN, CipherSuite
from e2ee.vectors.case import Case
from e2ee.vectors.message import (
    message_protection_case,
    messages_case,
    welcome_case,
)
from e2ee.vectors.passive_client import passive_client_case
from e2ee.vectors.primitive import (
    crypto_basics_case,
    deserialization_case,
    key_schedule_case,
    psk_secret_case,
    secret_tree_case,
    transcript_hashes_case,
    tree_math_case,
)
from e2ee.vectors.tree import (
    tree_operations_case,
    tree_validation_case,
    treekem_case,
)

Check = Callable[[Case], None]

CHECKS: dict[str, Check] = {
    "crypto-basics": crypto_basics_case,
    "deserialization": deserialization_case,
    "key-schedule": key_schedule_case,
    "message-protection": message_protection_case,
    "messages": messages_case,
    "passive-client-handling-commit": passive_client_case,
    "passive-client-random": passive_client_case,
    "passive-client-welcome": passive_client_case,
    "psk_secret": psk_secret_case,
    "secret-tree": secret_tree_case,
    "transcript-hashes": transcript_hashes_case,
    "tree-math": tree_math_case,
    "tree-operations": tree_operations_case,
    "tree-validation": tree_validation_case,
    "treekem": treekem_case,
    "welcome": welcome_case,
}
"""File name without suffix to check."""


@dataclass(slots=True)
class Report:
    """What came out."""

    files: int = 0
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    notes: list[str] = field(default_factory=list)
    """Why cases were skipped or failed."""

    def add(self, other: Report) -> None:
        """Add another report's numbers."""
        self.files += other.files
        self.passed += other.passed
        self.failed += other.failed
        self.skipped += other.skipped
        self.notes += other.notes

    def __str__(self) -> str:
        """Say the numbers."""
        text = f"{self.passed} passed, {self.failed} failed"
        return text + (f", {self.skipped} skipped" if self.skipped else "")


def run_file(path: Path, suites: Mapping[int, CipherSuite] = BUILT_IN) -> Report:
    """Run one file of vectors; every exception of a case is a failure of it."""
    report = Report(files=1)
    check = _check_for(path.stem)
    if check is None:
        report.skipped = 1
        report.notes.append("no check for a file of this name")
        return report
    reasons: Counter[str] = Counter()
    try:
        cases = json.loads(path.read_bytes())
        if not isinstance(cases, list):
            raise TypeError("not a list of cases")
    except (ValueError, TypeError) as error:
        report.failed = 1
        report.notes.append(f"unreadable: {error}")
        return report
    for number, data in enumerate(cases):
        try:
            check(Case(data, suites))
        except PrimitiveMissing as error:
            report.skipped += 1
            reasons[f"suite {data.get('cipher_suite')}: {error}"] += 1
        except Exception as error:
            report.failed += 1
            report.notes.append(f"case {number}: {type(error).__name__}: {error}")
        else:
            report.passed += 1
    report.notes += [f"skipped {count}: {why}" for why, count in reasons.items()]
    return report


def _check_for(stem: str) -> Check | None:
    """Find the check by the file's name; `name-2.json` is of the kind of `name`."""
    if stem in CHECKS:
        return CHECKS[stem]
    known = [name for name in CHECKS if stem.startswith((f"{name}-", f"{name}."))]
    return CHECKS[max(known, key=len)] if known else None


def run_folder(
    folder: Path,
    suites: Mapping[int, CipherSuite] = BUILT_IN,
    show: Callable[[str], object] = lambda _: None,
) -> Report:
    """Run all `*.json` of a folder, showing a line per file and the sum."""
    total = Report()
    for path in sorted(folder.glob("*.json")):
        report = run_file(path, suites)
        notes = f" ({'; '.join(report.notes)})" if report.notes else ""
        show(f"{path.name}: {report}{notes}")
        total.add(report)
    show(str(total))
    return total
